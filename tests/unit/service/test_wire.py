"""Messages as bytes: whatever one looks like, it is read as protobuf reads it, and replies are what it would write.

The encodings are made by hand, field by field, because protobuf writes only one of the many forms that it reads.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status
from hypothesis import example, given
from hypothesis import strategies as st

from denoised.v1 import denoised_pb2 as pb
from service import wire
from service.errors import InvalidMessage
from service.wire import Chunk, Content, Frame, Split

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5


def varint(value: int, *, padding: int = 0) -> bytes:
    """The number in as many bytes as it needs, and some more, which is legal."""
    value &= 2**64 - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    if padding:
        encoded[-1] |= 0x80
        encoded += b"\x80" * (padding - 1) + b"\0"
    return bytes(encoded)


def tag(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def block(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return tag(number, LENGTH) + varint(len(value)) + value


# --- encodings of all kinds -------------------------------------------------------------------------------------------

Encodings: TypeAlias = st.SearchStrategy[bytes]
Fields: TypeAlias = Mapping[int, tuple[int, Encodings]]
"""Of a message, what kind each field is and what its values may be."""

paddings = st.sampled_from([0] * 12 + [1, 2, 3, 4, 8, 9, 10])
varints = st.builds(
    lambda value, padding: varint(value, padding=padding),
    st.sampled_from([0, 1, 2, 3, 95, 127, 128, -1, 2**31 - 1, 2**63, 2**64 - 1]) | st.integers(0, 300),
    paddings,
)
fixed64 = st.floats(width=64).map(lambda value: struct.pack("<d", value))
fixed32 = st.floats(width=32).map(lambda value: struct.pack("<f", value))
texts = st.text(max_size=4).map(str.encode) | st.binary(max_size=3)
data = st.binary(max_size=8) | st.sampled_from([bytes(127), bytes(128), bytes(129), bytes(16_384)])


@st.composite
def encoded_field(draw: st.DrawFn, number: int, kind: int, values: Encodings) -> bytes:
    value = draw(values)
    head = varint(number << 3 | kind, padding=draw(paddings))
    if kind == LENGTH:
        head += varint(len(value), padding=draw(paddings))
    if kind == GROUP:
        value += tag(number, END_GROUP)
    return head + value


@st.composite
def strange_fields(draw: st.DrawFn) -> bytes:
    """A field that the message does not know, or knows as one of another kind, or an unbalanced group."""
    number = draw(st.integers(0, 9) | st.sampled_from([15, 16, 2047, 2048, 2**29 - 1]))
    kind, values = draw(
        st.sampled_from(
            [
                (VARINT, varints),
                (FIXED64, fixed64),
                (LENGTH, data),
                (GROUP, st.just(b"")),
                (GROUP, st.just(b"\x08\x01")),
                (END_GROUP, st.just(b"")),
                (FIXED32, fixed32),
                (6, st.just(b"")),
                (7, st.just(b"")),
            ]
        )
    )
    return draw(encoded_field(number, kind, values))


@st.composite
def messages(draw: st.DrawFn, fields: Fields) -> bytes:
    """Mostly each field once or not at all; sometimes in another order, twice, or among strangers."""
    numbers = [number for number in fields if draw(st.integers(0, 3))]
    if not draw(st.integers(0, 3)):
        numbers = draw(st.lists(st.sampled_from(list(fields)), max_size=5)) if fields else []
    parts = [draw(encoded_field(number, *fields[number])) for number in numbers]
    if not draw(st.integers(0, 5)):
        parts += draw(st.lists(strange_fields(), max_size=2))
    if not draw(st.integers(0, 3)):
        parts = draw(st.permutations(parts))
    return b"".join(parts)


@st.composite
def mutilated(draw: st.DrawFn, whole: Encodings) -> bytes:
    """Cut short, with a byte changed, with a byte too many, or nothing like a message."""
    message = bytearray(draw(whole))
    at = draw(st.integers(0, len(message)))
    match draw(st.integers(0, 3)):
        case 0:
            del message[at:]
        case 1 if at < len(message):
            message[at] = draw(st.integers(0, 255))
        case 2:
            message.insert(at, draw(st.integers(0, 255)))
        case _:
            return draw(st.binary(max_size=40))
    return bytes(message)


def some(whole: Encodings) -> Encodings:
    return st.one_of(whole, whole, mutilated(whole))


encoded_images = messages({1: (LENGTH, data), 2: (VARINT, varints), 3: (FIXED64, fixed64), 4: (FIXED64, fixed64)})
raw_images = messages(
    {1: (LENGTH, data)} | dict.fromkeys(range(2, 7), (VARINT, varints)) | {7: (FIXED64, fixed64), 8: (FIXED64, fixed64)}
)
images = messages({1: (LENGTH, encoded_images)}) | messages({2: (LENGTH, raw_images)})
both_images = messages({1: (LENGTH, encoded_images), 2: (LENGTH, raw_images)})
options = messages(
    {
        1: (LENGTH, texts),
        2: (LENGTH, texts),
        3: (FIXED32, fixed32),
        4: (VARINT, varints),
        5: (VARINT, varints),
        6: (VARINT, varints),
    }
)
requests = messages({1: (LENGTH, images | both_images), 2: (LENGTH, options)})
batches = st.lists(encoded_field(1, LENGTH, requests) | strange_fields(), max_size=4).map(b"".join)
durations = messages({1: (VARINT, varints), 2: (VARINT, varints)})
chunks = messages({1: (LENGTH, data), 2: (VARINT, st.just(b"\x01") | varints)})
headers = messages({1: (LENGTH, options), 2: (VARINT, varints), 3: (LENGTH, images), 4: (VARINT, varints)})
_name, _timeout = (LENGTH, texts), (LENGTH, durations)
frames = st.one_of(
    messages({1: _name, 2: (LENGTH, requests), 6: _timeout}),
    messages({1: _name, 4: (LENGTH, chunks), 6: _timeout}),
    messages({1: _name, 3: (LENGTH, headers), 6: _timeout}),
    messages({1: _name, 5: (LENGTH, st.just(b""))}),
    messages({1: _name, 2: (LENGTH, requests), 4: (LENGTH, chunks), 5: (LENGTH, st.just(b"")), 6: _timeout}),
)


# --- what protobuf makes of them --------------------------------------------------------------------------------------


def canonical(message: Message) -> bytes:
    """Comparable even where a level is NaN."""
    return message.SerializeToString(deterministic=True)


def by_protobuf(request: pb.DenoiseRequest) -> tuple[bytes, bytes]:
    """The request without its data, and the data."""
    kind = request.image.WhichOneof("content")
    if kind is None:
        return canonical(request), b""
    content = getattr(request.image, kind)
    taken = content.data
    content.data = b""
    return canonical(request), taken


def by_wire(split: Split) -> tuple[bytes, bytes]:
    """The same; what is wrong with the rest shows when it is parsed, which is always the next step."""
    return canonical(wire.parse(pb.DenoiseRequest, split.rest)), bytes(split.data)


def frame_by_protobuf(frame: pb.DenoiseStreamRequest) -> Any:
    timeout_s = frame.timeout.seconds + frame.timeout.nanos / 1e9 if frame.HasField("timeout") else None
    kind = frame.WhichOneof("frame")
    content: Any = None
    if kind == "request":
        content = by_protobuf(frame.request)
    elif kind == "chunk":
        content = (frame.chunk.data, frame.chunk.last)
    elif kind is not None:
        content = canonical(getattr(frame, kind))
    return frame.item_id, timeout_s, kind, content


def frame_by_wire(frame: Frame) -> Any:
    match frame.content:
        case Split():
            kind, content = "request", by_wire(frame.content)
        case Chunk():
            return frame.item_id, frame.timeout_s, "chunk", (bytes(frame.content.data), frame.content.last)
        case pb.ImageHeader():
            return frame.item_id, frame.timeout_s, "header", canonical(frame.content)
        case pb.CancelItem():
            return frame.item_id, frame.timeout_s, "cancel", canonical(frame.content)
        case _:
            return frame.item_id, frame.timeout_s, None, None
    return frame.item_id, frame.timeout_s, kind, content


NO_MESSAGE = "no message"


def unless_refused(error: type[Exception], read: Callable[[], Any]) -> Any:
    """What was read, or that it is no message; any other error fails the test."""
    try:
        return read()
    except error:
        return NO_MESSAGE


@given(some(requests))
@example(b"")
@example(b"\x0a\xff\xff\xff\xff\x07")  # a length of 2 GiB
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")  # and one of -1
@example(block(1, block(2, tag(1, LENGTH) + varint(3, padding=8) + b"abc")))
@example(block(1, block(2, tag(1, LENGTH) + varint(0, padding=10))))
@example(block(1, block(2, tag(1, LENGTH) + b"\x85" + b"\x80" * 8 + b"\x02" + b"abcde")))
@example(block(1, block(2, block(1, b"abc") + b"\x22\x7f")))
def test_a_request_is_read_as_protobuf_reads_it(message: bytes) -> None:
    expected = unless_refused(DecodeError, lambda: by_protobuf(pb.DenoiseRequest.FromString(message)))
    assert unless_refused(InvalidMessage, lambda: by_wire(wire.split_request(message))) == expected


@given(some(batches))
@example(b"")
@example(block(1, b"") * 3)
def test_a_batch_is_read_as_protobuf_reads_it(message: bytes) -> None:
    expected = unless_refused(
        DecodeError, lambda: [by_protobuf(request) for request in pb.DenoiseBatchRequest.FromString(message).requests]
    )
    assert unless_refused(InvalidMessage, lambda: [by_wire(s) for s in wire.split_batch(message)]) == expected


@given(some(frames))
@example(b"")
@example(block(1, b"a") + block(4, b""))
@example(block(1, b"a") + block(4, block(1, b"") + b"\x10\x00"))
@example(block(1, b"\xff") + block(4, block(1, b"abc")))
@example(block(1, b"a") + block(4, block(1, b"abc")) + block(6, b"\x08"))
@example(block(1, b"a") + block(4, block(1, b"abc")) + block(7, b""))
def test_a_frame_is_read_as_protobuf_reads_it(message: bytes) -> None:
    expected = unless_refused(DecodeError, lambda: frame_by_protobuf(pb.DenoiseStreamRequest.FromString(message)))
    assert unless_refused(InvalidMessage, lambda: frame_by_wire(wire.read_frame(message))) == expected


def test_a_message_that_is_none_is_refused_with_its_length_and_what_it_should_have_been() -> None:
    with pytest.raises(InvalidMessage, match=r"3 bytes is no denoised\.v1\.DenoiseRequest; send what a client"):
        wire.split_request(b"\xff\xff\xff")


@pytest.mark.parametrize("size_bytes", [1, 127, 128, 16_383, 16_384, 300_000])
def test_samples_are_not_copied_and_a_file_is_bytes(size_bytes: int) -> None:
    """Decoders of files want bytes; samples are what is large."""
    samples, file = bytes(size_bytes), b"\x89PNG" + bytes(size_bytes)
    message = pb.DenoiseRequest(image=pb.Image(raw=pb.RawImage(data=samples, height_px=1))).SerializeToString()
    data = wire.split_request(message).data
    assert isinstance(data, memoryview)
    assert data.obj is message
    assert data == samples
    message = pb.DenoiseRequest(image=pb.Image(encoded=pb.EncodedImage(data=file))).SerializeToString()
    assert wire.split_request(message).data == file
    assert isinstance(wire.split_request(message).data, bytes)
    message = pb.DenoiseStreamRequest(item_id="a", chunk=pb.ImageChunk(data=samples)).SerializeToString()
    content = wire.read_frame(message).content
    assert isinstance(content, Chunk)
    assert isinstance(content.data, memoryview)
    assert content.data.obj is message


def test_requests_that_differ_in_their_data_alone_leave_the_same_rest() -> None:
    def rest(samples: bytes) -> bytes:
        image = pb.Image(raw=pb.RawImage(data=samples, sample_type=pb.SAMPLE_TYPE_U8, height_px=2, width_px=3))
        return wire.split_request(pb.DenoiseRequest(image=image).SerializeToString()).rest

    assert rest(bytes(6)) == rest(b"\xff" * 200) != b""


def test_what_is_remembered_of_requests_is_little_however_large_they_are() -> None:
    for count in range(300):
        unknown = block(15, bytes(5000 + count))
        content = block(1, bytes(10_000 + 7 * count))
        split = wire.split_request(block(1, block(2, content)) + unknown)
        assert split.rest.endswith(unknown)
        wire.split_request(block(1, block(2, content)))
    assert len(wire._forms) <= 256
    assert max(len(part) for form in wire._forms.values() for part in form) <= 1024


@pytest.mark.parametrize("fill", [0x80, 0xFF])
def test_a_number_without_end_costs_no_more_than_any_other_message(fill: int) -> None:
    """Numbers grow with the bytes that are read into them: read to its end, this one would take hours."""
    endless = bytes((fill,)) * 4_000_000
    for message in (block(1, block(2, tag(2, VARINT) + endless)), block(1, block(2, tag(1, LENGTH) + endless))):
        with pytest.raises(InvalidMessage):
            wire.split_request(message)


# --- replies ----------------------------------------------------------------------------------------------------------

# Around the sizes at which a length takes one byte more.
sizes = st.sampled_from([0, 1, 2, 100, 126, 127, 128, 129, 16_200, 16_383, 16_384, 70_000]) | st.integers(0, 400)
samples_of_any_size = sizes.map(bytes) | st.binary(max_size=200)
raw_heads = st.builds(
    pb.RawImage,
    sample_type=st.sampled_from([pb.SAMPLE_TYPE_U8, pb.SAMPLE_TYPE_F32]),
    layout=st.sampled_from(pb.SampleLayout.values()),
    height_px=st.integers(0, 2**31 - 1),
    width_px=st.integers(0, 2**31 - 1),
    channel_count=st.integers(0, 4),
    black_level=st.none() | st.floats(allow_nan=False),
    white_level=st.none() | st.floats(allow_nan=False),
)
encoded_heads = st.builds(pb.EncodedImage, container=st.sampled_from(pb.Container.values()))
rests = st.builds(
    pb.DenoiseResponse,
    report=st.none() | st.builds(pb.NoiseReport, clipped_sample_count=st.integers(0, 2**62)),
    timings=st.none() | st.builds(pb.Timings, total=st.builds(Duration, seconds=st.integers(0, 2**31))),
    model=st.none() | st.builds(pb.ModelReference, name=st.text(max_size=200)),
)


@st.composite
def responses(draw: st.DrawFn) -> tuple[pb.DenoiseResponse, Content, bytes, bytes]:
    """A response, and what it is to be put together from."""
    head, rest, samples = draw(raw_heads | encoded_heads), draw(rests), draw(samples_of_any_size)
    whole = pb.DenoiseResponse()
    whole.CopyFrom(rest)
    is_raw = isinstance(head, pb.RawImage)
    content: Any = whole.image.raw if is_raw else whole.image.encoded
    content.CopyFrom(head)
    content.SetInParent()
    content.data = samples
    return whole, Content(is_raw, head.SerializeToString()), samples, rest.SerializeToString()


@given(responses(), st.sampled_from([bytes, bytearray, memoryview]))
def test_a_response_in_parts_is_the_response(
    made: tuple[pb.DenoiseResponse, Content, bytes, bytes], kind: Callable[[bytes], Any]
) -> None:
    whole, content, samples, rest = made
    given_data = kind(samples)
    parts, size_bytes = wire.response_parts(content, given_data, rest)
    message = b"".join(parts)
    assert len(message) == size_bytes
    assert pb.DenoiseResponse.FromString(message) == whole
    assert any(part is given_data for part in parts), "copied once, when the parts are joined"


@given(st.lists(responses(), max_size=3), st.text(max_size=140))
def test_results_in_parts_are_the_batch_and_the_frames(
    made: list[tuple[pb.DenoiseResponse, Content, bytes, bytes]], item_id: str
) -> None:
    batch: list[Any] = []
    batch_bytes = 0
    for whole, content, samples, rest in made:
        result = pb.DenoiseResult(response=whole)
        parts, size_bytes = wire.result_parts(*wire.response_parts(content, samples, rest))
        assert size_bytes == len(b"".join(parts))
        assert pb.DenoiseResult.FromString(b"".join(parts)) == result
        frame = b"".join(wire.stream_result_parts(item_id, parts, size_bytes))
        assert pb.DenoiseStreamResponse.FromString(frame) == pb.DenoiseStreamResponse(item_id=item_id, result=result)
        parts, size_bytes = wire.batch_result_parts(parts, size_bytes)
        batch += parts
        batch_bytes += size_bytes
    expected = pb.DenoiseBatchResponse(results=[pb.DenoiseResult(response=whole) for whole, *_ in made])
    assert pb.DenoiseBatchResponse.FromString(b"".join(batch)) == expected
    assert len(b"".join(batch)) == batch_bytes


def test_a_failure_has_its_place_in_a_batch() -> None:
    failed = pb.DenoiseResult(status=Status(code=3, message="no"))
    serialised = failed.SerializeToString()
    parts, size_bytes = wire.batch_result_parts([serialised], len(serialised))
    assert pb.DenoiseBatchResponse.FromString(b"".join(parts)) == pb.DenoiseBatchResponse(results=[failed])
    assert size_bytes == len(b"".join(parts))


@given(st.text(max_size=140), samples_of_any_size, st.booleans())
def test_a_chunk_of_an_answer_is_its_frame(item_id: str, samples: bytes, last: bool) -> None:  # noqa: FBT001 -- drawn
    frame = wire.stream_chunk(item_id, memoryview(samples), last=last)
    expected = pb.DenoiseStreamResponse(item_id=item_id, chunk=pb.ImageChunk(data=samples, last=last))
    assert pb.DenoiseStreamResponse.FromString(frame) == expected
