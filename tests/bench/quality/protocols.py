"""What is done to a clean image before it is sent: Gaussian noise, a camera's noise behind JPEG, nothing. Pure."""

import io
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image as PillowImage

from denoised.noise import LEVELS_8BIT, benchmark_noisy
from tests.bench.quality.images import CleanImage, Samples

Protocol = Literal["gaussian", "photo", "clean"]

PHOTO_GAIN: Final = 0.01
PHOTO_READ_NOISE: Final = 0.02
PHOTO_JPEG_QUALITY: Final = 85
# The gain, and what artefacts and sheets are made at, unless another level is the only one measured.
HEADLINE_SIGMA: Final = 25


@dataclass(frozen=True, slots=True)
class Condition:
    """A protocol with its level.

    Attributes:
        protocol: ``gaussian`` by the benchmark's rule; ``photo`` with :func:`photo_noisy`; ``clean`` as it is.
        sigma: of the Gaussian noise in 8-bit levels, 0 for the others.
        is_grey: whether the image is made grey first.
    """

    protocol: Protocol
    sigma: int = 0
    is_grey: bool = False

    @property
    def name(self) -> str:
        """For people."""
        level = f"{self.protocol} {self.sigma}" if self.protocol == "gaussian" else self.protocol
        return f"{level}, grey" if self.is_grey else level

    def reference(self, image: CleanImage) -> CleanImage:
        """The clean image that an answer is compared with."""
        return image.grey() if self.is_grey else image

    def noisy(self, image: CleanImage) -> Samples:
        """What is sent, in the form of :meth:`reference`."""
        reference = self.reference(image)
        if self.protocol == "gaussian":
            return benchmark_noisy(reference.samples, sigma=self.sigma, index=image.index)
        return photo_noisy(reference.samples, index=image.index) if self.protocol == "photo" else reference.samples

    def told_sigma(self, image: CleanImage, noisy: Samples) -> float:
        """The noise level in 8-bit levels that classical methods are told.

        Of ``photo`` it is the true mean over the picture: they get the best number that one number can be.
        """
        if self.protocol == "gaussian":
            return float(self.sigma)
        error = noisy.astype(np.float64) - self.reference(image).samples
        return float(np.sqrt(np.mean(error * error)))


def photo_noisy(clean_u8: Samples, *, index: int) -> Samples:
    """A photograph as a small camera stores it: Poisson-Gaussian noise, then JPEG.

    ``numpy.random.default_rng(1000 + index)``, standard normal times the square root of gain * x + read noise^2 added
    to x in 0..1, clipped, rounded to 8 bit, then JPEG with Pillow's own subsampling.

    Args:
        clean_u8: (H, W) or (H, W, 3) uint8.
        index: position of the image in the sorted list of its set.
    """
    clean = clean_u8 / LEVELS_8BIT
    normal = np.random.default_rng(1000 + index).standard_normal(clean.shape)
    noisy = clean + normal * np.sqrt(PHOTO_GAIN * clean + PHOTO_READ_NOISE**2)
    samples = np.rint(np.clip(noisy, 0.0, 1.0) * LEVELS_8BIT).astype(np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(samples).save(file, "JPEG", quality=PHOTO_JPEG_QUALITY)
    return np.asarray(PillowImage.open(file))
