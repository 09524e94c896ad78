"""Who waits for whom, and that where a unit runs can't be told from its pixels."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import grpc
import pytest

from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration import harness
from tests.integration.harness import RunningService, connected, until
from tests.integration.oracle import Oracle
from tests.integration.pictures import noisy, raw_request
from tests.integration.plug import Plug

# Units of unlike sizes, which can't share a batch.
_SIDES_PX = [(height_px, width_px) for height_px in (64, 96, 128) for width_px in (64, 96, 128, 192)]

_LARGE = raw_request(noisy(60, 1500, 1500, 1))
_UNREAD_COUNT = 12


@pytest.mark.parametrize(
    "urgent", [pb.SERVICE_CLASS_INTERACTIVE, pb.SERVICE_CLASS_NORMAL], ids=["interactive", "normal"]
)
def test_what_is_urgent_overtakes_a_backlog_of_bulk(
    urgent: pb.ServiceClass, narrow_stub: DenoiseServiceStub, plug: Plug
) -> None:
    bulk = [
        raw_request(noisy(seed, *sides_px), service_class=pb.SERVICE_CLASS_BULK)
        for seed, sides_px in enumerate(_SIDES_PX)
    ]
    pressing = raw_request(noisy(50, 192, 64), service_class=urgent)
    alone = [narrow_stub.Denoise(request).image for request in (*bulk, pressing)]
    ended: list[int] = []
    all_ended = threading.Event()

    def note(number: int) -> None:
        ended.append(number)
        if len(ended) == len(alone):
            all_ended.set()

    with plug.in_the_lane():
        calls = []
        for number, request in enumerate((*bulk, pressing)):
            call = narrow_stub.Denoise.future(request)
            call.add_done_callback(lambda _, number=number: note(number))
            calls.append(call)
            plug.wait_queued(number + 1)
        answers = [call.result().image for call in calls]
    assert all_ended.wait(harness.LIMIT_S)

    assert answers == alone
    # Of the classes that wait the most urgent is served first; the answer before it may be on its way.
    assert ended.index(len(bulk)) <= 1


@pytest.fixture
def unread(frugal: RunningService) -> Iterator[Iterator[pb.DenoiseStreamResponse]]:
    """A stream whose answers are all made, are more than gRPC's buffers hold, and are not read."""

    def made_count() -> float:
        return frugal.metric("denoised_requests_total", method="DenoiseStream.item", code="OK")

    before = made_count()
    frames = (pb.DenoiseStreamRequest(item_id=f"{number}", request=_LARGE) for number in range(_UNREAD_COUNT))
    with connected(frugal.grpc_target) as stub:
        call = stub.DenoiseStream(frames, timeout=harness.LIMIT_S)
        until(lambda: made_count() == before + _UNREAD_COUNT, "the answers were made")
        metrics = frugal.metrics()
        assert (metrics.value("denoised_busy_lanes"), metrics.value("denoised_pending_images")) == (0, 0)
        assert metrics.value("denoised_reserved_bytes") > 0
        yield call


def test_answers_keep_their_room_until_they_are_read(
    frugal: RunningService, unread: Iterator[pb.DenoiseStreamResponse]
) -> None:
    with connected(frugal.grpc_target) as stub:
        alone = stub.Denoise(_LARGE).image

    answers = {answer.item_id: answer.result.response.image for answer in unread}

    assert len(answers) == _UNREAD_COUNT
    assert all(image == alone for image in answers.values())
    until(lambda: frugal.metric("denoised_reserved_bytes") == 0, "their room was free again")


def test_answers_that_nobody_will_read_give_their_room_back(
    frugal: RunningService, unread: Iterator[pb.DenoiseStreamResponse]
) -> None:
    cast("grpc.Call", unread).cancel()

    until(lambda: frugal.metric("denoised_reserved_bytes") == 0, "their room was free again")


def test_a_lone_unit_on_all_cores_has_the_pixels_of_one_on_a_lane(
    served: RunningService, stub: DenoiseServiceStub, oracle: Oracle, tmp_path: Path
) -> None:
    edges_px = oracle.contract.unit_edges_px
    requests = [raw_request(noisy(edge_px, edge_px, edge_px - 3)) for edge_px in edges_px[2:]]

    def alone_count(service: RunningService) -> float:
        return service.metric("denoised_batch_releases_total", reason="alone")

    before = alone_count(served)
    wide = [stub.Denoise(request).image for request in requests]
    assert alone_count(served) > before
    with harness.running(tmp_path, lane_count=2, wide_units="false") as service:
        with connected(service.grpc_target) as other:
            narrow = [other.Denoise(request).image for request in requests]
        assert alone_count(service) == 0

    assert wide == narrow
