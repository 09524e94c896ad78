"""What SURE and the compression term ask of the network besides the image itself: see :class:`service.lanes.Tiles`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoised.statistics import EPSILON, sure_signs
from service import tiling
from service.image_tiles import WholeImage
from service.pixels import Scale, is_grey
from service.types import Units

# Values as the network sees and makes them: neither clipped nor rounded, or the difference of two passes would be lost.
_UNTOUCHED = Scale(0.0, 1.0, clip=False)


class SurePasses:
    """The middle of an image through the network twice: as it is, and with each value moved a little.

    Attributes:
        signs: (H, W, C), which way.
        answers: (H, W, C) of each pass.
    """

    def __init__(self, middle: NDArray[np.float32], *, plan: tiling.TilePlan, seed: int) -> None:
        """
        Args:
            middle: (C, H, W).
            plan: of an image of that size.
            seed: of the signs.
        """
        self.noisy = np.ascontiguousarray(middle.transpose(1, 2, 0))
        # Channels that are equal must stay so: a grey image is answered as the one channel that it is.
        probed = 1 if is_grey(self.noisy) else self.noisy.shape[2]
        signs = sure_signs((*self.noisy.shape[:2], probed), seed)
        self.signs = np.broadcast_to(signs, self.noisy.shape)
        moved = self.noisy + np.float32(EPSILON) * self.signs
        self.answers = (np.empty_like(self.noisy), np.empty_like(self.noisy))
        self._images = [
            WholeImage(colour, answer, plan=plan, scale=_UNTOUCHED, strength=1.0)
            for colour, answer in zip((self.noisy, moved), self.answers, strict=True)
        ]
        self.unit_count = len(self._images) * plan.tile_count
        self._tile_count = plan.tile_count

    def read(self, first: int, count: int, out: Units) -> None:
        """See :class:`service.lanes.Tiles`."""
        for index in range(first, first + count):
            image, tile = divmod(index, self._tile_count)
            self._images[image].read(tile, 1, out[index - first : index - first + 1])

    def write(self, first: int, count: int, denoised: Units, noisy: Units, sigma_maps: Units | None) -> None:
        """See :class:`service.lanes.Tiles`."""
        del sigma_maps
        for index in range(first, first + count):
            image, tile = divmod(index, self._tile_count)
            at = slice(index - first, index - first + 1)
            self._images[image].write(tile, 1, denoised[at], noisy[at], None)


class CodeAnswer(NamedTuple):
    """A code, (d,), and the logarithms of its variances."""

    mean: NDArray[np.float32]
    log_variance: NDArray[np.float32] | None


class CodePass:
    """A whole small image through the encoder.

    Attributes:
        answer: the code's numbers, and the logarithms of their variances where the encoder has them.
    """

    def __init__(self, image: NDArray[np.float32]) -> None:
        """``image`` is (C, H, W), of the size that the network takes."""
        self._image = image
        self.answer: CodeAnswer | None = None

    def read(self, first: int, count: int, out: Units) -> None:
        """See :class:`service.lanes.Tiles`."""
        del first, count
        out[0] = self._image

    def write(self, first: int, count: int, codes: Units, images: Units, log_variances: Units | None) -> None:
        """See :class:`service.lanes.Tiles`."""
        del first, count, images
        self.answer = CodeAnswer(codes[0], None if log_variances is None else log_variances[0])
