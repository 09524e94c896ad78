"""The driver against a real grpc.aio server that answers as the test scripts it; the clock is the test's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as PackedMessage
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from denoised.errors import InternalError, ServerUnavailableError
from denoised.load import driver as driver_module
from denoised.load import wire as wire_module
from denoised.load.driver import Driver
from denoised.load.gates import parse_gate
from denoised.load.kinds import parse_mix
from denoised.load.pictures import make_pictures
from denoised.load.plan import LoadPlan, parse_rates
from denoised.load.results import LoadResult
from denoised.load.verdicts import Outcome, Verdict
from denoised.load.wire import METHODS, Method
from denoised.v1 import denoised_pb2 as pb
from denoised.v1 import denoised_pb2_grpc

Behaviour = Callable[[int, pb.DenoiseRequest], Awaitable[pb.DenoiseResponse]]

# Seconds of the test's own clock, which only gRPC's deadlines take for real ones.
PATIENT_S = 60.0
IMPATIENT_S = 0.25
OFFERED = 20


class LeapingClock:
    """Time that passes only where it is waited for, and a little with each look."""

    def __init__(self, stall_s: float = 0.0) -> None:
        self.time_s = 0.0
        self._stall_s = stall_s

    def now_s(self) -> float:
        self.time_s += 1e-5
        return self.time_s

    async def rest(self, until_s: float) -> None:
        self.time_s = max(self.time_s, until_s + self._stall_s)
        await asyncio.sleep(0)


class RefusedError(Exception):
    """An answer that is none."""

    def __init__(self, code: grpc.StatusCode, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status_pb2.Status(code=code.value[0], message="refused by the test")
        if reason:
            packed = PackedMessage()
            packed.Pack(ErrorInfo(reason=reason, domain="denoised.v1"))
            self.status.details.append(packed)


async def echo(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
    return pb.DenoiseResponse(image=request.image)


async def silence(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@dataclass
class Service(denoised_pb2_grpc.DenoiseServiceServicer):
    """Counts the images that it is asked for and answers each as ``behaviour`` says, stream items side by side."""

    behaviour: Behaviour = echo
    asked_count: int = 0
    peers: set[str] = field(default_factory=set)
    timeouts_s: list[float] = field(default_factory=list)
    hang_up_count: int = 0
    batch_answers_at_most: int | None = None

    async def ListModels(  # noqa: N802 -- the generated name
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        model = pb.Model(reference=pb.ModelReference(name="cdae", version="3"), is_default=True)
        return pb.ListModelsResponse(models=[model])

    async def Denoise(  # noqa: N802 -- the generated name
        self, request: pb.DenoiseRequest, context: Any
    ) -> pb.DenoiseResponse:
        self.peers.add(context.peer())
        self.timeouts_s.append(context.time_remaining())
        result = await self._result(request)
        if result.status.code == 0:
            return result.response
        status = rpc_status.to_status(result.status)
        context.set_trailing_metadata(status.trailing_metadata if result.status.details else ())
        await context.abort(status.code, status.details)
        raise AssertionError

    async def DenoiseBatch(  # noqa: N802 -- the generated name
        self, request: pb.DenoiseBatchRequest, context: Any
    ) -> pb.DenoiseBatchResponse:
        results = [await self._result(item) for item in request.requests]
        return pb.DenoiseBatchResponse(results=results[: self.batch_answers_at_most])

    async def DenoiseStream(  # noqa: N802 -- the generated name
        self, frames: AsyncIterator[pb.DenoiseStreamRequest], context: Any
    ) -> None:
        self.peers.add(context.peer())
        work: dict[str, asyncio.Task[pb.DenoiseResult]] = {}
        writing = asyncio.Lock()

        async def answer(item_id: str, task: "asyncio.Task[pb.DenoiseResult]") -> None:
            await asyncio.wait((task,))
            refused = RefusedError(grpc.StatusCode.CANCELLED, "CANCELLED").status
            result = pb.DenoiseResult(status=refused) if task.cancelled() else task.result()
            async with writing:
                await context.write(pb.DenoiseStreamResponse(item_id=item_id, result=result))

        writers = []
        async for frame in frames:
            if frame.WhichOneof("frame") == "cancel":
                work[frame.item_id].cancel()
                continue
            if self.hang_up_count:
                self.hang_up_count -= 1
                return
            self.timeouts_s.append(frame.timeout.ToTimedelta().total_seconds())
            work[frame.item_id] = asyncio.create_task(self._result(frame.request))
            writers.append(asyncio.create_task(answer(frame.item_id, work[frame.item_id])))
        await asyncio.gather(*writers)

    async def _result(self, request: pb.DenoiseRequest) -> pb.DenoiseResult:
        number, self.asked_count = self.asked_count, self.asked_count + 1
        try:
            return pb.DenoiseResult(status=status_pb2.Status(), response=await self.behaviour(number, request))
        except RefusedError as refusal:
            return pb.DenoiseResult(status=refusal.status)


def plan(target: str = "", **changes: Any) -> LoadPlan:
    """Twenty images, a millisecond apart."""
    usual = LoadPlan(
        target=target,
        method="unary",
        rates=parse_rates(("1000",)),
        duration_s=OFFERED / 1000,
        arrivals="constant",
        seed=1,
        kinds=parse_mix(("8x8",), container="raw", sample_type="u8", colour="colour"),
        pictures_per_kind=2,
        timeout_s=PATIENT_S,
        connection_count=2,
        slow_connection_count=0,
        slow_pause_s=0.01,
        cancel_share=0.0,
        cancel_after_s=0.001,
        batch_images=4,
        max_in_flight=1000,
        warm_up_s=0.0,
        capacity_s=0.002,
        capacity_in_flight=4,
        is_verified=False,
        model="",
        metrics_url="",
        gates=(),
    )
    return replace(usual, **changes)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[tuple[str, grpc.aio.Server]]:
    server = grpc.aio.server()
    denoised_pb2_grpc.add_DenoiseServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", server
    finally:
        await server.stop(None)


def driver_for(chosen: LoadPlan, clock: LeapingClock | None = None) -> Driver:
    pictures = make_pictures(chosen.kinds, each_count=chosen.pictures_per_kind, seed=chosen.seed)
    return Driver(chosen, pictures, clock=clock or LeapingClock(), say=lambda line: None)


async def run(service: Service, clock: LeapingClock | None = None, **changes: Any) -> LoadResult:
    async with serving(service) as (target, _):
        result = await driver_for(plan(target, **changes), clock).run()
    assert all(stage.tally.adds_up for stage in result.stages)
    return result


def counts(result: LoadResult) -> dict[Verdict, int]:
    """What became of the images of a run of one stage."""
    (stage,) = result.stages
    return {verdict: histogram.count for verdict, histogram in stage.tally.all.by_reason()}


@pytest.mark.parametrize("method", METHODS)
async def test_everything_is_answered_and_right(method: Method) -> None:
    service = Service()
    result = await run(service, method=method, is_verified=True)
    assert counts(result) == {Verdict(Outcome.OK): OFFERED}
    assert service.asked_count == OFFERED + 2, "each picture is asked for once before"
    assert result.problems() == []
    assert result.server == "cdae 3"


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_each_connection_is_a_client_of_its_own(method: Method) -> None:
    service = Service()
    await run(service, method=method, connection_count=3)
    assert len(service.peers) == 3


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_the_server_hears_the_deadline(method: Method) -> None:
    service = Service()
    await run(service, method=method)
    assert len(service.timeouts_s) == OFFERED
    # gRPC rounds the time that it tells up, to a few digits.
    assert all(0.0 < timeout_s <= PATIENT_S + 1 for timeout_s in service.timeouts_s)


@pytest.mark.parametrize("method", METHODS)
async def test_refusals_are_counted_by_reason_and_never_sent_again(method: Method) -> None:
    async def refuse_some(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        if number % 2:
            return await echo(number, request)
        raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL" if number % 4 else "MEMORY_BUDGET")

    service = Service(refuse_some)
    result = await run(service, method=method)
    assert counts(result) == {
        Verdict(Outcome.OK): OFFERED // 2,
        Verdict(Outcome.REFUSED, "QUEUE_FULL"): OFFERED // 4,
        Verdict(Outcome.REFUSED, "MEMORY_BUDGET"): OFFERED // 4,
    }
    assert service.asked_count == OFFERED
    assert result.problems() == []


@pytest.mark.parametrize("method", METHODS)
async def test_errors_of_the_server_fail_the_run(method: Method) -> None:
    async def fail(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        raise RefusedError(grpc.StatusCode.INTERNAL, "MODEL_FAILED")

    result = await run(Service(fail), method=method)
    assert counts(result) == {Verdict(Outcome.FAILED, "MODEL_FAILED"): OFFERED}
    assert result.problems() == [f"1000/s: {OFFERED} images failed"]


@pytest.mark.parametrize("method", METHODS)
async def test_an_answer_that_differs_from_the_one_alone_is_wrong(method: Method) -> None:
    async def spoil_one(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        response = await echo(number, request)
        if number == 7:
            response.image.raw.data = response.image.raw.data[:-1] + bytes([response.image.raw.data[-1] ^ 1])
        return response

    result = await run(Service(spoil_one), method=method, is_verified=True)
    assert counts(result) == {Verdict(Outcome.OK): OFFERED - 1, Verdict(Outcome.WRONG, "DIFFERENT_ANSWER"): 1}
    assert result.problems() == ["1000/s: 1 images wrong"]


async def test_an_answer_unlike_its_question_ends_the_run_before_it_begins() -> None:
    async def shrink(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        raw = pb.RawImage(data=bytes(48), sample_type=pb.SAMPLE_TYPE_U8, height_px=4, width_px=4, channel_count=3)
        return pb.DenoiseResponse(image=pb.Image(raw=raw))

    with pytest.raises(InternalError, match=r"8x8 raw u8 colour is \(4, 4"):
        await run(Service(shrink), is_verified=True)


async def test_an_answer_in_other_levels_ends_the_run_before_it_begins() -> None:
    async def darken(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        response = await echo(number, request)
        response.image.raw.data = bytes(value // 16 for value in response.image.raw.data)
        return response

    with pytest.raises(InternalError, match="not in the same levels"):
        await run(Service(darken), is_verified=True)


async def test_an_image_that_is_refused_alone_ends_the_run_before_it_begins() -> None:
    async def refuse(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE")

    with pytest.raises(InternalError, match="IMAGE_TOO_LARGE"):
        await run(Service(refuse), is_verified=True)


@pytest.mark.parametrize("method", ["unary", "batch"])
async def test_what_is_not_answered_by_the_deadline_is_late(method: Method) -> None:
    result = await run(Service(silence), method=method, timeout_s=IMPATIENT_S)
    assert counts(result) == {Verdict(Outcome.LATE, "NO_ANSWER_IN_TIME"): OFFERED}


async def test_an_item_that_is_swallowed_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "GRACE_S", 0.05)
    monkeypatch.setattr(wire_module, "_FAREWELL_S", 0.05)

    async def swallow_one(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        return await (silence if number == 3 else echo)(number, request)

    result = await run(Service(swallow_one), method="stream", timeout_s=IMPATIENT_S)
    assert counts(result) == {Verdict(Outcome.OK): OFFERED - 1, Verdict(Outcome.LOST, "NO_ANSWER"): 1}
    assert result.problems() == ["1000/s: 1 images lost"]


async def test_items_of_a_stream_that_ends_are_lost_and_later_ones_go_over_a_new_one() -> None:
    service = Service(hang_up_count=1)
    result = await run(service, method="stream", connection_count=1, rates=parse_rates(("1000", "500")))
    first, second = (stage.tally.all for stage in result.stages)
    # How many had gone out when the end was heard of is chance, and whether a read or a write hears of it.
    assert first.count(Outcome.LOST) > 0
    assert first.count(Outcome.LOST, Outcome.OK) == first.count() == OFFERED
    assert second.count(Outcome.OK) == second.count() == OFFERED // 2


async def test_a_batch_answer_that_is_too_short_loses_images() -> None:
    result = await run(Service(batch_answers_at_most=3), method="batch", batch_images=5, duration_s=0.02)
    assert counts(result) == {Verdict(Outcome.OK): 12, Verdict(Outcome.LOST, "NO_ANSWER"): 8}


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_a_server_that_dies_loses_what_it_had(method: Method) -> None:
    async def die(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        if number == 0:
            deaths.append(asyncio.create_task(server.stop(None)))
        return await silence(number, request)

    deaths: list[asyncio.Task[None]] = []
    async with serving(Service(die)) as (target, server):
        result = await driver_for(plan(target, method=method, connection_count=1)).run()
        await asyncio.gather(*deaths)
    (stage,) = result.stages
    assert stage.tally.adds_up
    assert stage.tally.all.count(Outcome.LOST) == OFFERED


@pytest.mark.parametrize("method", METHODS)
async def test_requests_that_are_taken_back_are_cancelled(method: Method) -> None:
    result = await run(Service(silence), method=method, cancel_share=1.0)
    assert counts(result) == {Verdict(Outcome.CANCELLED): OFFERED}
    assert result.problems() == []


async def test_what_exceeds_the_limit_in_flight_is_not_sent() -> None:
    service = Service(silence)
    result = await run(service, timeout_s=IMPATIENT_S, max_in_flight=3)
    assert counts(result) == {
        Verdict(Outcome.LATE, "NO_ANSWER_IN_TIME"): 3,
        Verdict(Outcome.NOT_SENT, "IN_FLIGHT_LIMIT"): OFFERED - 3,
    }
    assert service.asked_count == 3
    assert result.stages[0].complaint is not None


async def test_a_generator_that_is_behind_by_more_than_the_deadline_says_so_and_blames_itself() -> None:
    result = await run(Service(), LeapingClock(stall_s=2 * PATIENT_S))
    assert counts(result) == {Verdict(Outcome.NOT_SENT, "GENERATOR_BEHIND"): OFFERED}
    (stage,) = result.stages
    assert stage.complaint is not None
    assert "left more than" in stage.complaint


async def test_latency_runs_from_the_intended_time() -> None:
    result = await run(Service(), LeapingClock(stall_s=5.0))
    (stage,) = result.stages
    # The first waits for the stall; those behind it were due in the meantime, and have waited nearly as long.
    latencies = [last_s for last_s, _ in stage.tally.prompt.latencies(Outcome.OK).steps()]
    assert min(latencies) >= 5.0
    assert counts(result) == {Verdict(Outcome.OK): OFFERED}
    assert stage.health.send_lag.most_s >= 5.0


@pytest.mark.parametrize("method", METHODS)
async def test_slow_readers_are_answered_and_counted_apart(method: Method) -> None:
    result = await run(Service(), method=method, slow_connection_count=1, batch_images=1)
    tally = result.stages[0].tally
    assert (tally.slow.count(Outcome.OK), tally.prompt.count(Outcome.OK)) == (OFFERED // 2, OFFERED // 2)


@pytest.mark.parametrize("method", METHODS)
async def test_multiples_are_of_the_capacity_that_is_measured_first(method: Method) -> None:
    result = await run(Service(), method=method, rates=parse_rates(("x0.5", "x2")), warm_up_s=0.001, duration_s=0.001)
    assert result.capacity_per_s is not None
    assert result.capacity_per_s > 0
    assert [stage.rate_per_s / result.capacity_per_s for stage in result.stages] == [0.5, 2.0]


async def test_a_server_that_answers_nothing_has_no_capacity() -> None:
    async def refuse(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")

    with pytest.raises(InternalError, match=r"no image was answered .*QUEUE_FULL"):
        await run(Service(refuse), rates=parse_rates(("x1",)))


async def test_a_run_that_is_stopped_counts_what_it_had_sent() -> None:
    async def stop(number: int, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        if number == 0:
            driver.stop()
        return await echo(number, request)

    async with serving(Service(stop)) as (target, _):
        driver = driver_for(plan(target, rates=parse_rates(("1000", "500")), duration_s=1000.0))
        result = await driver.run()
    assert result.was_interrupted
    (stage,) = result.stages
    assert stage.tally.adds_up
    assert stage.tally.all.count() == stage.tally.all.count(Outcome.OK) > 0
    assert stage.tally.ran_s < 1000.0


async def test_a_gate_that_does_not_hold_fails_the_run() -> None:
    result = await run(Service(), gates=(parse_gate("ok < 5"), parse_gate("lost = 0")))
    assert result.problems() == ["1000/s: ok 20 misses the gate ok < 5"]


async def test_nobody_at_the_address_is_said_at_once(silent_target: str) -> None:
    with pytest.raises(ServerUnavailableError):
        await driver_for(plan(silent_target)).run()


def test_a_plan_without_a_prompt_connection_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one must read promptly"):
        plan(slow_connection_count=2)


def test_a_plan_whose_requests_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a request has 4"):
        plan(method="batch", max_in_flight=3)
