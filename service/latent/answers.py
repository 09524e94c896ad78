"""Answers as the API's messages: codes, images, and where the time went."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from denoised.v1 import denoised_pb2 as pb
from service import convert
from service.codec import SampleLayout
from service.errors import InvalidOption
from service.job import Timings
from service.latent.messages import Target
from service.types import Codes, Container, Image, Samples

_HALF: Final = np.dtype("<f2")


def latent_message(code: Codes, *, is_half: bool = False) -> pb.Latent:
    """(d,) numbers as a message.

    Raises:
        InvalidOption: 16 bits don't hold one of them.
    """
    if not is_half:
        return pb.Latent(values=code.tolist())
    most = float(np.finfo(_HALF).max)
    largest = float(np.abs(code).max())
    if largest > most:
        raise InvalidOption(
            f"the code has a number of size {largest:.6g}, 16 bits hold {most:g} at most; ask without half_precision",
            field="half_precision",
        )
    return pb.Latent(half_values=code.astype(_HALF).tobytes())


def images_of(pictures: Samples, target: Target) -> list[Image]:
    """(N, H, W, C) samples as images."""
    scale = target.form.scale
    return [Image(colour, None, scale.black_level, scale.white_level) for colour in pictures]


def raw_messages(images: Sequence[Image]) -> list[pb.Image]:
    """Images as raw samples, row by row."""
    messages = []
    for image in images:
        raw = convert.raw_message(image, SampleLayout.HWC)
        raw.data = np.ascontiguousarray(image.colour).tobytes()
        messages.append(pb.Image(raw=raw))
    return messages


def file_messages(files: Sequence[bytes], container: Container) -> list[pb.Image]:
    """Image files as messages."""
    number = convert.container_number(container)
    return [pb.Image(encoded=pb.EncodedImage(data=file, container=number)) for file in files]


def timings_message(timings: Timings) -> pb.Timings:
    """Seconds in each stage."""
    message = pb.Timings()
    for name, seconds in zip(Timings._fields, timings, strict=True):
        getattr(message, name.removesuffix("_s")).FromNanoseconds(max(0, int(seconds * 1e9)))
    return message
