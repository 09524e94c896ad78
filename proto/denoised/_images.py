"""The caller's images to messages and back: arrays travel as samples, bytes and files travel as they are."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from denoised.errors import (
    FileUnreadableError,
    InternalError,
    InvalidImageError,
    UnsupportedImageError,
)
from denoised.v1 import denoised_pb2 as pb

AnyArray = NDArray[Any]
ImageInput = AnyArray | bytes | str | os.PathLike[str]

_SAMPLE_TYPES: Final = {
    "uint8": pb.SAMPLE_TYPE_U8,
    "uint16": pb.SAMPLE_TYPE_U16,
    "float32": pb.SAMPLE_TYPE_F32,
}
_MOST_CHANNELS: Final = 4


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """What is needed to make an array of the answer's samples again."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image that is ready to be sent; ``form`` is None for files."""

    message: pb.Image
    form: ArrayForm | None


def prepare(image: ImageInput, *, black_level: float | None, white_level: float | None) -> Prepared:
    """The image as a message; a path is read here.

    Raises:
        InvalidRequestError: one of its kinds, when the server would have to refuse it anyway.
    """
    if isinstance(image, np.ndarray):
        return _prepare_array(image, black_level=black_level, white_level=white_level)
    if isinstance(image, str | os.PathLike):
        image = _read(Path(image))
    elif not isinstance(image, bytes):
        raise UnsupportedImageError(
            f"image is a {type(image).__name__}; pass a NumPy array, the bytes of a file, or a path",
            reason="IMAGE_UNSUPPORTED",
            field="image",
        )
    encoded = pb.EncodedImage(data=image, black_level=black_level, white_level=white_level)
    return Prepared(message=pb.Image(encoded=encoded), form=None)


def restore(message: pb.Image, form: ArrayForm | None) -> AnyArray | bytes:
    """The answer as what the caller gave: a fresh writable array, or the bytes of a file.

    Raises:
        InternalError: the answer is of another kind or size than the question.
    """
    if form is None:
        if message.WhichOneof("content") != "encoded":
            raise InternalError("the server answered a file with something else", reason="ANSWER_MALFORMED")
        return message.encoded.data
    expected_bytes = int(np.prod(form.shape)) * form.dtype.itemsize
    if message.WhichOneof("content") != "raw" or len(message.raw.data) != expected_bytes:
        raise InternalError(
            f"the server answered an array of {expected_bytes} bytes with something else", reason="ANSWER_MALFORMED"
        )
    little_endian = form.dtype.newbyteorder("<")
    return np.frombuffer(message.raw.data, dtype=little_endian).reshape(form.shape).astype(form.dtype)


def _prepare_array(array: AnyArray, *, black_level: float | None, white_level: float | None) -> Prepared:
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
        # tobytes gives row-major order whatever the array's strides are
        data=array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(),
        sample_type=sample_type,
        layout=pb.SAMPLE_LAYOUT_HWC,
        height_px=array.shape[0],
        width_px=array.shape[1],
        channel_count=channel_count,
        black_level=black_level,
        white_level=white_level,
    )
    return Prepared(message=pb.Image(raw=raw), form=ArrayForm(shape=array.shape, dtype=array.dtype))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadableError(
            f"{path} can't be read: {error.strerror or error}", reason="FILE_UNREADABLE", field="image"
        ) from error
