"""Which pictures an evaluation keeps to show, and the sheets that are made of them.

Only crops are kept, so that a set of any number of large photographs needs no memory for its pictures.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image as PillowImage

from denoised.noise import Image
from training.evaluation.grids import CELL_PX, Row, crop_window, draw_sheet, residual_picture

_WORST_COUNT: Final = 5
_SMALL_PX: Final = 64
_HEADS: Final = ("noisy", "output", "clean", "error x8")


@dataclass(frozen=True, slots=True)
class Sample:
    """Crops of one image at one level."""

    file: str
    level: float
    psnr_db: float
    noisy: Image
    output: Image
    clean: Image


@dataclass
class SampleKeeper:
    """Keeps the worst images at one level, and one image at every level.

    Attributes:
        headline_level: whose worst images are shown.
        shown_index: place of the image that is shown at every level; where it can't be read, the one before it.
    """

    headline_level: float
    shown_index: int
    shown: list[Sample] = field(default_factory=list)
    # A heap by falling PSNR: its first is the best of the worst. The count breaks ties between equal figures.
    _worst: list[tuple[float, int, Sample]] = field(default_factory=list)

    def offer(self, file: str, index: int, level: float, psnr_db: float, pictures: tuple[Image, Image, Image]) -> None:
        """Takes (noisy, output, clean) of an image into account; of the worst, the part with the largest error."""
        noisy, output, clean = pictures
        # Nothing is worse than an answer that is no number.
        badness = math.inf if math.isnan(psnr_db) else -psnr_db
        if level == self.headline_level and (len(self._worst) < _WORST_COUNT or badness > self._worst[0][0]):
            error = np.square(output - clean).mean(axis=2)
            window = crop_window(error.shape[0], error.shape[1], error)
            cut = Sample(file, level, psnr_db, noisy[window].copy(), output[window].copy(), clean[window].copy())
            push = heapq.heappush if len(self._worst) < _WORST_COUNT else heapq.heappushpop
            push(self._worst, (badness, index, cut))
        is_next = not self.shown or self.shown[0].file == file
        if is_next or index <= self.shown_index:
            if not is_next:
                self.shown.clear()
            # The same place at every level.
            window = crop_window(clean.shape[0], clean.shape[1])
            cut = Sample(file, level, psnr_db, noisy[window].copy(), output[window].copy(), clean[window].copy())
            self.shown.append(cut)

    def worst(self) -> list[Sample]:
        """From the lowest PSNR on."""
        return [sample for _, _, sample in sorted(self._worst, key=lambda entry: -entry[0])]


def sample_sheet(samples: Sequence[Sample], captions: Sequence[str]) -> PillowImage.Image:
    """Rows of noisy, output, clean, and eight times what is wrong with the output."""
    rows = [
        Row((s.noisy, s.output, s.clean, residual_picture(s.output, s.clean)), caption)
        for s, caption in zip(samples, captions, strict=True)
    ]
    is_small = max(samples[0].clean.shape[:2]) <= _SMALL_PX
    return draw_sheet(_HEADS, rows, cell_px=CELL_PX // 2 if is_small else CELL_PX)
