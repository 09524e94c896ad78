"""Image files: which codec a container has, and what fits into which container."""

from dataclasses import replace

from service.codec import jpeg, levels, png, png_header
from service.errors import InvalidOption
from service.types import Container, Image, ImageHeader

OUTPUT_FIELD = "options.output_container"


def decode(
    data: bytes, header: ImageHeader, *, black_level: float | None = None, white_level: float | None = None
) -> Image:
    """The image in a PNG or JPEG file of which ``sniff`` gave ``header``.

    16 bits stay 16 bits, fewer than 8 become 8, a palette becomes RGB. The orientation tag is not applied. The levels
    are those of the samples that come out; None for the ends of their type.

    Raises:
        InvalidSamples: levels without a range between them.
        InvalidImage: damaged or truncated, or other than the header says.
        UnsupportedImage: intact, but of a kind that is not served.
    """
    black, white = levels.resolve(black_level, white_level, bits=header.bits, field="image.encoded")
    match header.container:
        case Container.PNG:
            image = png.decode(data, header)
        case Container.JPEG:
            image = jpeg.decode(data, header)
        case Container.RAW:
            raise ValueError("raw samples are no file; use decode_raw")
    return replace(image, black_level=black, white_level=white)


def check_encodable(header: ImageHeader, container: Container, *, jpeg_quality: int) -> None:
    """Raises InvalidOption if an image like ``header`` can't be encoded so: worth knowing before it is computed."""
    match container:
        case Container.PNG:
            if header.bits > 16:
                raise InvalidOption(
                    f"PNG holds 8 or 16 bits a sample, the samples have {header.bits}; ask for RAW", field=OUTPUT_FIELD
                )
            _check_sides(header, container, png_header.SIDE_MAX_PX)
        case Container.JPEG:
            if header.bits > 8 or header.channels in {2, 4}:
                what = f"{header.bits}-bit samples" if header.bits > 8 else "an alpha channel"
                remedy = "RAW" if header.bits > 16 else "PNG"
                raise InvalidOption(
                    f"JPEG holds 8-bit samples without alpha, the image has {what}; ask for {remedy}",
                    field=OUTPUT_FIELD,
                )
            _check_sides(header, container, jpeg.SIDE_MAX_PX)
            if not 1 <= jpeg_quality <= 100:
                raise InvalidOption(
                    f"JPEG quality {jpeg_quality} is outside 1..100; leave it unset or choose one inside",
                    field="options.jpeg_quality",
                )
        case Container.RAW:
            pass


def encode(image: Image, container: Container, *, jpeg_quality: int) -> bytes:
    """The image as a PNG or JPEG file, with its metadata. Black and white levels have no place in either.

    Raises:
        InvalidOption: the container can't hold these samples.
    """
    header = ImageHeader(
        container=container,
        height_px=image.height_px,
        width_px=image.width_px,
        channels=image.colour.shape[2] + (image.alpha is not None),
        bits=image.colour.dtype.itemsize * 8,
    )
    check_encodable(header, container, jpeg_quality=jpeg_quality)
    match container:
        case Container.PNG:
            return png.encode(image)
        case Container.JPEG:
            return jpeg.encode(image, quality=jpeg_quality)
        case Container.RAW:
            raise ValueError("raw samples are no file; use encode_raw")


def _check_sides(header: ImageHeader, container: Container, side_max_px: int) -> None:
    if max(header.width_px, header.height_px) > side_max_px:
        raise InvalidOption(
            f"{container.name} is written up to {side_max_px} px a side, the image has {header.width_px} x "
            f"{header.height_px}; ask for {'PNG' if container is Container.JPEG else 'RAW'}",
            field=OUTPUT_FIELD,
        )
