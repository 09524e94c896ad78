"""How good an answer is, estimated without the clean image. Public through ``denoised.statistics``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.noise import LEVELS_8BIT, keyed_rng

Image = NDArray[np.float32]

# Of the finite difference, in 0..1 units: from 1e-4 to 1e-3 the estimate does not move, at 1e-2 it is 0.1 dB off.
EPSILON: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Sure:
    """An estimate of a denoiser's error on one image, made without the clean one.

    Attributes:
        mse: in 0..1 units squared; the estimate may come out at or below 0.
        divergence: mean derivative of each output value by its own input value.
    """

    mse: float
    divergence: float

    @property
    def psnr_db(self) -> float | None:
        """10 log10(1 / mse), or None where the estimated error is not positive."""
        return -10.0 * float(np.log10(self.mse)) if self.mse > 0.0 else None


def sure(
    noisy: Image, denoise: Callable[[Image], Image], *, sigma: float, seed: int = 0, epsilon: float = EPSILON
) -> Sure:
    """Stein's unbiased risk estimate: Stein, Annals of Statistics 9(6), 1981.

    mean((D(y) - y)^2) - sigma^2 + 2 sigma^2 div D(y) / N, with the divergence of Ramani, Blu, Unser, "Monte-Carlo
    SURE", IEEE TIP 17(9), 2008: b . (D(y + eps b) - D(y)) / eps for random signs b. Two passes of the denoiser.

    Holds for white Gaussian noise that was not clipped. An error of 5 % in sigma is most of the result at a gain of
    10 dB: with an estimated sigma only the ranking of two answers means something.

    Args:
        noisy: (H, W, C) in 0..1 units.
        denoise: a deterministic function of the image, in fp32 and without rounding.
        sigma: in 8-bit levels.
        seed: of the signs.
        epsilon: of the finite difference, in 0..1 units.
    """
    signs = sure_signs(noisy.shape, seed)
    answer = denoise(noisy)
    moved = denoise(noisy + np.float32(epsilon) * signs)
    return sure_of(noisy, answer, moved, signs, sigma=sigma, epsilon=epsilon)


def sure_signs(shape: tuple[int, ...], seed: int) -> Image:
    """The random signs b of that seed, -1 and 1."""
    return (2 * keyed_rng(seed).integers(2, size=shape) - 1).astype(np.float32)


def sure_of(noisy: Image, answer: Image, moved: Image, signs: Image, *, sigma: float, epsilon: float = EPSILON) -> Sure:
    """As :func:`sure`, of answers that are there: for those who run the denoiser elsewhere.

    Args:
        answer, moved: what the denoiser made of ``noisy`` and of ``noisy + epsilon * signs``.
        signs: see :func:`sure_signs`.
    """
    divergence = float(np.mean(signs * (moved - answer), dtype=np.float64)) / epsilon
    variance = (sigma / LEVELS_8BIT) ** 2
    mean_square = float(np.mean(np.square(answer - noisy, dtype=np.float64)))
    return Sure(mse=mean_square - variance + 2.0 * variance * divergence, divergence=divergence)
