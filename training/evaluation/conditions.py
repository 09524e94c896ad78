"""Under which noise a network is measured: the benchmark's Gaussian levels, its own noise, or noise from files.

Every draw is keyed by the image's place in its set alone, so that an image meets the same noise field at every level
and for every network: what differs between two evaluations is the network.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Protocol

import numpy as np

from denoised.noise import LEVELS_8BIT, Gaussian, Image, NoiseSpec, Stage, benchmark_noisy, keyed_rng
from training.errors import ConfigError
from training.evaluation import scores
from training.evaluation.subjects import Subject

# Training's draws begin with a seed below 2**32, those of validation with 2**32 and the next one.
_EVALUATION_KEY: Final = 2**32 + 4
_BENCHMARK_SIGMAS: Final = (5.0, 15.0, 25.0, 35.0, 50.0)
_SEVERITIES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
# Ranges that end here or above contain what published tables quote, or nearly.
_BENCHMARK_REACH: Final = (40.0, 75.0)


class Conditions(Protocol):
    """What an image goes through before the network sees it."""

    @property
    def protocol(self) -> scores.Protocol: ...

    @property
    def levels(self) -> tuple[float, ...]: ...

    def describe(self) -> str:
        """One line for people."""
        ...

    def noisy(self, subject: Subject, level: float) -> Image:
        """(H, W, C) in 0..1."""
        ...


@dataclass(frozen=True, slots=True)
class GaussianNoise:
    """The project's benchmark: white noise of a known level, clipped and rounded to the image's own samples."""

    levels: tuple[float, ...]
    protocol: scores.Protocol = "gaussian"

    def __post_init__(self) -> None:
        wrong = [level for level in self.levels if not 0.0 <= level <= LEVELS_8BIT]
        if wrong or not self.levels:
            raise ConfigError(f"--sigmas {' '.join(f'{v:g}' for v in wrong)}: levels lie in 0..255, in 8-bit levels")

    def describe(self) -> str:
        return (
            "white Gaussian noise by numpy.random.default_rng(1000 + i) for image i in sorted order, sigma in 8-bit "
            "levels, clipped and rounded to the image's own samples; sigma 0 is the clean image"
        )

    def noisy(self, subject: Subject, level: float) -> Image:
        if level == 0.0:
            return subject.clean
        if subject.grid_steps == LEVELS_8BIT:
            clean_u8 = np.rint(subject.clean * LEVELS_8BIT).astype(np.uint8)
            return benchmark_noisy(clean_u8, sigma=level, index=subject.index).astype(np.float32) / np.float32(255)
        noise = np.random.default_rng(1000 + subject.index).standard_normal(subject.clean.shape)
        return subject.delivered((subject.clean + noise * (level / LEVELS_8BIT)).astype(np.float32))


@dataclass(frozen=True, slots=True)
class OwnNoise:
    """The run's own noise, at places within its ranges from the weakest (0) to the strongest (1)."""

    spec: NoiseSpec
    levels: tuple[float, ...] = _SEVERITIES
    protocol: scores.Protocol = "own_noise"

    def __post_init__(self) -> None:
        wrong = [level for level in self.levels if not 0.0 <= level <= 1.0]
        if wrong or not self.levels:
            raise ConfigError(f"--severities {' '.join(f'{v:g}' for v in wrong)}: they lie in 0..1")

    def describe(self) -> str:
        spec = self._applied
        stages = ", then ".join(_stage_text(stage) for stage in spec.stages) or "none"
        return (
            f"the run's own noise ({stages}; spec {spec.digest()[:16]}), every range from its mildest end (severity 0) "
            "to its strongest (1), keyed by the image's place in sorted order"
        )

    def noisy(self, subject: Subject, level: float) -> Image:
        spec = self._applied.at(level)
        return spec.apply(subject.clean, keyed_rng(_EVALUATION_KEY, subject.index)).image

    @property
    def _applied(self) -> NoiseSpec:
        """Every image gets noise, and none is made grey: both happen to a share of training's images alone."""
        return replace(self.spec, grey_share=0.0, clean_share=0.0)


@dataclass(frozen=True, slots=True)
class RecordedNoise:
    """Noise that is in the files: each clean image has a noisy one."""

    levels: tuple[float, ...] = (0.0,)
    protocol: scores.Protocol = "pairs"

    def describe(self) -> str:
        return "noisy files as recorded, each beside its clean one"

    def noisy(self, subject: Subject, level: float) -> Image:  # noqa: ARG002 -- there is one level
        assert subject.noisy is not None
        return subject.noisy


def default_conditions(spec: NoiseSpec, *, has_code: bool) -> Conditions:
    """What a run is measured under unless someone chooses: the benchmark for plain Gaussian noise, else its own.

    Networks with a code are measured on clean input too: that is their reconstruction.
    """
    if not spec.stages:
        return GaussianNoise((0.0,))
    if not is_plain_gaussian(spec):
        return OwnNoise(spec)
    low, high = spec.sigma_min, spec.sigma_max
    if _BENCHMARK_REACH[0] <= high <= _BENCHMARK_REACH[1]:
        sigmas: Sequence[float] = [sigma for sigma in _BENCHMARK_SIGMAS if low <= sigma <= max(high, 50.0)]
    else:
        sigmas = [round(float(sigma), 1) for sigma in dict.fromkeys(np.linspace(low, high, 5))]
    return GaussianNoise(tuple(sorted({*sigmas, *([0.0] if has_code else [])})))


def _stage_text(stage: Stage) -> str:
    """A stage's kind with its ranges, such as ``gaussian, sigma 5 to 50``."""
    values = asdict(stage)
    ranges = [
        f"{name.removesuffix('_min').replace('_', ' ')} {low:g} to {values[name.removesuffix('min') + 'max']:g}"
        for name, low in values.items()
        if name.endswith("_min")
    ]
    return ", ".join([stage.kind, *ranges])


def is_plain_gaussian(spec: NoiseSpec) -> bool:
    """Whether the benchmark's noise is what the run was made for."""
    return len(spec.stages) == 1 and isinstance(spec.stages[0], Gaussian) and spec.stages[0].share == 1.0
