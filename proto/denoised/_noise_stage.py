"""What stages of noise are made of: the noise so far, and the checks and ranges that all stages share.

A stage draws its parameters and changes the noise made so far. It knows nothing of the other stages, of clipping or
of rounding: :mod:`denoised.noise` strings stages together and owns the policy.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

LEVELS_8BIT: Final = 255.0
# ITU-R BT.601 luma, the weights that JPEG uses.
LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)

_LOCAL_RADIUS_PX: Final = 2


class Noise(NamedTuple):
    """What stages have made of a clean picture so far.

    Attributes:
        clean: (H, W, C) the picture.
        values: (H, W, C), or (1, 1, 1) zeros before the first stage: noisy minus clean.
        variance: anything that broadcasts to (H, W, C), in squared 0..1 units.
    """

    clean: Image
    values: Image
    variance: Image

    @classmethod
    def none(cls, clean: Image) -> "Noise":
        return cls(clean, np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32))

    def plus(self, values: Image, variance: Image) -> "Noise":
        """With independent noise added."""
        return Noise(self.clean, self.values + values, self.variance + variance)

    def correlated(self, values: Image) -> "Noise":
        """With other values in place of its own, scaled to the energy that it had."""
        energy, got = (float(np.vdot(each, each)) for each in (self.values, values))
        return self._replace(values=values * np.float32(math.sqrt(energy / got))) if got > 0 else self


@dataclass(frozen=True, slots=True)
class StageBase:
    """What all stages share: they are checked when they are made, and equal ones are made of equal numbers."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type is float:
                # 5 and 5.0 are equal, and so are 0.0 and -0.0: equal stages have one text.
                object.__setattr__(self, field.name, float(getattr(self, field.name)) + 0.0)
        problems = list(self.problems())
        if problems:
            raise ValueError("; ".join(problems))

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, in words."""
        raise NotImplementedError


def between(start: float, stop: float, share: float) -> float:
    """The value at a share of the way; exact at both ends, and where they are equal."""
    return start if start == stop else start * (1 - share) + stop * share


def happens_at(share: float, severity: float) -> float:
    """1 or 0: what happens to a share of the images happens to the most severe ones."""
    return float(share > 0 and severity >= 1 - share)


def range_problems(name: str, low: float, high: float, least: float, most: float) -> Iterator[str]:
    if not least <= low <= high <= most:
        yield f"{name} range is {low}..{high}; it must be ordered and lie in {least:g}..{most:g}"


def share_problems(name: str, share: float) -> Iterator[str]:
    if not 0.0 <= share <= 1.0:
        yield f"{name} is {share}; it must lie in 0..1"


def local_mean(image: Image) -> Image:
    """The mean of each channel over the 5x5 pixels around."""
    mean = image
    for axis, size_px in enumerate(image.shape[:2]):
        width = [(0, 0)] * 3
        width[axis] = (_LOCAL_RADIUS_PX, _LOCAL_RADIUS_PX)
        padded = np.pad(mean, width, mode="edge")
        shifted = (padded.take(range(k, k + size_px), axis=axis) for k in range(2 * _LOCAL_RADIUS_PX + 1))
        mean = sum(shifted, start=np.zeros((), np.float32)) / np.float32(2 * _LOCAL_RADIUS_PX + 1)
    return mean
