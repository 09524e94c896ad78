"""How large an image file says it is, read from its first bytes: what a client must know before it sends the file.

Not a decoder and no judge: whatever is damaged or of another kind is unknown here, and the server's to refuse.
"""

import struct
from dataclasses import dataclass
from typing import Final

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
# A signature, the first chunk's length and name, and what it says.
_PNG_HEADER: Final = struct.Struct(">8s4x4sIIBB")
# Palettes become RGB, or RGBA where they have transparent colours; so may the other two without alpha.
_PNG_CHANNELS: Final = {0: 2, 2: 4, 3: 4, 4: 2, 6: 4}

_JPEG_START: Final = b"\xff\xd8"
# Frame headers are C0..CF, but for the tables among them.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
# Length, precision, height, width, components.
_JPEG_FRAME: Final = struct.Struct(">HBHHB")


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file announces; ``samples_bytes`` is the most that it takes when it is decoded."""

    height_px: int
    width_px: int
    samples_bytes: int
    sample_bits: int


def read_file_header(data: bytes) -> FileHeader | None:
    """The size of a PNG or JPEG file, None when its first bytes don't tell."""
    if data.startswith(_PNG_START):
        return _read_png(data)
    if data.startswith(_JPEG_START):
        return _read_jpeg(data)
    return None


def _read_png(data: bytes) -> FileHeader | None:
    if len(data) < _PNG_HEADER.size:
        return None
    _, name, width_px, height_px, bits, colour = _PNG_HEADER.unpack_from(data)
    channel_count = _PNG_CHANNELS.get(colour)
    if name != b"IHDR" or channel_count is None:
        return None
    return _header(height_px, width_px, channel_count, bits)


def _read_jpeg(data: bytes) -> FileHeader | None:
    at = len(_JPEG_START)
    while at + 2 + _JPEG_FRAME.size <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        else:
            length, bits, height_px, width_px, channel_count = _JPEG_FRAME.unpack_from(data, at + 2)
            if marker in _JPEG_FRAMES:
                return _header(height_px, width_px, channel_count, bits)
            at += 2 + length
    return None


def _header(height_px: int, width_px: int, channel_count: int, sample_bits: int) -> FileHeader | None:
    if height_px == 0 or width_px == 0:
        return None
    sample_bytes = 2 if sample_bits > 8 else 1
    return FileHeader(height_px, width_px, height_px * width_px * channel_count * sample_bytes, sample_bits)
