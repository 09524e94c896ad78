"""PNG files: pixels and metadata in and out.

libpng is given only the chunks that carry pixels, so it neither inflates texts and profiles nor remarks on chunks
that nobody reads. Files are written without it.
"""

import zlib
from collections.abc import Iterator
from typing import cast

import imagecodecs

from service.codec import planes, png_pixels
from service.codec.planes import FIELD
from service.codec.png_chunks import SIGNATURE, Chunk, make_chunk, read_chunks, verify
from service.codec.png_header import make_ihdr, read_head, refuse_unknown
from service.codec.png_writer import pixel_chunks
from service.errors import InvalidImage, UnsupportedImage
from service.types import Image, ImageHeader, Metadata

_ICC_PROFILE_MAX_BYTES = 4 << 20
# Every chunk costs a turn of a Python loop, in ``read_header`` on the event loop. Before the pixels encoders write
# a few dozen; after that one for some KiB.
_HEAD_CHUNKS_MAX_COUNT = 1_000
_CHUNKS_MAX_COUNT = 100_000


def read_header(data: bytes) -> ImageHeader:
    """The header of a file that begins with SIGNATURE."""
    return read_head(read_chunks(data, max_count=_HEAD_CHUNKS_MAX_COUNT)).header


def decode(data: bytes, header: ImageHeader) -> Image:
    """The image in the file, which must be intact up to its end. Needs twice the decoded bytes while it works."""
    chunks = _verified(read_chunks(data, max_count=_CHUNKS_MAX_COUNT))
    head = read_head(chunks)
    bodies, exif = [head.first_pixels.body], head.exif
    previous = head.first_pixels
    for chunk in chunks:
        refuse_unknown(chunk)
        if chunk.kind == b"IDAT":
            if previous.kind != b"IDAT":
                raise InvalidImage(f"the PNG has a chunk {previous.name} amid its pixels; save it anew", field=FIELD)
            bodies.append(chunk.body)
        elif chunk.kind == b"eXIf" and exif is None:
            exif = chunk
        previous = chunk
    metadata = Metadata(
        exif=bytes(exif.body) or None if exif else None,
        icc_profile=_inflate_profile(head.profile.body) if head.profile else None,
    )
    file = png_pixels.store((SIGNATURE, *(chunk.whole for chunk in head.before_pixels)), bodies, head.ihdr)
    try:
        samples = imagecodecs.png_decode(cast("bytes", file))  # any buffer will do
    except imagecodecs.PngError as error:
        raise InvalidImage("the PNG can't be decoded; save it anew", field=FIELD) from error
    return planes.from_decoder(samples, header, metadata)


def encode(image: Image) -> bytes:
    """The image as a PNG, lossless, with the bit depth of its samples."""
    colour, metadata = image.colour, image.metadata
    parts = [SIGNATURE, make_ihdr(colour.shape, bits=colour.dtype.itemsize * 8, has_alpha=image.alpha is not None)]
    if metadata.icc_profile is not None:
        parts.append(make_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.exif is not None:
        parts.append(make_chunk(b"eXIf", metadata.exif))
    parts += pixel_chunks(colour, image.alpha)
    parts.append(make_chunk(b"IEND", b""))
    return b"".join(parts)


def _verified(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        verify(chunk)
        yield chunk


def _inflate_profile(body: memoryview) -> bytes:
    """The profile in an iCCP: a name, a zero, a zero for the method, and the compressed profile."""
    compressed_at = bytes(body[:80]).find(b"\0") + 2
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(body[compressed_at:], _ICC_PROFILE_MAX_BYTES + 1)
    except zlib.error as error:
        raise InvalidImage("the PNG's colour profile is damaged; remove it or save it anew", field=FIELD) from error
    if len(profile) > _ICC_PROFILE_MAX_BYTES:
        raise UnsupportedImage(
            f"the PNG's colour profile has more than {_ICC_PROFILE_MAX_BYTES} bytes; remove it", field=FIELD
        )
    if not inflater.eof:
        raise InvalidImage("the PNG's colour profile is incomplete; remove it or save it anew", field=FIELD)
    return profile
