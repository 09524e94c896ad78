"""What one answer of a denoiser looks like in numbers, without the clean image: noise, residual, and energy.

Training measures how these numbers are distributed on held-out images (``denoised.calibration``) and the service
computes them for each request, so both sides must mean the same: they are defined here alone. Pure NumPy. How
unusual a number is, and what follows from it, is decided in ``denoised.calibration`` and ``denoised.verdicts``.

Images are (H, W, C) float32 in 0..1 units and noise levels (``sigma``) are in 8-bit levels, as in
``denoised.noise``. ``denoised`` images are meant as delivered: clipped, and rounded to their sample type.
"""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised._blocks import SAMPLE_LIMIT, block_places, sample_blocks
from denoised._energy import (
    BERNOULLI_MARGIN,
    Code,
    CodeDensity,
    Energy,
    EnergyModel,
    Likelihood,
    bernoulli_nats,
    bits_per_pixel,
    gaussian_nats,
    gaussian_nats_of,
    kl_nats,
)
from denoised._noise_level import Blocks, immerkaer_sigma, joint_sigma, wavelet_sigma
from denoised._residual import describe_residual
from denoised._sure import EPSILON, Sure, sure, sure_of, sure_signs
from denoised.noise import LEVELS_8BIT

__all__ = [
    "BERNOULLI_MARGIN",
    "EPSILON",
    "LEAST_SIGMA",
    "SAMPLE_LIMIT",
    "Blocks",
    "Code",
    "CodeDensity",
    "Energy",
    "EnergyModel",
    "Likelihood",
    "Statistics",
    "Sure",
    "as_delivered",
    "bernoulli_nats",
    "bits_per_pixel",
    "block_places",
    "gaussian_nats",
    "gaussian_nats_of",
    "immerkaer_sigma",
    "joint_sigma",
    "kl_nats",
    "measure",
    "measure_blocks",
    "sample_blocks",
    "sure",
    "sure_of",
    "sure_signs",
    "wavelet_sigma",
]

Image = NDArray[np.float32]

# Rounding to 8 bit alone is noise of 0.29 levels: weaker noise is no scale to measure anything by.
LEAST_SIGMA: Final = 0.5
_COMPLEXITY_SIDE_PX: Final = 64


@dataclass(frozen=True, slots=True)
class Statistics:
    """Fast statistics of one image and its denoised form; r is the residual, noisy minus denoised.

    An image whose channels are all equal is measured as the one channel that it is.

    Attributes:
        sigma: the best estimate of the noise level: the network's own where it has one, else from image and residual.
        network_sigma: mean of the network's noise map; None without one.
        wavelet_sigma, immerkaer_sigma: of the noisy image, see there.
        removed_fraction: mean(r^2) / sigma^2. A denoiser that answers with the posterior mean has 1 - MSE / sigma^2:
            0.9 is a gain of 10 dB; far above 1 image was removed, far below noise was left.
        correlation_horizontal, correlation_vertical: of r with its next neighbour. Zero with standard deviation
            1 / sqrt(samples) for white r; large for correlated noise or removed detail.
        neighbour_correlation: mean of both in the median 16 x 16 tile, which texture in a few places does not move.
        channel_correlation: of r between channels, mean of the pairs; None of one channel. Near 0 for noise that each
            channel has for itself; JPEG's and demosaicing's make it large.
        clipped_share: share of the noisy samples at black or white. Above 1 or 2 %, estimates of sigma suffer.
        tail_score: mean of the worst 1 % of the energies of r in 16 x 16 tiles, over the mean of all: how much of
            what was removed came from one place.
        colour_bias: mean of r in each channel, in 8-bit levels.
        complexity_bits_per_pixel: of the noisy image's middle, its channels' mean, as a Deflate stream of differences;
            stands in for the compression term where that is undefined.
        energy: of the noisy image under the model.
        sample_count: samples that all this is of.
    """

    sigma: float
    network_sigma: float | None
    wavelet_sigma: float
    immerkaer_sigma: float
    removed_fraction: float
    correlation_horizontal: float
    correlation_vertical: float
    neighbour_correlation: float
    channel_correlation: float | None
    clipped_share: float
    tail_score: float
    colour_bias: tuple[float, ...]
    complexity_bits_per_pixel: float
    energy: Energy
    sample_count: int

    def comparable(self) -> dict[str, float]:
        """The numbers that can be ranked among those of other images of any size; only those that are defined.

        The noise level is not among them: the others are compared among images of like noise, the two estimators of
        it as shares of it.
        """
        sigma = max(self.sigma, LEAST_SIGMA)
        values = {
            "wavelet_ratio": max(self.wavelet_sigma, LEAST_SIGMA) / sigma,
            "immerkaer_ratio": max(self.immerkaer_sigma, LEAST_SIGMA) / sigma,
            "removed_fraction": self.removed_fraction,
            "correlation_horizontal": self.correlation_horizontal,
            "correlation_vertical": self.correlation_vertical,
            "neighbour_correlation": self.neighbour_correlation,
            "clipped_share": self.clipped_share,
            "tail_score": self.tail_score,
            "colour_bias": max(abs(bias) for bias in self.colour_bias),
            # Files of earlier releases have quantiles of all channels' complexity, by the other name.
            "grey_bits_per_pixel": self.complexity_bits_per_pixel,
            "reconstruction_bits_per_pixel": self.energy.reconstruction_bits_per_pixel,
        }
        if self.channel_correlation is not None:
            values["channel_correlation"] = self.channel_correlation
        if self.energy.compression_nats is not None:
            values["compression_nats"] = self.energy.compression_nats
        if self.energy.total_bits_per_pixel is not None:
            values["total_bits_per_pixel"] = self.energy.total_bits_per_pixel
        return values


def measure(
    noisy: Image,
    denoised: Image,
    *,
    network_sigma: float | None = None,
    code: Code | None = None,
    model: EnergyModel | None = None,
) -> Statistics:
    """All fast statistics of an image, from at most 131,072 of its samples.

    Args:
        noisy, denoised: (H, W, C) in 0..1 units.
        network_sigma: mean of the network's noise map in 8-bit levels.
        code: of the whole image, where the network has one.
        model: constants of the energy; without them the reconstruction's s is 0.1.
    """
    if noisy.shape != denoised.shape:
        raise ValueError(f"shapes differ: noisy {noisy.shape}, denoised {denoised.shape}")
    return measure_blocks(
        sample_blocks(noisy),
        sample_blocks(denoised),
        pixel_count=noisy.shape[0] * noisy.shape[1],
        network_sigma=network_sigma,
        code=code,
        model=model,
    )


def measure_blocks(
    noisy: Blocks,
    denoised: Blocks,
    *,
    pixel_count: int,
    network_sigma: float | None = None,
    code: Code | None = None,
    model: EnergyModel | None = None,
) -> Statistics:
    """As :func:`measure`, of blocks that :func:`sample_blocks` took.

    For callers that hold samples of another type: they convert the blocks in place of the whole image.

    Args:
        noisy, denoised: (B, C, h, w) float32 in 0..1 units.
        pixel_count: of the whole image, whose energy is estimated from the blocks.
        network_sigma, code, model: as for :func:`measure`.
    """
    model = model or EnergyModel()
    share = noisy[:, 0].size / pixel_count
    reconstruction_nats = _reconstruction_nats(noisy, denoised, model) / share
    if _is_grey(noisy):
        noisy, denoised = noisy[:, :1], denoised.mean(axis=1, keepdims=True)
    residual = describe_residual(noisy - denoised)
    sigma = joint_sigma(noisy, denoised) if network_sigma is None else network_sigma
    return Statistics(
        sigma=sigma,
        network_sigma=network_sigma,
        wavelet_sigma=wavelet_sigma(noisy),
        immerkaer_sigma=immerkaer_sigma(noisy),
        removed_fraction=residual.mean_square / (max(sigma, LEAST_SIGMA) / LEVELS_8BIT) ** 2,
        correlation_horizontal=residual.correlation_horizontal,
        correlation_vertical=residual.correlation_vertical,
        neighbour_correlation=residual.neighbour_correlation,
        channel_correlation=residual.channel_correlation,
        clipped_share=float(np.count_nonzero(noisy <= 0.0) + np.count_nonzero(noisy >= 1.0)) / noisy.size,
        tail_score=residual.tail_score,
        colour_bias=tuple(mean * LEVELS_8BIT for mean in residual.means),
        complexity_bits_per_pixel=_complexity(noisy[len(noisy) // 2]),
        energy=Energy(
            reconstruction_nats=reconstruction_nats,
            compression_nats=model.compression_nats(code),
            pixel_count=pixel_count,
        ),
        sample_count=noisy.size,
    )


def as_delivered(values: NDArray[np.float32], *, steps: float | None, clip: bool = True) -> NDArray[np.float32]:
    """A network's answer as it leaves in samples, in 0..1 units.

    Args:
        values: of any shape.
        steps: of the samples from black to white; None where they are floats.
        clip: whether it is cut off at black and white.
    """
    if clip:
        values = np.clip(values, 0.0, 1.0)
    if steps is None:
        return values
    rounded: NDArray[np.float32] = np.rint(values * np.float32(steps)) / np.float32(steps)
    return rounded


def _reconstruction_nats(noisy: Blocks, denoised: Blocks, model: EnergyModel) -> float:
    """As the model's own, which is exact and three times as slow where only the squares count."""
    if model.likelihood != "gaussian":
        return model.reconstruction_nats(noisy, denoised)
    difference = (noisy - denoised).ravel()
    return gaussian_nats_of(float(difference @ difference), noisy.size, sigma=model.sigma)


def _is_grey(blocks: Blocks) -> bool:
    """Whether all channels are equal; colour shows in the first block of most images."""
    return blocks.shape[1] > 1 and all((block[1:] == block[:1]).all() for block in blocks)


def _complexity(planes: Blocks) -> float:
    """Differences to the left neighbour, as PNG's Sub filter makes them: Deflate alone sees no gradients."""
    height_px, width_px = planes.shape[1:]
    sides = min(_COMPLEXITY_SIDE_PX, height_px), min(_COMPLEXITY_SIDE_PX, width_px)
    top, left = (height_px - sides[0]) // 2, (width_px - sides[1]) // 2
    crop = planes[:, top : top + sides[0], left : left + sides[1]].mean(axis=0)
    levels = np.rint(np.clip(crop, 0.0, 1.0) * np.float32(LEVELS_8BIT)).astype(np.uint8)
    stream = zlib.compress(np.diff(levels, axis=1, prepend=np.uint8(0)).tobytes(), level=1)
    return 8 * len(stream) / float(sides[0] * sides[1])
