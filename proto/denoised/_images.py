"""The caller's images to messages and back: arrays travel as samples, bytes and files travel as they are.

What is prepared holds the caller's own memory. It is copied when it is sent: all at once into one message, or a chunk
at a time.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoised._file_header import read_file_header
from denoised._pillow import array_of, image_of, is_pillow_image
from denoised.errors import (
    FileUnreadableError,
    InternalError,
    InvalidImageError,
    UnsupportedImageError,
)
from denoised.v1 import denoised_pb2 as pb

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

AnyArray = NDArray[Any]
ImageInput: TypeAlias = "AnyArray | PillowImage | bytes | str | os.PathLike[str]"

_SAMPLE_TYPES: Final = {
    "uint8": pb.SAMPLE_TYPE_U8,
    "uint16": pb.SAMPLE_TYPE_U16,
    "float32": pb.SAMPLE_TYPE_F32,
}
_MOST_CHANNELS: Final = 4


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """What is needed to make an array of the answer's samples again, or the Pillow image that the question was."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    question: "PillowImage | None" = None

    def given_back(self, samples: AnyArray) -> "AnyArray | PillowImage":
        """Samples of this shape as what the caller gave."""
        samples = samples.astype(self.dtype, copy=False)
        return samples if self.question is None else image_of(samples, self.question)

    @property
    def little_endian(self) -> np.dtype[Any]:
        """The type of the samples on their way."""
        return self.dtype.newbyteorder("<")


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An image that is ready to be sent.

    Attributes:
        header: the image as a message without its data.
        data: the caller's array, or the bytes of a file.
        form: of the array; None for files.
        size_bytes: of the data as it is sent.
        answer_bytes: the most that the answer's data may have.
        height_px, width_px: 0 of a file that does not tell.
    """

    header: pb.Image
    data: bytes | AnyArray
    form: ArrayForm | None
    size_bytes: int
    answer_bytes: int
    height_px: int
    width_px: int

    @property
    def pixel_count(self) -> int:
        return self.height_px * self.width_px

    def message(self) -> pb.Image:
        """The image with its data."""
        image = pb.Image()
        image.CopyFrom(self.header)
        if isinstance(self.data, bytes):
            image.encoded.data = self.data
        else:
            image.raw.data = _little_endian(self.data)
        return image

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """The data in order, in parts of at most so many bytes, at least one pixel each."""
        if isinstance(self.data, bytes):
            for start in range(0, self.size_bytes, chunk_bytes):
                yield self.data[start : start + chunk_bytes]
            return
        pixel_bytes = self.size_bytes // self.pixel_count
        column_count = min(self.width_px, max(1, chunk_bytes // pixel_bytes))
        row_count = max(1, chunk_bytes // (self.width_px * pixel_bytes))
        for top in range(0, self.height_px, row_count):
            for left in range(0, self.width_px, column_count):
                yield _little_endian(self.data[top : top + row_count, left : left + column_count])


def prepare(image: ImageInput, *, black_level: float | None, white_level: float | None) -> Prepared:
    """The image as a message; a path is read here.

    Raises:
        InvalidRequestError: one of its kinds, when the server would have to refuse it anyway.
    """
    if isinstance(image, np.ndarray):
        return _prepare_array(image, black_level=black_level, white_level=white_level)
    if is_pillow_image(image):
        return _prepare_array(array_of(image), black_level=black_level, white_level=white_level, question=image)
    if isinstance(image, str | os.PathLike):
        image = _read(image)
    elif not isinstance(image, bytes):
        raise UnsupportedImageError(
            f"image is a {type(image).__name__}; pass a NumPy array, a Pillow image, the bytes of a file, or a path",
            reason="IMAGE_UNSUPPORTED",
            field="image",
        )
    header = read_file_header(image)
    return Prepared(
        header=pb.Image(encoded=pb.EncodedImage(black_level=black_level, white_level=white_level)),
        data=image,
        form=None,
        size_bytes=len(image),
        # No codec makes much more of samples than they are; what a file says besides is in it already.
        answer_bytes=len(image) + (0 if header is None else header.samples_bytes),
        height_px=0 if header is None else header.height_px,
        width_px=0 if header is None else header.width_px,
    )


def restore(message: pb.Image, form: ArrayForm | None) -> "AnyArray | PillowImage | bytes":
    """The answer as what the caller gave: a fresh writable array, a Pillow image, or the bytes of a file.

    Raises:
        InternalError: the answer is of another kind or size than the question.
    """
    assembly = Assembly(form)
    assembly.add(message.raw.data if form is not None else message.encoded.data)
    return assembly.finish(message)


class Assembly:
    """An answer that comes in parts, put together in one place: an array of its final size, or a buffer of bytes."""

    def __init__(self, form: ArrayForm | None) -> None:
        self._form = form
        self._file = io.BytesIO()
        self._samples = np.empty(0 if form is None else form.shape, "u1" if form is None else form.little_endian)
        self._bytes = self._samples.reshape(-1).view(np.uint8)
        self.size_bytes = 0

    def add(self, data: bytes) -> None:
        """The next bytes of the answer.

        Raises:
            InternalError: there are more than the question had.
        """
        start, self.size_bytes = self.size_bytes, self.size_bytes + len(data)
        if self._form is None:
            self._file.write(data)
        elif self.size_bytes > self._bytes.size:
            raise self._malformed()
        else:
            self._bytes[start : self.size_bytes] = np.frombuffer(data, np.uint8)

    def finish(self, header: pb.Image) -> "AnyArray | PillowImage | bytes":
        """The whole answer; ``header`` says what it is.

        Raises:
            InternalError: it is of another kind or size than the question.
        """
        if header.WhichOneof("content") != ("encoded" if self._form is None else "raw"):
            raise self._malformed()
        if self._form is None:
            return self._file.getvalue()
        if self.size_bytes != self._bytes.size:
            raise self._malformed()
        return self._form.given_back(self._samples)

    def _malformed(self) -> InternalError:
        asked = "a file" if self._form is None else f"an array of {self._bytes.size} bytes"
        return InternalError(f"the server answered {asked} with something else", reason="ANSWER_MALFORMED")


def _prepare_array(
    array: AnyArray,
    *,
    black_level: float | None,
    white_level: float | None,
    question: "PillowImage | None" = None,
) -> Prepared:
    sample_type = _SAMPLE_TYPES.get(array.dtype.name)
    if sample_type is None:
        raise UnsupportedImageError(
            f"array is {array.dtype.name}; served are {', '.join(_SAMPLE_TYPES)}: convert it, "
            "for example with array.astype(numpy.float32)",
            reason="IMAGE_UNSUPPORTED",
            field="image.raw.sample_type",
        )
    channel_count = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channel_count > _MOST_CHANNELS:
        raise UnsupportedImageError(
            f"array has shape {array.shape}; axes are (height, width) or (height, width, channels) with 1 to "
            f"{_MOST_CHANNELS} channels: for channels first, use numpy.moveaxis(array, 0, -1)",
            reason="IMAGE_UNSUPPORTED",
            field="image.raw",
        )
    if array.size == 0:
        raise InvalidImageError(
            f"array has shape {array.shape}; an image has at least one pixel and one channel",
            reason="SAMPLES_INVALID",
            field="image.raw",
        )
    raw = pb.RawImage(
        sample_type=sample_type,
        layout=pb.SAMPLE_LAYOUT_HWC,
        height_px=array.shape[0],
        width_px=array.shape[1],
        channel_count=channel_count,
        black_level=black_level,
        white_level=white_level,
    )
    return Prepared(
        header=pb.Image(raw=raw),
        data=array,
        form=ArrayForm(shape=array.shape, dtype=array.dtype, question=question),
        size_bytes=array.nbytes,
        answer_bytes=array.nbytes,
        height_px=array.shape[0],
        width_px=array.shape[1],
    )


def _little_endian(array: AnyArray) -> bytes:
    """The samples in row-major order, whatever the array's strides and byte order are."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 -- pathlib would be a tenth of what importing the client costs
            return file.read()
    except OSError as error:
        raise FileUnreadableError(
            f"{os.fspath(path)} can't be read: {error.strerror or error}", reason="FILE_UNREADABLE", field="image"
        ) from error
