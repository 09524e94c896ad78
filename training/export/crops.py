"""Noisy crops of held-out images: what a written model is calibrated on.

Each crop is a pure function of (seed, number). What is done with them is decided elsewhere.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.noise import Image, NoiseSpec, keyed_rng
from training.data.manifest import PackedImage, Supervision
from training.data.pack import Pack
from training.errors import DataError

# Nearly as many samples of a colour image as its statistics are taken of, however large it is.
_CROP_SIDE_PX: Final = 256
_LARGEST_BATCH_PIXELS: Final = 256 * 256
# Beyond what training, evaluation and the gate draw.
_CROP_KEY: Final = 2**34


def noisy_crops(
    pack: Pack,
    noise: NoiseSpec,
    *,
    supervision: Supervision,
    size_multiple_px: int,
    fixed_side_px: int,
    count: int,
    seed: int,
    of_all: bool = False,
) -> Iterator[Image]:
    """(h, w, C) in 0..1 units, of 256 pixels a side or what fits; images count by their area, as in training.

    Args:
        pack: its held-out images; all where none is held out.
        noise: what clean crops get.
        supervision: what the network learnt from: pairs bring their own noise, and noisy images keep theirs.
        size_multiple_px: what the sides are multiples of.
        fixed_side_px: the only side, or 0.
        count, seed: another seed draws other crops and other noise.
        of_all: takes images that were trained on as well.

    Raises:
        DataError: no image is large enough.
    """
    least_px = fixed_side_px or size_multiple_px
    candidates = pack.manifest.images if of_all else pack.held_out_images() or pack.training_images()
    images = [image for image in candidates if min(image.height_px, image.width_px) >= least_px]
    if not images:
        raise DataError(f"no image has {least_px} pixels on each side; calibration needs images that the model takes")
    # At least one multiple, and as many as fit 256 pixels.
    most_px = max(_CROP_SIDE_PX // size_multiple_px, 1) * size_multiple_px
    areas = np.array([image.height_px * image.width_px for image in images], dtype=np.float64)
    for number in range(count):
        rng = keyed_rng(_CROP_KEY, seed, number)
        image = images[int(rng.choice(len(images), p=areas / areas.sum()))]
        rows, columns = (
            _span(side_px, fixed_side_px or min(most_px, side_px) // size_multiple_px * size_multiple_px, rng)
            for side_px in (image.height_px, image.width_px)
        )
        yield _noisy_crop(pack, noise, supervision, image, rows, columns, rng)


def batches(crops: Iterator[Image]) -> Iterator[NDArray[np.float32]]:
    """(N, h, w, C) of neighbours of one size, so that small images don't cost a call each."""
    batch: list[Image] = []
    for crop in crops:
        limit = _LARGEST_BATCH_PIXELS // (crop.shape[0] * crop.shape[1])
        if batch and (crop.shape != batch[0].shape or len(batch) >= limit):
            yield np.stack(batch)
            batch = []
        batch.append(crop)
    if batch:
        yield np.stack(batch)


def _noisy_crop(
    pack: Pack,
    noise: NoiseSpec,
    supervision: Supervision,
    image: PackedImage,
    rows: slice,
    columns: slice,
    rng: np.random.Generator,
) -> Image:
    if supervision == "pairs":
        return pack.noisy_unit(image, rows, columns)
    crop = pack.unit(image, rows, columns)
    return crop if supervision == "noisy" else noise.apply(crop, rng).image


def _span(side_px: int, length_px: int, rng: np.random.Generator) -> slice:
    start = int(rng.integers(side_px - length_px + 1))
    return slice(start, start + length_px)
