"""Which part of an image its statistics are taken of: all of a small one, a grid of square blocks of a large one.

A pure function of the image's shape, so that an image and its denoised form are looked at in the same places and
the cost has a bound. Blocks are contiguous, because the statistics look at neighbouring samples. Public through
``denoised.statistics``.
"""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S", bound=np.generic)

# All statistics of as many take 2 ms; of a colour image they are 42 blocks.
SAMPLE_LIMIT: Final = 131_072
# A multiple of the residual's tiles. Larger ones would lose fewer neighbours at their sides, and see fewer places.
BLOCK_SIDE_PX: Final = 32

Place = tuple[int, int, int, int]
"""Top, left, height and width of a block, in pixels."""


def block_places(height_px: int, width_px: int, channels: int) -> list[Place]:
    """Where in an image of this size the blocks lie that its statistics are taken of; all of one size.

    An image of at most 131,072 samples is one block. From a larger one come blocks of 32 x 32 pixels (a side of the
    image that is shorter stays whole), as many as fit the limit, on a grid that reaches from edge to edge.
    """
    if height_px * width_px * channels <= SAMPLE_LIMIT:
        return [(0, 0, height_px, width_px)]
    block_px = min(BLOCK_SIDE_PX, height_px), min(BLOCK_SIDE_PX, width_px)
    fitting = height_px // block_px[0], width_px // block_px[1]
    limit = SAMPLE_LIMIT // (channels * block_px[0] * block_px[1])
    # As many rows as make the grid's spacing alike in both directions, then as many columns as are left for it.
    rows = min(max(round((limit * fitting[0] / fitting[1]) ** 0.5), 1), fitting[0], limit)
    columns = min(limit // rows, fitting[1])
    rows = min(limit // columns, fitting[0])
    return [
        (top, left, *block_px)
        for top in _starts(height_px - block_px[0], rows)
        for left in _starts(width_px - block_px[1], columns)
    ]


def sample_blocks(image: NDArray[S]) -> NDArray[S]:
    """The samples that statistics are taken of, as (B, C, h, w), contiguous; see :func:`block_places`.

    Args:
        image: (H, W, C), samples of any type.
    """
    places = block_places(*image.shape)
    planes = image.transpose(2, 0, 1)
    _, _, height_px, width_px = places[0]
    blocks = np.empty((len(places), image.shape[2], height_px, width_px), dtype=image.dtype)
    for block, (top, left, _, _) in zip(blocks, places, strict=True):
        block[:] = planes[:, top : top + height_px, left : left + width_px]
    return blocks


def _starts(last: int, count: int) -> list[int]:
    """``count`` positions from 0 to ``last``; one alone is in the middle."""
    return [last // 2] if count == 1 else [last * number // (count - 1) for number in range(count)]
