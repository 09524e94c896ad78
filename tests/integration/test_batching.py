"""Work of several clients shares batches, and nobody can tell from the pixels."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import pytest

from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration.harness import Metrics, RunningService, connected
from tests.integration.oracle import Oracle
from tests.integration.pictures import file_request, jpeg, noisy, png, raw_request
from tests.integration.plug import Plug

Send = Callable[[DenoiseServiceStub, Sequence[pb.DenoiseRequest]], list[pb.DenoiseResult]]


def together(
    plug: Plug, requests_by_client: Sequence[Sequence[pb.DenoiseRequest]], *, unit_count: int
) -> list[list[pb.DenoiseResponse]]:
    """Each client's answers to requests that all wait behind the plug, so that one batch can hold them."""
    with ExitStack() as stack:
        stubs = [stack.enter_context(connected(plug.service.grpc_target)) for _ in requests_by_client]
        for stub in stubs:
            stub.ListModels(pb.ListModelsRequest())  # connects, which may take as long as the plug
        stack.enter_context(plug.in_the_lane())
        calls = [
            [stub.Denoise.future(request) for request in own]
            for stub, own in zip(stubs, requests_by_client, strict=True)
        ]
        plug.wait_queued(unit_count)
        return [[call.result() for call in own] for own in calls]


def _as_batch(stub: DenoiseServiceStub, requests: Sequence[pb.DenoiseRequest]) -> list[pb.DenoiseResult]:
    return list(stub.DenoiseBatch(pb.DenoiseBatchRequest(requests=requests)).results)


def _as_stream(stub: DenoiseServiceStub, requests: Sequence[pb.DenoiseRequest]) -> list[pb.DenoiseResult]:
    frames = (pb.DenoiseStreamRequest(item_id=str(i), request=request) for i, request in enumerate(requests))
    answers = {answer.item_id: answer.result for answer in stub.DenoiseStream(frames)}
    return [answers[str(i)] for i in range(len(requests))]


def in_bucket(before: Metrics, after: Metrics, name: str, *, above: int, up_to: int) -> float:
    """Observations between two neighbouring bounds of a histogram."""

    def count(bound: int) -> float:
        label = f"{float(bound)}"
        return after.value(f"{name}_bucket", le=label) - before.value(f"{name}_bucket", le=label)

    return count(up_to) - count(above)


def test_images_of_four_clients_share_one_batch_and_get_the_answers_that_they_get_alone(
    narrow: RunningService, narrow_stub: DenoiseServiceStub, plug: Plug
) -> None:
    requests = [[raw_request(noisy(10 * client + i, 50, 61)) for i in range(3)] for client in range(4)]
    alone = [[narrow_stub.Denoise(request) for request in own] for own in requests]
    before = narrow.metrics()

    shared = together(plug, requests, unit_count=12)

    assert [[answer.image for answer in own] for own in shared] == [[answer.image for answer in own] for own in alone]
    assert {answer.batching.shared_request_count for own in alone for answer in own} == {1}
    assert {answer.batching.shared_request_count for own in shared for answer in own} == {12}
    assert {answer.batching.shared_client_count for own in shared for answer in own} == {4}
    after = narrow.metrics()
    assert in_bucket(before, after, "denoised_batch_clients", above=3, up_to=4) == 1
    assert in_bucket(before, after, "denoised_batch_requests", above=8, up_to=12) == 1
    # The plug has four.
    assert in_bucket(before, after, "denoised_batch_units", above=8, up_to=12) == 1
    assert after.value("denoised_batch_failures_total") == 0


def test_tiles_of_images_of_two_clients_share_one_batch(
    narrow_stub: DenoiseServiceStub, plug: Plug, oracle: Oracle
) -> None:
    width_px = oracle.contract.unit_edges_px[-1] + 60
    requests = [[raw_request(noisy(seed, 50, width_px, 1))] for seed in (1, 2)]
    alone = [narrow_stub.Denoise(own[0]) for own in requests]
    tile_count = alone[0].batching.tile_count
    assert tile_count > 1

    shared = together(plug, requests, unit_count=2 * tile_count)

    assert [own[0].image for own in shared] == [answer.image for answer in alone]
    assert {own[0].batching.shared_client_count for own in shared} == {2}


def test_all_containers_and_depths_share_one_batch(narrow_stub: DenoiseServiceStub, plug: Plug) -> None:
    picture = noisy(30, 60, 60)
    requests = [
        raw_request(picture),
        raw_request(picture.astype(np.uint16) * 257, fields={"layout": pb.SAMPLE_LAYOUT_CHW}),
        raw_request(picture.astype(np.float32) / 255),
        raw_request(noisy(31, 60, 60, 1)),
        file_request(png(noisy(32, 60, 60, 4))),
        file_request(jpeg(noisy(33, 60, 60))),
        raw_request(noisy(34, 60, 60), strength=0.5),
    ]
    alone = [narrow_stub.Denoise(request).image for request in requests]

    (shared,) = together(plug, [requests], unit_count=len(requests))

    assert [answer.image for answer in shared] == alone
    assert {answer.batching.shared_request_count for answer in shared} == {len(requests)}


def test_images_of_unlike_units_do_not_share(narrow_stub: DenoiseServiceStub, plug: Plug) -> None:
    requests = [raw_request(noisy(40, 50, 50)), raw_request(noisy(41, 50, 120))]
    alone = [narrow_stub.Denoise(request).image for request in requests]

    (apart,) = together(plug, [requests], unit_count=2)

    assert [answer.image for answer in apart] == alone
    assert {answer.batching.shared_request_count for answer in apart} == {1}


@pytest.mark.parametrize("send", [_as_batch, _as_stream], ids=["a batch call", "a stream"])
def test_images_of_one_call_share_one_batch(send: Send, narrow_stub: DenoiseServiceStub, plug: Plug) -> None:
    requests = [raw_request(noisy(50 + i, 64, 64)) for i in range(4)]
    alone = [narrow_stub.Denoise(request).image for request in requests]

    with plug.in_the_lane():
        results = send(narrow_stub, requests)

    assert [result.response.image for result in results] == alone
    assert {result.response.batching.shared_request_count for result in results} == {4}
    assert {result.response.batching.shared_client_count for result in results} == {1}
