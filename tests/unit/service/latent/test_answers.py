"""Answers as messages: codes in both precisions, images in both forms, and the stages' times."""

import numpy as np
import pytest

from denoised.v1 import denoised_pb2 as pb
from service.errors import InvalidOption
from service.job import Timings
from service.latent.answers import file_messages, images_of, latent_message, raw_messages, timings_message
from service.latent.messages import Target
from service.types import Container
from tests.unit.service.latent.coder_bench import FORM, SIDE_PX


def test_a_code_is_written_as_numbers_or_in_half_the_bytes() -> None:
    code = np.array([0.1, -2.5, 1000.0], np.float32)
    assert latent_message(code) == pb.Latent(values=code.tolist())
    assert latent_message(code, is_half=True) == pb.Latent(half_values=code.astype("<f2").tobytes())


def test_a_number_that_16_bits_do_not_hold_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidOption, match="of size 70000, 16 bits hold 65504 at most; ask without half_precision"):
        latent_message(np.array([-70000.0], np.float32), is_half=True)


def test_images_are_written_with_their_levels() -> None:
    pictures = np.arange(2 * SIDE_PX**2, dtype=np.float32).reshape(2, SIDE_PX, SIDE_PX, 1)
    messages = raw_messages(images_of(pictures, Target(FORM, Container.RAW, 95)))
    for message, picture in zip(messages, pictures, strict=True):
        raw = message.raw
        assert (raw.height_px, raw.width_px, raw.channel_count, raw.white_level) == (SIDE_PX, SIDE_PX, 1, 1.0)
        assert (raw.sample_type, raw.data) == (pb.SAMPLE_TYPE_F32, picture.tobytes())


def test_files_say_what_they_are() -> None:
    (message,) = file_messages([b"file"], Container.JPEG)
    assert message.encoded == pb.EncodedImage(data=b"file", container=pb.CONTAINER_JPEG)


def test_times_are_written_to_the_nanosecond_and_never_negative() -> None:
    message = timings_message(Timings(1.5, 0.25, -1e-9, 0.0, 2.0))
    assert (message.decode.seconds, message.decode.nanos) == (1, 500_000_000)
    assert (message.queue.nanos, message.compute.nanos, message.total.seconds) == (250_000_000, 0, 2)
