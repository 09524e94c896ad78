"""What a measurement gives: rates, figures with targets, rows of figures. Pure data and medians."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


class MeasurementFailed(Exception):
    """There is nothing to make figures of; the message says what happened instead."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Images a second and CPU milliseconds an image."""

    images_per_s: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside what it shall be.

    Attributes:
        name: unique within its row.
        value: the median of the rounds.
        spread: half of the interquartile range of the rounds; 0 of a single round.
        target: None where there is none.
        want: whether the value shall be at most or at least the target.
        unit: such as ms; empty of ratios.
    """

    name: str
    value: float
    spread: float = 0.0
    target: float | None = None
    want: Literal["at most", "at least"] = "at most"
    unit: str = ""

    @property
    def is_reached(self) -> bool:
        if self.target is None:
            return True
        return self.value <= self.target if self.want == "at most" else self.value >= self.target


def figure_of(
    name: str,
    rounds: Sequence[float],
    *,
    target: float | None = None,
    want: Literal["at most", "at least"] = "at most",
    unit: str = "",
) -> Figure:
    """The median of rounds and their spread."""
    return Figure(name, statistics.median(rounds), half_spread(rounds), target, want, unit)


def half_spread(rounds: Sequence[float]) -> float:
    """Half of the interquartile range; of two or three rounds half of the range; 0 of one."""
    if len(rounds) < 4:
        return (max(rounds) - min(rounds)) / 2
    low, _, high = statistics.quantiles(rounds, n=4, method="inclusive")
    return (high - low) / 2


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lie: the smallest that at least that share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1e6) * len(ordered) // 1_000_000) - 1)]


def steady_rate(ended_s: Sequence[float], latencies_s: Sequence[float], in_flight: int) -> float:
    """Answers a second of a closed loop while it was full, however the answers bunched.

    A call counts by the share of its time that lies within the window, because answers that leave in batches make
    a count of ends as uneven as the batches. The window opens when as many are answered as are in flight at once, by
    when waiting calls are at all stages of their wait, and closes when the last one is sent.

    Args:
        ended_s, latencies_s: of each call.
        in_flight: calls that were always unanswered; there must be at least three times as many calls.
    """
    calls = [(end - latency, end) for end, latency in zip(ended_s, latencies_s, strict=True)]
    if len(calls) < 3 * in_flight:
        raise ValueError(f"{len(calls)} calls are too few for {in_flight} in flight; at least three times as many")
    opened_s, closed_s = sorted(ended_s)[in_flight - 1], max(start for start, _ in calls)
    count = sum(max(0.0, min(end, closed_s) - max(start, opened_s)) / (end - start) for start, end in calls)
    return count / (closed_s - opened_s)


@dataclass(slots=True)
class Row:
    """One case: its figures, what was wrong, and everything that was measured.

    Attributes:
        key: what ``--only`` names.
        case: for people.
        figures: in the order of the table.
        wrong: what must never happen, whatever the time: wrong or lost answers. Empty is right.
        skipped: why it was not measured, or empty.
        notes: how to read it: the way that raw took, what was refused.
        raw: the rounds, for the JSON file.
    """

    key: str
    case: str
    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""
    notes: list[str] = field(default_factory=list)
    raw: dict[str, object] = field(default_factory=dict)

    def figure(self, name: str) -> Figure:
        """By its name; raises KeyError."""
        return {figure.name: figure for figure in self.figures}[name]
