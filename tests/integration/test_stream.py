"""DenoiseStream: each item has its own outcome, in its own time, whatever becomes of the others."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration.bad_requests import png_header
from tests.integration.conftest import NARROW
from tests.integration.harness import RunningService, connected, until
from tests.integration.pictures import file_request, noisy, png, raw_request
from tests.integration.plug import Plug
from tests.integration.refusals import refusal_of_error, refusal_of_status
from tests.integration.streaming import HeldPlug, Stream

_SMALL = [raw_request(noisy(100 + seed, 64, 64)) for seed in range(6)]
# Needs no lane, so it is answered while the lane is busy.
_QUICK = raw_request(noisy(1, 5, 5), strength=0.0)


@pytest.fixture(scope="module")
def alone(narrow_service: RunningService) -> list[pb.Image]:
    with connected(narrow_service.grpc_target) as stub:
        return [stub.Denoise(request).image for request in _SMALL]


@pytest.fixture
async def stream(narrow: RunningService) -> AsyncIterator[Stream]:
    stream = Stream(narrow.grpc_target)
    yield stream
    await stream.close()


async def test_many_items_each_get_their_own_answer(served: RunningService, stub: DenoiseServiceStub) -> None:
    requests = {
        f"item {seed}": raw_request(noisy(seed, 16 + 5 * (seed % 7), 20 + 3 * (seed % 11), 1 + seed % 4))
        for seed in range(80)
    }
    stream = Stream(served.grpc_target)

    async def send_all() -> None:
        for item_id, request in requests.items():
            await stream.send(item_id, request)
        await stream.end()

    sending = asyncio.create_task(send_all())
    answers = await stream.rest()
    await sending
    await stream.close()

    assert answers.keys() == requests.keys()
    alone = {item_id: await asyncio.to_thread(stub.Denoise, request) for item_id, request in requests.items()}
    assert {item_id: result.response.image for item_id, result in answers.items()} == {
        item_id: response.image for item_id, response in alone.items()
    }


async def test_answers_come_as_they_finish(stream: Stream, plug: Plug, alone: list[pb.Image]) -> None:
    async with HeldPlug(plug) as held:
        await stream.send("slow", _SMALL[0])
        await held.wait_queued(1)
        await stream.send("quick", _QUICK)
        assert (await stream.next())[0] == "quick"
    item_id, result = await stream.next()

    assert item_id == "slow"
    assert result.response.image == alone[0]


async def test_a_client_that_says_all_at_once_gets_all_answers(stream: Stream, alone: list[pb.Image]) -> None:
    for number in range(4):
        await stream.send(f"{number}", _SMALL[number])
    await stream.end()

    assert {item_id: result.response.image for item_id, result in (await stream.rest()).items()} == {
        f"{number}": alone[number] for number in range(4)
    }


async def test_a_bad_item_fails_alone(stream: Stream, alone: list[pb.Image]) -> None:
    await stream.send("good", _SMALL[0])
    await stream.send("bomb", file_request(png_header(50_000, 50_000)))
    await stream.send("cut", file_request(png(noisy(1, 9, 9))[:-20]))
    await stream.send("unknown", raw_request(noisy(1, 9, 9), model="no-such"))
    await stream.end()
    answers = await stream.rest()

    reasons = {item_id: refusal_of_status(result.status).reason for item_id, result in answers.items()}
    assert reasons == {"good": "", "bomb": "IMAGE_TOO_LARGE", "cut": "IMAGE_UNDECODABLE", "unknown": "MODEL_UNKNOWN"}
    assert refusal_of_status(answers["bomb"].status).field == "image.encoded.data"
    assert answers["good"].response.image == alone[0]


async def test_an_item_is_taken_back_and_the_others_stay(
    narrow: RunningService, stream: Stream, plug: Plug, alone: list[pb.Image]
) -> None:
    async with HeldPlug(plug) as held:
        await stream.send("stays", _SMALL[0])
        await stream.send("goes", _SMALL[1])
        await held.wait_queued(2)
        await stream.send("goes", cancel=pb.CancelItem())
        await stream.send("never came", cancel=pb.CancelItem())
        refusal = await stream.refusal("goes")
        assert await asyncio.to_thread(narrow.metric, "denoised_queued_units") <= 1
    await stream.end()

    assert (refusal.code, refusal.reason) == ("CANCELLED", "CANCELLED")
    assert [(item_id, result.response.image) for item_id, result in (await stream.rest()).items()] == [
        ("stays", alone[0])
    ]


async def test_an_item_has_its_own_time(stream: Stream, plug: Plug, alone: list[pb.Image]) -> None:
    timeout = pb.DenoiseStreamRequest().timeout
    timeout.FromMilliseconds(50)
    async with HeldPlug(plug):
        await stream.send("patient", _SMALL[0])
        await stream.send("hasty", _SMALL[1], timeout=timeout)
        refusal = await stream.refusal("hasty")
    await stream.end()

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "DEADLINE_UNREACHABLE")
    assert (await stream.rest())["patient"].response.image == alone[0]


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_timeout_without_time_is_refused(seconds: int, stream: Stream) -> None:
    timeout = pb.DenoiseStreamRequest().timeout
    timeout.FromSeconds(seconds)
    await stream.send("a", _SMALL[0], timeout=timeout)

    refusal = await stream.refusal("a")

    assert (refusal.code, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", "OPTION_INVALID", "timeout")


@pytest.mark.parametrize("item_id", ["", "x" * 129], ids=["empty", "129 characters"])
async def test_an_id_of_a_wrong_length_is_refused(item_id: str, stream: Stream) -> None:
    await stream.send(item_id, _SMALL[0])

    refusal = await stream.refusal(item_id)

    assert (refusal.code, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", "OPTION_INVALID", "item_id")


async def test_an_empty_frame_is_refused(stream: Stream) -> None:
    await stream.send("a")

    refusal = await stream.refusal("a")

    assert (refusal.code, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", "OPTION_INVALID", "frame")


async def test_an_id_is_taken_until_it_is_answered(stream: Stream, plug: Plug, alone: list[pb.Image]) -> None:
    async with HeldPlug(plug) as held:
        await stream.send("twin", _SMALL[0])
        await held.wait_queued(1)
        await stream.send("twin", _SMALL[1])
        refusal = await stream.refusal("twin")
    first = await stream.next()
    await stream.send("twin", _SMALL[1])
    second = await stream.next()

    assert (refusal.code, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", "OPTION_INVALID", "item_id")
    assert [(item_id, result.response.image) for item_id, result in (first, second)] == [
        ("twin", alone[0]),
        ("twin", alone[1]),
    ]


async def test_a_client_that_cancels_the_stream_takes_its_items_along(
    narrow: RunningService, stream: Stream, plug: Plug, alone: list[pb.Image]
) -> None:
    def cancelled_count() -> float:
        return narrow.metric("denoised_requests_total", method="DenoiseStream", code="CANCELLED")

    cancelled_before = cancelled_count()
    with connected(narrow.grpc_target) as neighbour:
        async with HeldPlug(plug) as held:
            for number in range(3):
                await stream.send(f"{number}", _SMALL[number])
            patient = neighbour.Denoise.future(_SMALL[4])
            await held.wait_queued(4)
            stream.call.cancel()
            await asyncio.to_thread(
                until, lambda: narrow.metric("denoised_admitted_images") <= 2, "the items had left the service"
            )
        answer = await asyncio.to_thread(patient.result)

    assert answer.image == alone[4]
    await asyncio.to_thread(until, lambda: cancelled_count() == cancelled_before + 1, "the stream was counted")


async def test_the_server_stops_reading_while_too_many_items_are_unanswered(stream: Stream, plug: Plug) -> None:
    limit = NARROW["stream_items_in_flight"]

    async def send_all() -> None:
        for number in range(3 * limit):
            await stream.send(f"{number}", raw_request(noisy(number, 64, 64)))
        await stream.end()

    async with HeldPlug(plug) as held:
        sending = asyncio.create_task(send_all())
        await held.wait_queued(limit)
    answers = await stream.rest()
    await sending

    assert len(answers) == 3 * limit
    assert max(result.response.batching.shared_request_count for result in answers.values()) == limit


def test_the_stream_s_own_deadline_ends_its_items(
    narrow: RunningService, narrow_stub: DenoiseServiceStub, plug: Plug
) -> None:
    # Nothing else is there, so that it is not refused at once.
    frames = iter([pb.DenoiseStreamRequest(item_id="a", request=plug.request)])
    try:
        (answer,) = narrow_stub.DenoiseStream(frames, timeout=0.05)
        refusal = refusal_of_status(answer.result.status)
    except grpc.RpcError as error:  # whichever comes first: the item's own answer, or the end of the whole call
        refusal = refusal_of_error(error)
    until(lambda: narrow.metric("denoised_queued_units") == 0, "its item had left the queue")

    assert refusal.code == "DEADLINE_EXCEEDED"


async def test_items_are_counted_by_their_outcome(narrow: RunningService, stream: Stream) -> None:
    def counted(code: str) -> float:
        return narrow.metric("denoised_requests_total", method="DenoiseStream.item", code=code)

    before = counted("OK"), counted("INVALID_ARGUMENT")
    for item_id, request in (("a", _SMALL[0]), ("b", raw_request(np.zeros((3, 3), np.uint8), strength=2.0))):
        await stream.send(item_id, request)
    await stream.end()
    await stream.rest()

    assert (counted("OK"), counted("INVALID_ARGUMENT")) == (before[0] + 1, before[1] + 1)
