"""What a run found, and the figures that gates and pages are about."""

from dataclasses import dataclass

from denoised.load.gates import Gate
from denoised.load.health import Health
from denoised.load.plan import LoadPlan
from denoised.load.server_use import ServerUse
from denoised.load.tally import StageTally
from denoised.load.verdicts import ADMITTED, MUST_BE_ZERO, Outcome


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage.

    Attributes:
        name: its rate as it was asked for.
        rate_per_s: images a second that were to be offered.
        capacity_per_s: what was measured before; None when nothing was.
        before, after: the service around the stage; None when it was not asked.
    """

    name: str
    rate_per_s: float
    capacity_per_s: float | None
    tally: StageTally
    health: Health
    before: ServerUse | None
    after: ServerUse | None

    @property
    def complaint(self) -> str | None:
        """Why the generator was the bottleneck, if it was."""
        return self.health.complaint(not_sent_count=self.tally.all.count(Outcome.NOT_SENT))

    @property
    def cpu_ms_per_image(self) -> float | None:
        """CPU time of the service for each right answer, what it spent on others included."""
        ok_count = self.tally.all.count(Outcome.OK)
        if self.before is None or self.after is None or not ok_count:
            return None
        return 1000.0 * (self.after.cpu_s - self.before.cpu_s) / ok_count

    def figures(self) -> dict[str, float | None]:
        """Values of everything in ``gates.FIGURES``."""
        tally, prompt = self.tally.all, self.tally.prompt
        counts = {outcome: tally.count(outcome) for outcome in Outcome}
        admitted = prompt.latencies(*ADMITTED)
        reachable = min(self.rate_per_s, self.capacity_per_s or self.rate_per_s)
        goodput = self.tally.goodput_per_s
        return {
            **{outcome.value.replace(" ", "_"): float(count) for outcome, count in counts.items()},
            "ok_share": _share(counts[Outcome.OK], tally.count()),
            "late_share": _share(counts[Outcome.LATE], tally.count(*ADMITTED)),
            "refused_share": _share(counts[Outcome.REFUSED], tally.count()),
            "goodput_per_s": goodput,
            "goodput_share": goodput / reachable,
            "p50_ms": _ms(admitted.quantile_s(0.5)),
            "p90_ms": _ms(admitted.quantile_s(0.9)),
            "p99_ms": _ms(admitted.quantile_s(0.99)),
            "p999_ms": _ms(admitted.quantile_s(0.999)),
            "max_ms": _ms(admitted.quantile_s(1.0)),
            "refused_p99_ms": _ms(prompt.latencies(Outcome.REFUSED).quantile_s(0.99)),
            "send_lag_p99_ms": _ms(self.health.send_lag.quantile_s(0.99)),
        }


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A run.

    Attributes:
        stages: as far as it came.
        was_interrupted: whether it was ended before its time.
        server: the model that answered, for people.
    """

    plan: LoadPlan
    server: str
    capacity_per_s: float | None
    stages: tuple[StageResult, ...]
    was_interrupted: bool

    def problems(self) -> list[str]:
        """Everything for which the run counts as failed, a line each."""
        lines = []
        for stage in self.stages:
            tally = stage.tally.all
            if not stage.tally.adds_up:
                lines.append(
                    f"{stage.name}: {stage.tally.offered_count} images were offered, but {tally.count()} have an "
                    "outcome; this is a defect of the generator"
                )
            lines += [
                f"{stage.name}: {count} images {outcome}" for outcome in MUST_BE_ZERO if (count := tally.count(outcome))
            ]
            figures = stage.figures()
            lines += [
                f"{stage.name}: {_found(gate, figures)} misses the gate {gate}"
                for gate in self.plan.gates
                if not gate.holds(figures)
            ]
        return lines


def _found(gate: Gate, figures: dict[str, float | None]) -> str:
    return f"{gate.figure} {figures[gate.figure]:.4g}"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
