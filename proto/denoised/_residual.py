"""What was removed from an image: how much, from where, and whether it looks like noise.

White noise has no neighbours that are alike, in no direction and in no other channel. What JPEG, a resize or a camera's
demosaicing made of noise has, and so has detail that was removed by mistake. Correlations are taken within tiles of
about 16 x 16 pixels and around each tile's own mean, so that a slow change of brightness is none. Works on blocks,
(B, C, h, w) in 0..1 units, as ``denoised.statistics`` samples them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.float32]

TILE_SIDE_PX: Final = 16
_TAIL_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Residual:
    """The residual r, noisy minus denoised, in numbers.

    Attributes:
        mean_square: of r, in 0..1 units squared.
        means: of r in each channel.
        correlation_horizontal, correlation_vertical: of r with its next neighbour, over all tiles; a tile counts by
            its energy.
        neighbour_correlation: mean of both directions in the median tile: texture in a few tiles does not move it.
        channel_correlation: mean over the pairs of channels; None of a single channel.
        tail_score: mean of the worst 1 % of the tiles' energies over the mean of all; 1 where nothing was removed.
    """

    mean_square: float
    means: tuple[float, ...]
    correlation_horizontal: float
    correlation_vertical: float
    neighbour_correlation: float
    channel_correlation: float | None
    tail_score: float


def describe_residual(residual: Blocks) -> Residual:
    """All of it in one go, because the tiles serve several numbers.

    Args:
        residual: (B, C, h, w); not changed.
    """
    count, channels = residual.shape[:2]
    planes = residual.reshape(count, channels, -1)
    gram = np.matmul(planes, planes.swapaxes(1, 2)).sum(axis=0, dtype=np.float64)
    size = residual.size // channels
    means = planes.sum(axis=(0, 2), dtype=np.float64) / size
    covariance = gram / size - np.outer(means, means)
    tiles = _in_tiles(residual)
    energies = np.einsum("byxcij,byxcij->byx", tiles, tiles).ravel()
    centred = tiles - tiles.mean(axis=(4, 5), keepdims=True)
    variances = np.einsum("byxcij,byxcij->byx", centred, centred).ravel()
    rows, columns = tiles.shape[4:]
    horizontal, vertical = (
        # As many products as values, so that their sum is compared with the values' own.
        np.einsum("byxcij,byxcij->byx", first, second).ravel()
        * (rows * columns / max(first.shape[4] * first.shape[5], 1))
        for first, second in (
            (centred[..., :, 1:], centred[..., :, :-1]),
            (centred[..., 1:, :], centred[..., :-1, :]),
        )
    )
    return Residual(
        mean_square=float(np.trace(gram)) / residual.size,
        means=tuple(float(mean) for mean in means),
        correlation_horizontal=_ratio(float(horizontal.sum()), float(variances.sum())),
        correlation_vertical=_ratio(float(vertical.sum()), float(variances.sum())),
        neighbour_correlation=_median_correlation((horizontal + vertical) / 2, variances),
        channel_correlation=_channel_correlation(covariance),
        tail_score=_tail_score(energies),
    )


def _in_tiles(blocks: Blocks) -> Blocks:
    """(B, rows, columns, C, height, width), contiguous; what does not fill a tile any more is left out.

    Tiles are as much larger than 16 pixels as makes them fill a small block.
    """
    count, channels, height_px, width_px = blocks.shape
    rows, columns = max(height_px // TILE_SIDE_PX, 1), max(width_px // TILE_SIDE_PX, 1)
    sides = height_px // rows, width_px // columns
    fitting = blocks[:, :, : rows * sides[0], : columns * sides[1]]
    tiles = fitting.reshape(count, channels, rows, sides[0], columns, sides[1])
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 1, 3, 5))


def _median_correlation(products: NDArray[np.floating], variances: NDArray[np.floating]) -> float:
    """Tiles in which nothing was removed have none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = np.where(variances > 0.0, products / variances, 0.0)
    return float(np.median(correlations))


def _channel_correlation(covariance: NDArray[np.float64]) -> float | None:
    channels = len(covariance)
    if channels == 1:
        return None
    deviations = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    pairs = [
        _ratio(float(covariance[i, j]), float(deviations[i] * deviations[j]))
        for i in range(channels)
        for j in range(i + 1, channels)
    ]
    return min(max(sum(pairs) / len(pairs), -1.0), 1.0)


def _tail_score(energies: NDArray[np.floating]) -> float:
    worst_count = int(np.ceil(_TAIL_SHARE * energies.size))
    worst = float(np.sort(energies)[-worst_count:].mean())
    return _ratio(worst, float(energies.mean()), undefined=1.0)


def _ratio(part: float, whole: float, *, undefined: float = 0.0) -> float:
    return part / whole if whole > 0.0 else undefined
