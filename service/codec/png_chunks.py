"""The chunks that a PNG is made of: their bounds, order of bytes and checksums. What they mean is ``png``'s."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from isal.isal_zlib import crc32

from service.codec.planes import FIELD
from service.errors import InvalidImage, UnsupportedImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FRAME_BYTES = 12  # length and kind before the body, checksum after it


class Chunk(NamedTuple):
    kind: bytes
    body: memoryview
    whole: memoryview

    @property
    def name(self) -> str:
        return self.kind.decode("ascii")


def make_chunk(kind: bytes, body: bytes) -> bytes:
    return b"".join((struct.pack(">I4s", len(body), kind), body, struct.pack(">I", crc32(body, crc32(kind)))))


def read_chunks(data: bytes, *, max_count: int) -> Iterator[Chunk]:
    """The chunks up to and with IEND, one by one and unverified; what follows IEND is not looked at."""
    view = memoryview(data)
    start = len(SIGNATURE)
    for _ in range(max_count):
        if len(view) - start < _FRAME_BYTES:
            raise InvalidImage(f"the PNG ends after {len(view)} bytes, without IEND; send the whole file", field=FIELD)
        body_bytes, kind = struct.unpack_from(">I4s", view, start)
        if not kind.isalpha():
            raise InvalidImage(f"at byte {start} there is no PNG chunk, where one should be; save it anew", field=FIELD)
        end = start + _FRAME_BYTES + body_bytes
        if end > len(view):
            raise InvalidImage(
                f"the PNG ends after {len(view)} bytes, its chunk {kind.decode()} only at byte {end}; "
                "send the whole file",
                field=FIELD,
            )
        yield Chunk(kind, view[start + 8 : end - 4], view[start:end])
        if kind == b"IEND":
            return
        start = end
    raise UnsupportedImage(f"the PNG has more than {max_count} chunks where few suffice; save it anew", field=FIELD)


def verify(chunk: Chunk) -> None:
    """Raises InvalidImage if the chunk's bytes aren't those that were written."""
    if crc32(chunk.whole[4:-4]) != int.from_bytes(chunk.whole[-4:], "big"):
        raise InvalidImage(f"the PNG's chunk {chunk.name} is damaged (checksum); send the file again", field=FIELD)
