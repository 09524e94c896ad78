"""What both file formats have in common: round trips, photographs, fuzz, and what fits into which container."""

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.codec import check_encodable, decode, encode, sniff
from service.errors import InvalidArgument, InvalidOption
from service.types import Container, Image, ImageHeader, Metadata

SHIPPED = Path(skimage.data.data_dir)
ASTRONAUT = np.asarray(PIL.Image.open(SHIPPED / "astronaut.png").convert("RGB"))
PHOTOS = [
    SHIPPED / name
    for name in ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "text.png", "logo.png", "rocket.jpg")
]


def decoded(data: bytes) -> Image:
    return decode(data, sniff(data, claimed=None))


def joined(image: Image) -> NDArray[Any]:
    return image.colour if image.alpha is None else np.dstack([image.colour, image.alpha])


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Any size, depth and channels, also as views with strides that no file has, and any metadata."""
    white = draw(st.sampled_from([255, 65535]))
    dtype = np.uint8 if white == 255 else np.uint16
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colour: NDArray[Any] = rng.integers(0, white, shape, endpoint=True).astype(dtype)
    alpha: NDArray[Any] | None = (
        rng.integers(0, white, shape[:2], endpoint=True).astype(dtype) if draw(st.booleans()) else None
    )
    match draw(st.sampled_from(["as it is", "turned", "cut out"])):
        case "turned":
            colour, alpha = colour.transpose(1, 0, 2), alpha.T if alpha is not None else None
        case "cut out":
            colour = np.pad(colour, ((1, 2), (3, 1), (1, 1)))[1:-2, 3:-1, 1:-1]
    metadata = Metadata(
        exif=draw(st.none() | st.binary(min_size=1, max_size=50)),
        icc_profile=draw(st.none() | st.binary(min_size=1, max_size=50)),
    )
    return Image(colour, alpha, 0.0, float(white), metadata)


@settings(deadline=None, max_examples=200)
@given(images())
def test_png_returns_every_image_as_it_was(image: Image) -> None:
    data = encode(image, Container.PNG, jpeg_quality=95)
    again = decoded(data)
    np.testing.assert_array_equal(joined(again), joined(image))
    assert again.colour.dtype == image.colour.dtype
    assert again.metadata == image.metadata
    assert (again.black_level, again.white_level) == (image.black_level, image.white_level)


@settings(deadline=None, max_examples=100)
@given(images().filter(lambda image: image.alpha is None and image.colour.dtype == np.uint8))
def test_jpeg_returns_the_size_channels_and_metadata(image: Image) -> None:
    again = decoded(encode(image, Container.JPEG, jpeg_quality=95))
    assert again.colour.shape == image.colour.shape
    assert again.metadata == image.metadata


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_photographs_decode_as_pillow_does_and_survive_png(path: Path) -> None:
    image = decoded(path.read_bytes())
    with PIL.Image.open(path) as reference:
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[joined(image).shape[2]]
        expected = np.asarray(reference.convert(mode)).reshape(joined(image).shape)
    assert np.abs(joined(image).astype(int) - expected.astype(int)).max() <= (path.suffix == ".jpg")
    again = decoded(encode(image, Container.PNG, jpeg_quality=95))
    np.testing.assert_array_equal(joined(again), joined(image))
    assert again.metadata == image.metadata


def test_pillow_reads_the_png_and_the_metadata_that_were_written() -> None:
    metadata = Metadata(exif=b"MM\0*\0\0\0\x08\0\0", icc_profile=b"profile" * 30)
    image = Image(ASTRONAUT, None, 0.0, 255.0, metadata)
    with PIL.Image.open(io.BytesIO(encode(image, Container.PNG, jpeg_quality=95))) as written:
        np.testing.assert_array_equal(np.asarray(written), image.colour)
        assert written.info["exif"] == b"Exif\0\0MM\0*\0\0\0\x08\0\0"
        assert written.info["icc_profile"] == metadata.icc_profile


@pytest.mark.parametrize("bits", [8, 16])
def test_a_png_of_a_photograph_is_hardly_larger_than_with_the_defaults_of_libpng(bits: int) -> None:
    photo = ASTRONAUT
    if bits == 16:  # a camera's lower bits are noise
        photo = ASTRONAUT * np.uint16(256) + np.random.default_rng(0).integers(0, 256, ASTRONAUT.shape, np.uint16)
    file = encode(Image(photo, None, 0.0, float((1 << bits) - 1)), Container.PNG, jpeg_quality=95)
    assert len(file) < 1.03 * len(imagecodecs.png_encode(photo, level=6))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("channels", "has_alpha"), [(1, False), (1, True), (3, False), (3, True)])
def test_libpng_reads_what_was_written_in_several_blocks(dtype: Any, channels: int, *, has_alpha: bool) -> None:
    stored: NDArray[Any] = np.random.default_rng(0).integers(0, 65536, (301, 402, channels + has_alpha)).astype(dtype)
    colour, alpha = (stored[..., :-1], stored[..., -1]) if has_alpha else (stored, None)
    file = encode(Image(colour, alpha, 0.0, float(np.iinfo(dtype).max)), Container.PNG, jpeg_quality=95)
    np.testing.assert_array_equal(imagecodecs.png_decode(file).reshape(stored.shape), stored)


@pytest.mark.parametrize("metadata", [Metadata(exif=b"MM\0*" + bytes(100_000)), Metadata(icc_profile=bytes(100_000))])
def test_metadata_change_containers_with_the_pixels(metadata: Metadata) -> None:
    samples = np.zeros((2, 2, 3), np.uint8)
    for container in (Container.PNG, Container.JPEG, Container.PNG):
        samples_and_more = decoded(encode(Image(samples, None, 0.0, 255.0, metadata), container, jpeg_quality=95))
        assert samples_and_more.metadata == metadata


def samples(dtype: type[np.generic], channels: int = 3, height_px: int = 2, width_px: int = 2) -> Image:
    stored = np.zeros((height_px, width_px, channels), dtype)
    return Image(stored[..., :3], stored[..., 0] if channels == 4 else None, 0.0, 1.0)


@pytest.mark.parametrize(
    ("image", "container", "quality", "field", "message"),
    [
        (samples(np.uint16), Container.JPEG, 95, "options.output_container", "16-bit samples; ask for PNG"),
        (samples(np.float32), Container.JPEG, 95, "options.output_container", "32-bit samples; ask for RAW"),
        (samples(np.uint8, 4), Container.JPEG, 95, "options.output_container", "an alpha channel; ask for PNG"),
        (samples(np.uint8, 3, 1, 65_501), Container.JPEG, 95, "options.output_container", "65501 x 1; ask for PNG"),
        (samples(np.uint8, 1, 1_000_001, 1), Container.PNG, 95, "options.output_container", "1000001; ask for RAW"),
        (samples(np.float32), Container.PNG, 95, "options.output_container", "32; ask for RAW"),
        (samples(np.uint8), Container.JPEG, 0, "options.jpeg_quality", r"quality 0 is outside 1\.\.100"),
        (samples(np.uint8), Container.JPEG, 101, "options.jpeg_quality", r"quality 101 is outside 1\.\.100"),
    ],
)
def test_what_a_container_can_not_hold_is_refused(
    image: Image, container: Container, quality: int, field: str, message: str
) -> None:
    with pytest.raises(InvalidOption, match=message) as refusal:
        encode(image, container, jpeg_quality=quality)
    assert refusal.value.field == field


def test_the_refusal_can_be_had_before_there_are_pixels() -> None:
    header = ImageHeader(Container.PNG, 10, 10, channels=2, bits=8)
    with pytest.raises(InvalidOption, match="an alpha channel; ask for PNG"):
        check_encodable(header, Container.JPEG, jpeg_quality=95)
    check_encodable(header, Container.PNG, jpeg_quality=0)
    check_encodable(ImageHeader(Container.RAW, 10, 10, 4, 32), Container.RAW, jpeg_quality=95)


def test_a_side_of_the_most_that_a_container_takes_is_written_and_read() -> None:
    for container, side_px in ((Container.JPEG, 65_500), (Container.PNG, 1_000_000)):
        data = encode(samples(np.uint8, 1, 1, side_px), container, jpeg_quality=95)
        assert decoded(data).width_px == side_px


def test_raw_samples_are_no_file() -> None:
    with pytest.raises(ValueError, match="encode_raw"):
        encode(samples(np.uint8), Container.RAW, jpeg_quality=95)
    with pytest.raises(ValueError, match="decode_raw"):
        decode(bytes(12), ImageHeader(Container.RAW, 2, 2, 3, 8))


FILES = [
    encode(Image(ASTRONAUT[:20, :30], None, 0.0, 255.0), Container.PNG, jpeg_quality=95),
    encode(Image(ASTRONAUT[:20, :30], None, 0.0, 255.0), Container.JPEG, jpeg_quality=95),
]
PREFIXES = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", FILES[0][:33], FILES[1][:20], FILES[1][:300]]


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(PREFIXES), st.binary(max_size=300), st.none() | st.sampled_from(Container))
def test_random_bytes_are_refused_and_nothing_worse(prefix: bytes, rest: bytes, claimed: Container | None) -> None:
    data = prefix + rest
    with pytest.raises(InvalidArgument) as refusal:
        decode(data, sniff(data, claimed=claimed))
    assert refusal.value.field in {"image.encoded.data", "image.encoded.container"}


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(FILES), st.data())
def test_spliced_files_give_an_image_of_the_promised_size_or_a_refusal(file: bytes, data: st.DataObject) -> None:
    other = data.draw(st.sampled_from(FILES))
    start, end, at = (data.draw(st.integers(0, len(file))) for _ in range(3))
    spliced = file[:at] + other[start:end] + file[data.draw(st.integers(0, len(file))) :]
    try:
        header = sniff(spliced, claimed=None)
        image = decode(spliced, header)
    except InvalidArgument:
        return
    assert joined(image).shape == (header.height_px, header.width_px, header.channels)
