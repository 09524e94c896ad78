"""The pixel data of a PNG, made safe for libpng.

imagecodecs' binding of libpng must never meet an error: on each one it loses the rows that it had allocated and one
reference to None, so that some thousand damaged files would end the process. Therefore the pixel data are inflated,
measured and checked here, and handed on in deflate's uncompressed form. This is not slower (11 against 15 ms a
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


def inflate(bodies: Sequence[memoryview], ihdr: Ihdr) -> NDArray[np.uint8]:
    """The filtered rows that the IDAT bodies hold, each with its filter first; exactly as many as ``ihdr`` needs."""
    passes = list(_passes(ihdr))
    rows = np.empty(sum(row_count * row_bytes for row_count, row_bytes in passes), np.uint8)
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
    for row_count, row_bytes in passes:
        filters = rows[start : start + row_count * row_bytes : row_bytes]
        if filters.max() > _FILTER_MAX:
            raise InvalidImage(f"the PNG has a row with filter {filters.max()}; 0..4 exist, save it anew", field=FIELD)
        start += row_count * row_bytes
    return rows


def store(rows: NDArray[np.uint8]) -> Iterator[bytes | memoryview]:
    """IDAT chunks that hold the rows uncompressed, in parts to be joined."""
    yield make_chunk(b"IDAT", b"\x78\x01")
    view = rows.data
    for start in range(0, len(view), _BLOCK_MAX_BYTES):
        block = view[start : start + _BLOCK_MAX_BYTES]
        is_last = start + _BLOCK_MAX_BYTES >= len(view)
        kind_and_head = struct.pack("<4sBHH", b"IDAT", is_last, len(block), len(block) ^ 0xFFFF)
        yield struct.pack(">I", len(kind_and_head) - 4 + len(block)) + kind_and_head
        yield block
        yield struct.pack(">I", crc32(block, crc32(kind_and_head)))
    yield make_chunk(b"IDAT", struct.pack(">I", adler32(view)))


def _passes(ihdr: Ihdr) -> Iterator[tuple[int, int]]:
    """Number of rows and bytes of a row, filter included, of each pass that has pixels."""
    for column, row, column_step, row_step in _PASSES if ihdr.interlaced else ((0, 0, 1, 1),):
        width_px = (ihdr.width_px - column + column_step - 1) // column_step
        row_count = (ihdr.height_px - row + row_step - 1) // row_step
        if width_px > 0 and row_count > 0:
            yield row_count, 1 + (width_px * ihdr.pixel_bits + 7) // 8
