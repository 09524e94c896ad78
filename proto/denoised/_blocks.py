"""Which part of an image its statistics are taken of: all of a small one, a grid of square blocks of a large one.

A pure function of the image's shape, so that an image and its denoised form are looked at in the same places and
the cost has a bound. Blocks are contiguous, because the statistics look at neighbouring samples. Public through
``denoised.statistics``.
"""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S", bound=np.generic)

SAMPLE_LIMIT: Final = 262_144
# A multiple of the tail score's tiles; large enough that few neighbours are lost at its sides.
BLOCK_SIDE_PX: Final = 64


def sample_blocks(image: NDArray[S]) -> NDArray[S]:
    """The samples that statistics are taken of, as (B, C, h, w), contiguous.

    An image of at most 262,144 samples is one block. From a larger one come blocks of 64 x 64 pixels (a side of the
    image that is shorter stays whole), as many as fit the limit, on a grid that reaches from edge to edge.

    Args:
        image: (H, W, C), samples of any type.
    """
    height_px, width_px, channels = image.shape
    planes = image.transpose(2, 0, 1)
    if image.size <= SAMPLE_LIMIT:
        return np.ascontiguousarray(planes)[np.newaxis]
    block_px = min(BLOCK_SIDE_PX, height_px), min(BLOCK_SIDE_PX, width_px)
    fitting = height_px // block_px[0], width_px // block_px[1]
    limit = SAMPLE_LIMIT // (channels * block_px[0] * block_px[1])
    # As many rows as make the grid's spacing alike in both directions, then as many columns as are left for it.
    rows = min(max(round((limit * fitting[0] / fitting[1]) ** 0.5), 1), fitting[0], limit)
    columns = min(limit // rows, fitting[1])
    rows = min(limit // columns, fitting[0])
    blocks = np.empty((rows * columns, channels, *block_px), dtype=image.dtype)
    places = (
        (top, left)
        for top in _starts(height_px - block_px[0], rows)
        for left in _starts(width_px - block_px[1], columns)
    )
    for block, (top, left) in zip(blocks, places, strict=True):
        block[:] = planes[:, top : top + block_px[0], left : left + block_px[1]]
    return blocks


def _starts(last: int, count: int) -> list[int]:
    """``count`` positions from 0 to ``last``; one alone is in the middle."""
    return [last // 2] if count == 1 else [last * number // (count - 1) for number in range(count)]
