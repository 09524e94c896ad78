"""Recognition of formats from their first bytes, and the check of the pixel count."""

import io
import tracemalloc

import numpy as np
import PIL.Image
import pytest

from service.codec import SampleType, check_size, encode, raw_header, sniff
from service.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from service.types import Container, Image, ImageHeader


def file_of(container: Container, height_px: int = 3, width_px: int = 5) -> bytes:
    samples = np.zeros((height_px, width_px, 3), np.uint8)
    return encode(Image(samples, None, 0.0, 255.0), container, jpeg_quality=90)


@pytest.mark.parametrize("container", [Container.PNG, Container.JPEG])
def test_the_container_is_found_from_the_bytes(container: Container) -> None:
    expected = ImageHeader(container, 3, 5, 3, 8)
    assert sniff(file_of(container), claimed=None) == expected
    assert sniff(file_of(container), claimed=container) == expected


@pytest.mark.parametrize("container", [Container.PNG, Container.JPEG])
@pytest.mark.parametrize("claimed", Container)
def test_a_claim_that_differs_from_the_bytes_is_refused(container: Container, claimed: Container) -> None:
    if claimed is container:
        return
    with pytest.raises(InvalidImage, match=f"says {claimed.name}, the bytes are {container.name}") as refusal:
        sniff(file_of(container), claimed=claimed)
    assert refusal.value.field == "image.encoded.container"


def pillow_file(format_name: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(file, format_name)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("GIF", pillow_file("GIF")),
        ("WebP", pillow_file("WEBP")),
        ("TIFF", pillow_file("TIFF")),
        ("BMP", pillow_file("BMP")),
        ("AVIF", pillow_file("AVIF")),
        ("JPEG 2000", pillow_file("JPEG2000")),
        ("PDF", pillow_file("PDF")),
        ("TIFF", b"MM\0*" + bytes(20)),
        ("BigTIFF", b"II+\0" + bytes(20)),
        ("HEIC", b"\0\0\0\x18ftypheic" + bytes(20)),
        ("JPEG XL", b"\xff\x0a" + bytes(20)),
        ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"),
        ("Photoshop", b"8BPS" + bytes(20)),
        ("OpenEXR", b"\x76\x2f\x31\x01" + bytes(20)),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    ],
)
@pytest.mark.parametrize("claimed", [None, Container.PNG])
def test_other_formats_are_named_with_the_remedy(name: str, data: bytes, claimed: Container | None) -> None:
    with pytest.raises(UnsupportedImage, match=rf"{name}.*convert it to PNG or JPEG") as refusal:
        sniff(data, claimed=claimed)
    assert refusal.value.field == "image.encoded.data"


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (r"empty \(0 bytes\)", b""),
        ("ends after 1 bytes", b"\x89"),
        ("ends after 7 bytes", b"\x89PNG\r\n\x1a"),
        ("ends after 2 bytes", b"\xff\xd8"),
        ("base64", b"iVBORw0KGgoAAAANSUhEUg"),
        ("base64", b"/9j/4AAQSkZJRg"),
        ("base64", b"data:image/png;base64,iVBORw0KGgo"),
        ("17 bytes are neither PNG nor JPEG", b"hello, I am noise"),
        ("neither PNG nor JPEG", bytes(100)),
    ],
)
def test_bytes_that_are_no_image_are_refused_with_the_remedy(message: str, data: bytes) -> None:
    with pytest.raises(InvalidImage, match=message) as refusal:
        sniff(data, claimed=None)
    assert refusal.value.field == "image.encoded.data"


@pytest.mark.parametrize("container", [Container.PNG, Container.JPEG])
def test_sniffing_a_large_image_allocates_next_to_nothing(container: Container) -> None:
    data = file_of(container, 2_000, 3_000)
    tracemalloc.start()
    try:
        header = sniff(data, claimed=None)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.pixel_count == 6_000_000
    assert peak_bytes < 20_000


@pytest.mark.parametrize("container", [Container.PNG, Container.JPEG])
def test_sniffing_reads_no_pixel(container: Container) -> None:
    data = bytearray(file_of(container, 200, 300))
    header = sniff(bytes(data), claimed=None)
    data[len(data) // 2 : -12] = bytes(len(data) - 12 - len(data) // 2)
    assert sniff(bytes(data), claimed=None) == header


def test_as_many_pixels_as_the_limit_pass_and_one_more_does_not() -> None:
    header = ImageHeader(Container.JPEG, 100, 200, 3, 8)
    check_size(header, max_pixels=20_000)
    with pytest.raises(ImageTooLarge, match="200 x 100 px are 20000 pixels, the limit is 19999; scale") as refusal:
        check_size(header, max_pixels=19_999)
    assert refusal.value.field == "image.encoded.data"


def test_raw_samples_have_the_same_limit() -> None:
    header = raw_header(height_px=100, width_px=200, channel_count=1, sample_type=SampleType.F32)
    with pytest.raises(ImageTooLarge, match="200 x 100") as refusal:
        check_size(header, max_pixels=10)
    assert refusal.value.field == "image.raw"
