"""What images tell about their noise: statistics of small blocks, of which some hold no structure.

In two frames of one still scene whatever differs is noise. In a single image two numbers of each block hardly depend on
each other where there is noise alone: the energy of its finest detail, from which the noise is read, and that of its
coarser structure, by which a block counts as flat. So choosing flat blocks doesn't bias what is read from them.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Samples = NDArray[np.floating]

SIDE_PX: Final = 8
# Degrees of freedom of the 36 second differences inside a block: they overlap, so they are no 36 numbers. With the
# autocorrelation of (1, -2, 1), which is 1, -2/3, 1/6, over 6 places: (36 / (6 + 10 * 4/9 + 8 * 1/36)) ** 2.
SINGLE_DEGREES: Final = 11.4
# Of the difference of two frames: 64 values less their mean.
REPEAT_DEGREES: Final = 63.0
# Of the structure: 16 means of 2x2 pixels less the three numbers of a plane.
_STRUCTURE_DEGREES: Final = 13
_MOST_BLOCKS_AT_ONCE: Final = 1 << 15
# Frames whose means are known to a fiftieth tell by how much a lamp flickered; in darker ones it makes no difference.
_FLICKER_ERRORS: Final = 50.0
# More is no flicker.
_MOST_FLICKER: Final = 2.0


class Blocks(NamedTuple):
    """Statistics of blocks of 8x8 pixels, each (n,), in the image's units.

    Attributes:
        mean: of the samples.
        variance: of the noise; in a single image from second differences in both directions, which smooth shading
            leaves alone.
        structure: what the variance would be if the block's coarse structure, less a plane, were noise; 0 where the
            scene is known.
        energy, neighbours: mean square of the samples, less a plane or the scene, and mean product of adjacent ones.
    """

    mean: Float
    variance: Float
    structure: Float
    energy: Float
    neighbours: Float

    def where(self, chosen: NDArray[np.bool_]) -> "Blocks":
        return Blocks(*(each[chosen] for each in self))

    @classmethod
    def joined(cls, parts: Iterable["Blocks"]) -> "Blocks":
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def single_blocks(plane: Samples, *, lowest: float, highest: float) -> Blocks:
    """The blocks of a one-channel image without clipped samples.

    Args:
        plane: (H, W); sides that are no multiples of 8 are cut.
        lowest, highest: samples there or beyond were clipped.
    """
    squares = _cut(plane)
    squares = squares[_inside(squares, lowest, highest)]
    starts = range(0, max(1, len(squares)), _MOST_BLOCKS_AT_ONCE)
    return Blocks.joined(_statistics(squares[start : start + _MOST_BLOCKS_AT_ONCE]) for start in starts)


def repeat_blocks(one: Samples, other: Samples, *, lowest: float, highest: float) -> Blocks:
    """The blocks of two one-channel frames of one still scene, where neither is clipped.

    Lamps flicker: the second frame is brought to the brightness of the first, as a whole where they are bright enough
    to tell, and block by block.
    """
    pair = [_cut(plane) for plane in (one, other)]
    inside = _inside(pair[0], lowest, highest) & _inside(pair[1], lowest, highest)
    first, second = (squares[inside].astype(np.float64) for squares in pair)
    if first.size:
        second *= _flicker(first, second)
    noise = (second - first) / np.sqrt(2)
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    energy = np.mean(noise**2, axis=(1, 2))
    return Blocks(
        mean=(first + second).mean(axis=(1, 2)) / 2,
        variance=energy * SIDE_PX**2 / REPEAT_DEGREES,
        structure=np.zeros_like(energy),
        energy=energy,
        neighbours=_neighbours(noise),
    )


def _flicker(first: Float, second: Float) -> float:
    """By how much the first frame is brighter; 1 where chance would decide it, as in dark frames."""
    means = float(first.mean()), float(second.mean())
    error = float(np.std(second - first)) / np.sqrt(2 * first.size)
    if min(means) <= _FLICKER_ERRORS * error:
        return 1.0
    return float(np.clip(means[0] / means[1], 1 / _MOST_FLICKER, _MOST_FLICKER))


def _cut(plane: Samples) -> Samples:
    height_px, width_px = (side // SIDE_PX * SIDE_PX for side in plane.shape)
    return (
        plane[:height_px, :width_px]
        .reshape(height_px // SIDE_PX, SIDE_PX, width_px // SIDE_PX, SIDE_PX)
        .transpose(0, 2, 1, 3)
        .reshape(-1, SIDE_PX, SIDE_PX)
    )


def _inside(squares: Samples, lowest: float, highest: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (squares.min(axis=(1, 2)) > lowest) & (squares.max(axis=(1, 2)) < highest)
    return inside


def _statistics(squares: Samples) -> Blocks:
    values = squares.astype(np.float64)
    mean = values.mean(axis=(1, 2))
    values -= mean[:, None, None]
    rows = values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]
    detail = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    coarse = _less_a_plane(values.reshape(-1, SIDE_PX // 2, 2, SIDE_PX // 2, 2).mean(axis=(2, 4)))
    flat = _less_a_plane(values)
    return Blocks(
        mean=mean,
        # The squares of the weights (1, -2, 1) add up to 6, in each direction.
        variance=np.mean(detail**2, axis=(1, 2)) / 36,
        # A mean of four has a quarter of the variance.
        structure=4 * np.sum(coarse**2, axis=(1, 2)) / _STRUCTURE_DEGREES,
        energy=np.mean(flat**2, axis=(1, 2)),
        neighbours=_neighbours(flat),
    )


def _neighbours(squares: Float) -> Float:
    along, across = squares[:, :, 1:] * squares[:, :, :-1], squares[:, 1:] * squares[:, :-1]
    mean: Float = (along.mean(axis=(1, 2)) + across.mean(axis=(1, 2))) / 2
    return mean


def _less_a_plane(squares: Float) -> Float:
    """Blocks of mean zero without their linear part."""
    side_px = squares.shape[1]
    ramp = np.arange(side_px) - (side_px - 1) / 2
    scale = side_px * np.sum(ramp**2)
    down = np.einsum("nij,i->n", squares, ramp) / scale
    right = np.einsum("nij,j->n", squares, ramp) / scale
    less: Float = squares - down[:, None, None] * ramp[:, None] - right[:, None, None] * ramp
    return less
