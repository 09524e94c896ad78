"""Messages as bytes: takes an image's data out of a request without copying it, and puts data into a reply once.

A megapixel of samples in a protobuf message is copied by every constructor and every access of its field. Here the
data's place in the message is found by walking the few fields around it; what is left is small, is parsed by
protobuf, and is the same for all images of one kind, so that whatever follows from it can be remembered.

Only the usual form of a message is walked: each field on the way to the data once. Protobuf itself reads any other,
so the two never disagree.

Source of the format: https://protobuf.dev/programming-guides/encoding/
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

from denoised.v1 import denoised_pb2 as pb
from service.errors import InvalidMessage
from service.types import Data

M = TypeVar("M", bound=Message)

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
# Of the fifth byte of a number.
_MOST_SHIFT: Final = 28


class Split(NamedTuple):
    """A request apart from its image's data.

    Attributes:
        rest: the request with that data left empty, serialised.
        data: samples as a view into the message, which it keeps alive; a file as bytes of its own.
    """

    rest: bytes
    data: Data


class _Field(NamedTuple):
    """Where a length-delimited field of a message begins with its tag, and where its value begins and ends."""

    number: int
    tag_at: int
    start: int
    stop: int


class _Form(NamedTuple):
    """A request that was walked: what is before its raw samples, what is after them, and all of it without them."""

    before: bytes
    after: bytes
    rest: bytes


# By length. Requests of one length with other fields take turns; they are walked again.
_forms: dict[int, _Form] = {}
_FORMS_MOST: Final = 256
# Of what surrounds the data: usual ones have some dozens; a client may send mebibytes of fields that nobody knows.
_FORM_BYTES: Final = 1024


class _Unusual(Exception):
    """Not the form that is walked here; protobuf decides."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of an image."""

    data: Data
    last: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a DenoiseStream.

    Attributes:
        item_id: the client's name for the item.
        timeout_s: what the frame says that the item may take, or None.
        content: a whole image, the beginning or a part of one in chunks, a withdrawal, or None for none of these.
    """

    item_id: str
    timeout_s: float | None
    content: Split | pb.ImageHeader | Chunk | pb.CancelItem | None


def split_request(message: bytes) -> Split:
    """A serialised DenoiseRequest, taken apart.

    Raises:
        InvalidMessage: the bytes are none.
    """
    try:
        return _split(message, 0, len(message))
    except _Unusual:
        return _split_by_protobuf(message)


def split_batch(message: bytes) -> list[Split]:
    """The requests of a serialised DenoiseBatchRequest, each taken apart.

    Raises:
        InvalidMessage: the bytes are none.
    """
    try:
        return _walk_batch(message)
    except _Unusual:
        return [_split_parsed(request) for request in parse(pb.DenoiseBatchRequest, message).requests]


def read_frame(message: bytes) -> Frame:
    """A serialised DenoiseStreamRequest.

    Raises:
        InvalidMessage: the bytes are none.
    """
    try:
        return _walk_frame(message)
    except _Unusual:
        return _frame_by_protobuf(message)


class Content(NamedTuple):
    """An answer's image as it stands in a reply: the field of ``Image`` that it is, and all of it but its data."""

    is_raw: bool
    head: bytes


def response_parts(content: Content, data: Data, rest: bytes) -> tuple[list[Data], int]:
    """A DenoiseResponse in parts to be joined, and its length.

    Args:
        content: what the image is.
        data: its data, contiguous.
        rest: a serialised DenoiseResponse without an image.
    """
    data_bytes = memoryview(data).nbytes
    head = _response_head(content, data_bytes)
    return [head, data, rest], len(head) + data_bytes + len(rest)


# Images of one kind and size have one: as many are kept as there are recipes.
@lru_cache(1024)
def _response_head(content: Content, data_bytes: int) -> bytes:
    data_head = b"\n" + _varint_of(data_bytes) if data_bytes else b""
    content_bytes = len(content.head) + len(data_head) + data_bytes
    content_head = (b"\x12" if content.is_raw else b"\n") + _varint_of(content_bytes)
    image_head = b"\n" + _varint_of(len(content_head) + content_bytes)
    return b"".join((image_head, content_head, content.head, data_head))


def result_parts(parts: list[Data], size_bytes: int) -> tuple[list[Data], int]:
    """A DenoiseResult with the response that the parts are."""
    head = b"\x12" + _varint_of(size_bytes)
    return [head, *parts], len(head) + size_bytes


def batch_result_parts(parts: list[Data], size_bytes: int) -> tuple[list[Data], int]:
    """One of the results of a DenoiseBatchResponse, from the parts of a DenoiseResult."""
    head = b"\n" + _varint_of(size_bytes)
    return [head, *parts], len(head) + size_bytes


def stream_result_parts(item_id: str, parts: list[Data], size_bytes: int) -> list[Data]:
    """A DenoiseStreamResponse with a result, from the parts of a DenoiseResult."""
    name = item_id.encode()
    return [b"\n" + _varint_of(len(name)) + name + b"\x12" + _varint_of(size_bytes), *parts]


def stream_chunk(item_id: str, data: Data, *, last: bool) -> bytes:
    """A DenoiseStreamResponse with a chunk."""
    name = item_id.encode()
    data_bytes = memoryview(data).nbytes
    data_head = b"\n" + _varint_of(data_bytes)
    tail = b"\x10\x01" if last else b""
    chunk_head = b"\x1a" + _varint_of(len(data_head) + data_bytes + len(tail))
    return b"".join((b"\n", _varint_of(len(name)), name, chunk_head, data_head, data, tail))


# Tags of the fields on the way to the data: number << 3 | kind.
_REQUESTS_TAG: Final = 1 << 3 | _LENGTH
_IMAGE: Final = 1
_ENCODED, _RAW = 1, 2
_DATA: Final = 1
_ITEM_ID, _REQUEST, _CHUNK, _TIMEOUT = 1, 2, 4, 6
_LAST_TAG: Final = 2 << 3 | _VARINT


def _split(message: bytes, start: int, stop: int) -> Split:
    """Requests of one kind differ in nothing but their data, so what surrounds it is compared before it is walked."""
    form = _forms.get(stop - start)
    if form is not None:
        data_at, data_stop = start + len(form.before), stop - len(form.after)
        if message.startswith(form.before, start) and message.startswith(form.after, data_stop):
            return Split(form.rest, memoryview(message)[data_at:data_stop])
    return _walk_request(message, start, stop)


def _walk_request(message: bytes, start: int, stop: int) -> Split:
    image = _only(message, start, stop, (_IMAGE,))
    content = _only(message, image.start, image.stop, (_ENCODED, _RAW))
    data = _only(message, content.start, content.stop, (_DATA,))
    new_content = message[content.start : data.tag_at] + message[data.stop : content.stop]
    new_image = b"".join(
        (
            message[image.start : content.tag_at + 1],
            _varint_of(len(new_content)),
            new_content,
            message[content.stop : image.stop],
        )
    )
    rest = b"".join(
        (
            message[start : image.tag_at + 1],
            _varint_of(len(new_image)),
            new_image,
            message[image.stop : stop],
        )
    )
    if content.number == _ENCODED:
        # Decoders want bytes; a file is small beside what it holds.
        return Split(rest, message[data.start : data.stop])
    if stop - start - (data.stop - data.start) <= _FORM_BYTES:
        if len(_forms) >= _FORMS_MOST:
            _forms.clear()
        _forms[stop - start] = _Form(message[start : data.start], message[data.stop : stop], rest)
    return Split(rest, memoryview(message)[data.start : data.stop])


def _only(message: bytes, at: int, stop: int, numbers: tuple[int, ...]) -> _Field:
    """The one length-delimited field with one of these numbers; numbers are small, so its tag has one byte."""
    found = None
    while at < stop:
        tag_at = at
        tag = message[at]
        if tag >= 0x80:
            raise _Unusual
        at += 1
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(message, at, stop)
            start, at = at, at + length
            if tag >> 3 in numbers:
                if found is not None:
                    raise _Unusual
                found = _Field(tag >> 3, tag_at, start, at)
        elif kind == _VARINT:
            _, at = _varint(message, at, stop)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise _Unusual
    if found is None or at != stop:
        raise _Unusual
    return found


def _walk_batch(message: bytes) -> list[Split]:
    requests = []
    at, size = 0, len(message)
    while at < size:
        if message[at] != _REQUESTS_TAG:
            raise _Unusual
        length, start = _varint(message, at + 1, size)
        at = start + length
        if at > size:
            raise _Unusual
        requests.append(_split(message, start, at))
    return requests


def _walk_frame(message: bytes) -> Frame:
    fields: dict[int, tuple[int, int]] = {}
    at, size = 0, len(message)
    while at < size:
        tag = message[at]
        if tag & 7 != _LENGTH or tag >= 0x80 or tag >> 3 in fields:
            raise _Unusual
        length, start = _varint(message, at + 1, size)
        at = start + length
        fields[tag >> 3] = (start, at)
    if at != size or _ITEM_ID not in fields:
        raise _Unusual
    name, timeout = fields.pop(_ITEM_ID), fields.pop(_TIMEOUT, None)
    if fields.keys() == {_REQUEST}:
        content: Split | Chunk = _split(message, *fields[_REQUEST])
    elif fields.keys() == {_CHUNK}:
        content = _walk_chunk(message, *fields[_CHUNK])
    else:
        raise _Unusual
    try:
        item_id = message[slice(*name)].decode()
    except UnicodeDecodeError:
        raise _Unusual from None
    timeout_s = None if timeout is None else _seconds(parse(Duration, message[slice(*timeout)]))
    return Frame(item_id, timeout_s, content)


def _walk_chunk(message: bytes, start: int, stop: int) -> Chunk:
    data = _only(message, start, stop, (_DATA,))
    flags = message[start : data.tag_at] + message[data.stop : stop]
    if flags not in (b"", bytes((_LAST_TAG, 1))):
        raise _Unusual
    return Chunk(memoryview(message)[data.start : data.stop], last=bool(flags))


def _frame_by_protobuf(message: bytes) -> Frame:
    frame = parse(pb.DenoiseStreamRequest, message)
    timeout_s = _seconds(frame.timeout) if frame.HasField("timeout") else None
    content: Split | pb.ImageHeader | Chunk | pb.CancelItem | None
    match frame.WhichOneof("frame"):
        case "request":
            content = _split_parsed(frame.request)
        case "chunk":
            content = Chunk(frame.chunk.data, frame.chunk.last)
        case "header":
            content = frame.header
        case "cancel":
            content = frame.cancel
        case _:
            content = None
    return Frame(frame.item_id, timeout_s, content)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _split_by_protobuf(message: bytes) -> Split:
    return _split_parsed(parse(pb.DenoiseRequest, message))


def _split_parsed(request: pb.DenoiseRequest) -> Split:
    kind = request.image.WhichOneof("content")
    if kind is None:
        return Split(request.SerializeToString(), b"")
    content: pb.EncodedImage | pb.RawImage = getattr(request.image, kind)
    data = content.data
    content.data = b""
    return Split(request.SerializeToString(), data)


def parse(kind: type[M], message: bytes) -> M:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InvalidMessage(
            f"the message of {len(message)} bytes is no {kind.DESCRIPTOR.full_name}; "
            "send what a client generated from the API's .proto sends",
            field="",
        ) from error


def _varint(message: bytes, at: int, stop: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends; usual ones have five bytes at most, as lengths must."""
    value = shift = 0
    while at < stop and shift <= _MOST_SHIFT:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Unusual


def _varint_of(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_ONE_BYTE: Final = [bytes((value,)) for value in range(0x80)]
