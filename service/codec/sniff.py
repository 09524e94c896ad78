"""What the bytes are, from their first bytes and their header: decides whether decoding is worth a thread.

Owns the recognition of formats and the pixel check. What a PNG or JPEG header may say is theirs to decide.
"""

from service.codec import jpeg, png, png_chunks
from service.codec.planes import FIELD
from service.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from service.types import Container, ImageHeader

# Formats that people do send: (bytes, where they stand, name).
_FOREIGN = (
    (b"GIF8", 0, "a GIF"),
    (b"WEBP", 8, "a WebP"),
    (b"II*\0", 0, "a TIFF or camera raw file"),
    (b"MM\0*", 0, "a TIFF or camera raw file"),
    (b"II+\0", 0, "a BigTIFF"),
    (b"MM\0+", 0, "a BigTIFF"),
    (b"BM", 0, "a BMP"),
    (b"ftypavi", 4, "an AVIF"),
    (b"ftyp", 4, "a HEIC or video file"),
    (b"\xff\x0a", 0, "a JPEG XL"),
    (b"JXL ", 4, "a JPEG XL"),
    (b"jP  ", 4, "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, "a JPEG 2000"),
    (b"8BPS", 0, "a Photoshop file"),
    (b"\x76\x2f\x31\x01", 0, "an OpenEXR file"),
    (b"%PDF", 0, "a PDF"),
    (b"<svg", 0, "an SVG"),
)
_BASE64 = (b"iVBORw0KGgo", b"/9j/", b"data:")


def sniff(data: bytes, *, claimed: Container | None) -> ImageHeader:
    """The header of an image file, at a cost that does not depend on its pixels.

    Args:
        data: the whole file.
        claimed: what the request says that it is; None when it says nothing.

    Raises:
        InvalidImage: empty, unknown or damaged bytes, or others than ``claimed``.
        UnsupportedImage: an image that is not served, such as a GIF, an animation or CMYK.
    """
    container = _container(data)
    if claimed is not None and claimed is not container:
        raise InvalidImage(
            f"the request says {claimed.name}, the bytes are {container.name}; correct the container or leave it unset",
            field="image.encoded.container",
        )
    return png.read_header(data) if container is Container.PNG else jpeg.read_header(data)


def check_size(header: ImageHeader, *, max_pixels: int) -> None:
    """Raises ImageTooLarge if the header announces more than ``max_pixels``."""
    if header.pixel_count > max_pixels:
        raise ImageTooLarge(
            f"{header.width_px} x {header.height_px} px are {header.pixel_count} pixels, the limit is {max_pixels}; "
            "scale the image down or send it in parts",
            field="image.raw" if header.container is Container.RAW else FIELD,
        )


def _container(data: bytes) -> Container:
    if not data:
        raise InvalidImage("the image is empty (0 bytes); send the whole file", field=FIELD)
    if data.startswith(png_chunks.SIGNATURE):
        return Container.PNG
    if data.startswith(jpeg.SIGNATURE):
        return Container.JPEG
    for magic, offset, name in _FOREIGN:
        if data.startswith(magic, offset):
            raise UnsupportedImage(f"the bytes look like {name}; convert it to PNG or JPEG", field=FIELD)
    if data.startswith(_BASE64):
        raise InvalidImage("the bytes are base64 text; send the bytes that it stands for", field=FIELD)
    if png_chunks.SIGNATURE.startswith(data) or jpeg.SIGNATURE.startswith(data):
        raise InvalidImage(f"the file ends after {len(data)} bytes; send the whole file", field=FIELD)
    raise InvalidImage(
        f"the {len(data)} bytes are neither PNG nor JPEG; convert the image to one of these, or send samples as raw",
        field=FIELD,
    )
