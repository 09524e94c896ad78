"""The range test for a learning rate: raise it a little at every step, see where the loss falls and where it breaks.

After Smith, "Cyclical learning rates for training neural networks", WACV 2017. Batches differ more from each other than
a step changes the loss; so what is looked at is the gain: the loss minus that of the untrained network on the very same
batch. The suggestion is a tenth of the rate at which the smoothed gain is largest: there, the network still learns and
is far from breaking.
"""

import copy
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from training.config import RunConfig
from training.data.pack import Pack
from training.data.sampler import CropSampler
from training.errors import ConfigError
from training.run.compatible import require_fitting_pack
from training.run.distributed import joined
from training.run.feed import Feed, default_worker_count
from training.run.machine import set_determinism
from training.run.objective import Objective
from training.run.step import Stepper

_SMOOTHING: Final = 0.9
_SETTLING_STEPS: Final = 10
_SAFETY_FACTOR: Final = 10.0
_TABLE_LINES: Final = 16


@dataclass(frozen=True, slots=True)
class Point:
    """One step of the test.

    Attributes:
        rate: of learning.
        loss: of the step's batch.
        change: smoothed difference to the untrained network's loss; below 0 where something was learnt.
    """

    rate: float
    loss: float
    change: float


@dataclass(frozen=True, slots=True)
class RangeTest:
    """All steps of the test up to the one where the loss broke."""

    points: tuple[Point, ...]

    @property
    def lowest(self) -> Point:
        return min(self.points, key=lambda point: point.change)

    @property
    def suggestion(self) -> float:
        """A learning rate, to two digits."""
        return float(f"{self.lowest.rate / _SAFETY_FACTOR:.1e}")

    def text(self) -> str:
        """A table of some points, and the suggestion."""
        every = max(1, len(self.points) // _TABLE_LINES)
        lines = ["learning rate      loss    change"]
        lines += [f"{p.rate:13.2e} {p.loss:9.4g} {p.change:+9.2g}" for p in self.points[::every]]
        lines.append(
            f"the loss falls most at {self.lowest.rate:.2e}; a tenth of it is safe: "
            f"--set optimiser.learning_rate={self.suggestion:g}"
        )
        return "\n".join(lines)

    def plot(self, path: Path) -> None:
        """Writes the curve as a PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        rates = [point.rate for point in self.points]
        axes.plot(rates, [point.change for point in self.points], color="tab:blue")
        axes.axhline(0, color="0.8", linewidth=1)
        axes.axvline(self.suggestion, color="tab:green", linestyle="--", label=f"suggestion {self.suggestion:g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, minus the untrained network's")
        axes.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)


def find_rate(
    config: RunConfig,
    pack: Pack,
    *,
    low: float,
    high: float,
    steps: int,
    device: str = "auto",
    workers: int | None = None,
) -> RangeTest:
    """Trains throw-away weights at rates from ``low`` to ``high``, evenly spaced in their logarithm.

    Raises:
        ConfigError: the range is empty, the steps are too few, or the loss never fell.
        RunError, DataError: config and images do not fit.
    """
    if not 0 < low < high:
        raise ConfigError(f"--from is {low:g} and --to is {high:g}; both are above 0 and the first is smaller")
    if steps < 2 * _SETTLING_STEPS:
        raise ConfigError(f"--steps is {steps}; a curve needs at least {2 * _SETTLING_STEPS}")
    require_fitting_pack(config, pack)
    losses: list[float] = []
    untrained: list[float] = []
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    with joined(device, config.data.batch_size) as ranks:
        set_determinism(deterministic=config.optimiser.deterministic)
        workers = default_worker_count(ranks.device) if workers is None else workers
        sampler = CropSampler(pack, config.noise, seed=config.seed, data=config.data)
        stepper = Stepper(config, ranks)
        fresh = Objective(copy.deepcopy(stepper.network), config)
        with Feed(sampler, config, ranks, start=0, stop=steps, workers=workers) as feed:
            for step, rate in enumerate(rates):
                batches = list(islice(feed, config.optimiser.accumulation))
                with torch.no_grad():
                    before = torch.stack([fresh(samples, step).total for samples in batches]).mean()
                after = stepper.step(step, iter(batches), rate)[0]
                untrained.append(float(ranks.mean(before)))
                losses.append(float(ranks.mean(after)))
                if is_broken(losses, untrained):
                    break
    return judged(rates, losses, untrained)


def judged(rates: Sequence[float], losses: Sequence[float], untrained: Sequence[float]) -> RangeTest:
    """The test's points; the last is left out where its loss is no finite number.

    Raises:
        ConfigError: the loss never fell.
    """
    points = tuple(
        Point(rate, loss, change)
        for rate, loss, change in zip(rates, losses, _changes(losses, untrained), strict=False)
        if math.isfinite(loss)
    )
    test = RangeTest(points)
    if len(points) < _SETTLING_STEPS or test.lowest.change >= 0:
        raise ConfigError(
            f"the loss never fell between {rates[0]:g} and {rates[len(losses) - 1]:g}; begin the search lower, such as "
            f"--from {rates[0] / 100:g}"
        )
    return test


def is_broken(losses: Sequence[float], untrained: Sequence[float]) -> bool:
    """Whether the loss has left what the untrained network's varies by, upwards, by more than it ever fell."""
    if not math.isfinite(losses[-1]):
        return True
    if len(losses) < _SETTLING_STEPS:
        return False
    changes = _changes(losses, untrained)
    return changes[-1] > 4 * statistics.pstdev(untrained) + 2 * abs(min(changes))


def _changes(losses: Sequence[float], untrained: Sequence[float]) -> list[float]:
    """The exponential mean of the differences so far, without a bias towards its beginning."""
    smoothed, mean = [], 0.0
    for count, (loss, other) in enumerate(zip(losses, untrained, strict=True), start=1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * (loss - other)
        smoothed.append(mean / (1 - _SMOOTHING**count))
    return smoothed
