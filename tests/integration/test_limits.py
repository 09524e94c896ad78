"""More than fits is refused with advice, what was admitted is answered, and whoever leaves takes the work along."""

import grpc
import numpy as np
import pytest

from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration.conftest import NARROW
from tests.integration.harness import CHANNEL_OPTIONS, RunningService, connected, stub_of, until
from tests.integration.pictures import noisy, raw_request
from tests.integration.plug import Plug
from tests.integration.refusals import refusal_of_error, refusal_of_status, trailer

_SMALL = [raw_request(noisy(seed, 64, 64)) for seed in range(NARROW["queue_requests"])]


@pytest.fixture(scope="module")
def alone(narrow_service: RunningService) -> list[pb.Image]:
    with connected(narrow_service.grpc_target) as stub:
        return [stub.Denoise(request).image for request in _SMALL]


def check_overload(error: grpc.RpcError, *, reason: str, says: str) -> None:
    refusal = refusal_of_error(error)
    assert (refusal.code, refusal.reason, refusal.field) == ("RESOURCE_EXHAUSTED", reason, "")
    assert says in refusal.message
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s > 0
    pushback_ms = trailer(error, "grpc-retry-pushback-ms")
    assert pushback_ms is not None
    assert int(pushback_ms) == pytest.approx(refusal.retry_after_s * 1000, abs=1)


def test_an_image_too_many_is_refused_and_those_before_it_are_answered(
    narrow: RunningService, narrow_stub: DenoiseServiceStub, plug: Plug, alone: list[pb.Image]
) -> None:
    with plug.in_the_lane(), connected(narrow.grpc_target) as neighbour:
        calls = [neighbour.Denoise.future(request) for request in _SMALL[:-1]]
        plug.wait_queued(len(calls))
        with pytest.raises(grpc.RpcError) as caught:
            narrow_stub.Denoise(_SMALL[-1])
        answers = [call.result().image for call in calls]

    limit = NARROW["queue_requests"]
    check_overload(
        caught.value,
        reason="QUEUE_FULL",
        says=f"{limit} requests are pending and 1 more were offered; the limit is {limit}",
    )
    assert answers == alone[:-1]
    assert narrow_stub.Denoise(_SMALL[-1]).image == alone[-1]


def test_pixels_too_many_are_refused_and_those_before_them_are_answered(
    narrow: RunningService, narrow_stub: DenoiseServiceStub, plug: Plug, alone: list[pb.Image]
) -> None:
    large = [raw_request(noisy(seed, 250, 250)) for seed in range(4)]
    large_alone = [narrow_stub.Denoise(request).image for request in large]
    with plug.in_the_lane(), connected(narrow.grpc_target) as neighbour:
        calls = [neighbour.Denoise.future(request) for request in large]
        plug.wait_queued(len(calls))
        with pytest.raises(grpc.RpcError) as caught:
            narrow_stub.Denoise(_SMALL[0])
        batch = narrow_stub.DenoiseBatch(pb.DenoiseBatchRequest(requests=_SMALL[:1])).results
        answers = [call.result().image for call in calls]

    check_overload(caught.value, reason="QUEUE_FULL", says=f"the limit is {NARROW['queue_pixels']}")
    assert refusal_of_status(batch[0].status).reason == "QUEUE_FULL"
    assert refusal_of_status(batch[0].status).retry_after_s is not None
    assert answers == large_alone
    assert narrow_stub.Denoise(_SMALL[0]).image == alone[0]


def test_memory_too_much_is_refused_and_what_fits_is_answered(
    narrow_stub: DenoiseServiceStub, plug: Plug, alone: list[pb.Image]
) -> None:
    # Its message, its samples and its answer: more than the plug leaves, and few pixels.
    floats = raw_request(noisy(1, 500, 500).astype(np.float32) / 255)
    with plug.in_the_lane():
        with pytest.raises(grpc.RpcError) as caught:
            narrow_stub.Denoise(floats)
        small = narrow_stub.Denoise(_SMALL[0]).image

    check_overload(caught.value, reason="MEMORY_BUDGET", says=f"of {NARROW['memory_bytes']} are taken")
    assert small == alone[0]


def test_what_can_not_be_done_in_time_is_refused_at_once_and_what_waits_is_answered(
    narrow: RunningService, narrow_stub: DenoiseServiceStub, plug: Plug, alone: list[pb.Image]
) -> None:
    with plug.in_the_lane(), connected(narrow.grpc_target) as neighbour:
        patient = neighbour.Denoise.future(_SMALL[0])
        plug.wait_queued(1)
        with pytest.raises(grpc.RpcError) as caught:
            narrow_stub.Denoise(_SMALL[1], timeout=0.05)
        assert patient.result().image == alone[0]

    check_overload(caught.value, reason="DEADLINE_UNREACHABLE", says="its deadline is in 0.0")


def test_nothing_is_refused_for_its_deadline_while_nothing_else_is_there(
    narrow: RunningService, narrow_stub: DenoiseServiceStub, plug: Plug
) -> None:
    frame = pb.DenoiseStreamRequest(item_id="hopeful", request=plug.request)
    frame.timeout.FromMilliseconds(20)

    (answer,) = narrow_stub.DenoiseStream(iter([frame]))

    refusal = refusal_of_status(answer.result.status)
    assert (refusal.code, refusal.reason, refusal.retry_after_s) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", None)


def test_a_deadline_that_has_passed_on_arrival_is_exceeded_not_unreachable(narrow_stub: DenoiseServiceStub) -> None:
    frame = pb.DenoiseStreamRequest(item_id="late", request=_SMALL[0])
    frame.timeout.FromNanoseconds(1)

    (answer,) = narrow_stub.DenoiseStream(iter([frame]))

    refusal = refusal_of_status(answer.result.status)
    assert (refusal.code, refusal.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("hang_up", ["cancel", "close"])
def test_a_client_that_hangs_up_takes_its_images_out_of_the_queue(
    hang_up: str, narrow: RunningService, plug: Plug, alone: list[pb.Image]
) -> None:
    channel = grpc.insecure_channel(narrow.grpc_target, CHANNEL_OPTIONS)
    with connected(narrow.grpc_target) as neighbour, plug.in_the_lane():
        calls = [stub_of(channel).Denoise.future(request) for request in _SMALL[:6]]
        plug.wait_queued(len(calls))
        patient = neighbour.Denoise.future(_SMALL[7])
        plug.wait_queued(len(calls) + 1)
        dropped = narrow.metric("denoised_units_dropped_total", reason="cancelled")
        if hang_up == "cancel":
            for call in calls:
                call.cancel()
        channel.close()
        until(lambda: narrow.metric("denoised_admitted_images") <= 2, "the images had left the service")
        assert narrow.metric("denoised_queued_units") <= 1
        assert patient.result().image == alone[7]

    assert narrow.metric("denoised_units_dropped_total", reason="cancelled") == dropped + len(calls)


def test_a_client_that_hangs_up_in_the_middle_of_a_batch_leaves_nothing_behind(
    narrow: RunningService, narrow_stub: DenoiseServiceStub, plug: Plug, alone: list[pb.Image]
) -> None:
    with connected(narrow.grpc_target) as leaving:
        call = leaving.Denoise.future(plug.request)
        until(lambda: narrow.metric("denoised_busy_lanes") == 1, "its batch was running")
        patient = narrow_stub.Denoise.future(_SMALL[0])
        call.cancel()

        assert patient.result().image == alone[0]
    until(lambda: not narrow.not_at_rest(), "queue, ledger and lane were empty")


def test_a_large_image_is_taken_back_between_its_tiles(served: RunningService, stub: DenoiseServiceStub) -> None:
    dropped = served.metric("denoised_units_dropped_total", reason="cancelled")
    with connected(served.grpc_target) as neighbour:
        large = stub.Denoise.future(raw_request(noisy(1, 2000, 2000)))
        until(lambda: served.metric("denoised_queued_units") > 0, "some of its tiles were waiting")
        small = neighbour.Denoise.future(_SMALL[0])
        large.cancel()
        together = small.result().image

    until(lambda: not served.not_at_rest(), "queue, ledger and lanes were empty")
    assert served.metric("denoised_units_dropped_total", reason="cancelled") > dropped
    assert stub.Denoise(_SMALL[0]).image == together
