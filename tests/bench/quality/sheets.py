"""A sheet of pictures for each network: where it errs most, and the places that betray a network.

On scikit-image's pictures alone, so that a sheet may be shown to anybody. Crops of noisy, output, clean, and eight
times what is wrong with the output.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from denoised.noise import LEVELS_8BIT, Image
from tests.bench.quality.images import CleanImage, Samples, grey_of, photographs, printed_page
from tests.bench.quality.protocols import Condition
from training.evaluation.grids import Row, crop_window, draw_sheet, residual_picture, save_png, to_png

LARGEST_BYTES: Final = 400_000
_HEADS: Final = ("noisy", "output", "clean", "error x8")
_WORST_COUNT: Final = 2
# Noise does not compress: the crops shrink until the file is small enough. Cells are twice as large.
_CROP_SIDES_PX: Final = (96, 80, 64, 48)
# The head of the first photograph.
_PORTRAIT: Final = (slice(0, 256), slice(100, 390))
_GAP_PX: Final = 6


@dataclass(frozen=True, slots=True)
class Place:
    """A picture with an answer, and where to look at it.

    Attributes:
        caption: why.
        noisy, output, clean: (H, W) or (H, W, 3) uint8.
        score: (H, W); the crop is where it is highest on average.
    """

    caption: str
    noisy: Samples
    output: Samples
    clean: Samples
    score: NDArray[np.floating]

    def row(self, side_px: int) -> Row:
        """The crop of so many pixels a side."""
        window = crop_window(self.score.shape[0], self.score.shape[1], self.score, side_px=side_px)
        noisy, output, clean = (_unit(picture[window]) for picture in (self.noisy, self.output, self.clean))
        return Row((noisy, output, clean, residual_picture(output, clean)), self.caption)


def write_sheet(
    path: Path, answer: Callable[[Samples], Samples], condition: Condition, *, takes: Callable[[Samples], bool]
) -> bool:
    """Draws the sheet of one network; False when it takes none of the pictures.

    Args:
        path: of the PNG, of at most 400 kB.
        answer: the network.
        condition: what is done to the pictures.
        takes: whether the network takes a picture.
    """
    places = list(_places(answer, condition, takes=takes))
    if not places:
        return False
    for side_px in _CROP_SIDES_PX:
        sheet = _drawn(places, side_px)
        if len(to_png(sheet)) <= LARGEST_BYTES:
            break
    save_png(sheet, path)
    return True


def write_before_after(path: Path, answer: Callable[[Samples], Samples]) -> None:
    """A photograph with a small camera's noise behind JPEG, and what a network makes of it, side by side.

    Args:
        path: of the PNG.
        answer: the network.
    """
    noisy = Condition("photo").noisy(photographs(1)[0])
    output = answer(noisy)
    height_px = _PORTRAIT[0].stop - _PORTRAIT[0].start
    gap = np.full((height_px, _GAP_PX, 3), 255, np.uint8)
    save_png(PillowImage.fromarray(np.hstack((noisy[_PORTRAIT], gap, output[_PORTRAIT]))), path)


def _drawn(places: list[Place], side_px: int) -> PillowImage.Image:
    return draw_sheet(_HEADS, [place.row(side_px) for place in places], cell_px=2 * side_px)


def _places(
    answer: Callable[[Samples], Samples], condition: Condition, *, takes: Callable[[Samples], bool]
) -> Iterator[Place]:
    shown = [image for image in photographs() if takes(condition.reference(image).samples)]
    made = [_answered(image, answer, condition) for image in shown]
    if not made:
        return
    side_px = _CROP_SIDES_PX[0]
    by_error = [(_worst(_square_error(output, clean), side_px), name) for name, _, output, clean in made]
    worst = sorted(range(len(made)), key=lambda index: -by_error[index][0])[:_WORST_COUNT]
    for index in worst:
        name, noisy, output, clean = made[index]
        rms = np.sqrt(by_error[index][0])
        caption = f"{name}, {condition.name}: largest local error, {rms:.1f} levels rms"
        yield Place(caption, noisy, output, clean, _square_error(output, clean))
    for caption, score_of in (("flattest", _flatness), ("darkest", _darkness), ("brightest", _brightness)):
        best = max(made, key=lambda each: _worst(score_of(each[3]), side_px))
        yield Place(f"{best[0]}, {condition.name}: {caption} place", best[1], best[2], best[3], score_of(best[3]))
    page = printed_page()
    if takes(page.samples):
        name, noisy, output, clean = _answered(page, answer, condition)
        yield Place(f"{name}, {condition.name}: text", noisy, output, clean, -_flatness(clean))


def _answered(
    image: CleanImage, answer: Callable[[Samples], Samples], condition: Condition
) -> tuple[str, Samples, Samples, Samples]:
    """(name, noisy, output, clean)."""
    noisy = condition.noisy(image)
    return image.name, noisy, answer(noisy), condition.reference(image).samples


def _worst(score: NDArray[np.floating], side_px: int) -> float:
    """The mean of a score over the crop where it is highest."""
    return float(score[crop_window(score.shape[0], score.shape[1], score, side_px=side_px)].mean())


def _square_error(output: Samples, clean: Samples) -> NDArray[np.float64]:
    """(H, W), levels squared."""
    error: NDArray[np.float64] = np.atleast_3d(np.square(output.astype(np.float64) - clean)).mean(axis=2)
    return error


def _flatness(clean: Samples) -> NDArray[np.float64]:
    """(H, W), 0 where nothing changes and less elsewhere."""
    down, across = np.gradient(_luma(clean))
    flatness: NDArray[np.float64] = -np.hypot(down, across)
    return flatness


def _darkness(clean: Samples) -> NDArray[np.float64]:
    return -_luma(clean)


def _brightness(clean: Samples) -> NDArray[np.float64]:
    return _luma(clean)


def _luma(samples: Samples) -> NDArray[np.float64]:
    return (grey_of(samples) if samples.ndim == 3 else samples).astype(np.float64)


def _unit(samples: Samples) -> Image:
    """(H, W, C) float32 in 0..1."""
    return np.atleast_3d(samples).astype(np.float32) / np.float32(LEVELS_8BIT)
