"""Pictures and codes as lanes read and write them: a unit is one image, in or out. See :class:`service.lanes.Tiles`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from service import codec, pixels
from service.errors import NonFiniteOutput
from service.pixels import NonFiniteSamples, Scale
from service.types import Codes, Samples, Units


class Picture(NamedTuple):
    """Samples that are to be encoded.

    Attributes:
        colour: (H, W, C), of the size that the network takes.
        scale: how its samples stand for 0..1.
        prefix: of its fields in the request, such as ``start.``; empty where it is the request's only image.
    """

    colour: Samples
    scale: Scale
    prefix: str


class PicturesToCodes:
    """Units of an encoder.

    Attributes:
        codes: (N, d), the means where the codes are distributions; filled as the units run.
        log_variances: (N, d), or None where the encoder is deterministic.
    """

    def __init__(self, pictures: Sequence[Picture], *, code_length: int) -> None:
        self._pictures = pictures
        self.codes: Codes = np.empty((len(pictures), code_length), np.float32)
        self.log_variances: Codes | None = None

    def read(self, first: int, count: int, out: Units) -> None:
        """Puts pictures into the network's input."""
        for index in range(first, first + count):
            colour, scale, prefix = self._pictures[index]
            whole = (slice(0, colour.shape[0]), slice(0, colour.shape[1]))
            try:
                pixels.read_unit(colour, out[index - first], scale, counted=whole)
            except NonFiniteSamples:
                error = codec.nonfinite_samples(colour)
                error.field = prefix + error.field
                raise error from None

    def write(self, first: int, count: int, codes: Units, pictures: Units, log_variances: Units | None) -> None:
        """Takes the network's codes."""
        del pictures
        place = slice(first, first + count)
        for answer in (codes, log_variances):
            if answer is not None and not np.isfinite(answer).all():
                raise NonFiniteOutput(
                    "the encoder answered with numbers that are not finite for this image; "
                    "its samples may lie far outside what the model was trained for"
                )
        self.codes[place] = codes
        if log_variances is not None:
            if self.log_variances is None:
                self.log_variances = np.empty_like(self.codes)
            self.log_variances[place] = log_variances


class PictureForm(NamedTuple):
    """What samples a decoder's images become.

    Attributes:
        height_px, width_px, channels: of each image.
        scale: the samples that stand for 0 and 1, and whether others are cut off.
    """

    height_px: int
    width_px: int
    channels: int
    dtype: np.dtype[Any]
    scale: Scale

    @property
    def picture_bytes(self) -> int:
        """Of the samples of one image."""
        return self.height_px * self.width_px * self.channels * self.dtype.itemsize


class CodesToPictures:
    """Units of a decoder.

    Attributes:
        codes: (N, d); filled as the units run, as ``pictures``.
        pictures: (N, H, W, C) samples.
    """

    def __init__(self, code_of: Callable[[int], Codes], count: int, *, code_length: int, form: PictureForm) -> None:
        """``code_of`` makes the code of a unit, (d,); called in a lane's thread, once or more for each."""
        self._code_of = code_of
        self._scale = form.scale
        self.codes: Codes = np.empty((count, code_length), np.float32)
        self.pictures: Samples = np.empty((count, form.height_px, form.width_px, form.channels), form.dtype)

    def read(self, first: int, count: int, out: Units) -> None:
        """Puts codes into the network's input."""
        for index in range(first, first + count):
            self.codes[index] = out[index - first] = self._code_of(index)

    def write(self, first: int, count: int, pictures: Units, codes: Units, nothing: Units | None) -> None:
        """Takes the network's images."""
        del codes, nothing
        for index in range(first, first + count):
            pixels.write_unit(
                pictures[index - first],
                pictures[index - first],
                self.pictures[index],
                top_px=0,
                left_px=0,
                strength=1.0,
                scale=self._scale,
                grey=False,
            )
