"""Faults that PSNR does not show, as numbers: colour cast, grids, seams between tiles, flat areas that aren't flat.

Pure but for :func:`check`, which asks a method for its answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.contract import ModelContract
from denoised.noise import benchmark_noisy
from service.tiling import TilePlan, plan
from tests.bench.quality.images import Samples

# (noisy samples) -> clean samples of the same shape.
Answered = Callable[[Samples], Samples]

GRID_PERIODS_PX: Final = (2, 4, 8)
# Whole periods of all grids, and frequencies between them.
_GRID_WINDOW_PX: Final = 64
_NEIGHBOUR_BINS: Final = (1, 2)
# Beside a border between two tiles, on each side of it.
_SEAM_PX: Final = 4
_CONSTANT_SIDE_PX: Final = 192
_CONSTANTS: Final = {"black": (0, 0, 0), "grey": (128, 128, 128), "white": (255, 255, 255), "orange": (230, 120, 30)}
# One more than any image of the sets has.
_CONSTANT_INDEX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Seams:
    """What tiling does to a large picture.

    Attributes:
        tile_count: 1 means that the probe fitted one tile, and nothing was learnt.
        border_error_ratio: mean square error within 4 px of the borders between tiles, as a multiple of that
            elsewhere; what is there by content is divided away by the same ratio of the untiled answer.
        most_levels: largest difference from the untiled answer.
    """

    tile_count: int
    border_error_ratio: float
    most_levels: int


@dataclass(frozen=True, slots=True)
class Constant:
    """What became of a picture of one colour.

    Attributes:
        colour: its name.
        clean_most_levels: largest change of the picture without noise.
        mean_shift_levels: of the noisy one, from the true colour, the channel that is furthest off, signed.
        deviation_levels: standard deviation that is left in the noisy one, mean over the channels.
    """

    colour: str
    clean_most_levels: int
    mean_shift_levels: float
    deviation_levels: float


@dataclass(frozen=True, slots=True)
class Artefacts:
    """All checks of one network.

    Attributes:
        method: the network.
        sigma: noise level of everything here.
        cast_levels: mean over the images of each channel's mean shift, signed.
        most_cast_levels: the largest shift of a channel's mean in any image, relative to the mean of its channels'
            shifts in colour images: how much the hue moves.
        grid: by period in pixels, energy of the residual at that period as a multiple of that beside it; 1 = no grid.
        seams: None where the network takes one size alone.
        constants: pictures of one colour; none where the network takes one size alone.
    """

    method: str
    sigma: int
    cast_levels: tuple[float, ...]
    most_cast_levels: float
    grid: dict[str, float]
    seams: Seams | None
    constants: tuple[Constant, ...]


def check(
    method: str,
    pairs: Sequence[tuple[Samples, Samples]],
    *,
    sigma: int,
    contract: ModelContract,
    served: Answered,
    untiled: Answered,
) -> Artefacts:
    """Everything about one network.

    Args:
        method: its name.
        pairs: (answer, clean) of evaluation images at ``sigma``.
        sigma: noise level.
        contract: of the network.
        served: the network through the service.
        untiled: the same network on whole images.
    """
    shifts = [channel_shifts(answer, clean) for answer, clean in pairs]
    # Grey images of a set with colour ones have one channel: their shift counts for each.
    width = max(len(shift) for shift in shifts)
    mean = np.mean([np.broadcast_to(shift, width) for shift in shifts], axis=0)
    hue = max(float(np.abs(shift - (shift.mean() if len(shift) > 1 else 0.0)).max()) for shift in shifts)
    residuals = [answer.astype(np.float64) - clean for answer, clean in pairs]
    is_free = contract.fixed_side_px == 0
    return Artefacts(
        method=method,
        sigma=sigma,
        cast_levels=tuple(round(float(value), 3) for value in mean),
        most_cast_levels=round(hue, 3),
        grid={str(period): round(grid_excess(residuals, period), 3) for period in GRID_PERIODS_PX},
        seams=_seams(pairs[0][1], sigma, contract, served, untiled) if is_free else None,
        constants=tuple(_constant(name, sigma, contract.channels, served) for name in _CONSTANTS) if is_free else (),
    )


def channel_shifts(answer: Samples, clean: Samples) -> NDArray[np.float64]:
    """(C,) mean of answer minus clean in each channel, in levels."""
    difference = np.atleast_3d(answer).astype(np.float64) - np.atleast_3d(clean)
    shifts: NDArray[np.float64] = difference.mean(axis=(0, 1))
    return shifts


def grid_excess(residuals: Sequence[NDArray[np.float64]], period_px: int) -> float:
    """Energy at a period along rows and columns, as a multiple of that at the frequencies beside it.

    Mean over all windows of 64 x 64 pixels of (H, W) or (H, W, C) residuals; 1 where no window fits.
    """
    spectrum = np.zeros(_GRID_WINDOW_PX // 2 + 1)
    for residual in residuals:
        values = np.atleast_3d(residual)
        rows, columns = (side // _GRID_WINDOW_PX for side in values.shape[:2])
        if not rows or not columns:
            continue
        cut = values[: rows * _GRID_WINDOW_PX, : columns * _GRID_WINDOW_PX]
        windows = cut.reshape(rows, _GRID_WINDOW_PX, columns, _GRID_WINDOW_PX, -1)
        # A grid's rows are alike along the columns: their mean keeps it and averages everything else away.
        for along, across in ((1, 3), (3, 1)):
            profiles = windows.mean(axis=across, keepdims=True)
            lines = np.moveaxis(profiles, along, -1)
            tapered = (lines - lines.mean(axis=-1, keepdims=True)) * np.hanning(_GRID_WINDOW_PX)
            spectrum += (np.abs(np.fft.rfft(tapered, axis=-1)) ** 2).reshape(-1, len(spectrum)).sum(axis=0)
    at = _GRID_WINDOW_PX // period_px
    # The taper spreads a line over the bins beside it; the neighbours lie further out.
    beside = [at + sign * (2 + distance) for sign in (-1, 1) for distance in _NEIGHBOUR_BINS]
    floor = float(np.mean([spectrum[index] for index in beside if 0 < index < len(spectrum)]))
    return float(spectrum[at]) / floor if floor > 0.0 else 1.0


def border_mask(tile_plan: TilePlan, *, distance_px: int = _SEAM_PX) -> NDArray[np.bool_]:
    """(H, W): the pixels that near to a border between two tiles' own pixels."""
    near = []
    for axis in (tile_plan.rows, tile_plan.columns):
        line = np.zeros(axis.size_px, dtype=bool)
        for index in range(1, axis.span_count):
            start = axis.span(index).keep_px
            line[max(0, start - distance_px) : start + distance_px] = True
        near.append(line)
    mask: NDArray[np.bool_] = near[0][:, np.newaxis] | near[1][np.newaxis]
    return mask


def border_error_ratio(
    error: NDArray[np.float64], untiled_error: NDArray[np.float64], mask: NDArray[np.bool_]
) -> float:
    """How much more (H, W) square error lies at the borders than elsewhere, the untiled answer's own ratio divided."""
    if not mask.any() or mask.all():
        return 1.0
    own, content = (float(e[mask].mean() / max(e[~mask].mean(), 1e-12)) for e in (error, untiled_error))
    return own / content if content > 0.0 else 1.0


def _seams(clean: Samples, sigma: int, contract: ModelContract, served: Answered, untiled: Answered) -> Seams:
    """The picture and its mirror images beside it, so that the largest tile is too small for it."""
    side_px = contract.unit_edges_px[-1] + contract.unit_edges_px[-1] // 2
    grown = [(0, max(0, side_px - side)) for side in clean.shape[:2]]
    probe = np.pad(clean, (*grown, *((0, 0),) * (clean.ndim - 2)), mode="symmetric")
    noisy = benchmark_noisy(probe, sigma=sigma, index=0)
    tile_plan = plan(
        height_px=noisy.shape[0],
        width_px=noisy.shape[1],
        edges_px=contract.unit_edges_px,
        halo_px=contract.halo_px,
        multiple_px=contract.size_multiple_px,
    )
    tiled, whole = served(noisy).astype(np.float64), untiled(noisy).astype(np.float64)
    errors = [np.atleast_3d(np.square(answer - probe)).mean(axis=2) for answer in (tiled, whole)]
    return Seams(
        tile_count=tile_plan.tile_count,
        border_error_ratio=round(border_error_ratio(errors[0], errors[1], border_mask(tile_plan)), 4),
        most_levels=int(np.abs(tiled - whole).max()),
    )


def _constant(name: str, sigma: int, channels: int, served: Answered) -> Constant:
    colour = np.array(_CONSTANTS[name], np.uint8)
    shape = (_CONSTANT_SIDE_PX, _CONSTANT_SIDE_PX)
    clean = np.full((*shape, 3), colour, np.uint8) if channels == 3 else np.full(shape, colour[1], np.uint8)
    untouched = np.abs(served(clean).astype(int) - clean)
    answer = np.atleast_3d(served(benchmark_noisy(clean, sigma=sigma, index=_CONSTANT_INDEX))).astype(np.float64)
    shifts = answer.mean(axis=(0, 1)) - np.atleast_3d(clean)[0, 0]
    return Constant(
        colour=name,
        clean_most_levels=int(untouched.max()),
        mean_shift_levels=round(float(shifts[np.abs(shifts).argmax()]), 3),
        deviation_levels=round(float(answer.std(axis=(0, 1)).mean()), 3),
    )
