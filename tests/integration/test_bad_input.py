"""Whatever can't be served is refused by itself, with its reason, and harms nobody beside it."""

import numpy as np
import pytest

from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration import harness
from tests.integration.bad_requests import BadRequest, bad_requests, png_header
from tests.integration.harness import RunningService
from tests.integration.pictures import file_request, noisy, png, raw_request
from tests.integration.refusals import Refusal, refusal_of_status, refused

_BAD = bad_requests()
_GOOD = (raw_request(noisy(7, 48, 64)), file_request(png(noisy(8, 33, 47))))


@pytest.fixture(scope="module")
def alone(wide_service: RunningService) -> list[pb.Image]:
    """What the good requests are answered when nobody else is there."""
    with harness.connected(wide_service.grpc_target) as stub:
        return [stub.Denoise(request).image for request in _GOOD]


def check(refusal: Refusal, bad: BadRequest) -> None:
    assert (refusal.code, refusal.reason, refusal.field) == (bad.code, bad.reason, bad.field)
    assert bad.says in refusal.message
    assert refusal.retry_after_s is None


@pytest.mark.parametrize("bad", _BAD, ids=[bad.name for bad in _BAD])
def test_a_bad_request_is_refused_while_another_client_is_answered(
    bad: BadRequest, served: RunningService, stub: DenoiseServiceStub, alone: list[pb.Image]
) -> None:
    counted = served.metric("denoised_refusals_total", reason=bad.reason)
    with harness.connected(served.grpc_target) as neighbour:
        answers = [neighbour.Denoise.future(request) for request in _GOOD]
        refusal = refused(lambda: stub.Denoise(bad.request))
        assert [answer.result().image for answer in answers] == alone

    check(refusal, bad)
    assert served.metric("denoised_refusals_total", reason=bad.reason) == counted + 1


@pytest.mark.parametrize("bad", _BAD, ids=[bad.name for bad in _BAD])
def test_a_bad_image_of_a_batch_fails_alone(bad: BadRequest, stub: DenoiseServiceStub, alone: list[pb.Image]) -> None:
    first, last = _GOOD
    results = stub.DenoiseBatch(pb.DenoiseBatchRequest(requests=[first, bad.request, last])).results

    assert [result.status.code for result in (results[0], results[2])] == [0, 0]
    assert [result.response.image for result in (results[0], results[2])] == alone
    check(refusal_of_status(results[1].status), bad)
    assert not results[1].HasField("response")


@pytest.mark.skipif(not harness.HAS_PEAK, reason="the peak of a process's memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("width_px", "height_px", "reason"),
    [
        (50_000, 50_000, "IMAGE_TOO_LARGE"),
        (8_000, 8_000, "IMAGE_UNDECODABLE"),
        (500_000, 64, "IMAGE_UNDECODABLE"),
        (6_000, 6_000, "IMAGE_UNDECODABLE"),
    ],
)
def test_a_small_file_that_claims_many_pixels_takes_no_memory(
    width_px: int, height_px: int, reason: str, served: RunningService, stub: DenoiseServiceStub
) -> None:
    served.forget_peak()
    before_bytes = served.peak_bytes()

    refusal = refused(lambda: stub.Denoise(file_request(png_header(width_px, height_px))))

    assert refusal.reason == reason
    assert served.peak_bytes() - before_bytes < 64 * 2**20


def test_what_no_message_may_hold_is_refused_by_the_transport_and_without_advice_to_retry(
    stub: DenoiseServiceStub,
) -> None:
    refusal = refused(lambda: stub.Denoise(file_request(bytes(17 * 2**20))))

    assert (refusal.code, refusal.reason, refusal.retry_after_s) == ("RESOURCE_EXHAUSTED", "", None)


def test_an_answer_that_no_message_holds_is_refused_with_the_remedy(narrow_stub: DenoiseServiceStub) -> None:
    flat = file_request(_flat_png(1250), strength=0.0, output_container=pb.CONTAINER_RAW)

    refusal = refused(lambda: narrow_stub.Denoise(flat))

    assert (refusal.code, refusal.reason, refusal.field) == (
        "INVALID_ARGUMENT",
        "IMAGE_TOO_LARGE",
        "options.output_container",
    )
    assert "4194304" in refusal.message


def test_in_a_batch_only_the_answers_that_no_longer_fit_are_refused(narrow_stub: DenoiseServiceStub) -> None:
    # Many bytes, and few enough pixels that both are in the queue at once.
    deep = png(np.full((520, 520, 4), 30_000, np.uint16))
    large = file_request(deep, strength=0.0, output_container=pb.CONTAINER_RAW)
    small = file_request(_flat_png(20), strength=0.0, output_container=pb.CONTAINER_RAW)

    results = narrow_stub.DenoiseBatch(pb.DenoiseBatchRequest(requests=[large, large, small])).results

    assert [len(result.response.image.raw.data) for result in results] == [520 * 520 * 8, 0, 20 * 20 * 3]
    assert refusal_of_status(results[1].status).reason == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize("count", [0, 5])
def test_a_batch_of_a_wrong_length_is_refused_as_a_whole(count: int, narrow_stub: DenoiseServiceStub) -> None:
    refusal = refused(lambda: narrow_stub.DenoiseBatch(pb.DenoiseBatchRequest(requests=[_GOOD[0]] * count)))

    assert (refusal.code, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", "OPTION_INVALID", "requests")
    assert f"has {count} images; 1 to 4 are allowed" in refusal.message


def _flat_png(side_px: int) -> bytes:
    return png(noisy(0, 1, 1).repeat(side_px, axis=0).repeat(side_px, axis=1))
