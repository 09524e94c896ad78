"""The stages that add noise: what is independent between pixels, with a variance that follows from the picture.

The variance is that of the clean picture, so that the order of these stages changes nothing. For a megapixel of three
channels, on one thread, ``gaussian`` takes about 27 ms and ``poisson_gaussian`` 44 ms, 200 ms where photons are few.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from denoised._noise_stage import (
    LEVELS_8BIT,
    Image,
    Noise,
    StageBase,
    between,
    happens_at,
    range_problems,
    share_problems,
)

# With as many expected counts a Poisson value is normal but for a skewness of 0.14; drawing it as such is 5 times
# faster.
_NORMAL_FROM_COUNTS: Final = 50.0
_GAIN_DRAWS: Final = ("uniform", "log_uniform")


@dataclass(frozen=True, slots=True)
class Gaussian(StageBase):
    """White, additive, independent of the signal.

    Attributes:
        sigma_min, sigma_max: range of the standard deviation in 8-bit levels; one value is drawn per image, uniformly.
        share: probability that the stage happens to an image.
    """

    sigma_min: float
    sigma_max: float
    kind: Literal["gaussian"] = "gaussian"
    share: float = 1.0

    def problems(self) -> Iterator[str]:
        yield from range_problems("sigma", self.sigma_min, self.sigma_max, 0.0, LEVELS_8BIT)
        yield from share_problems("share", self.share)

    def at(self, severity: float) -> "Gaussian":
        sigma = between(self.sigma_min, self.sigma_max, severity)
        return replace(self, sigma_min=sigma, sigma_max=sigma, share=happens_at(self.share, severity))

    def sigma_bounds(self) -> tuple[float, float]:
        """Least and most standard deviation on mid grey, in 8-bit levels, when the stage happens."""
        return self.sigma_min, self.sigma_max

    def variance_on(self, signal: Image) -> Image:
        """Of the noise on a signal, in the middle of the range."""
        sigma = (self.sigma_min + self.sigma_max) / 2 / LEVELS_8BIT
        return np.full_like(signal, sigma**2)

    def apply(self, noise: Noise, rng: np.random.Generator) -> Noise:
        sigma = np.float32(rng.uniform(self.sigma_min, self.sigma_max) / LEVELS_8BIT)
        values = rng.standard_normal(noise.clean.shape, dtype=np.float32)
        values *= sigma
        return noise.plus(values, np.full((1, 1, 1), sigma * sigma))


@dataclass(frozen=True, slots=True)
class PoissonGaussian(StageBase):
    """Photon noise and read noise of a sensor: variance = gain * signal + read_sigma ** 2, the signal in 0..1.

    Attributes:
        gain_min, gain_max: range of the gain, the signal of one photo-electron with white at 1; 1 / gain electrons
            make white. One value is drawn per image.
        read_sigma_min, read_sigma_max: range of the read noise's standard deviation in 8-bit levels; uniform.
        gain_draw: ``uniform``, or ``log_uniform``, as cameras' sensitivities are spaced; then gain_min is above 0.
        share: probability that the stage happens to an image.
    """

    gain_min: float
    gain_max: float
    read_sigma_min: float = 0.0
    read_sigma_max: float = 0.0
    gain_draw: Literal["uniform", "log_uniform"] = "uniform"
    kind: Literal["poisson_gaussian"] = "poisson_gaussian"
    share: float = 1.0

    def problems(self) -> Iterator[str]:
        yield from range_problems("gain", self.gain_min, self.gain_max, 0.0, 1.0)
        yield from range_problems("read_sigma", self.read_sigma_min, self.read_sigma_max, 0.0, LEVELS_8BIT)
        if self.gain_draw not in _GAIN_DRAWS:
            yield f"gain_draw is {self.gain_draw!r}; one of: {', '.join(_GAIN_DRAWS)}"
        elif self.gain_draw == "log_uniform" and not self.gain_min > 0:
            yield f"gain_min is {self.gain_min}; drawn log_uniform it must be above 0"
        yield from share_problems("share", self.share)

    def at(self, severity: float) -> "PoissonGaussian":
        gain = self._gain(severity)
        read_sigma = between(self.read_sigma_min, self.read_sigma_max, severity)
        return replace(
            self,
            gain_min=gain,
            gain_max=gain,
            read_sigma_min=read_sigma,
            read_sigma_max=read_sigma,
            share=happens_at(self.share, severity),
        )

    def sigma_bounds(self) -> tuple[float, float]:
        """Least and most standard deviation on mid grey, in 8-bit levels, when the stage happens."""
        return (
            math.hypot(math.sqrt(self.gain_min / 2) * LEVELS_8BIT, self.read_sigma_min),
            math.hypot(math.sqrt(self.gain_max / 2) * LEVELS_8BIT, self.read_sigma_max),
        )

    def variance_on(self, signal: Image) -> Image:
        """Of the noise on a signal, in the middle of the ranges."""
        read_sigma = (self.read_sigma_min + self.read_sigma_max) / 2
        return _sensor_variance(signal, self._gain(0.5), read_sigma)

    def apply(self, noise: Noise, rng: np.random.Generator) -> Noise:
        clean = noise.clean
        gain = self._gain(rng.random())
        read_sigma = rng.uniform(self.read_sigma_min, self.read_sigma_max)
        variance = _sensor_variance(clean, gain, read_sigma)
        values = rng.standard_normal(clean.shape, dtype=np.float32)
        dim = clean < np.float32(_NORMAL_FROM_COUNTS * gain)
        dim_normal = values[dim]
        values *= np.sqrt(variance)
        if dim_normal.size:
            signal = np.maximum(clean[dim], np.float32(0))
            photons = rng.poisson(signal / np.float32(gain)) * np.float32(gain) - signal
            values[dim] = photons + dim_normal * np.float32(read_sigma / LEVELS_8BIT)
        return noise.plus(values, variance)

    def _gain(self, quantile: float) -> float:
        if self.gain_draw == "log_uniform":
            return float(self.gain_min * (self.gain_max / self.gain_min) ** quantile)
        return between(self.gain_min, self.gain_max, quantile)


def _sensor_variance(signal: Image, gain: float, read_sigma: float) -> Image:
    variance: Image = np.maximum(signal, np.float32(0)) * np.float32(gain)
    variance += np.float32((read_sigma / LEVELS_8BIT) ** 2)
    return variance
