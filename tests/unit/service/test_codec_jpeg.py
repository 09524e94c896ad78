"""JPEG files, whole and damaged, against the codec. Pillow and imagecodecs make the files, and what they must give."""

import io
import re
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import simplejpeg
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.codec import decode, encode, sniff
from service.errors import InvalidArgument, InvalidImage, UnsupportedImage
from service.types import Container, Image, ImageHeader, Metadata

SHIPPED = Path(skimage.data.data_dir)
ROCKET = (SHIPPED / "rocket.jpg").read_bytes()
ASTRONAUT = np.asarray(PIL.Image.open(SHIPPED / "astronaut.png").convert("RGB"))
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6
EOI = b"\xff\xd9"


def photo(height_px: int = 60, width_px: int = 90) -> NDArray[np.uint8]:
    return np.ascontiguousarray(ASTRONAUT[:height_px, :width_px])


def jpeg_file(samples: NDArray[np.uint8] | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(photo() if samples is None else samples).save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def frame_at(data: bytes) -> int:
    """Where the body of the frame header begins."""
    found = re.search(rb"\xff[\xc0-\xc2]\0[\x0b\x11]\x08", data)
    assert found is not None
    return found.start() + 4


def changed(data: bytes, at: int, replacement: bytes) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


def decoded(data: bytes) -> Image:
    return decode(data, sniff(data, claimed=Container.JPEG))


KINDS: dict[str, dict[str, Any]] = {
    "baseline 4:2:0": {},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:1:1": {"subsampling": "4:1:1"},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "restart markers": {"restart_marker_blocks": 3},
    "without colour transform": {"keep_rgb": True},
    "metadata": {"exif": b"Exif\0\0" + EXIF, "icc_profile": bytes(7_000)},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_served_kind_decodes_as_pillow_does(mode: str, options: dict[str, Any]) -> None:
    samples = photo() if mode == "RGB" else photo()[..., 0]
    data = jpeg_file(samples, **({} if mode == "L" and "keep_rgb" in options else options))
    header = sniff(data, claimed=None)
    assert header == ImageHeader(Container.JPEG, 60, 90, 3 if mode == "RGB" else 1, 8)
    image = decode(data, header)
    expected = np.asarray(PIL.Image.open(io.BytesIO(data))).reshape(image.colour.shape)
    assert np.abs(image.colour.astype(int) - expected.astype(int)).max() <= 1
    assert image.alpha is None
    assert (image.black_level, image.white_level) == (0.0, 255.0)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_every_size_decodes(height_px: int, width_px: int, progressive: bool) -> None:  # noqa: FBT001 - Hypothesis
    image = decoded(jpeg_file(photo(height_px, width_px), progressive=progressive))
    assert image.colour.shape == (height_px, width_px, 3)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_jpeg_that_ends_early_is_refused_wherever_it_ends(options: dict[str, Any]) -> None:
    data = jpeg_file(**options)
    for size_bytes in {*range(0, len(data), 37), *range(700), *range(len(data) - 40, len(data))} - {len(data)}:
        with pytest.raises(InvalidArgument):
            decoded(data[:size_bytes])


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_an_end_marker_does_not_hide_that_pixels_are_missing(options: dict[str, Any], share: float) -> None:
    data = jpeg_file(**options)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidImage, match="pixels are damaged"):
        decoded(data[: scan + int((len(data) - scan) * share)] + EOI)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_damage_amid_the_scan_is_refused(share: float) -> None:
    at = int(len(ROCKET) * share)
    with pytest.raises(InvalidArgument):
        decoded(changed(ROCKET, at, bytes((x * 37 + 11) % 250 for x in range(40))))


SMALL = [jpeg_file(photo(24, 31), **options) for options in KINDS.values()]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(SMALL), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_damage_gives_an_image_of_the_promised_size_or_a_refusal(data: bytes, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(data), count):
        data = changed(data, int(at), rng.bytes(1))
    try:
        header = sniff(data, claimed=None)
        if header.pixel_count < 1 << 20:
            assert decode(data, header).colour.shape == (header.height_px, header.width_px, header.channels)
    except InvalidArgument as refusal:
        assert refusal.field == "image.encoded.data"  # noqa: PT017 - either outcome is right


def test_what_follows_the_end_is_ignored() -> None:
    trailing = jpeg_file() + b"\xff\xd8\xffa second picture or a video"
    np.testing.assert_array_equal(decoded(trailing).colour, decoded(jpeg_file()).colour)


def test_fill_bytes_and_markers_without_a_body_are_passed_over() -> None:
    data = jpeg_file()
    padded = data[:2] + b"\xff\xff\xff" + data[2:]
    np.testing.assert_array_equal(decoded(padded).colour, decoded(data).colour)


def grey(number_format: str) -> NDArray[Any]:
    return np.ascontiguousarray(photo()[..., 0]).astype(number_format)


def refused() -> dict[str, tuple[type[InvalidArgument], str, bytes]]:
    data = jpeg_file()
    at = frame_at(data)
    two_components = segment(0xC0, b"\x08\0\x10\0\x10\2" + b"\1\x11\0\2\x11\0")
    cmyk = io.BytesIO()
    PIL.Image.fromarray(photo()).convert("CMYK").save(cmyk, "JPEG")
    lossless = imagecodecs.jpeg8_encode(grey("u1"), lossless=True)
    twelve = imagecodecs.jpeg8_encode(grey("u2"), bitspersample=12)
    return {
        "CMYK": (UnsupportedImage, "CMYK or YCCK, convert it to RGB", cmyk.getvalue()),
        "12 bits": (UnsupportedImage, "12-bit sequential", bytes(twelve)),
        "lossless": (UnsupportedImage, "8-bit lossless", bytes(lossless)),
        "arithmetic coding": (UnsupportedImage, "8-bit arithmetic", changed(data, at - 3, b"\xc9")),
        "hierarchical": (UnsupportedImage, "8-bit hierarchical", changed(data, at - 3, b"\xc5")),
        "2 components": (UnsupportedImage, "2 components", with_segments(data, two_components)),
        "an unusual chroma pattern": (UnsupportedImage, "4:2:0", changed(data, at + 7, b"\x31")),
        "unequal chroma": (UnsupportedImage, "4:2:0", changed(data, at + 10, b"\x21")),
        "zero height": (InvalidImage, "90 x 0", changed(data, at + 1, b"\0\0")),
        "zero width": (InvalidImage, "0 x 60", changed(data, at + 3, b"\0\0")),
        "a side that libjpeg does not take": (UnsupportedImage, "65500", changed(data, at + 1, b"\xff\xff")),
        "a frame of another length": (InvalidImage, "frame header", changed(data, at + 5, b"\4")),
        "a frame too short": (InvalidImage, "frame header", with_segments(data, segment(0xC0, b"\x08\0\1"))),
        "no frame before the scan": (InvalidImage, "no frame", with_segments(data, segment(0xDA, bytes(6)))),
        "no frame before the end": (InvalidImage, "no frame", data[:2] + EOI),
        "a length of 1": (InvalidImage, "without a length", data[:2] + b"\xff\xe0\0\1" + data[2:]),
        "no marker": (InvalidImage, "byte 20 of", data[:20] + b"garbage" + data[20:]),
        "too many segments": (UnsupportedImage, "1000", with_segments(data, *[segment(0xFE, b"")] * 1_001)),
        "too many bare markers": (UnsupportedImage, "1000", data[:2] + b"\xff\x01" * 1_001 + data[2:]),
    }


@pytest.mark.parametrize(("error", "message", "data"), refused().values(), ids=refused())
def test_the_header_alone_is_reason_to_refuse(error: type[InvalidArgument], message: str, data: bytes) -> None:
    with pytest.raises(error, match=message) as refusal:
        sniff(data, claimed=None)
    assert type(refusal.value) is error
    assert refusal.value.field == "image.encoded.data"


def test_a_scan_repeated_without_end_is_refused() -> None:
    data = jpeg_file(progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnsupportedImage, match="up to 64"):
        decoded(data[:-2] + last_scan * 64 + EOI)


@pytest.mark.parametrize("size", [(61, 90), (60, 91), (59, 90), (60, 89)])
def test_a_file_other_than_the_one_sniffed_does_not_pass(size: tuple[int, int]) -> None:
    header = sniff(jpeg_file(photo(*size)), claimed=None)
    with pytest.raises(InvalidImage):
        decode(jpeg_file(), header)


def test_a_lack_of_memory_is_not_blamed_on_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", fail)
    with pytest.raises(MemoryError):
        decoded(jpeg_file())


def test_nothing_is_logged_or_printed_about_damage(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidImage):
        decoded(ROCKET[: len(ROCKET) // 2] + EOI)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size_bytes", [1, 65_519, 65_520, 200_000])
def test_a_colour_profile_of_any_size_comes_through(size_bytes: int) -> None:
    profile = np.random.default_rng(0).bytes(size_bytes)
    image = decoded(jpeg_file(icc_profile=profile))
    assert image.metadata == Metadata(icc_profile=profile)
    assert decoded(encode(image, Container.JPEG, jpeg_quality=90)).metadata == image.metadata


def profile_part(number: int, count: int, body: bytes = b"part") -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0" + bytes([number, count]) + body)


def test_parts_of_a_colour_profile_may_come_in_any_order() -> None:
    parts = [profile_part(3, 3, b"c"), profile_part(1, 3, b"a"), profile_part(2, 3, b"b")]
    assert decoded(with_segments(jpeg_file(), *parts)).metadata.icc_profile == b"abc"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([profile_part(1, 2)], id="one is missing"),
        pytest.param([profile_part(1, 1), profile_part(1, 1)], id="one comes twice"),
        pytest.param([profile_part(0, 1)], id="counted from zero"),
        pytest.param([segment(0xE2, b"ICC_PROFILE\0")], id="without a number"),
        pytest.param([profile_part(i % 256, 0) for i in range(256)], id="more than a byte counts"),
    ],
)
def test_a_colour_profile_that_is_not_whole_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(InvalidImage, match="colour profile is not whole"):
        decoded(with_segments(jpeg_file(), *parts))


@pytest.mark.parametrize("exif", [EXIF, EXIF + bytes(65_527 - len(EXIF)), EXIF + bytes(200_000)])
def test_exif_of_any_size_comes_through_byte_for_byte(exif: bytes) -> None:
    parts = [segment(0xE1, b"Exif\0\0" + exif[at : at + 65_527]) for at in range(0, len(exif), 65_527)]
    image = decoded(with_segments(jpeg_file(), *parts))
    np.testing.assert_array_equal(image.colour, decoded(jpeg_file()).colour, "the orientation is not applied")
    assert image.metadata == Metadata(exif=exif)
    written = encode(image, Container.JPEG, jpeg_quality=90)
    assert b"Exif\0\0" + exif[:100] in written
    assert decoded(written).metadata == image.metadata


def test_pillow_reads_the_metadata_that_were_written() -> None:
    image = decoded(jpeg_file(exif=b"Exif\0\0" + EXIF, icc_profile=b"profile"))
    with PIL.Image.open(io.BytesIO(encode(image, Container.JPEG, jpeg_quality=90))) as written:
        assert written.getexif()[0x0112] == 6
        assert written.info["icc_profile"] == b"profile"
        assert written.info["jfif_version"] == (1, 1)


def test_a_thumbnail_inside_the_metadata_is_not_taken_for_the_image() -> None:
    exif = EXIF + jpeg_file(photo(16, 16))
    image = decoded(jpeg_file(exif=b"Exif\0\0" + exif))
    assert image.colour.shape == (60, 90, 3)
    assert image.metadata.exif == exif


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_written_without_chroma_subsampling_and_close_to_the_samples(channels: int) -> None:
    samples = photo()[..., :channels]
    errors = []
    for quality in (30, 95, 100):
        data = encode(Image(samples, None, 0.0, 255.0), Container.JPEG, jpeg_quality=quality)
        header = simplejpeg.decode_jpeg_header(data)
        assert header == (60, 90, "Gray" if channels == 1 else "YCbCr", "Gray" if channels == 1 else "444")
        errors.append(np.abs(decoded(data).colour.astype(int) - samples).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1
