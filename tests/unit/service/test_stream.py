"""One stream with its client and its images in the test's hands: ids, cancelling, order, and how much is let in."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import Code
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denoised.contract import ModelContract
from denoised.v1 import denoised_pb2 as pb
from service.admission import Reservation
from service.errors import ClientGone, InvalidMessage, QueueFull
from service.job import NO_TIME, Findings, Geometry, Job, Options, Outcome
from service.lifecycle import State
from service.registry import Model
from service.types import Container, ImageHeader
from tests.unit.service.streams import DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S, Call, Service, cancel, raw, turn

WIDTH_PX = 160
"""Of the images here, which have one row; wide enough for the longest id."""
_FINDINGS = Findings(None, 0, 1, 1, 1)


class HandDenoiser:
    """Starts jobs and leaves them to the test, which knows them by the ids that their samples spell."""

    def __init__(self, service: Service) -> None:
        self.running: dict[str, Job] = {}
        self.closed_ids: list[str] = []
        self.refusal: Exception | None = None
        self._service = service

    def geometry(self, header: ImageHeader, model: Model, options: Options, *, in_chunks: bool = False) -> Geometry:
        return self._service.denoiser.geometry(header, model, options, in_chunks=in_chunks)

    def start(self, job: Job, *, is_alone: bool) -> None:
        assert is_alone, "an item of a stream need not wait for others of its turn"
        if self.refusal is not None:
            raise self.refusal
        item_id = bytes(job.data).decode().rstrip()
        assert item_id not in self.running
        self.running[item_id] = job

    def reserve(self, size_bytes: int) -> Reservation:
        return self._service.denoiser.reserve(size_bytes)

    def close(self, job: Job) -> None:
        item_id = bytes(job.data).decode().rstrip()
        if self.running.get(item_id) is job:
            del self.running[item_id]
            self.closed_ids.append(item_id)


class Bench:
    """A stream over a denoiser in the test's hands."""

    def __init__(self, contract: ModelContract, *, items_in_flight: int = 8, message_bytes: int = 4096) -> None:
        self.service = Service(contract)
        self.denoiser = HandDenoiser(self.service)
        self.call = Call(
            self.service, denoiser=self.denoiser, items_in_flight=items_in_flight, message_bytes=message_bytes
        )

    @property
    def running_ids(self) -> list[str]:
        return sorted(self.denoiser.running)

    async def finish(self, *item_ids: str, data: bytes | None = None) -> None:
        for item_id in item_ids:
            job = self.denoiser.running.pop(item_id)
            answer = data if data is not None else samples_of(item_id).upper()
            job.on_done(job, Outcome(Container.RAW, answer, None, _FINDINGS, NO_TIME))
            await turn()

    async def fail(self, item_id: str, error: Exception) -> None:
        job = self.denoiser.running.pop(item_id)
        job.on_done(job, error)
        await turn()

    def answered_ids(self) -> list[str]:
        return [answer.item_id for answer in self.call.answers]

    def assert_answered(self, item_id: str) -> None:
        assert self.call.result(item_id).response.image.raw.data == samples_of(item_id).upper()


@pytest.fixture
def bench_of(contract: ModelContract) -> Callable[..., Bench]:
    def make(**options: int) -> Bench:
        return Bench(contract, **options)

    return make


@pytest.fixture
async def bench(contract: ModelContract) -> Bench:
    return Bench(contract)


def samples_of(item_id: str) -> bytes:
    return item_id.encode().ljust(WIDTH_PX)


def request(item_id: str, **fields: object) -> pb.DenoiseStreamRequest:
    options = pb.DenoiseOptions(**fields)  # type: ignore[arg-type]
    image = raw(1, WIDTH_PX, data=samples_of(item_id))
    return pb.DenoiseStreamRequest(item_id=item_id, request=pb.DenoiseRequest(image=image, options=options))


def lasting(frame: pb.DenoiseStreamRequest, timeout_s: float) -> pb.DenoiseStreamRequest:
    timeout = Duration()
    timeout.FromNanoseconds(round(timeout_s * 1e9))
    frame.timeout.CopyFrom(timeout)
    return frame


async def test_answers_go_out_as_they_finish_each_under_its_own_id(bench: Bench) -> None:
    await bench.call.send(request("a"), request("b"), request("c"))
    await bench.finish("b", "c", "a")
    await bench.call.end()
    assert bench.answered_ids() == ["b", "c", "a"]
    for item_id in "abc":
        bench.assert_answered(item_id)
    assert bench.call.codes == [Code.OK] * 3


async def test_the_call_ends_when_the_last_item_is_answered_and_not_with_the_last_frame(bench: Bench) -> None:
    await bench.call.send(request("a"))
    bench.call.wire.frames.put_nowait(None)
    await turn()
    assert not bench.call.served.done()
    await bench.finish("a")
    assert bench.call.served.done()
    bench.assert_answered("a")


async def test_a_stream_without_frames_ends_at_once(bench: Bench) -> None:
    await bench.call.end()
    assert bench.call.answers == []


# --- ids and frames ---------------------------------------------------------------------------------------------------


async def test_an_id_of_an_unanswered_item_is_refused_and_the_item_is_not_disturbed(bench: Bench) -> None:
    await bench.call.send(request("a"), request("a"))
    assert bench.call.results() == [("a", Code.INVALID_ARGUMENT)]
    assert "item_id" in bench.call.answers[0].result.status.message
    await bench.finish("a")
    await bench.call.end()
    assert bench.call.results() == [("a", Code.INVALID_ARGUMENT), ("a", Code.OK)]
    assert await bench.service.is_idle()


async def test_an_id_can_be_used_again_once_its_item_is_answered(bench: Bench) -> None:
    for _ in range(3):
        await bench.call.send(request("a"))
        await bench.finish("a")
    await bench.call.end()
    assert bench.call.results() == [("a", Code.OK)] * 3


@pytest.mark.parametrize("length", [0, 129, 150])
async def test_an_id_of_a_wrong_length_is_refused_with_its_length(bench: Bench, length: int) -> None:
    await bench.call.send(request("x" * length))
    assert bench.call.reason("x" * length) == "OPTION_INVALID"
    message = bench.call.result("x" * length).status.message
    assert f"item_id has {length} characters; 1 to 128 are allowed" in message
    assert bench.running_ids == []
    await bench.call.end()


@pytest.mark.parametrize("item_id", ["x", "x" * 128, "é" * 80], ids=["least", "most", "two bytes each"])
async def test_ids_of_the_least_and_the_greatest_length_are_taken(bench: Bench, item_id: str) -> None:
    await bench.call.send(request(item_id))
    assert bench.running_ids == [item_id]
    await bench.finish(item_id)
    await bench.call.end()
    assert bench.call.results() == [(item_id, Code.OK)]


async def test_a_frame_without_content_is_refused_and_the_stream_goes_on(bench: Bench) -> None:
    await bench.call.send(pb.DenoiseStreamRequest(item_id="a"), request("b"))
    assert bench.call.reason("a") == "OPTION_INVALID"
    await bench.finish("b")
    await bench.call.end()
    bench.assert_answered("b")


async def test_a_frame_of_no_bytes_is_a_frame_without_id_and_content(bench: Bench) -> None:
    await bench.call.send(b"")
    assert bench.call.reason("") == "OPTION_INVALID"
    await bench.call.end()


async def test_a_bad_item_fails_alone(bench: Bench) -> None:
    await bench.call.send(request("a"), request("b", strength=math.nan), request("c", model="none"), request("d"))
    assert bench.call.reason("b") == "OPTION_INVALID"
    assert bench.call.reason("c") == "MODEL_UNKNOWN"
    await bench.finish("a", "d")
    await bench.call.end()
    bench.assert_answered("a")
    bench.assert_answered("d")


async def test_an_item_whose_request_alone_is_malformed_fails_alone(bench: Bench) -> None:
    image = pb.DenoiseRequest(image=raw(1, WIDTH_PX, data=samples_of("a"))).SerializeToString()
    no_options = b"\x12\x01\xff"
    broken = image + no_options
    await bench.call.send(b"\x0a\x01a\x12" + bytes((len(broken) & 0x7F | 0x80, len(broken) >> 7)) + broken)
    assert bench.call.reason("a") == "MESSAGE_INVALID"
    await bench.call.send(request("b"))
    await bench.finish("b")
    await bench.call.end()
    bench.assert_answered("b")


async def test_what_fails_while_it_runs_fails_alone(bench: Bench) -> None:
    await bench.call.send(request("a"), request("b"), request("c"))
    await bench.fail("a", QueueFull("full", retry_after_s=1.0))
    await bench.fail("b", KeyError("a mistake of the service"))
    await bench.finish("c")
    await bench.call.end()
    assert bench.call.results() == [("a", Code.RESOURCE_EXHAUSTED), ("b", Code.INTERNAL), ("c", Code.OK)]
    assert "mistake" not in bench.call.result("b").status.message


async def test_what_is_refused_at_once_is_answered_with_the_refusal(bench: Bench) -> None:
    bench.denoiser.refusal = QueueFull("full", retry_after_s=1.0)
    await bench.call.send(request("a"))
    assert bench.call.reason("a") == "QUEUE_FULL"
    bench.denoiser.refusal = None
    await bench.call.send(request("a"))
    await bench.finish("a")
    await bench.call.end()
    assert bench.call.results() == [("a", Code.RESOURCE_EXHAUSTED), ("a", Code.OK)]


@pytest.mark.parametrize("garbage", [b"\xff", b"\x0a\x05a", b"\x0a\x01\xff", b"not a message"])
async def test_bytes_that_are_no_frame_end_the_call_as_an_invalid_message(bench: Bench, garbage: bytes) -> None:
    """Whose item they were nobody knows, so there is none to answer."""
    await bench.call.send(request("a"), request("b"))
    await bench.finish("a")
    await bench.call.send(garbage)
    with pytest.raises(InvalidMessage, match=r"DenoiseStreamRequest; send"):
        bench.call.served.result()
    bench.assert_answered("a")
    assert bench.denoiser.closed_ids == ["b"]
    assert await bench.service.is_idle()


async def test_an_answer_that_does_not_fit_a_message_is_refused_and_its_job_closed(
    bench_of: Callable[..., Bench],
) -> None:
    bench = bench_of(message_bytes=300)
    await bench.call.send(request("a"), request("b"))
    await bench.finish("a", data=bytes(301))
    await bench.finish("b")
    await bench.call.end()
    assert bench.call.reason("a") == "IMAGE_TOO_LARGE"
    assert "a message holds at most 300; ask for" in bench.call.result("a").status.message
    bench.assert_answered("b")
    assert bench.call.codes == [Code.INVALID_ARGUMENT, Code.OK]


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_a_cancelled_item_stops_and_is_answered_as_cancelled(bench: Bench) -> None:
    await bench.call.send(request("a"), request("b"))
    await bench.call.send(cancel("a"))
    assert bench.denoiser.closed_ids == ["a"]
    assert bench.call.reason("a") == "CANCELLED"
    await bench.finish("b")
    await bench.call.end()
    assert bench.answered_ids() == ["a", "b"]


async def test_the_id_of_a_cancelled_item_can_be_used_again(bench: Bench) -> None:
    await bench.call.send(request("a"))
    await bench.call.send(cancel("a"))
    await bench.call.send(request("a"))
    await bench.finish("a")
    await bench.call.end()
    assert bench.call.results() == [("a", Code.CANCELLED), ("a", Code.OK)]


async def test_cancelling_twice_or_without_an_item_is_harmless(bench: Bench) -> None:
    await bench.call.send(cancel("a"), request("a"), cancel("a"), cancel("a"), cancel("never"), cancel(""))
    await bench.call.end()
    assert bench.call.results() == [("a", Code.CANCELLED)]


async def test_a_cancel_while_the_answer_waits_for_the_wire_comes_too_late(bench: Bench) -> None:
    bench.call.wire.is_open.clear()
    await bench.call.send(request("a"))
    await bench.finish("a")
    await bench.call.send(cancel("a"))
    bench.call.wire.is_open.set()
    await bench.call.end()
    assert bench.call.results() == [("a", Code.OK)]


async def test_a_cancel_after_the_answer_says_nothing_more(bench: Bench) -> None:
    await bench.call.send(request("a"))
    await bench.finish("a")
    await bench.call.send(cancel("a"))
    await bench.call.end()
    assert bench.call.results() == [("a", Code.OK)]


@pytest.mark.parametrize("strength", [0.0, 1.0])
async def test_an_item_cancelled_in_the_turn_that_started_it_is_answered_once(
    contract: ModelContract, strength: float
) -> None:
    """Through the service's own denoiser, which puts the start of small images off to the loop's next turn."""
    call = Call(Service(contract))
    options = pb.DenoiseOptions(strength=strength)
    small = pb.DenoiseRequest(image=raw(16, 16, data=bytes(256)), options=options)
    frames = [pb.DenoiseStreamRequest(item_id=item_id, request=small) for item_id in "ab"]
    await call.send(*frames, cancel("a"))
    await call.run_lane()
    await call.end()
    assert sorted(call.results()) == [("a", Code.CANCELLED), ("b", Code.OK)]
    assert await call.service.is_idle()


# --- time and drain ---------------------------------------------------------------------------------------------------


async def test_an_item_has_its_own_time_or_the_default_and_never_more_than_the_stream(contract: ModelContract) -> None:
    service = Service(contract)
    denoiser = HandDenoiser(service)
    call = Call(service, denoiser=denoiser, deadline_s=service.clock() + 70.0)
    await call.send(lasting(request("own"), 2.5), request("default"), lasting(request("long"), 1e6))
    deadlines_s = {item_id: job.deadline_s - service.clock() for item_id, job in denoiser.running.items()}
    assert deadlines_s == {"own": 2.5, "default": DEFAULT_TIMEOUT_S, "long": 70.0}
    call.served.cancel()
    await turn()


async def test_an_item_of_a_stream_without_a_deadline_gets_no_more_than_the_longest_time(bench: Bench) -> None:
    await bench.call.send(lasting(request("long"), LONGEST_TIMEOUT_S + 1), request("default"))
    deadlines_s = {item_id: job.deadline_s - bench.service.clock() for item_id, job in bench.denoiser.running.items()}
    assert deadlines_s == {"long": LONGEST_TIMEOUT_S, "default": DEFAULT_TIMEOUT_S}
    await bench.finish("long", "default")
    await bench.call.end()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_a_time_that_is_not_positive_is_refused(bench: Bench, timeout_s: float) -> None:
    await bench.call.send(lasting(request("a"), timeout_s))
    assert bench.call.reason("a") == "OPTION_INVALID"
    assert f"timeout is {timeout_s} s; it must be more than 0" in bench.call.result("a").status.message
    await bench.call.end()


async def test_an_item_whose_deadline_passes_in_the_queue_is_answered_so(contract: ModelContract) -> None:
    call = Call(Service(contract))
    await call.send(lasting(request("a"), 1.0), lasting(request("b"), 9.0))
    call.service.clock.now_s += 2.0
    call.service.batcher.tick()
    await call.run_lane()
    await call.end()
    assert sorted(call.results()) == [("a", Code.DEADLINE_EXCEEDED), ("b", Code.OK)]
    assert await call.service.is_idle()


async def test_while_the_service_drains_new_items_are_refused_and_running_ones_answered(bench: Bench) -> None:
    await bench.call.send(request("a"))
    bench.service.lifecycle.enter(State.DRAINING)
    await bench.call.send(request("b"))
    assert bench.call.reason("b") == "DRAINING"
    assert bench.call.result("b").status.code == Code.UNAVAILABLE
    assert not await bench.service.is_idle()
    await bench.finish("a")
    assert await bench.service.is_idle()
    await bench.call.end()
    bench.assert_answered("a")


async def test_an_item_is_in_flight_until_its_answer_is_on_the_wire(bench: Bench) -> None:
    """So that draining waits for it."""
    bench.call.wire.is_open.clear()
    await bench.call.send(request("a"))
    await bench.finish("a")
    assert not await bench.service.is_idle()
    bench.call.wire.is_open.set()
    await turn()
    assert await bench.service.is_idle()
    await bench.call.end()


# --- how much is let in -----------------------------------------------------------------------------------------------


async def test_the_reader_stops_at_the_limit_and_goes_on_when_an_answer_is_out(
    bench_of: Callable[..., Bench],
) -> None:
    bench = bench_of(items_in_flight=2)
    await bench.call.send(*(request(str(number)) for number in range(9)))
    assert bench.running_ids == ["0", "1"]
    assert bench.call.wire.read_count == 5, "as many wait as run, and one is in hand"
    await bench.finish("1")
    assert bench.running_ids == ["0", "2"]
    assert bench.call.wire.read_count == 6
    while bench.running_ids:
        await bench.finish(*bench.running_ids)
    await bench.call.end()
    assert sorted(bench.answered_ids()) == [str(number) for number in range(9)]


async def test_a_client_that_does_not_read_its_answers_gets_no_further_items_in(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(items_in_flight=2)
    bench.call.wire.is_open.clear()
    await bench.call.send(*(request(str(number)) for number in range(9)))
    await bench.finish("0", "1")
    assert bench.running_ids == []
    assert bench.call.wire.read_count == 5
    bench.call.wire.is_open.set()
    await turn()
    while bench.running_ids:
        await bench.finish(*bench.running_ids)
    await bench.call.end()
    assert len(bench.call.answers) == 9


async def test_refused_items_count_too_so_a_flood_of_them_is_held_back(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(items_in_flight=2)
    bench.call.wire.is_open.clear()
    await bench.call.send(*(pb.DenoiseStreamRequest(item_id=str(number)) for number in range(50)))
    assert bench.call.wire.read_count == 5
    bench.call.wire.is_open.set()
    for _ in range(10):
        await turn()
    await bench.call.end()
    assert bench.answered_ids() == [str(number) for number in range(50)]


async def test_a_cancel_counts_at_once_though_no_more_items_are_let_in(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(items_in_flight=2)
    await bench.call.send(*(request(str(number)) for number in range(4)), cancel("1"))
    assert bench.denoiser.closed_ids[0] == "1"
    assert bench.call.results() == [("1", Code.CANCELLED)]
    assert bench.running_ids == ["0", "2"]
    await bench.finish("0", "2")
    await bench.finish("3")
    await bench.call.end()
    assert await bench.service.is_idle()


async def test_a_cancel_of_an_item_that_waits_its_turn_spares_it_the_network(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(items_in_flight=1)
    await bench.call.send(request("0"), request("1"), cancel("1"), cancel("1"))
    assert bench.running_ids == ["0"]
    await bench.finish("0")
    assert bench.running_ids == []
    assert bench.call.results() == [("0", Code.OK), ("1", Code.CANCELLED)]
    await bench.call.end()
    assert await bench.service.is_idle()


async def test_items_that_wait_their_turn_are_in_the_ledger_and_stop_where_it_is_full(contract: ModelContract) -> None:
    service = Service(contract, memory_bytes=2 * WIDTH_PX)
    denoiser = HandDenoiser(service)
    call = Call(service, denoiser=denoiser, items_in_flight=4)
    await call.send(*(request(str(number)) for number in range(9)))
    assert sorted(denoiser.running) == ["0", "1", "2", "3"]
    assert 0 < service.admission.reserved_bytes <= 2 * WIDTH_PX
    assert call.wire.read_count == 6
    call.served.cancel()
    await turn()
    assert service.admission.reserved_bytes == 0


# --- calls that break -------------------------------------------------------------------------------------------------


async def test_a_call_that_is_cancelled_takes_its_running_items_with_it(bench: Bench) -> None:
    await bench.call.send(request("a"), request("b"))
    bench.call.served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bench.call.served
    assert sorted(bench.denoiser.closed_ids) == ["a", "b"]
    assert bench.call.answers == []
    assert await bench.service.is_idle()


async def test_a_wire_that_breaks_ends_the_call_and_stops_its_items(bench: Bench) -> None:
    await bench.call.send(request("a"), request("b"))
    bench.call.wire.error = ConnectionResetError("gone")
    await bench.finish("a")
    with pytest.raises(ClientGone):
        bench.call.served.result()
    assert bench.denoiser.closed_ids == ["b"]
    assert await bench.service.is_idle()


async def test_a_client_that_goes_away_leaves_nothing_in_the_ledger(contract: ModelContract) -> None:
    """Answered and unread, running, queued: through the service's own denoiser."""
    call = Call(Service(contract))
    call.wire.is_open.clear()
    await call.send(request("answered"))
    await call.run_lane()
    await call.send(request("running"))
    assert len(call.service.lane.waiting) == 1
    await call.send(request("queued"))
    assert call.service.admission.request_count == 3
    call.wire.error = ConnectionResetError("gone")
    call.wire.is_open.set()
    await turn()
    with pytest.raises(ClientGone):
        call.served.result()
    await call.run_lane()
    assert await call.service.is_idle()
    assert call.answers == []


async def test_a_failure_of_the_service_s_own_is_never_taken_for_a_client_that_went_away(bench: Bench) -> None:
    async def broken_read() -> bytes | None:
        await waiting.wait()
        raise KeyError("a mistake")

    waiting = asyncio.Event()
    bench.call.wire.is_open.clear()
    await bench.call.send(request("a"))
    bench.call.wire.read = broken_read  # type: ignore[method-assign]
    await bench.call.send(request("b"))
    await bench.finish("a")
    bench.call.wire.error = ConnectionResetError("gone")
    bench.call.wire.is_open.set()
    waiting.set()
    await turn()
    with pytest.raises(ExceptionGroup) as raised:
        bench.call.served.result()
    assert raised.group_contains(KeyError)
    assert raised.group_contains(ClientGone)
    assert await bench.service.is_idle()


# --- whatever comes ---------------------------------------------------------------------------------------------------

_id = st.sampled_from(["a", "b", "c", ""])
_event = st.one_of(
    st.builds(request, _id),
    st.builds(request, _id),
    st.builds(cancel, _id),
    st.builds(lambda item_id: pb.DenoiseStreamRequest(item_id=item_id), _id),
    st.sampled_from(["finish first", "finish last", "turn"]),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(_event, max_size=25), items_in_flight=st.integers(1, 4))
def test_whatever_a_client_sends_every_item_is_answered_exactly_once(
    contract: ModelContract, events: list[pb.DenoiseStreamRequest | str], items_in_flight: int
) -> None:
    async def story() -> None:
        bench = Bench(contract, items_in_flight=items_in_flight)
        sent: Counter[str] = Counter()
        for event in events:
            if isinstance(event, pb.DenoiseStreamRequest):
                bench.call.wire.frames.put_nowait(event.SerializeToString())
                if event.WhichOneof("frame") != "cancel":
                    sent[event.item_id] += 1
            elif event == "turn" or not bench.running_ids:
                await turn()
            else:
                await bench.finish(bench.running_ids[0 if event == "finish first" else -1])
            assert len(bench.running_ids) <= items_in_flight
        bench.call.wire.frames.put_nowait(None)
        for _ in range(len(events) + 1):
            await turn()
            if bench.running_ids:
                await bench.finish(bench.running_ids[0])
        assert bench.call.served.done()
        assert Counter(bench.answered_ids()) == sent
        assert await bench.service.is_idle()

    asyncio.run(story())
