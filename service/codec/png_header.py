"""What a PNG says before its pixels: decides which PNG files are served, and what decoding one will give."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.codec.planes import FIELD
from service.codec.png_chunks import Chunk, make_chunk, verify
from service.errors import InvalidImage, UnsupportedImage
from service.types import Container, ImageHeader

SIDE_MAX_PX = 1_000_000
"""libpng's own limit, for reading and for writing."""

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GREY_ALPHA: (8, 16), _RGB_ALPHA: (8, 16)}
_STORED_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}


@dataclass(frozen=True, slots=True)
class Ihdr:
    """The image header chunk."""

    width_px: int
    height_px: int
    depth_bits: int
    colour_type: int
    interlaced: bool

    @property
    def pixel_bits(self) -> int:
        """Bits of one pixel in the file, before palette or transparency apply."""
        return self.depth_bits * _STORED_CHANNELS[self.colour_type]


@dataclass(frozen=True, slots=True)
class Head:
    """A PNG up to its first pixel data.

    Attributes:
        before_pixels: the chunks that a decoder needs before the pixels: IHDR, PLTE, tRNS.
        first_pixels: the first IDAT.
    """

    ihdr: Ihdr
    header: ImageHeader
    before_pixels: tuple[Chunk, ...]
    first_pixels: Chunk
    profile: Chunk | None
    exif: Chunk | None


def read_head(chunks: Iterator[Chunk]) -> Head:
    """Takes the chunks up to the first IDAT, included, and leaves the rest."""
    first = next(chunks)
    ihdr = _read_ihdr(first)
    seen: dict[bytes, Chunk] = {}
    for chunk in chunks:
        if chunk.kind == b"acTL":
            raise UnsupportedImage("the PNG is an animation; send its frames one by one", field=FIELD)
        refuse_unknown(chunk)
        seen.setdefault(chunk.kind, chunk)
        if chunk.kind == b"IDAT":
            break
    else:
        raise InvalidImage("the PNG has no pixels (no chunk IDAT); save it anew", field=FIELD)
    palette = seen.get(b"PLTE") if ihdr.colour_type == _PALETTE else None
    if ihdr.colour_type == _PALETTE and (palette is None or len(palette.body) not in range(3, 769, 3)):
        raise InvalidImage("the PNG has no palette of 1..256 colours, but needs one; save it anew", field=FIELD)
    transparency = seen.get(b"tRNS")
    if transparency is not None:
        _check_transparency(ihdr, transparency, palette)
    header = ImageHeader(
        container=Container.PNG,
        height_px=ihdr.height_px,
        width_px=ihdr.width_px,
        channels=(3 if palette else _STORED_CHANNELS[ihdr.colour_type]) + (transparency is not None),
        bits=max(ihdr.depth_bits, 8),
    )
    before_pixels = tuple(chunk for chunk in (first, palette, transparency) if chunk is not None)
    return Head(ihdr, header, before_pixels, seen[b"IDAT"], profile=seen.get(b"iCCP"), exif=seen.get(b"eXIf"))


def make_ihdr(shape: tuple[int, ...], *, bits: int, has_alpha: bool) -> bytes:
    """The header chunk of (H, W, C) colour of 8 or 16 bits, with or without alpha; neither palette nor interlace."""
    height_px, width_px, channels = shape
    with_alpha, without = (_GREY_ALPHA, _GREY) if channels == 1 else (_RGB_ALPHA, _RGB)
    colour_type = with_alpha if has_alpha else without
    return make_chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, bits, colour_type, 0, 0, 0))


def refuse_unknown(chunk: Chunk) -> None:
    """Raises UnsupportedImage for a chunk without which the image can't be shown, as its capital first letter says."""
    if chunk.kind[:1].isupper() and chunk.kind not in {b"PLTE", b"IDAT", b"IEND"}:
        raise UnsupportedImage(f"the PNG needs the chunk {chunk.name}, which is not known; save it anew", field=FIELD)


def _read_ihdr(first: Chunk) -> Ihdr:
    if first.kind != b"IHDR" or len(first.body) != 13:
        raise InvalidImage(
            f"the PNG begins with {len(first.body)} bytes of {first.name}, not with 13 of IHDR; save it anew",
            field=FIELD,
        )
    verify(first)
    width_px, height_px, depth_bits, colour_type, compression, filtering, interlace = struct.unpack(
        ">IIBBBBB", first.body
    )
    if not (1 <= width_px < 1 << 31 and 1 <= height_px < 1 << 31):
        raise InvalidImage(f"the PNG says {width_px} x {height_px} px, which is no image; save it anew", field=FIELD)
    if depth_bits not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise InvalidImage(
            f"the PNG says depth {depth_bits}, colour type {colour_type}, compression {compression}, filter method "
            f"{filtering}, interlace {interlace}, which PNG does not define together; save it anew",
            field=FIELD,
        )
    if max(width_px, height_px) > SIDE_MAX_PX:
        raise UnsupportedImage(
            f"the PNG says {width_px} x {height_px} px; sides of up to {SIDE_MAX_PX} px are served, cut it", field=FIELD
        )
    return Ihdr(width_px, height_px, depth_bits, colour_type, interlaced=bool(interlace))


def _check_transparency(ihdr: Ihdr, transparency: Chunk, palette: Chunk | None) -> None:
    """A tRNS that does not fit would be overlooked by libpng: other channels than the header promised."""
    colour_count = len(palette.body) // 3 if palette else 0
    fitting = {_GREY: range(2, 3), _RGB: range(6, 7), _PALETTE: range(1, colour_count + 1)}
    if len(transparency.body) not in fitting.get(ihdr.colour_type, ()):
        raise InvalidImage(
            f"the PNG has a tRNS of {len(transparency.body)} bytes, which does not fit colour type "
            f"{ihdr.colour_type}; save it anew",
            field=FIELD,
        )
