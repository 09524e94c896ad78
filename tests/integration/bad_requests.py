"""Requests that can never succeed, each with the refusal that it must get."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from denoised.v1 import denoised_pb2 as pb
from tests.integration.pictures import file_of, file_request, jpeg, noisy, png, png_of, raw_request

FILE = "image.encoded.data"
_PICTURE = noisy(3, 40, 56)
_PNG = png(_PICTURE)
_JPEG = jpeg(_PICTURE)


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request, and the reason, the field and a part of the text of its refusal."""

    name: str
    request: pb.DenoiseRequest
    reason: str
    field: str
    says: str
    code: str = "INVALID_ARGUMENT"


def bad_requests() -> list[BadRequest]:
    return [*_files(), *_samples(), *_options()]


def png_header(width_px: int, height_px: int) -> bytes:
    """A well-formed PNG of some dozen bytes that claims a size; its pixels are one short row of zeros."""
    return png_of(width_px, height_px, bytes(100))


def _files() -> Iterator[BadRequest]:
    undecodable, unsupported = "IMAGE_UNDECODABLE", "IMAGE_UNSUPPORTED"
    cmyk = PillowImage.fromarray(_PICTURE).convert("CMYK")
    frames = [PillowImage.fromarray(noisy(seed, 20, 20)) for seed in (1, 2)]
    animation = file_of(frames[0], save_all=True, append_images=frames[1:])
    files = (
        ("0 bytes", b"", undecodable, "0 bytes"),
        ("random bytes", np.random.default_rng(4).bytes(5000), undecodable, "neither PNG nor JPEG"),
        ("one byte of a PNG", _PNG[:1], undecodable, "ends after 1 bytes"),
        ("half a PNG", _PNG[: len(_PNG) // 2], undecodable, "send the whole file"),
        ("a PNG without its end", _PNG[:-12], undecodable, "send the whole file"),
        ("half a JPEG", _JPEG[: len(_JPEG) // 2], undecodable, "send the whole file"),
        ("a JPEG without its end marker", _JPEG[:-2], undecodable, "send the whole file"),
        ("a PNG with a flipped bit", _flipped(_PNG, len(_PNG) // 2), undecodable, "checksum"),
        ("a PNG with damaged pixels and good checksums", _rechecked(_PNG), undecodable, "damaged"),
        ("a JPEG with damaged tables", _with_wrong_tables(_JPEG), undecodable, "damaged"),
        ("a JPEG with pixels missing in the middle", _with_gap(_JPEG), undecodable, "damaged"),
        ("base64", b"iVBORw0KGgoAAAANSUhEUgAA", undecodable, "base64"),
        ("a CMYK JPEG", file_of(cmyk, "JPEG"), unsupported, "convert it to RGB"),
        ("an animated PNG", animation, unsupported, "frames one by one"),
        ("a GIF", file_of(frames[0], "GIF"), unsupported, "convert it to PNG or JPEG"),
        ("a TIFF", file_of(frames[0], "TIFF"), unsupported, "convert it to PNG or JPEG"),
        ("a PNG that claims 50,000 x 50,000", png_header(50_000, 50_000), "IMAGE_TOO_LARGE", "2500000000 pixels"),
        ("a PNG with fewer pixels than it claims", png_header(300, 300), undecodable, "300 x 300"),
    )
    for name, data, reason, says in files:
        yield BadRequest(name, file_request(data), reason, FILE, says)
    claimed = "image.encoded.container"
    for name, data, number, says in (
        ("a JPEG called PNG", _JPEG, pb.CONTAINER_PNG, "the bytes are JPEG"),
        ("a PNG called JPEG", _PNG, pb.CONTAINER_JPEG, "the bytes are PNG"),
        ("a file called raw", _PNG, pb.CONTAINER_RAW, "image.raw"),
        ("a container that does not exist", _PNG, 99, "leave it out"),
    ):
        yield BadRequest(name, file_request(data, claimed=number), undecodable, claimed, says)
    yield BadRequest("no image", pb.DenoiseRequest(), undecodable, "image", "set image.encoded or image.raw")


def _samples() -> Iterator[BadRequest]:
    floats = _PICTURE.astype(np.float32) / 255
    nan, infinite = floats.copy(), floats.copy()
    nan[7, 5, 1] = np.nan
    infinite[0, 0, 0] = -np.inf
    cases: tuple[tuple[str, pb.DenoiseRequest, str, str], ...] = (
        ("a sample too few", _raw(data=_PICTURE.tobytes()[:-1]), "data", "got 6719"),
        ("a sample too many", _raw(data=_PICTURE.tobytes() + b"\0"), "data", "got 6721"),
        ("no samples", _raw(data=b""), "data", "got 0"),
        ("NaN", raw_request(nan), "data", "row 7, column 5, channel 1"),
        ("infinity", raw_request(infinite), "data", "row 0, column 0, channel 0"),
        ("no height", _raw(height_px=0), "height_px", "must be 1 or more"),
        ("a negative width", _raw(width_px=-56), "width_px", "must be 1 or more"),
        ("no channels", _raw(channel_count=0), "channel_count", "must be 1 (grey)"),
        ("five channels", _raw(channel_count=5), "channel_count", "must be 1 (grey)"),
        ("no sample type", _raw(sample_type=pb.SAMPLE_TYPE_UNSPECIFIED), "sample_type", "SAMPLE_TYPE_U8"),
        ("a sample type that does not exist", _raw(sample_type=9), "sample_type", "SAMPLE_TYPE_U8"),
        ("a layout that does not exist", _raw(layout=9), "layout", "SAMPLE_LAYOUT_HWC"),
        ("white at black", _raw(black_level=10.0, white_level=10.0), "white_level", "not above black_level"),
        ("white below black", _raw(black_level=10.0, white_level=0.0), "white_level", "not above black_level"),
        ("black at NaN", _raw(black_level=float("nan")), "black_level", "finite"),
        ("white at infinity", _raw(white_level=float("inf")), "white_level", "finite"),
    )
    for name, request, field, says in cases:
        yield BadRequest(f"raw: {name}", request, "SAMPLES_INVALID", f"image.raw.{field}", says)
    too_large = _raw(height_px=50_000, width_px=50_000)
    yield BadRequest("raw: 50,000 x 50,000", too_large, "IMAGE_TOO_LARGE", "image.raw", "2500000000 pixels")


def _options() -> Iterator[BadRequest]:
    sixteen = png(_PICTURE.astype(np.uint16) * 257)
    with_alpha = png(np.dstack((_PICTURE, _PICTURE[..., 0])))
    floats = raw_request(_PICTURE.astype(np.float32) / 255, output_container=pb.CONTAINER_PNG)
    output = "output_container"
    cases: tuple[tuple[str, pb.DenoiseRequest, str, str], ...] = (
        ("strength -0.1", file_request(_PNG, strength=-0.1), "strength", "0..1"),
        ("strength 1.1", file_request(_PNG, strength=1.1), "strength", "0..1"),
        ("strength NaN", file_request(_PNG, strength=float("nan")), "strength", "0..1"),
        ("quality 0", file_request(_JPEG, jpeg_quality=0), "jpeg_quality", "1..100"),
        ("quality 101", file_request(_JPEG, jpeg_quality=101), "jpeg_quality", "1..100"),
        ("16 bits as JPEG", file_request(sixteen, output_container=pb.CONTAINER_JPEG), output, "ask for PNG"),
        ("alpha as JPEG", file_request(with_alpha, output_container=pb.CONTAINER_JPEG), output, "ask for PNG"),
        ("floats as PNG", floats, output, "ask for RAW"),
        ("an output that does not exist", file_request(_PNG, output_container=99), output, "CONTAINER_PNG"),
    )
    for name, request, field, says in cases:
        yield BadRequest(name, request, "OPTION_INVALID", f"options.{field}", says)
    unknown = "MODEL_UNKNOWN"
    for name, request, says in (
        ("a model that is not loaded", file_request(_PNG, model="no-such"), "'no-such' is not loaded"),
        ("a version that is not loaded", file_request(_PNG, model_version="999"), "no version '999'"),
        ("a version that is no number", file_request(_PNG, model_version="../1"), "no version '../1'"),
    ):
        yield BadRequest(name, request, unknown, "", says, code="NOT_FOUND")


def _raw(**fields: Any) -> pb.DenoiseRequest:
    return raw_request(_PICTURE, fields=fields)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 4,)) + data[at + 1 :]


def _rechecked(data: bytes) -> bytes:
    """The PNG with a byte of its first IDAT changed and that chunk's checksum made right again."""
    kind_at = data.index(b"IDAT")
    body_bytes = int.from_bytes(data[kind_at - 4 : kind_at], "big")
    end = kind_at + 4 + body_bytes
    chunk = _flipped(data[kind_at:end], body_bytes // 2)
    return data[:kind_at] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[end + 4 :]


def _with_wrong_tables(data: bytes) -> bytes:
    """The JPEG with a Huffman table that has more short codes than there can be."""
    counts_at = data.index(b"\xff\xc4") + 5
    return data[:counts_at] + b"\xff" + data[counts_at + 1 :]


def _with_gap(data: bytes) -> bytes:
    """The JPEG with the second half of its entropy-coded data cut out, its end marker kept."""
    return data[: len(data) * 3 // 4] + data[-2:]
