"""Counts of outcomes and the latencies that belong to them, in total and over time."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from denoised.load.histogram import Histogram, merged
from denoised.load.verdicts import ADMITTED, Outcome, Verdict

_SLOT_S: Final = 0.5
_FEWEST_SLOTS, _MOST_SLOTS = 10, 60


@dataclass(slots=True)
class Tally:
    """Outcomes by reason, each with a histogram of its latencies; an empty one has nothing."""

    histograms: dict[Verdict, Histogram] = field(default_factory=dict)

    def add(self, verdict: Verdict, latency_s: float) -> None:
        """One image, ``latency_s`` after it was due to be sent."""
        self.histograms.setdefault(verdict, Histogram()).record(latency_s)

    def merge(self, other: "Tally") -> None:
        for verdict, histogram in other.histograms.items():
            self.histograms.setdefault(verdict, Histogram()).merge(histogram)

    def count(self, *outcomes: Outcome) -> int:
        """Images with any of these outcomes; of all outcomes when none is named."""
        return sum(h.count for verdict, h in self.histograms.items() if not outcomes or verdict.outcome in outcomes)

    def latencies(self, *outcomes: Outcome) -> Histogram:
        """The latencies of images with any of these outcomes."""
        return merged(*(h for verdict, h in self.histograms.items() if verdict.outcome in outcomes))

    def by_reason(self) -> list[tuple[Verdict, Histogram]]:
        """Everything, in the order of the outcomes, then by reason."""
        order = list(Outcome)
        return sorted(self.histograms.items(), key=lambda pair: (order.index(pair[0].outcome), pair[0].reason))


@dataclass(slots=True)
class Slot:
    """What became of the images that were due in one stretch of a stage."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    admitted: Histogram = field(default_factory=Histogram)


class StageTally:
    """One stage's images: those over connections that read promptly and those over slow readers, apart.

    A slow reader's latency is of its own making, so it stays out of the percentiles; its outcomes still count.
    """

    def __init__(self, duration_s: float) -> None:
        self.duration_s = duration_s
        self.ran_s = duration_s  # less when it was interrupted
        self.offered_count = 0
        self.in_time_count = 0
        self.prompt = Tally()
        self.slow = Tally()
        self.examples: dict[Verdict, str] = {}
        slot_count = min(_MOST_SLOTS, max(_FEWEST_SLOTS, round(duration_s / _SLOT_S)))
        self.slots = [Slot() for _ in range(slot_count)]

    def offer(self, count: int) -> None:
        """So many images are due now. Counted apart from what becomes of them, so that the two can be compared."""
        self.offered_count += count

    def add(self, verdict: Verdict, *, due_s: float, settled_s: float, is_slow: bool) -> None:
        """The outcome of an image; both times are from the start of the stage."""
        latency_s = settled_s - due_s
        (self.slow if is_slow else self.prompt).add(verdict, latency_s)
        slot = self.slots[min(len(self.slots) - 1, int(due_s / self.duration_s * len(self.slots)))]
        slot.counts[verdict.outcome] += 1
        if verdict.outcome in ADMITTED and not is_slow:
            slot.admitted.record(latency_s)
        if verdict.outcome is Outcome.OK and settled_s <= self.duration_s:
            self.in_time_count += 1

    def explain(self, verdict: Verdict, detail: str) -> None:
        """What a status of this verdict said; the first one is kept as an example."""
        self.examples.setdefault(verdict, detail)

    @property
    def all(self) -> Tally:
        """Both kinds of connections together."""
        total = Tally()
        total.merge(self.prompt)
        total.merge(self.slow)
        return total

    @property
    def adds_up(self) -> bool:
        """Whether every image that was offered has exactly one outcome."""
        return self.offered_count == self.all.count()

    @property
    def goodput_per_s(self) -> float:
        """Right answers in time that came while the stage ran, per second of it.

        What comes after the last arrival is left out: a queue that empties then would flatter an overloaded server.
        """
        return self.in_time_count / self.ran_s if self.ran_s else 0.0
