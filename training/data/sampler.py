"""Packed pixels to training samples; each is a pure function of (seed, epoch, index)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.noise import NoiseSpec, keyed_rng
from training.data.pack import Pack
from training.data.synthetic import draw_picture
from training.errors import DataError

# ITU-R BT.601 luma, the weights that JPEG uses.
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Training samples.

    Attributes:
        noisy, clean: (N, C, h, w) float32 in 0..1.
        sigma: (N,) float32, each sample's noise level in 0..1 units (8-bit levels / 255).
    """

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    sigma: NDArray[np.float32]


class CropSampler:
    """Draws noisy/clean crops; each is a pure function of (seed, epoch, index)."""

    def __init__(
        self,
        pack: Pack,
        noise: NoiseSpec,
        *,
        seed: int,
        crop_px: int,
        samples_per_epoch: int,
        synthetic_share: float = 0.0,
    ) -> None:
        """``synthetic_share`` of the samples are generated pictures in place of crops."""
        self._pack = pack
        self._synthetic_share = synthetic_share
        self._noise = noise
        self._seed = seed
        self._crop_px = crop_px
        self._samples_per_epoch = samples_per_epoch
        self._images = [i for i in pack.training_images() if min(i.height_px, i.width_px) >= crop_px]
        if not self._images:
            raise DataError(f"no training image has {crop_px} pixels on each side; use smaller crops or larger images")
        areas = np.array([image.height_px * image.width_px for image in self._images], dtype=np.float64)
        self._probabilities = areas / areas.sum()

    def sample(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """(noisy, clean, sigma) of sample ``number`` of the whole run: two (h, w, C) crops, sigma in 8-bit levels."""
        epoch, index = divmod(number, self._samples_per_epoch)
        rng = keyed_rng(self._seed, epoch, index)
        if rng.random() < self._synthetic_share:
            clean = draw_picture(rng, side_px=self._crop_px, channels=self._pack.manifest.channels)
        else:
            clean = self._draw_crop(rng)
        grey = rng.random() < self._noise.grey_share
        if grey and clean.shape[2] == 3:
            luma = np.rint(clean @ _LUMA * 255.0) / np.float32(255.0)
            clean = np.repeat(luma[:, :, None], 3, axis=2)
        sigma = self._noise.draw_sigma(rng)
        return self._noise.apply(clean, sigma=sigma, rng=rng, same_in_all_channels=grey), clean, sigma

    def _draw_crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A place in a photograph, flipped and turned at random; photographs count by their area."""
        image = self._images[rng.choice(len(self._images), p=self._probabilities)]
        top = int(rng.integers(image.height_px - self._crop_px + 1))
        left = int(rng.integers(image.width_px - self._crop_px + 1))
        crop = self._pack.pixels(image)[top : top + self._crop_px, left : left + self._crop_px]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        crop = np.rot90(crop, int(rng.integers(4)))
        return crop.astype(np.float32) / np.float32(255.0)

    def batch(self, step: int, batch_size: int) -> Batch:
        """The samples of one optimisation step."""
        samples = [self.sample(step * batch_size + slot) for slot in range(batch_size)]
        return Batch(
            noisy=np.stack([noisy for noisy, _, _ in samples]).transpose(0, 3, 1, 2),
            clean=np.stack([clean for _, clean, _ in samples]).transpose(0, 3, 1, 2),
            sigma=np.array([sigma / 255.0 for _, _, sigma in samples], dtype=np.float32),
        )

    def batches(self, start: int, stop: int, batch_size: int, *, ahead: int = 4) -> Iterator[Batch]:
        """Batches of steps ``start`` to ``stop``, made ahead of time by one thread."""
        with ThreadPoolExecutor(1, thread_name_prefix="samples") as executor:
            pending = [executor.submit(self.batch, step, batch_size) for step in range(start, min(start + ahead, stop))]
            for step in range(start, stop):
                batch = pending.pop(0).result()
                if step + ahead < stop:
                    pending.append(executor.submit(self.batch, step + ahead, batch_size))
                yield batch
