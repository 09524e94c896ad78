"""Whether an answer is right: like its question in form, and the same as what the image got when it was alone."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from denoised.errors import InternalError
from denoised.load.kinds import Kind
from denoised.load.pictures import Picture
from denoised.v1 import denoised_pb2 as pb

_SAMPLE_TYPES: Final = {pb.SAMPLE_TYPE_U8: "u8", pb.SAMPLE_TYPE_U16: "u16"}
_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {"u8": np.dtype("<u1"), "u16": np.dtype("<u2")}
_PNG_COLOURS: Final = {0: "grey", 2: "colour"}
# Denoising keeps the mean; samples in other levels than the question's, such as 8 bits in a file of 16, do not.
_MEAN_TOLERANCE: Final = 0.03


class Checker:
    """Knows the right answer to each image, once it has been told."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = pictures
        self._right: dict[int, pb.Image] = {}

    def learn(self, index: int, answer: bytes | pb.DenoiseResponse) -> None:
        """Takes the answer that the image got alone as the right one.

        Raises:
            InternalError: it is not even like the question: size, container, type, colour or levels differ.
        """
        picture = self._pictures[index]
        try:
            image = _image(answer)
            found, mean = _form(image, picture.kind)
        except (ValueError, OSError, IndexError, KeyError, DecodeError) as error:
            raise InternalError(
                f"the answer to {picture.kind} can't be read: {error}", reason="ANSWER_MALFORMED"
            ) from error
        asked = (picture.kind.width_px, picture.kind.height_px, picture.kind.sample_type, picture.kind.colour)
        if found != asked:
            raise InternalError(f"the answer to {picture.kind} is {found}", reason="ANSWER_MALFORMED")
        asked_mean = _mean(picture.samples)
        if abs(mean - asked_mean) > _MEAN_TOLERANCE:
            raise InternalError(
                f"the answer to {picture.kind} has a mean of {mean:.3f} of white, the image {asked_mean:.3f}; "
                "they are not in the same levels",
                reason="ANSWER_MALFORMED",
            )
        self._right[index] = image

    def is_right(self, index: int, answer: bytes | pb.DenoiseResponse) -> bool:
        """Whether the image in the answer is the one that was learnt; the report beside it may differ."""
        try:
            return _image(answer) == self._right[index]
        except DecodeError:
            return False


def _image(answer: bytes | pb.DenoiseResponse) -> pb.Image:
    return (pb.DenoiseResponse.FromString(answer) if isinstance(answer, bytes) else answer).image


def _form(image: pb.Image, kind: Kind) -> tuple[tuple[int, int, str, str], float]:
    """((width, height, sample type, colour), mean as a share of white)."""
    if kind.container == "raw":
        raw = image.raw
        sample_type = _SAMPLE_TYPES[raw.sample_type]
        samples = np.frombuffer(raw.data, _DTYPES[sample_type]).reshape(raw.height_px, raw.width_px, raw.channel_count)
        return (raw.width_px, raw.height_px, sample_type, "colour" if raw.channel_count == 3 else "grey"), _mean(
            samples
        )
    from PIL import Image as PillowImage

    data = image.encoded.data
    with PillowImage.open(io.BytesIO(data), formats=(kind.container.upper(),)) as opened:
        samples = np.asarray(opened)
        if kind.container == "jpeg":
            form = (opened.width, opened.height, "u8", "colour" if opened.mode == "RGB" else "grey")
        else:
            # Pillow opens colour of 16 bits as 8, so what the file says is read from its header, at fixed places.
            form = (opened.width, opened.height, f"u{data[24]}", _PNG_COLOURS[data[25]])
    return form, _mean(samples)


def _mean(samples: NDArray[Any]) -> float:
    """As a share of the largest value of the type."""
    return float(samples.mean()) / float(np.iinfo(samples.dtype).max)
