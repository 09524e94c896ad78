"""SIGTERM: what was taken is answered, what comes is sent elsewhere, and the process ends with 0."""

import signal
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from denoised.v1 import denoised_pb2 as pb
from tests.integration import harness
from tests.integration.harness import LIMIT_S, RunningService, connected
from tests.integration.oracle import Oracle
from tests.integration.pictures import noisy, raw_request
from tests.integration.refusals import Refusal, refusal_of_status, refused
from tests.integration.watching import watched

_CLIENT_COUNT = 4
# One long batch, and what waits behind it: more than gRPC's own farewell to open calls leaves time for.
_LONG, *_WAITING = _IN_FLIGHT = [
    raw_request(noisy(seed, side_px, side_px)) for seed, side_px in enumerate([*[1000] * 10, *[64] * 22])
]
# The port stays open for the delay at least, so that refusals can be seen however fast the answers are.
_SETTINGS = {
    "lane_count": 1,
    "batch_pixels": 1_300_000,
    "drain_delay_s": 0.5,
    "drain_timeout_s": 120,
    "default_timeout_s": 120,
}
_NEW = raw_request(noisy(1, 8, 8))


@pytest.fixture(scope="module")
def alone(wide_service: RunningService) -> list[pb.Image]:
    with connected(wide_service.grpc_target) as stub:
        calls = [stub.Denoise.future(request) for request in _IN_FLIGHT]
        return [call.result().image for call in calls]


def check_draining(refusal: Refusal) -> None:
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "DRAINING")
    assert refusal.retry_after_s is not None


def test_what_was_taken_is_answered_and_what_comes_is_refused(
    oracle: Oracle, alone: list[pb.Image], tmp_path: Path
) -> None:
    frames: SimpleQueue[pb.DenoiseStreamRequest | None] = SimpleQueue()
    with ExitStack() as stack:
        service = stack.enter_context(harness.running(tmp_path, **_SETTINGS))
        overall = stack.enter_context(watched(service.grpc_target, ""))
        live = stack.enter_context(watched(service.grpc_target, "live"))
        clients = [stack.enter_context(connected(service.grpc_target)) for _ in range(_CLIENT_COUNT)]
        assert overall.get(timeout=LIMIT_S) == HealthCheckResponse.SERVING
        for client in clients:
            client.ListModels(pb.ListModelsRequest())  # connects, so that all are taken before any is answered

        stream = clients[0].DenoiseStream(iter(frames.get, None))
        frames.put(pb.DenoiseStreamRequest(item_id="taken", request=_LONG))
        harness.until(lambda: service.metric("denoised_busy_lanes") == 1, "the lane was busy")
        calls = [clients[i % _CLIENT_COUNT].Denoise.future(request) for i, request in enumerate(_WAITING)]
        harness.until(lambda: service.metric("denoised_admitted_images") == len(_IN_FLIGHT), "all were taken")
        service.process.send_signal(signal.SIGTERM)
        assert overall.get(timeout=LIMIT_S) == HealthCheckResponse.NOT_SERVING

        check_draining(refused(lambda: clients[0].Denoise(_NEW)))
        with connected(service.grpc_target) as newcomer:
            check_draining(refused(lambda: newcomer.Denoise(_NEW)))
            check_draining(refused(lambda: newcomer.DenoiseBatch(pb.DenoiseBatchRequest(requests=[_NEW]))))
            check_draining(refused(lambda: list(newcomer.DenoiseStream(iter([])))))
        assert service.http("/readyz")[0] == 503
        assert service.http("/healthz")[0] == 200
        assert service.metric("denoised_state", state="draining") == 1
        assert live.get(timeout=LIMIT_S) == HealthCheckResponse.SERVING
        assert live.empty()

        frames.put(pb.DenoiseStreamRequest(item_id="late", request=_NEW))
        items = {answer.item_id: answer.result for answer in (next(stream), next(stream))}
        frames.put(None)
        check_draining(refusal_of_status(items["late"].status))
        assert [items["taken"].response.image, *(call.result().image for call in calls)] == alone
        assert service.process.wait(LIMIT_S) == 0
        with connected(service.grpc_target) as newcomer:
            gone = refused(lambda: newcomer.Denoise(_NEW))
        assert (gone.code, gone.reason) == ("UNAVAILABLE", "")
