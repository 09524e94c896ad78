"""One stream with frames and items in the test's hands: ids, cancelling, order, and how much is let in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from google.rpc.code_pb2 import Code
from hypothesis import given, settings
from hypothesis import strategies as st

from denoised.v1 import denoised_pb2 as pb
from service.errors import ClientGone
from service.status import status_of
from service.stream import ItemStream


class Call:
    """A stream with its client, its wire and its images: the test sends, reads and finishes by hand."""

    def __init__(self, *, items_in_flight: int = 8) -> None:
        self.frames: asyncio.Queue[pb.DenoiseStreamRequest | None] = asyncio.Queue()
        self.read_count = 0
        self.running: dict[str, asyncio.Future[pb.DenoiseResult]] = {}
        self.stopped: list[str] = []
        self.answers: list[tuple[str, pb.DenoiseResult]] = []
        self.wire_is_open = asyncio.Event()
        self.wire_is_open.set()
        self.wire_error: Exception | None = None
        self.writing_count = 0
        self.held_count = 0
        stream = ItemStream(
            run=self._run,
            refuse=lambda error: pb.DenoiseResult(status=status_of(error)),
            write=self._write,
            hold=self._hold,
            items_in_flight=items_in_flight,
        )
        self.served = asyncio.create_task(stream.serve(self._read()))

    async def send(self, *frames: pb.DenoiseStreamRequest) -> None:
        for frame in frames:
            self.frames.put_nowait(frame)
        await turn()

    async def finish(self, *item_ids: str) -> None:
        for item_id in item_ids:
            self.running.pop(item_id).set_result(result_of(item_id))
            await turn()

    async def end(self) -> None:
        """The client sends nothing more, and the call ends by itself."""
        self.frames.put_nowait(None)
        await asyncio.wait_for(self.served, 60)

    def answered_ids(self) -> list[str]:
        return [item_id for item_id, _ in self.answers]

    def refusal(self, item_id: str) -> tuple[int, str]:
        """(code, message) of the only answer to an item."""
        (result,) = (result for answered_id, result in self.answers if answered_id == item_id)
        assert not result.HasField("response")
        return result.status.code, result.status.message

    async def _read(self) -> AsyncIterator[pb.DenoiseStreamRequest]:
        while (frame := await self.frames.get()) is not None:
            self.read_count += 1
            yield frame

    async def _run(self, frame: pb.DenoiseStreamRequest) -> pb.DenoiseResult:
        future: asyncio.Future[pb.DenoiseResult] = asyncio.get_running_loop().create_future()
        self.running[frame.item_id] = future
        try:
            return await future
        except asyncio.CancelledError:
            self.stopped.append(frame.item_id)
            self.running.pop(frame.item_id, None)
            raise

    async def _write(self, response: pb.DenoiseStreamResponse) -> None:
        self.writing_count += 1
        assert self.writing_count == 1, "gRPC allows one write at a time"
        try:
            await self.wire_is_open.wait()
            if self.wire_error is not None:
                raise self.wire_error
            self.answers.append((response.item_id, response.result))
        finally:
            self.writing_count -= 1

    @contextmanager
    def _hold(self) -> Iterator[None]:
        self.held_count += 1
        try:
            yield
        finally:
            self.held_count -= 1


async def turn() -> None:
    """Lets the event loop do all that it can do now: nothing here waits for anything but other callbacks."""
    for _ in range(12):
        await asyncio.sleep(0)


def request(item_id: str) -> pb.DenoiseStreamRequest:
    return pb.DenoiseStreamRequest(item_id=item_id, request=pb.DenoiseRequest())


def cancel(item_id: str) -> pb.DenoiseStreamRequest:
    return pb.DenoiseStreamRequest(item_id=item_id, cancel=pb.CancelItem())


def result_of(item_id: str) -> pb.DenoiseResult:
    """A result that can be told from others."""
    return pb.DenoiseResult(response=pb.DenoiseResponse(model=pb.ModelReference(name=item_id)))


async def test_answers_go_out_as_they_finish_each_under_its_own_id() -> None:
    call = Call()
    await call.send(request("a"), request("b"), request("c"))
    await call.finish("b", "c", "a")
    await call.end()
    assert call.answers == [("b", result_of("b")), ("c", result_of("c")), ("a", result_of("a"))]


async def test_the_call_ends_when_the_last_item_is_answered_and_not_with_the_last_frame() -> None:
    call = Call()
    await call.send(request("a"))
    call.frames.put_nowait(None)
    await turn()
    assert not call.served.done()
    await call.finish("a")
    await asyncio.wait_for(call.served, 60)
    assert call.answered_ids() == ["a"]


async def test_a_stream_without_frames_ends_at_once() -> None:
    call = Call()
    await call.end()
    assert call.answers == []


# --- ids and frames ---------------------------------------------------------------------------------------------------


async def test_an_id_of_an_unanswered_item_is_refused_and_the_item_is_not_disturbed() -> None:
    call = Call()
    await call.send(request("a"), request("a"))
    assert call.refusal("a")[0] == Code.INVALID_ARGUMENT
    assert "item_id" in call.refusal("a")[1]
    await call.finish("a")
    await call.end()
    assert call.answers[1:] == [("a", result_of("a"))]


async def test_an_id_can_be_used_again_once_its_item_is_answered() -> None:
    call = Call()
    for _ in range(3):
        await call.send(request("a"))
        await call.finish("a")
    await call.end()
    assert call.answers == [("a", result_of("a"))] * 3


@pytest.mark.parametrize("length", [0, 129, 5000])
async def test_an_id_of_a_wrong_length_is_refused_with_its_length(length: int) -> None:
    call = Call()
    await call.send(request("x" * length))
    code, message = call.refusal("x" * length)
    assert code == Code.INVALID_ARGUMENT
    assert f"item_id has {length} characters; 1 to 128 are allowed" in message
    await call.end()
    assert call.running == {}


@pytest.mark.parametrize("length", [1, 128])
async def test_ids_of_the_least_and_the_greatest_length_are_taken(length: int) -> None:
    call = Call()
    await call.send(request("é" * length))
    await call.finish("é" * length)
    await call.end()
    assert call.answers == [("é" * length, result_of("é" * length))]


async def test_a_frame_without_content_is_refused() -> None:
    call = Call()
    await call.send(pb.DenoiseStreamRequest(item_id="a"))
    assert call.refusal("a")[0] == Code.INVALID_ARGUMENT
    await call.end()


@pytest.mark.parametrize(
    "frame",
    [
        pb.DenoiseStreamRequest(item_id="a", header=pb.ImageHeader()),
        pb.DenoiseStreamRequest(item_id="a", chunk=pb.ImageChunk()),
    ],
    ids=["header", "chunk"],
)
async def test_an_image_in_chunks_is_unimplemented_and_the_stream_goes_on(frame: pb.DenoiseStreamRequest) -> None:
    call = Call()
    await call.send(frame, request("b"))
    assert call.refusal("a")[0] == Code.UNIMPLEMENTED
    await call.finish("b")
    await call.end()
    assert call.answered_ids() == ["a", "b"]


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_a_cancelled_item_stops_and_is_answered_as_cancelled() -> None:
    call = Call()
    await call.send(request("a"), request("b"))
    await call.send(cancel("a"))
    assert call.stopped == ["a"]
    assert call.refusal("a")[0] == Code.CANCELLED
    await call.finish("b")
    await call.end()
    assert call.answered_ids() == ["a", "b"]


async def test_the_id_of_a_cancelled_item_can_be_used_again() -> None:
    call = Call()
    await call.send(request("a"))
    await call.send(cancel("a"))
    await call.send(request("a"))
    await call.finish("a")
    await call.end()
    assert call.answers[-1] == ("a", result_of("a"))


async def test_an_item_that_is_cancelled_before_it_starts_is_answered_as_cancelled() -> None:
    call = Call()
    call.frames.put_nowait(request("a"))
    await call.send(cancel("a"))
    assert call.refusal("a")[0] == Code.CANCELLED
    await call.end()
    assert call.held_count == 0


async def test_cancelling_twice_or_without_an_item_is_harmless() -> None:
    call = Call()
    await call.send(cancel("a"), request("a"), cancel("a"), cancel("a"), cancel("never"))
    await call.end()
    assert call.answered_ids() == ["a"]


async def test_a_result_that_came_before_the_cancel_is_the_answer() -> None:
    call = Call()
    await call.send(request("a"))
    call.running.pop("a").set_result(result_of("a"))
    await call.send(cancel("a"))
    await call.end()
    assert call.answers == [("a", result_of("a"))]


async def test_a_cancel_while_the_answer_waits_for_the_wire_comes_too_late() -> None:
    call = Call()
    call.wire_is_open.clear()
    await call.send(request("a"))
    await call.finish("a")
    await call.send(cancel("a"))
    call.wire_is_open.set()
    await call.end()
    assert call.answers == [("a", result_of("a"))]


# --- how much is let in -----------------------------------------------------------------------------------------------


async def test_the_reader_stops_at_the_limit_and_goes_on_when_an_answer_is_out() -> None:
    call = Call(items_in_flight=2)
    await call.send(*(request(str(number)) for number in range(9)))
    assert sorted(call.running) == ["0", "1"]
    assert call.read_count == 3, "one frame is in the reader's hand; the rest is gRPC's to hold back"
    await call.finish("1")
    assert sorted(call.running) == ["0", "2"]
    assert call.read_count == 4
    while call.running:
        await call.finish(*call.running)
    await call.end()
    assert len(call.answers) == 9


async def test_a_client_that_does_not_read_its_answers_gets_no_further_items_in() -> None:
    call = Call(items_in_flight=2)
    call.wire_is_open.clear()
    await call.send(*(request(str(number)) for number in range(9)))
    await call.finish("0", "1")
    assert call.running == {}
    assert call.read_count == 3
    call.wire_is_open.set()
    await turn()
    while call.running:
        await call.finish(*call.running)
    await call.end()
    assert len(call.answers) == 9


async def test_refused_items_count_too_so_a_flood_of_them_is_held_back() -> None:
    call = Call(items_in_flight=2)
    call.wire_is_open.clear()
    await call.send(*(pb.DenoiseStreamRequest(item_id=str(number)) for number in range(50)))
    assert call.read_count == 3
    call.wire_is_open.set()
    await call.end()
    assert call.answered_ids() == [str(number) for number in range(50)]


async def test_an_item_is_held_until_its_answer_is_on_the_wire() -> None:
    """So that draining waits for it."""
    call = Call()
    call.wire_is_open.clear()
    await call.send(request("a"), request("b"))
    assert call.held_count == 2
    await call.finish("a")
    assert call.held_count == 2
    call.wire_is_open.set()
    await turn()
    assert call.held_count == 1
    await call.finish("b")
    assert call.held_count == 0
    await call.end()


# --- calls that break -------------------------------------------------------------------------------------------------


async def test_a_client_that_goes_away_takes_its_running_items_with_it() -> None:
    call = Call()
    await call.send(request("a"), request("b"))
    call.served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.served
    assert sorted(call.stopped) == ["a", "b"]
    assert call.held_count == 0
    assert call.answers == []


async def test_a_wire_that_breaks_ends_the_call_and_stops_its_items() -> None:
    call = Call()
    await call.send(request("a"), request("b"))
    call.wire_error = ConnectionResetError("gone")
    await call.finish("a")
    with pytest.raises(ClientGone):
        await asyncio.wait_for(call.served, 60)
    assert call.stopped == ["b"]
    assert call.held_count == 0


async def test_a_failure_of_the_service_s_own_is_never_taken_for_a_client_that_went_away() -> None:
    call = Call()
    call.wire_is_open.clear()
    await call.send(request("a"), request("b"))
    await call.finish("a")
    call.running["b"].set_exception(KeyError("a mistake"))
    call.wire_error = ConnectionResetError("gone")
    call.wire_is_open.set()
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(call.served, 60)
    assert raised.group_contains(KeyError)
    assert raised.group_contains(ClientGone)


_id = st.sampled_from(["a", "b", "c", ""])
_event = st.one_of(
    st.builds(request, _id),
    st.builds(request, _id),
    st.builds(cancel, _id),
    st.builds(lambda item_id: pb.DenoiseStreamRequest(item_id=item_id), _id),
    st.sampled_from(["finish first", "finish last", "turn"]),
)


@settings(max_examples=80)
@given(events=st.lists(_event, max_size=25), items_in_flight=st.integers(1, 4))
def test_whatever_a_client_sends_every_item_is_answered_exactly_once(
    events: list[pb.DenoiseStreamRequest | str], items_in_flight: int
) -> None:
    async def story() -> None:
        call = Call(items_in_flight=items_in_flight)
        sent: Counter[str] = Counter()
        for event in events:
            if isinstance(event, pb.DenoiseStreamRequest):
                call.frames.put_nowait(event)
                if event.WhichOneof("frame") != "cancel":
                    sent[event.item_id] += 1
            elif event == "turn" or not call.running:
                await turn()
            else:
                item_ids = list(call.running)
                await call.finish(item_ids[0 if event == "finish first" else -1])
            assert len(call.running) <= items_in_flight
        call.frames.put_nowait(None)
        # A refused item takes some turns of its own, so that a long row of them outlasts any fixed number.
        for _ in range(10 * len(events) + 10):
            if call.running:
                await call.finish(next(iter(call.running)))
            await turn()
        assert call.served.done()
        assert Counter(call.answered_ids()) == sent
        assert call.held_count == 0

    asyncio.run(story())
