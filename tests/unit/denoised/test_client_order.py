"""Chunks of images, what files say of their size, and which way an image goes: pure, without a server."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from denoised._file_header import FileHeader, read_file_header
from denoised._images import ArrayForm, Assembly, prepare
from denoised._order import LARGEST_MESSAGE_BYTES, ServerLimits, build_order
from denoised.v1 import denoised_pb2 as pb

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)) | st.tuples(
    st.integers(1, 9), st.integers(1, 9)
)
PLAIN_JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


def file_of(mode: str, container: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (37, 21)).save(stream, container, **options)
    return stream.getvalue()


@given(
    array=arrays(st.sampled_from(["u1", "<u2", ">u2", "<f4"]), SHAPES),
    chunk_bytes=st.integers(1, 200),
    is_mirrored=st.booleans(),
)
def test_chunks_are_the_samples_in_order_and_no_longer_than_asked_for(
    array: np.ndarray, chunk_bytes: int, *, is_mirrored: bool
) -> None:
    if is_mirrored:
        array = array[::-1, ::-1]
    prepared = prepare(array, black_level=None, white_level=None)
    chunks = list(prepared.chunks(chunk_bytes))
    pixel_bytes = array.nbytes // (array.shape[0] * array.shape[1])
    assert b"".join(chunks) == prepared.message().raw.data
    assert all(0 < len(chunk) <= max(chunk_bytes, pixel_bytes) for chunk in chunks)
    assert prepared.size_bytes == len(prepared.message().raw.data)


@given(st.binary(min_size=1, max_size=100), st.integers(1, 200))
def test_chunks_are_the_file_in_order(data: bytes, chunk_bytes: int) -> None:
    chunks = list(prepare(data, black_level=None, white_level=None).chunks(chunk_bytes))
    assert b"".join(chunks) == data
    assert all(len(chunk) == chunk_bytes for chunk in chunks[:-1])


@given(arrays(st.sampled_from(["u1", ">u2", "<f4"]), SHAPES), st.integers(1, 200))
def test_an_answer_in_parts_is_put_together_as_the_array_that_was_asked_for(
    array: np.ndarray, chunk_bytes: int
) -> None:
    assembly = Assembly(ArrayForm(array.shape, array.dtype))
    for chunk in prepare(array, black_level=None, white_level=None).chunks(chunk_bytes):
        assembly.add(chunk)
    found = assembly.finish(pb.Image(raw=pb.RawImage()))
    assert isinstance(found, np.ndarray)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("mode", "container", "options", "pixel_bytes"),
    [
        ("1", "PNG", {}, 2),
        ("L", "PNG", {}, 2),
        ("LA", "PNG", {}, 2),
        ("P", "PNG", {"transparency": 0}, 4),
        ("RGB", "PNG", {}, 4),
        ("RGBA", "PNG", {}, 4),
        ("I;16", "PNG", {}, 4),
        ("L", "JPEG", {}, 1),
        ("RGB", "JPEG", {}, 3),
        ("RGB", "JPEG", {"progressive": True}, 3),
        ("RGB", "JPEG", {"exif": bytes(5000), "icc_profile": bytes(70_000), "comment": b"long"}, 3),
    ],
)
def test_a_file_says_its_size_and_the_most_that_its_samples_take(
    mode: str, container: str, options: dict[str, Any], pixel_bytes: int
) -> None:
    data = file_of(mode, container, **options)
    header = read_file_header(data)
    assert header is not None
    assert header == FileHeader(21, 37, samples_bytes=21 * 37 * pixel_bytes, sample_bits=header.sample_bits)
    assert (header.sample_bits > 8) == (mode == "I;16")


@given(st.sampled_from([b"", file_of("RGB", "PNG")[:8], PLAIN_JPEG[:2], PLAIN_JPEG]), st.binary(max_size=60))
def test_damaged_files_are_unknown_and_nothing_worse(start: bytes, rest: bytes) -> None:
    header = read_file_header(start + rest)
    assert header is None or min(header.height_px, header.width_px) > 0


@pytest.mark.parametrize("container", ["PNG", "JPEG"])
def test_the_beginning_of_a_file_tells_nothing_or_the_truth(container: str) -> None:
    data = file_of("RGB", container)
    told = [read_file_header(data[:length]) for length in range(len(data) + 1)]
    assert set(told) == {None, read_file_header(data)}


@given(st.integers(1, 4096), st.integers(1, 4096), st.integers(2048, 2**27), st.integers(1, 10**7))
def test_one_message_is_never_too_long_for_what_goes_in_one(
    height_px: int, width_px: int, message_bytes: int, image_pixels: int
) -> None:
    order = build_order(np.broadcast_to(np.uint8(0), (height_px, width_px)), model="m" * 40)
    listed = pb.Limits(message_bytes=message_bytes, image_pixels=image_pixels, chunked_image_pixels=2**30)
    limits = ServerLimits.of(pb.ListModelsResponse(limits=listed), most_message_bytes=LARGEST_MESSAGE_BYTES)
    if limits.wants_chunks(order):
        assert height_px * width_px > min(image_pixels, message_bytes - 2048)
    else:
        assert height_px * width_px <= image_pixels
        assert height_px * width_px + 1024 < min(message_bytes, 64 * 2**20)
    assert limits.chunk_bytes + 1024 <= message_bytes
