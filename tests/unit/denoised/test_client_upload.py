"""Images that do not fit one message, sent by both clients to a real server: every test runs on both."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import status_pb2
from grpc_status import rpc_status

from denoised import (
    CleanResult,
    DeadlineExceededError,
    ImageTooLargeError,
    InternalError,
    InvalidImageError,
    OverloadedError,
    ServerUnavailableError,
)
from denoised.v1 import denoised_pb2 as pb
from tests.unit.denoised.conftest import Answers, Caller, Frames, Refusal, Server

LIMITS = pb.Limits(message_bytes=100_000, image_pixels=1_000_000, chunked_image_pixels=4_000_000)
DOWN = grpc.StatusCode.UNAVAILABLE
BAD = grpc.StatusCode.INVALID_ARGUMENT
BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED


class Echo:
    """Answers each chunk at once with one of the same bytes, and all of them with the result that it is given."""

    def __init__(self, result: pb.DenoiseResult | None = None, *, progress: list[pb.Progress] | None = None) -> None:
        self.result = result or done(raw=pb.RawImage())
        self.progress = progress or []
        self.chunks: list[pb.ImageChunk] = []
        self.most_bytes = 0

    def __call__(self, frames: Frames, context: grpc.ServicerContext) -> Answers:
        yield from (pb.DenoiseStreamResponse(item_id="image", progress=progress) for progress in self.progress)
        for frame in frames:
            self.chunks.append(frame.chunk)
            self.most_bytes = max(self.most_bytes, frame.ByteSize())
            yield pb.DenoiseStreamResponse(item_id=frame.item_id, chunk=frame.chunk)
        yield pb.DenoiseStreamResponse(item_id="image", result=self.result)

    @property
    def data(self) -> bytes:
        assert [chunk.last for chunk in self.chunks] == [False] * (len(self.chunks) - 1) + [True]
        return b"".join(chunk.data for chunk in self.chunks)


def done(**image: Any) -> pb.DenoiseResult:
    response = pb.DenoiseResponse(image=pb.Image(**image), batching=pb.Batching(tile_count=9))
    return pb.DenoiseResult(status=status_pb2.Status(), response=response)


def breaking(refusal: Refusal) -> Callable[[Frames, grpc.ServicerContext], Answers]:
    """Ends the whole stream after its first chunk."""

    def upload(frames: Frames, context: grpc.ServicerContext) -> Answers:
        yield pb.DenoiseStreamResponse(item_id="image", chunk=pb.ImageChunk(data=next(frames).chunk.data))
        context.abort_with_status(rpc_status.to_status(refusal.status()))

    return upload


def refusing(refusal: Refusal) -> Callable[[Frames, grpc.ServicerContext], Answers]:
    """Refuses the image before its chunks; those that are on their way are read."""

    def upload(frames: Frames, context: grpc.ServicerContext) -> Answers:
        yield pb.DenoiseStreamResponse(item_id="image", result=pb.DenoiseResult(status=refusal.status()))
        deque(frames, maxlen=0)

    return upload


@pytest.fixture
def chunked(server: Server) -> Server:
    server.service.limits = LIMITS
    return server


def large(shape: tuple[int, ...] = (300, 400, 3), dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def upload(caller: Caller, server: Server, image: Any, echo: Echo, **options: Any) -> CleanResult[Any]:
    server.service.uploads.append(echo)
    return caller.clean(image, **options)


# --- there and back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        large(),
        large((700, 500)),
        large((300, 400, 4), "float32"),
        large((1, 150_000, 3)),
        large((800, 300, 3), ">u2")[::2, ::-1],
        np.broadcast_to(large((1, 400, 3)), (300, 400, 3)),
    ],
    ids=["RGB", "grey", "float", "one row longer than a chunk", "strides and byte order", "one row many times"],
)
def test_an_array_comes_back_with_its_shape_type_and_values(caller: Caller, chunked: Server, array: Any) -> None:
    echo = Echo()
    image = upload(caller, chunked, array, echo).image
    assert image.dtype == array.dtype
    np.testing.assert_array_equal(image, array, strict=True)
    assert echo.data == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert echo.most_bytes <= LIMITS.message_bytes
    image[:] = 0  # the caller's own memory


def test_a_file_comes_back_as_a_file(caller: Caller, chunked: Server, tmp_path: Path) -> None:
    data = large((300_000,)).tobytes()
    (tmp_path / "noisy.png").write_bytes(data)
    for image in (data, tmp_path / "noisy.png"):
        echo = Echo(done(encoded=pb.EncodedImage()))
        assert upload(caller, chunked, image, echo).image == echo.data == data


def test_the_header_says_all_but_the_data(caller: Caller, chunked: Server) -> None:
    upload(
        caller, chunked, large((300, 400, 3), "uint16"), Echo(), model="cdae", service_class="bulk", white_level=4095
    )
    (frame,) = chunked.service.headers
    assert frame.header == pb.ImageHeader(
        options=pb.DenoiseOptions(model="cdae", service_class=pb.SERVICE_CLASS_BULK),
        size_bytes=720_000,
        image=pb.Image(
            raw=pb.RawImage(
                sample_type=pb.SAMPLE_TYPE_U16,
                layout=pb.SAMPLE_LAYOUT_HWC,
                height_px=300,
                width_px=400,
                channel_count=3,
                white_level=4095,
            )
        ),
    )


def test_a_result_says_what_the_server_said(caller: Caller, chunked: Server) -> None:
    assert upload(caller, chunked, large(), Echo()).tile_count == 9


def test_answers_are_read_while_the_image_is_written(caller: Caller, chunked: Server) -> None:
    # Far more than the transport holds: a client that only wrote would wait for ever, as the server would.
    array = large((1900, 2000, 4))
    np.testing.assert_array_equal(upload(caller, chunked, array, Echo(), timeout_s=60).image, array)


# --- what goes which way -----------------------------------------------------------------------------------------


def test_limits_are_asked_for_once_and_not_for_small_images(caller: Caller, chunked: Server) -> None:
    caller.clean(b"x")
    caller.clean(large((200, 400, 3)))
    assert chunked.service.list_count == 0
    for _ in range(2):
        upload(caller, chunked, large(), Echo())
    assert chunked.service.list_count == 1


@pytest.mark.parametrize("limits", [None, pb.Limits(message_bytes=100_000)], ids=["no limits", "no chunks"])
def test_a_server_that_knows_no_chunks_gets_one_message(
    caller: Caller, server: Server, limits: pb.Limits | None
) -> None:
    server.service.limits = limits
    np.testing.assert_array_equal(caller.clean(large()).image, large())
    assert server.service.headers == []


def test_what_fits_a_message_goes_in_one(caller: Caller, chunked: Server) -> None:
    chunked.service.limits = pb.Limits(
        message_bytes=400_000, image_pixels=130_000, chunked_image_pixels=LIMITS.chunked_image_pixels
    )
    caller.clean(large())
    assert (len(chunked.service.requests), len(chunked.service.headers)) == (1, 0)
    upload(caller, chunked, large((400, 400, 2)), Echo())  # 320,000 bytes, but too many pixels
    upload(caller, chunked, large((400, 250, 4)), Echo())  # few pixels, but 400,000 bytes
    assert (len(chunked.service.requests), len(chunked.service.headers)) == (1, 2)


def test_a_short_file_whose_answer_may_be_long_goes_in_chunks(caller: Caller, chunked: Server) -> None:
    # A JPEG's frame header says 300 x 400 in three colours.
    data = b"\xff\xd8\xff\xc0\x00\x11\x08\x01\x2c\x01\x90\x03" + bytes(20)
    assert upload(caller, chunked, data, Echo(done(encoded=pb.EncodedImage()))).image == data


@pytest.mark.parametrize(
    ("image", "field"),
    [
        (np.broadcast_to(np.uint8(7), (2000, 2001)), "image.raw"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x07\xd1\x00\x00\x07\xd0\x08\x00", "image.encoded.data"),
    ],
    ids=["array", "file"],
)
def test_more_pixels_than_chunks_may_carry_are_refused_unsent(
    caller: Caller, chunked: Server, image: Any, field: str
) -> None:
    with pytest.raises(ImageTooLargeError, match="2001 x 2000 px are 4002000 pixels, the limit is 4000000") as caught:
        caller.clean(image)
    assert (caught.value.reason, caught.value.field) == ("IMAGE_TOO_LARGE", field)
    assert (chunked.service.requests, chunked.service.headers) == ([], [])


def test_after_a_refusal_for_its_size_the_limits_are_asked_for_again(caller: Caller, chunked: Server) -> None:
    array = np.broadcast_to(np.uint8(7), (2000, 2001))
    with pytest.raises(ImageTooLargeError):
        caller.clean(array)
    chunked.service.limits = pb.Limits(message_bytes=100_000, image_pixels=10, chunked_image_pixels=2000 * 2001)
    np.testing.assert_array_equal(upload(caller, chunked, array, Echo()).image, array)


# --- progress ----------------------------------------------------------------------------------------------------


def test_progress_grows_to_one(caller: Caller, chunked: Server) -> None:
    shares: list[float] = []
    upload(caller, chunked, large(), Echo(), on_progress=shares.append)
    assert chunked.service.headers[0].header.progress
    assert len(shares) == 4  # one for each chunk
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0


def test_progress_is_the_mean_of_what_came_and_what_is_done(caller: Caller, chunked: Server) -> None:
    told = [
        pb.Progress(received_bytes=180_000),
        pb.Progress(received_bytes=360_000, done_tile_count=1, tile_count=4),
        pb.Progress(received_bytes=360_000, done_tile_count=1, tile_count=4),
    ]
    shares: list[float] = []
    echo = Echo(done(encoded=pb.EncodedImage()), progress=told)
    upload(caller, chunked, bytes(360_000), echo, on_progress=shares.append)
    assert shares == [0.25, 0.625, 1.0]


def test_nobody_who_asks_for_no_progress_is_told(caller: Caller, chunked: Server) -> None:
    upload(caller, chunked, large(), Echo())
    assert not chunked.service.headers[0].header.progress


def test_what_the_callback_raises_ends_the_call_and_comes_through(caller: Caller, chunked: Server) -> None:
    chunked.service.uploads.append(Echo())

    def stop(share: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        caller.clean(large(), on_progress=stop)
    assert chunked.service.stream_ended.wait(timeout=30)


# --- deadlines and retries ---------------------------------------------------------------------------------------


def test_the_item_and_its_stream_have_the_callers_deadline(caller: Caller, chunked: Server) -> None:
    remaining_s: list[float] = []

    def looking(frames: Frames, context: grpc.ServicerContext) -> Answers:
        remaining_s.append(context.time_remaining())
        yield from Echo()(frames, context)

    for options in ({"timeout_s": 7.0}, {}):
        chunked.service.uploads.append(looking)
        caller.clean(large((1000, 1000)), **options)
    items_s = [frame.timeout.ToTimedelta().total_seconds() for frame in chunked.service.headers]
    assert 0 < items_s[0] <= 7
    assert 0 < remaining_s[0] <= 7.5
    assert 30 < items_s[1] <= 33
    assert 30 < remaining_s[1] <= 33.5


def test_a_server_that_never_answers_is_left_at_the_deadline(caller: Caller, chunked: Server) -> None:
    def silent(frames: Frames, context: grpc.ServicerContext) -> Answers:
        deque(frames, maxlen=0)
        chunked.service.stream_ended.wait()
        yield from ()

    chunked.service.uploads.append(silent)
    with pytest.raises(DeadlineExceededError):
        caller.clean(large(), timeout_s=0.5)
    assert chunked.service.stream_ended.wait(timeout=30)


@pytest.mark.parametrize("fail", [breaking, refusing])
def test_an_upload_is_tried_again_as_a_whole(
    caller: Caller, chunked: Server, fail: Callable[[Refusal], Callable[[Frames, grpc.ServicerContext], Answers]]
) -> None:
    chunked.service.uploads = deque([fail(Refusal(DOWN, reason="DRAINING")), fail(Refusal(DOWN))])
    shares: list[float] = []
    echo = Echo()
    image = upload(caller, chunked, large(), echo, on_progress=shares.append).image
    np.testing.assert_array_equal(image, large())
    assert echo.data == large().tobytes()
    assert len(chunked.service.headers) == 3
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("refusal", "kind", "tries"),
    [
        (Refusal(DOWN, reason="DRAINING"), ServerUnavailableError, 4),
        (Refusal(BUSY, reason="MEMORY_BUDGET", retry_after_s=0.0), OverloadedError, 4),
        (Refusal(BUSY, reason="MEMORY_BUDGET"), OverloadedError, 1),
        (Refusal(BAD, reason="SAMPLES_INVALID", field="image.raw.data"), InvalidImageError, 1),
        (Refusal(BAD, reason="IMAGE_TOO_LARGE", field="image.raw"), ImageTooLargeError, 1),
    ],
)
def test_refusals_are_those_of_small_images(
    caller: Caller, chunked: Server, refusal: Refusal, kind: type[Exception], tries: int
) -> None:
    chunked.service.uploads.extend([refusing(refusal)] * 9)
    with pytest.raises(kind, match="refused by the test") as caught:
        caller.clean(large())
    assert len(chunked.service.headers) == tries
    assert getattr(caught.value, "field", "") == refusal.field


def test_a_stream_without_a_result_is_a_server_that_went_away(caller: Caller, chunked: Server) -> None:
    def deserting(frames: Frames, context: grpc.ServicerContext) -> Answers:
        deque(frames, maxlen=0)
        yield from ()

    chunked.service.uploads.extend([deserting] * 4)
    with pytest.raises(ServerUnavailableError) as caught:
        caller.clean(large())
    assert caught.value.reason == "STREAM_ENDED"
    assert not chunked.service.uploads


@pytest.mark.parametrize(
    "answer",
    [
        [pb.DenoiseStreamResponse(result=done(raw=pb.RawImage()))],
        [pb.DenoiseStreamResponse(chunk=pb.ImageChunk(data=bytes(90_000)))] * 4
        + [pb.DenoiseStreamResponse(result=done(encoded=pb.EncodedImage()))],
        [pb.DenoiseStreamResponse(chunk=pb.ImageChunk(data=bytes(90_000)))] * 5,
    ],
    ids=["too short", "another kind", "too long"],
)
def test_an_answer_that_does_not_fit_is_an_internal_error(
    caller: Caller, chunked: Server, answer: list[pb.DenoiseStreamResponse]
) -> None:
    def upload(frames: Frames, context: grpc.ServicerContext) -> Answers:
        deque(frames, maxlen=0)
        yield from answer

    chunked.service.uploads.append(upload)
    with pytest.raises(InternalError, match="360000 bytes with something else") as caught:
        caller.clean(large())
    assert caught.value.reason == "ANSWER_MALFORMED"


# --- among many --------------------------------------------------------------------------------------------------


def test_large_images_among_many_have_streams_of_their_own(
    caller: Caller, chunked: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoised._window.MOST_ALONE", 1)  # so that they come in the order of the script
    chunked.service.uploads = deque([Echo(), refusing(Refusal(BAD, reason="SAMPLES_INVALID")), Echo()])
    outcomes = dict(caller.clean_many([b"0", large(), b"2", large(), b"4", large((301, 400, 3))], concurrency=3))
    for index in (0, 2, 4):
        assert outcomes[index].image == b"cleaned:%d" % index  # type: ignore[union-attr]
    np.testing.assert_array_equal(outcomes[1].image, large())  # type: ignore[union-attr]
    assert isinstance(outcomes[3], InvalidImageError)
    np.testing.assert_array_equal(outcomes[5].image, large((301, 400, 3)))  # type: ignore[union-attr]
    assert chunked.service.list_count == 1


def test_what_fits_a_message_shares_the_stream_once_the_limits_are_known(caller: Caller, chunked: Server) -> None:
    chunked.service.limits = pb.Limits(message_bytes=2**24, image_pixels=10**6, chunked_image_pixels=10**6)
    outcomes = dict(caller.clean_many([large()] * 5, concurrency=2))
    for index in range(5):
        np.testing.assert_array_equal(outcomes[index].image, large())  # type: ignore[union-attr]
    assert len(chunked.service.item_timeouts_s) == 4
