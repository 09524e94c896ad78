"""What one answer of a denoiser looks like in numbers, without the clean image: noise, residual, and energy.

Training measures how these numbers are distributed on held-out images (``denoised.calibration``) and the service
computes them for each request, so both sides must mean the same: they are defined here alone. Pure NumPy. How
unusual a number is, and what follows from it, is decided elsewhere.

Images are (H, W, C) float32 in 0..1 units and noise levels (``sigma``) are in 8-bit levels, as in
``denoised.noise``. ``denoised`` images are meant as delivered: clipped, and rounded to their sample type.
"""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised._blocks import sample_blocks
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
from denoised._sure import Sure, sure
from denoised.noise import LEVELS_8BIT

__all__ = [
    "BERNOULLI_MARGIN",
    "Blocks",
    "Code",
    "CodeDensity",
    "Energy",
    "EnergyModel",
    "Likelihood",
    "Statistics",
    "Sure",
    "bernoulli_nats",
    "bits_per_pixel",
    "gaussian_nats",
    "gaussian_nats_of",
    "immerkaer_sigma",
    "joint_sigma",
    "kl_nats",
    "measure",
    "measure_blocks",
    "sample_blocks",
    "sure",
    "wavelet_sigma",
]

Image = NDArray[np.float32]

# Rounding to 8 bit alone is noise of 0.29 levels: weaker noise is no scale to measure anything by.
_LEAST_SIGMA: Final = 0.5
_TILE_SIDE_PX: Final = 16
_TAIL_SHARE: Final = 0.01
_COMPLEXITY_SIDE_PX: Final = 64


@dataclass(frozen=True, slots=True)
class Statistics:
    """Fast statistics of one image and its denoised form; r is the residual, noisy minus denoised.

    Attributes:
        sigma: the best estimate of the noise level: the network's own where it has one, else from image and residual.
        network_sigma: mean of the network's noise map; None without one.
        wavelet_sigma, immerkaer_sigma: of the noisy image, see there.
        removed_fraction: mean(r^2) / sigma^2. A denoiser that answers with the posterior mean has 1 - MSE / sigma^2:
            0.9 is a gain of 10 dB; far above 1 image was removed, far below noise was left.
        correlation_horizontal, correlation_vertical, correlation_diagonal: of r with its next neighbour. Zero with
            standard deviation 1 / sqrt(samples) for white r; large for correlated noise or removed detail.
        clipped_share: share of the noisy samples at black or white. Above 1 or 2 %, estimates of sigma suffer.
        tail_score: mean of the worst 1 % of the energies of r in 16 x 16 tiles, over the mean of all: how much of
            what was removed came from one place.
        colour_bias: mean of r in each channel, in 8-bit levels.
        detail_loss: correlation of |r| with the gradient of the denoised image: edges in the residual.
        complexity_bits_per_pixel: of the noisy image's middle as a Deflate stream of differences; stands in for the
            compression term where that is undefined.
        energy: of the noisy image under the model.
    """

    sigma: float
    network_sigma: float | None
    wavelet_sigma: float
    immerkaer_sigma: float
    removed_fraction: float
    correlation_horizontal: float
    correlation_vertical: float
    correlation_diagonal: float
    clipped_share: float
    tail_score: float
    colour_bias: tuple[float, ...]
    detail_loss: float
    complexity_bits_per_pixel: float
    energy: Energy

    def comparable(self) -> dict[str, float]:
        """The numbers that can be ranked among those of other images of any size; only those that are defined.

        The noise level is not among them: the others are compared among images of like noise.
        """
        values = {
            "estimator_ratio": max(self.immerkaer_sigma, _LEAST_SIGMA) / max(self.wavelet_sigma, _LEAST_SIGMA),
            "removed_fraction": self.removed_fraction,
            "correlation_horizontal": self.correlation_horizontal,
            "correlation_vertical": self.correlation_vertical,
            "correlation_diagonal": self.correlation_diagonal,
            "clipped_share": self.clipped_share,
            "tail_score": self.tail_score,
            "colour_bias": max(abs(bias) for bias in self.colour_bias),
            "detail_loss": self.detail_loss,
            "complexity_bits_per_pixel": self.complexity_bits_per_pixel,
            "reconstruction_bits_per_pixel": self.energy.reconstruction_bits_per_pixel,
        }
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
    """All fast statistics of an image, from at most 262,144 of its samples.

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
    residual = noisy - denoised
    squares = residual * residual
    mean_square = float(squares.mean())
    means = residual.mean(axis=(0, 2, 3))
    sigma = joint_sigma(noisy, denoised) if network_sigma is None else network_sigma
    centred = residual - means[:, np.newaxis, np.newaxis]
    variance = max(mean_square - float(np.mean(means * means)), 0.0)
    share = noisy.size / (noisy.shape[1] * pixel_count)
    return Statistics(
        sigma=sigma,
        network_sigma=network_sigma,
        wavelet_sigma=wavelet_sigma(noisy),
        immerkaer_sigma=immerkaer_sigma(noisy),
        removed_fraction=mean_square / (max(sigma, _LEAST_SIGMA) / LEVELS_8BIT) ** 2,
        correlation_horizontal=_lagged(centred, variance, rows=0, columns=1),
        correlation_vertical=_lagged(centred, variance, rows=1, columns=0),
        correlation_diagonal=_lagged(centred, variance, rows=1, columns=1),
        clipped_share=float(np.count_nonzero(noisy <= 0.0) + np.count_nonzero(noisy >= 1.0)) / noisy.size,
        tail_score=_tail_score(squares),
        colour_bias=tuple(float(mean) * LEVELS_8BIT for mean in means),
        detail_loss=_detail_loss(residual, denoised),
        complexity_bits_per_pixel=_complexity(noisy[len(noisy) // 2]),
        energy=Energy(
            reconstruction_nats=model.reconstruction_nats(noisy, denoised) / share,
            compression_nats=model.compression_nats(code),
            pixel_count=pixel_count,
        ),
    )


def _lagged(centred: Blocks, variance: float, *, rows: int, columns: int) -> float:
    """Correlation of each value with the one so many rows and columns on; 0 where there is none."""
    height_px, width_px = centred.shape[2:]
    product = centred[:, :, rows:, columns:] * centred[:, :, : height_px - rows, : width_px - columns]
    return float(product.mean()) / variance if variance > 0.0 and product.size else 0.0


def _tail_score(squares: Blocks) -> float:
    """Tiles that don't fit any more are left out; a block smaller than a tile is one."""
    count, _, height_px, width_px = squares.shape
    sides = min(_TILE_SIDE_PX, height_px), min(_TILE_SIDE_PX, width_px)
    rows, columns = height_px // sides[0], width_px // sides[1]
    fitting = squares[:, :, : rows * sides[0], : columns * sides[1]].sum(axis=1)
    tiles = fitting.reshape(count, rows, sides[0], columns, sides[1]).sum(axis=(2, 4)).ravel()
    worst_count = int(np.ceil(_TAIL_SHARE * tiles.size))
    worst, mean = float(np.sort(tiles)[-worst_count:].mean()), float(tiles.mean())
    return worst / mean if mean > 0.0 else 1.0


def _detail_loss(residual: Blocks, denoised: Blocks) -> float:
    """Of the channels' means: edges are edges of all."""
    if min(residual.shape[2:]) < 2:
        return 0.0
    magnitude = np.abs(residual).mean(axis=1)[:, 1:, 1:]
    grey = denoised.mean(axis=1)
    gradient = np.abs(grey[:, 1:, 1:] - grey[:, 1:, :-1]) + np.abs(grey[:, 1:, 1:] - grey[:, :-1, 1:])
    magnitude -= magnitude.mean()
    gradient -= gradient.mean()
    scale = float(np.sqrt(np.mean(magnitude * magnitude)) * np.sqrt(np.mean(gradient * gradient)))
    return float(np.mean(magnitude * gradient)) / scale if scale > 0.0 else 0.0


def _complexity(planes: Blocks) -> float:
    """Differences to the left neighbour, as PNG's Sub filter makes them: Deflate alone sees no gradients."""
    height_px, width_px = planes.shape[1:]
    sides = min(_COMPLEXITY_SIDE_PX, height_px), min(_COMPLEXITY_SIDE_PX, width_px)
    top, left = (height_px - sides[0]) // 2, (width_px - sides[1]) // 2
    crop = planes[:, top : top + sides[0], left : left + sides[1]]
    levels = np.rint(np.clip(crop, 0.0, 1.0) * np.float32(LEVELS_8BIT)).astype(np.uint8)
    stream = zlib.compress(np.diff(levels, axis=2, prepend=np.uint8(0)).tobytes(), level=1)
    return 8 * len(stream) / float(sides[0] * sides[1])
