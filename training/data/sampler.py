"""Packed images to training samples; each is a pure function of (seed, epoch, index).

Neither the order of calls nor the number of worker processes changes a sample, so a run that was killed and resumed,
also in the middle of an epoch, sees what an uninterrupted one sees. The noise itself is ``denoised.noise``'s matter.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoised.noise import NoiseSpec, keyed_rng
from training.config import DataConfig
from training.data.manifest import PackedImage, Supervision
from training.data.pack import Pack
from training.data.synthetic import draw_picture
from training.errors import DataError

Float = NDArray[np.float32]

_PREPARED_BY: Final[dict[Supervision, str]] = {
    "clean": "neither --noisy-only nor --noisy-folder",
    "pairs": "--noisy-folder",
    "noisy": "--noisy-only",
}
# Real noise is measured over windows of this radius: 81 pixels give a standard deviation to about 8 %.
_LOCAL_RADIUS_PX: Final = 4


def require_supervision(data: DataConfig, pack: Pack) -> None:
    """Raises a DataError when the pack's images are of another kind than the network is to learn from.

    The clean halves of pairs are no clean images here: calibration, gates and evaluation measure a pack of pairs by its
    recorded noise, which a network that learnt from drawn noise never saw.
    """
    wanted, found = data.supervision, pack.manifest.supervision
    if wanted != found:
        raise DataError(
            f"data.supervision is {wanted!r}, the pack holds {found!r} images; set data.supervision = {found!r}, or "
            f"prepare the images with {_PREPARED_BY[wanted]}"
        )


class Sample(NamedTuple):
    """One training sample; images are 0..1 by the pack's levels.

    Attributes:
        noisy, clean: (h, w, C) float32; the same image twice where there is no clean truth.
        sigma_map: (h, w) float32, the noise's local standard deviation.
    """

    noisy: Float
    clean: Float
    sigma_map: Float


class Batch(NamedTuple):
    """Training samples, channels last in memory and first in shape, as convolutions like them.

    Attributes:
        noisy, clean: (N, C, h, w) float32.
        sigma_map: (N, 1, h, w) float32.
    """

    noisy: Float
    clean: Float
    sigma_map: Float


class CropSampler:
    """Draws crops; may be sent to worker processes."""

    def __init__(self, pack: Pack, noise: NoiseSpec, *, seed: int, data: DataConfig) -> None:
        """Raises a DataError when the pack has no image as large as a crop, or none of the kind that is asked for."""
        require_supervision(data, pack)
        images = pack.training_images()
        self._images = [i for i in images if min(i.height_px, i.width_px) >= data.crop_px]
        if not self._images:
            raise DataError(
                f"data.crop_px is {data.crop_px}, and none of the {len(images)} training images has as many pixels on "
                "each side; use smaller crops or larger images"
            )
        self._pack = pack
        self._noise = noise
        self._seed = seed
        self._data = data
        areas = np.array([image.height_px * image.width_px for image in self._images], dtype=np.float64)
        # Sums end at 1 exactly, so that no draw below 1 lies beyond them.
        self._area_sums = np.cumsum(areas) / areas.sum()

    def sample(self, number: int) -> Sample:
        """Sample ``number`` of the whole run, counted from 0 over all epochs."""
        epoch, index = divmod(number, self._data.samples_per_epoch)
        rng = keyed_rng(self._seed, epoch, index)
        if self._data.supervision == "pairs":
            return self._draw_pair(rng)
        if self._data.supervision == "noisy":
            frame = self._draw_window(rng)[0]
            return Sample(frame, frame, self._noise.sigma_map_of(frame))
        if rng.random() < self._data.synthetic_share:
            clean = draw_picture(rng, side_px=self._data.crop_px, channels=self._pack.manifest.channels)
        else:
            clean = self._draw_window(rng)[0]
        noisy = self._noise.apply(clean, rng)
        return Sample(noisy.image, noisy.clean, noisy.sigma_map)

    def batch(self, first: int, count: int) -> Batch:
        """Samples ``first`` to ``first + count - 1``."""
        side_px, channels = self._data.crop_px, self._pack.manifest.channels
        noisy = np.empty((count, side_px, side_px, channels), dtype=np.float32)
        clean = np.empty_like(noisy)
        sigma_map = np.empty((count, 1, side_px, side_px), dtype=np.float32)
        for slot in range(count):
            noisy[slot], clean[slot], sigma_map[slot, 0] = self.sample(first + slot)
        return Batch(noisy.transpose(0, 3, 1, 2), clean.transpose(0, 3, 1, 2), sigma_map)

    def _draw_pair(self, rng: np.random.Generator) -> Sample:
        clean, noisy = self._draw_window(rng, with_partner=True)
        return Sample(noisy, clean, local_rms(noisy - clean))

    def _draw_window(self, rng: np.random.Generator, *, with_partner: bool = False) -> tuple[Float, ...]:
        """A place in an image, and the same in its partner, turned and flipped alike; images count by their area."""
        image = self._images[int(np.searchsorted(self._area_sums, rng.random(), side="right"))]
        rows, columns = self._draw_place(rng, image)
        views = [self._pack.unit(image, rows, columns)]
        if with_partner:
            views.append(self._pack.noisy_unit(image, rows, columns))
        if self._data.augment:
            orientation = int(rng.integers(8))
            views = [_oriented(view, orientation) for view in views]
        return tuple(views)

    def _draw_place(self, rng: np.random.Generator, image: PackedImage) -> tuple[slice, slice]:
        side_px = self._data.crop_px
        top = int(rng.integers(image.height_px - side_px + 1))
        left = int(rng.integers(image.width_px - side_px + 1))
        return slice(top, top + side_px), slice(left, left + side_px)


def _oriented(view: Float, orientation: int) -> Float:
    """One of the eight orientations of a square, 0 to 7."""
    flipped = view[:, ::-1] if orientation & 4 else view
    turned: Float = np.rot90(flipped, orientation & 3)
    return turned


def local_rms(difference: Float) -> Float:
    """(h, w): the root mean square of all channels over the window around each pixel, narrower at the border."""
    squares: NDArray[np.float64] = np.square(difference, dtype=np.float64).mean(axis=2)
    for _ in range(2):
        # Down the columns, then, transposed, along the rows; after two rounds it stands upright again.
        sums = np.concatenate([np.zeros((1, squares.shape[1])), np.cumsum(squares, axis=0)])
        places = np.arange(len(squares))
        low = np.maximum(places - _LOCAL_RADIUS_PX, 0)
        high = np.minimum(places + _LOCAL_RADIUS_PX + 1, len(places))
        squares = ((sums[high] - sums[low]) / (high - low)[:, np.newaxis]).T
    # Sums of squares may end a rounding error below zero.
    return np.sqrt(np.maximum(squares, 0.0)).astype(np.float32)
