"""JPEG: which files are served, their pixels and their metadata.

libjpeg invents grey for pixels that are missing and goes on after damage, with a mere warning. simplejpeg is the
binding that can make those warnings errors.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg

from service.codec import planes
from service.codec.planes import FIELD
from service.errors import InvalidImage, UnsupportedImage
from service.types import Container, Image, ImageHeader, Metadata

SIGNATURE = b"\xff\xd8\xff"
SIDE_MAX_PX = 65_500
"""libjpeg's own limit, for reading and for writing."""

# Each scan of a progressive file may touch every pixel at next to no bytes; encoders write about ten.
_SCANS_MAX_COUNT = 64
# Every segment costs a turn of a Python loop, in ``read_header`` on the event loop.
_SEGMENTS_MAX_COUNT = 1_000
_SEGMENT_BODY_MAX_BYTES = 65_533

_DHT, _JPG, _DAC = 0xC4, 0xC8, 0xCC
_EOI, _SOS, _APP1, _APP2 = 0xD9, 0xDA, 0xE1, 0xE2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, _JPG, _DAC}
_SERVED_FRAMES = {0xC0, 0xC1, 0xC2}
_PROCESSES = {
    0xC0: "baseline",
    0xC1: "sequential",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
}
# How many samples of luma stand beside one of chroma, across and down: what TurboJPEG knows.
_SAMPLINGS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4))
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a body

_MARKER = re.compile(rb"\xff+([^\xff\0])", re.DOTALL)
# The first marker after entropy-coded data, in which zero bytes and restart markers follow an 0xff.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\xff\0\xd0-\xd7]", re.DOTALL)

_EXIF_TAG = b"Exif\0\0"
_ICC_TAG = b"ICC_PROFILE\0"


class _Segment(NamedTuple):
    marker: int
    body: memoryview


def read_header(data: bytes) -> ImageHeader:
    """The header of a file that begins with SIGNATURE."""
    for marker, body in _segments(data):
        if marker in _FRAMES:
            return _read_frame(marker, body)
        if marker in {_SOS, _EOI}:
            break
    raise InvalidImage("the JPEG has no frame header; save it anew", field=FIELD)


def decode(data: bytes, header: ImageHeader) -> Image:
    """The image in the file, which must be intact up to its end."""
    metadata = _read_metadata(data)
    # libjpeg reads the size once more; a buffer of the size that was admitted is all that it can fill.
    buffer = np.empty((header.height_px, header.width_px, header.channels), np.uint8)
    try:
        samples = simplejpeg.decode_jpeg(data, "GRAY" if header.channels == 1 else "RGB", buffer=buffer, strict=True)
    except ValueError as error:
        # Its text stays behind: TurboJPEG blames the subsampling for whatever is wrong before the pixels.
        raise InvalidImage("the JPEG's tables or pixels are damaged; save it anew", field=FIELD) from error
    return planes.from_decoder(samples, header, metadata)


def encode(image: Image, *, quality: int) -> bytes:
    """The image as a baseline JPEG with as much chroma as luma: the service must not blur what it cleaned."""
    samples = planes.join(image)
    colours, sampling = ("GRAY", "Gray") if samples.shape[2] == 1 else ("RGB", "444")
    file: bytes = simplejpeg.encode_jpeg(samples, quality, colours, sampling)
    segments = [*_exif_segments(image.metadata.exif), *_profile_segments(image.metadata.icc_profile)]
    if not segments:
        return file
    # JFIF wants its own segment to be the first.
    head_bytes = 4 + int.from_bytes(file[4:6], "big")
    view = memoryview(file)
    return b"".join((view[:head_bytes], *segments, view[head_bytes:]))


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments up to and with EOI, across the scans; what follows EOI is not looked at."""
    view = memoryview(data)
    at = len(SIGNATURE) - 1
    for _ in range(_SEGMENTS_MAX_COUNT):
        match = _MARKER.match(data, at)
        if match is None:
            raise InvalidImage(
                f"at byte {at} of {len(view)} the JPEG has no marker, where one should be; send the whole file",
                field=FIELD,
            )
        marker, at = match[1][0], match.end()
        if marker in _BARE:
            continue
        if marker == _EOI:
            yield _Segment(marker, view[at:at])
            return
        end = at + int.from_bytes(view[at : at + 2], "big")
        if end > len(view) or len(view) - at < 2:
            raise _ended(data)
        if end < at + 2:
            raise InvalidImage(f"at byte {at} the JPEG has a segment without a length; save it anew", field=FIELD)
        yield _Segment(marker, view[at + 2 : end])
        at = end
        if marker == _SOS:
            match = _MARKER_AFTER_SCAN.search(data, at)
            if match is None:
                raise _ended(data)
            at = match.start()
    raise UnsupportedImage(
        f"the JPEG has more than {_SEGMENTS_MAX_COUNT} segments where few suffice; save it anew", field=FIELD
    )


def _ended(data: bytes) -> InvalidImage:
    return InvalidImage(
        f"the JPEG ends after {len(data)} bytes, without its end marker; send the whole file", field=FIELD
    )


def _read_frame(marker: int, body: memoryview) -> ImageHeader:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise InvalidImage("the JPEG's frame header is damaged; save it anew", field=FIELD)
    precision, height_px, width_px, components = struct.unpack_from(">BHHB", body)
    if marker not in _SERVED_FRAMES or precision != 8:
        process = _PROCESSES.get(marker, "arithmetic coding")
        raise UnsupportedImage(
            f"the JPEG is {precision}-bit {process}; baseline and progressive with 8 bits are served, "
            "convert it to one of these or to PNG",
            field=FIELD,
        )
    if components == 4:
        raise UnsupportedImage("the JPEG is CMYK or YCCK, convert it to RGB", field=FIELD)
    if components not in {1, 3}:
        raise UnsupportedImage(f"the JPEG has {components} components; convert it to grey or RGB", field=FIELD)
    if components == 3 and not _is_served_sampling(luma=body[7], chroma=(body[10], body[13])):
        raise UnsupportedImage(
            "the JPEG samples its colours in an unusual pattern; save it with 4:4:4, 4:2:2 or 4:2:0", field=FIELD
        )
    if not (height_px and width_px):
        raise InvalidImage(f"the JPEG says {width_px} x {height_px} px, which is no image; save it anew", field=FIELD)
    if max(height_px, width_px) > SIDE_MAX_PX:
        raise UnsupportedImage(
            f"the JPEG says {width_px} x {height_px} px; sides of up to {SIDE_MAX_PX} px are served, cut it",
            field=FIELD,
        )
    return ImageHeader(container=Container.JPEG, height_px=height_px, width_px=width_px, channels=components, bits=8)


def _is_served_sampling(*, luma: int, chroma: tuple[int, int]) -> bool:
    """Each byte holds a horizontal factor (high half) and a vertical one."""
    across, down = chroma[0] >> 4, chroma[0] & 15
    patterns = {(across * h) << 4 | down * v for h, v in _SAMPLINGS}
    return chroma[0] == chroma[1] and luma in patterns


def _read_metadata(data: bytes) -> Metadata:
    """Walks the file to its end, also to count the scans. Exif too long for one segment goes on in the next ones."""
    exif: list[memoryview] = []
    profile: list[memoryview] = []
    scan_count = 0
    for marker, body in _segments(data):
        if marker == _APP1 and body[: len(_EXIF_TAG)] == _EXIF_TAG:
            exif.append(body[len(_EXIF_TAG) :])
        elif marker == _APP2 and body[: len(_ICC_TAG)] == _ICC_TAG:
            profile.append(body[len(_ICC_TAG) :])
        elif marker == _SOS:
            scan_count += 1
    if scan_count > _SCANS_MAX_COUNT:
        raise UnsupportedImage(
            f"the JPEG has {scan_count} scans, up to {_SCANS_MAX_COUNT} are served; save it as baseline", field=FIELD
        )
    return Metadata(exif=b"".join(exif) or None, icc_profile=_join_profile(profile) or None)


def _join_profile(parts: list[memoryview]) -> bytes:
    """Each part begins with its number, from 1, and the number of parts."""
    numbered = {bytes(part[:2]): part[2:] for part in parts}
    expected = [bytes((number, len(parts))) for number in range(1, len(parts) + 1)] if len(parts) <= 255 else []
    if sorted(numbered) != expected:
        raise InvalidImage(
            f"the JPEG's colour profile is not whole ({len(parts)} parts); remove it or save it anew", field=FIELD
        )
    return b"".join(numbered[number] for number in expected)


def _exif_segments(exif: bytes | None) -> list[bytes]:
    return [_segment(_APP1, _EXIF_TAG + part) for part in _cut(exif or b"", _SEGMENT_BODY_MAX_BYTES - len(_EXIF_TAG))]


def _profile_segments(profile: bytes | None) -> list[bytes]:
    parts = _cut(profile or b"", _SEGMENT_BODY_MAX_BYTES - len(_ICC_TAG) - 2)
    return [_segment(_APP2, _ICC_TAG + bytes((i, len(parts))) + part) for i, part in enumerate(parts, 1)]


def _cut(value: bytes, part_max_bytes: int) -> list[bytes]:
    return [value[at : at + part_max_bytes] for at in range(0, len(value), part_max_bytes)]


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
