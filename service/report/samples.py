"""What lanes put aside of an image while they work on its tiles, so that a report can be made when it is done.

An image may never be in memory as a whole, and its samples are gone before its answer leaves. The places are known
beforehand (``denoised.statistics.block_places``); tiles own disjoint pixels, so that lanes need no lock.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.statistics import SAMPLE_LIMIT, Blocks, block_places
from service import tiling
from service.types import Plane

# SURE looks at the middle of an image: of this much it is within 0.15 dB of that of the whole.
SURE_SIDE_PX: Final = 256

_VALUE_BYTES: Final = np.dtype(np.float32).itemsize


class ReportSamples:
    """Blocks of an image and of its answer, as the network sees and makes them, 0..1.

    Attributes:
        noisy, denoised: (B, C, h, w).
        middle: (C, h, w) of the noisy image, for SURE; None where it is not asked for.
    """

    def __init__(self, *, height_px: int, width_px: int, channels: int, middle_px: tuple[int, int] | None) -> None:
        """
        Args:
            height_px, width_px: of the image.
            channels: the network's.
            middle_px: height and width of the middle; None where it is not asked for.
        """
        self._places = block_places(height_px, width_px, channels)
        shape = (len(self._places), channels, *self._places[0][2:])
        self.noisy: Blocks = np.empty(shape, np.float32)
        self.denoised: Blocks = np.empty(shape, np.float32)
        self.middle: NDArray[np.float32] | None = None
        self._middle_places = []
        if middle_px is not None:
            self.middle = np.empty((channels, *middle_px), np.float32)
            self._middle_places = [((height_px - middle_px[0]) // 2, (width_px - middle_px[1]) // 2, *middle_px)]

    @staticmethod
    def held_bytes(pixel_count: int, channels: int, *, middle_px: tuple[int, int] | None) -> int:
        """The most that it takes for an image of so many pixels, and that SURE's passes take besides."""
        blocks_bytes = 2 * min(pixel_count * channels, SAMPLE_LIMIT) * _VALUE_BYTES
        if middle_px is None:
            return blocks_bytes
        # Itself, once more in rows, its signs, itself moved by them, and two answers.
        return blocks_bytes + 6 * channels * middle_px[0] * middle_px[1] * _VALUE_BYTES

    def take(self, plan: tiling.TilePlan, index: int, noisy: Plane, denoised: Plane) -> None:
        """A tile has run: what of it lies in the blocks is kept.

        Args:
            plan: of the image.
            index: of the tile.
            noisy, denoised: the unit, (C, h, w), halo and padding included.
        """
        row, column = plan.tile(index)
        owned = (row.keep_px, row.stop_px, column.keep_px, column.stop_px)
        start = (row.read_px, column.read_px)
        _copy(self._places, owned, start, noisy, self.noisy)
        _copy(self._places, owned, start, denoised, self.denoised)
        if self.middle is not None:
            _copy(self._middle_places, owned, start, noisy, self.middle[np.newaxis])


def _copy(
    places: Sequence[tuple[int, int, int, int]],
    owned: tuple[int, int, int, int],
    start: tuple[int, int],
    unit: Plane,
    blocks: Blocks,
) -> None:
    """Copies what lies in both the blocks and the pixels that the tile owns; ``start`` is where the unit begins."""
    first_row, stop_row, first_column, stop_column = owned
    for block, (top, left, height_px, width_px) in zip(blocks, places, strict=True):
        rows = max(top, first_row), min(top + height_px, stop_row)
        columns = max(left, first_column), min(left + width_px, stop_column)
        if rows[0] < rows[1] and columns[0] < columns[1]:
            block[:, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = unit[
                :, rows[0] - start[0] : rows[1] - start[0], columns[0] - start[1] : columns[1] - start[1]
            ]
