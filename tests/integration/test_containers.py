"""Every container and pixel format that is served comes back as itself, with all that is not noise intact."""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration.pictures import (
    file_of,
    file_request,
    interlaced_png,
    jpeg,
    noisy,
    opened,
    png,
    raw_request,
    samples_of,
    smooth,
)

_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_SIDEWAYS = 6


def exif() -> PillowImage.Exif:
    tags = PillowImage.Exif()
    tags[0x0112] = _SIDEWAYS
    return tags


def pillow(mode: str) -> PillowImage.Image:
    return PillowImage.fromarray(noisy(1, 45, 70)).convert(mode)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (file_of(pillow("L")), (45, 70)),
        (file_of(pillow("LA")), (45, 70, 2)),
        (file_of(pillow("RGB")), (45, 70, 3)),
        (file_of(pillow("RGBA")), (45, 70, 4)),
        (file_of(pillow("1")), (45, 70)),
        (file_of(pillow("P")), (45, 70, 3)),
        (file_of(pillow("P"), transparency=3), (45, 70, 4)),
        (png(noisy(1, 45, 70).astype(np.uint16) * 257), (45, 70, 3)),
        (png(noisy(1, 45, 70, 1)[..., 0].astype(np.uint16) * 257), (45, 70)),
    ],
    ids=["grey", "grey and alpha", "colour", "colour and alpha", "1 bit", "palette", "palette with a hole", "16 bits",
         "16 bits grey"],
)  # fmt: skip
def test_a_png_stays_a_png_with_its_channels_and_depth(
    data: bytes, shape: tuple[int, ...], stub: DenoiseServiceStub
) -> None:
    image = stub.Denoise(file_request(data)).image

    before, after = imagecodecs.png_decode(data), samples_of(image)
    assert image.encoded.container == pb.CONTAINER_PNG
    assert after.shape == shape
    assert after.dtype == (np.uint16 if before.dtype == np.uint16 else np.uint8)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_not_touched(mode: str, stub: DenoiseServiceStub) -> None:
    alpha = PillowImage.fromarray(np.random.default_rng(2).integers(0, 256, (45, 70), dtype=np.uint8))
    picture = pillow(mode)
    picture.putalpha(alpha)

    came_back = samples_of(stub.Denoise(file_request(file_of(picture))).image)

    np.testing.assert_array_equal(came_back[..., -1], np.asarray(alpha))
    opaque = samples_of(stub.Denoise(file_request(file_of(picture.convert(mode[:-1])))).image)
    np.testing.assert_array_equal(np.squeeze(came_back[..., :-1]), opaque)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_raw_samples_keep_their_type_channels_and_alpha(
    channels: int, dtype: type[Any], stub: DenoiseServiceStub
) -> None:
    picture = noisy(3, 30, 41, channels).astype(dtype)
    if dtype is np.float32:
        picture /= 255

    raw = stub.Denoise(raw_request(picture)).image.raw

    assert (raw.height_px, raw.width_px, raw.channel_count) == (30, 41, channels)
    came_back = samples_of(pb.Image(raw=raw))
    assert came_back.dtype == dtype
    if channels in {2, 4}:
        np.testing.assert_array_equal(came_back[..., -1], picture[..., -1])


def test_the_order_of_raw_samples_is_kept_and_changes_nothing(stub: DenoiseServiceStub) -> None:
    picture = noisy(4, 50, 60)
    planes = stub.Denoise(raw_request(picture, fields={"layout": pb.SAMPLE_LAYOUT_CHW})).image
    pixels = stub.Denoise(raw_request(picture, fields={"layout": pb.SAMPLE_LAYOUT_HWC})).image

    assert (planes.raw.layout, pixels.raw.layout) == (pb.SAMPLE_LAYOUT_CHW, pb.SAMPLE_LAYOUT_HWC)
    np.testing.assert_array_equal(samples_of(planes), samples_of(pixels))


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_stays_a_jpeg(options: dict[str, bool], stub: DenoiseServiceStub) -> None:
    data = jpeg(smooth(5, 60, 80), **options)
    encoded = stub.Denoise(file_request(data)).image.encoded

    assert encoded.container == pb.CONTAINER_JPEG
    assert opened(encoded.data).format == "JPEG"
    before, after = (np.asarray(opened(file), int) for file in (data, encoded.data))
    assert np.abs(after - before).mean() < 3


def test_a_grey_jpeg_stays_grey(stub: DenoiseServiceStub) -> None:
    encoded = stub.Denoise(file_request(jpeg(noisy(6, 60, 80, 1)[..., 0]))).image.encoded

    assert opened(encoded.data).mode == "L"


def test_the_quality_of_a_jpeg_is_the_caller_s_choice(stub: DenoiseServiceStub) -> None:
    data = jpeg(noisy(7, 100, 100))
    sizes = [
        len(stub.Denoise(file_request(data, jpeg_quality=quality)).image.encoded.data) for quality in (1, 50, 95, 100)
    ]

    assert sizes == sorted(set(sizes))
    assert stub.Denoise(file_request(data)).image == stub.Denoise(file_request(data, jpeg_quality=95)).image


@pytest.mark.parametrize(
    ("request_of", "number"),
    [
        (lambda **options: file_request(png(noisy(8, 40, 50)), **options), pb.CONTAINER_JPEG),
        (lambda **options: file_request(png(noisy(8, 40, 50)), **options), pb.CONTAINER_RAW),
        (lambda **options: file_request(jpeg(noisy(8, 40, 50)), **options), pb.CONTAINER_PNG),
        (lambda **options: raw_request(noisy(8, 40, 50), **options), pb.CONTAINER_PNG),
        (lambda **options: raw_request(noisy(8, 40, 50), **options), pb.CONTAINER_JPEG),
    ],
    ids=["PNG to JPEG", "PNG to raw", "JPEG to PNG", "raw to PNG", "raw to JPEG"],
)
def test_another_container_holds_the_same_picture(
    request_of: Callable[..., pb.DenoiseRequest], number: pb.Container, stub: DenoiseServiceStub
) -> None:
    plain = stub.Denoise(request_of()).image
    other = stub.Denoise(request_of(output_container=number)).image

    told = pb.CONTAINER_RAW if other.WhichOneof("content") == "raw" else other.encoded.container
    assert told == number
    difference = np.abs(samples_of(other).astype(int) - samples_of(plain))
    is_lossless = pb.CONTAINER_JPEG not in (number, plain.encoded.container)
    assert difference.max() == 0 if is_lossless else difference.mean() < 3


def test_strength_zero_changes_the_container_and_nothing_else(stub: DenoiseServiceStub) -> None:
    picture = noisy(9, 40, 50)
    response = stub.Denoise(raw_request(picture, strength=0.0, output_container=pb.CONTAINER_PNG))

    np.testing.assert_array_equal(samples_of(response.image), picture)
    assert not response.HasField("report")


@pytest.mark.parametrize("container", ["PNG", "JPEG"])
def test_orientation_and_colour_profile_pass_through_and_pixels_are_not_turned(
    container: str, stub: DenoiseServiceStub
) -> None:
    data = file_of(pillow("RGB"), container, exif=exif(), icc_profile=_PROFILE)

    before, after = opened(data), opened(stub.Denoise(file_request(data)).image.encoded.data)

    assert after.size == before.size
    assert after.getexif()[0x0112] == _SIDEWAYS
    assert after.info["icc_profile"] == _PROFILE == before.info["icc_profile"]


@pytest.mark.parametrize(
    "data",
    [file_of(pillow("1")), file_of(pillow("P")), file_of(pillow("L").quantize(4)), interlaced_png(noisy(1, 45, 70))],
    ids=["1 bit", "palette", "palette of 2 bits", "interlaced"],
)
def test_a_png_is_the_picture_that_it_shows(data: bytes, stub: DenoiseServiceStub) -> None:
    shown = png(np.asarray(opened(data).convert("L" if opened(data).mode == "1" else "RGB")))
    assert shown != data

    answers = [samples_of(stub.Denoise(file_request(file)).image) for file in (data, shown)]

    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (700, 2), (300, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_png_of_few_columns_or_rows_is_written_whatever_its_noise(
    dtype: type[Any], shape: tuple[int, int], stub: DenoiseServiceStub
) -> None:
    static = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)

    kept = stub.Denoise(raw_request(static, strength=0.0, output_container=pb.CONTAINER_PNG)).image

    np.testing.assert_array_equal(samples_of(kept).reshape(shape), static)
