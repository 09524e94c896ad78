"""The pixel data of a PNG, made safe for libpng.

imagecodecs' binding of libpng must never meet an error: on each one it loses the rows that it had allocated and one
reference to None, so that some thousand damaged files would end the process. Therefore the pixel data are inflated,
measured and checked here, and handed on in deflate's uncompressed form. This is faster (11 against 14 ms a
megapixel): libdeflate inflates a whole buffer faster than libpng does it row by row.
"""

import struct
from collections.abc import Iterator, Sequence

import imagecodecs
import numpy as np
from isal.isal_zlib import adler32, crc32
from numpy.typing import NDArray

from service.codec.planes import FIELD
from service.codec.png_chunks import make_chunk
from service.codec.png_header import Ihdr
from service.errors import InvalidImage

# Adam7: first column, first row, column step, row step of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_FILTER_MAX = 4
_BLOCK_MAX_BYTES = 65_535  # of uncompressed data in deflate
_BLOCK_FRAME_BYTES = 17  # a chunk's length, kind and checksum, and deflate's own head


def store(before: Sequence[bytes | memoryview], bodies: Sequence[memoryview], ihdr: Ihdr) -> NDArray[np.uint8]:
    """A PNG that begins with ``before`` and holds the pixels of the IDAT bodies uncompressed, checked.

    The rows are inflated where the file will end and move to their places from there, block by block, so that no
    second buffer of their size is needed.

    Raises:
        InvalidImage: the bodies are damaged, or hold other rows than exactly those that ``ihdr`` needs.
    """
    head = b"".join((*before, make_chunk(b"IDAT", b"\x78\x01")))
    tail_bytes = len(make_chunk(b"IDAT", bytes(4)) + make_chunk(b"IEND", b""))
    row_bytes = sum(row_count * row_bytes for row_count, row_bytes in _passes(ihdr))
    block_count = -(-row_bytes // _BLOCK_MAX_BYTES)
    file = np.empty(len(head) + block_count * _BLOCK_FRAME_BYTES + row_bytes + tail_bytes, np.uint8)
    rows = file[-row_bytes:]
    _inflate(bodies, ihdr, rows)
    tail = make_chunk(b"IDAT", struct.pack(">I", adler32(rows))) + make_chunk(b"IEND", b"")
    view = file.data
    view[: len(head)] = head
    at = len(head)
    for start in range(0, row_bytes, _BLOCK_MAX_BYTES):
        block = rows[start : start + _BLOCK_MAX_BYTES]
        block_bytes = len(block)
        is_last = start + block_bytes == row_bytes
        frame = struct.pack(">I4s", 5 + block_bytes, b"IDAT") + struct.pack(
            "<BHH", is_last, block_bytes, block_bytes ^ 0xFFFF
        )
        checksum = crc32(block, crc32(memoryview(frame)[4:]))
        body_at, end = at + len(frame), at + len(frame) + block_bytes
        file[body_at:end] = block
        view[at:body_at] = frame
        view[end : end + 4] = struct.pack(">I", checksum)
        at = end + 4
    view[at:] = tail
    return file


def _inflate(bodies: Sequence[memoryview], ihdr: Ihdr, rows: NDArray[np.uint8]) -> None:
    """Fills the rows, each with its filter first, exactly."""
    try:
        inflated = imagecodecs.deflate_decode(b"".join(bodies), out=rows.data)
    except imagecodecs.DeflateError as error:
        raise InvalidImage(
            f"the PNG's pixels are damaged, incomplete or more than {ihdr.width_px} x {ihdr.height_px}; save it anew",
            field=FIELD,
        ) from error
    if len(inflated) != len(rows):
        raise InvalidImage(
            f"the PNG has {len(inflated)} bytes of pixels, {ihdr.width_px} x {ihdr.height_px} px need {len(rows)}; "
            "save it anew",
            field=FIELD,
        )
    start = 0
    for row_count, row_bytes in _passes(ihdr):
        filters = rows[start : start + row_count * row_bytes : row_bytes]
        if filters.max() > _FILTER_MAX:
            raise InvalidImage(f"the PNG has a row with filter {filters.max()}; 0..4 exist, save it anew", field=FIELD)
        start += row_count * row_bytes


def _passes(ihdr: Ihdr) -> Iterator[tuple[int, int]]:
    """Number of rows and bytes of a row, filter included, of each pass that has pixels."""
    for column, row, column_step, row_step in _PASSES if ihdr.interlaced else ((0, 0, 1, 1),):
        width_px = (ihdr.width_px - column + column_step - 1) // column_step
        row_count = (ihdr.height_px - row + row_step - 1) // row_step
        if width_px > 0 and row_count > 0:
            yield row_count, 1 + (width_px * ihdr.pixel_bits + 7) // 8
