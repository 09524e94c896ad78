"""Two hundred unlike images from eight clients at once: every caller gets its own picture back, as if it were alone."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

import numpy as np
import pytest

from denoised import CleanResult, Client
from denoised.noise import keyed_rng
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration import harness
from tests.integration.bad_requests import BadRequest, bad_requests
from tests.integration.harness import RunningService, connected
from tests.integration.pictures import Samples, jpeg, noisy, png, raw_request
from tests.integration.refusals import refused

_CLIENT_COUNT: Final = 8
_LIMIT_S: Final = 600.0
_SIZES: Final = (
    *((1, 1), (1, 500), (500, 1), (7, 13), (64, 64), (65, 63), (100, 140), (256, 256), (333, 222), (31, 700)) * 19,
    *((800, 700),) * 7,
)
_FORMS: Final = ("png", "png16", "jpeg", "u8", "u16", "f32")


def _pictures() -> list[Samples | bytes]:
    order = keyed_rng(30).permutation(len(_SIZES))
    mixed = [
        _formed(index, _SIZES[place], channels=(1, 3, 4)[index // len(_FORMS) % 3], form=_FORMS[index % len(_FORMS)])
        for index, place in enumerate(order)
    ]
    large = [
        _formed(200 + index, (1200, 1900), channels=channels, form=form)
        for index, (channels, form) in enumerate(((3, "jpeg"), (1, "png"), (1, "u16")))
    ]
    return [*mixed[:20], large[0], *mixed[20:90], large[1], *mixed[90:150], large[2], *mixed[150:]]


def _formed(seed: int, size: tuple[int, int], *, channels: int, form: str) -> Samples | bytes:
    if form == "jpeg":
        samples = noisy(seed, *size, min(channels, 3))
        return jpeg(samples if channels > 1 else samples[..., 0])
    samples = noisy(seed, *size, channels)
    match form:
        case "png":
            return png(samples)
        case "png16":
            return png(samples.astype(np.uint16) * 257)
        case "u16":
            return samples.astype(np.uint16) * 257
        case "f32":
            return samples.astype(np.float32) / 255
        case _:
            return samples


def _one_by_one(target: str, pictures: Sequence[Samples | bytes]) -> list[Samples | bytes]:
    with Client(target) as client:
        return [client.clean(picture, timeout_s=_LIMIT_S).image for picture in pictures]


def _many_at_once(target: str, pictures: Sequence[Samples | bytes]) -> list[Samples | bytes]:
    with Client(target) as client:
        outcomes = dict(client.clean_many(pictures, concurrency=6, timeout_s=_LIMIT_S))
    answers = []
    for index in range(len(pictures)):
        outcome = outcomes[index]
        assert isinstance(outcome, CleanResult), outcome
        answers.append(outcome.image)
    return answers


def test_poisoned_images_among_others_spoil_none_of_them(served: RunningService, stub: DenoiseServiceStub) -> None:
    poisons = bad_requests()
    sizes = ((28, 28), (64, 64), (64, 64), (90, 61), (200, 130))
    good = [
        raw_request((noisy(seed, *sizes[seed % len(sizes)], 1 + 2 * (seed % 2)) / np.float32(255)).astype(np.float32))
        for seed in range(60)
    ]
    # Of the same sizes, so that they share batches with the good ones.
    for request in good[1::6]:
        spoilt = np.frombuffer(request.image.raw.data, np.float32).copy()
        spoilt[spoilt.size // 2] = np.nan
        poison = pb.DenoiseRequest()
        poison.CopyFrom(request)
        poison.image.raw.data = spoilt.tobytes()
        poisons.append(BadRequest("NaN", poison, "SAMPLES_INVALID", "image.raw.data", "row "))
    alone = [stub.Denoise(request).image for request in good]

    with ExitStack() as stack:
        clients = [stack.enter_context(connected(served.grpc_target)) for _ in range(_CLIENT_COUNT)]
        asked = []
        for place in keyed_rng(31).permutation(len(good) + len(poisons)):
            request = good[place] if place < len(good) else poisons[place - len(good)].request
            asked.append((place, clients[place % _CLIENT_COUNT].Denoise.future(request)))
        for place, call in asked:
            if place < len(good):
                assert call.result().image == alone[place], f"image {place}"
            else:
                refusal = refused(call.result)
                poison_ = poisons[place - len(good)]
                assert (refusal.reason, refusal.field) == (poison_.reason, poison_.field), poison_.name


def test_calls_that_are_cancelled_at_any_moment_leave_no_error_in_the_log(
    served: RunningService, stub: DenoiseServiceStub
) -> None:
    # Answered without a lane, and large: most of the time goes into writing the answer.
    request = raw_request(noisy(1, 1500, 1500), strength=0.0)
    for tick in range(60):
        call = stub.Denoise.future(request)
        threading.Event().wait(0.0003 * tick)
        call.cancel()
    harness.until(lambda: not served.not_at_rest(), "queue, ledger and lanes were empty")

    assert stub.Denoise(request).image == request.image
    harness.check_log(served)


@pytest.mark.slow
def test_every_caller_gets_its_own_picture_as_if_it_were_alone(served: RunningService) -> None:
    pictures = _pictures()
    assert len(pictures) == 200
    shares = [range(first, len(pictures), _CLIENT_COUNT) for first in range(_CLIENT_COUNT)]
    before = served.metrics()

    with ThreadPoolExecutor(_CLIENT_COUNT) as pool:
        asking = [
            pool.submit((_one_by_one, _many_at_once)[number % 2], served.grpc_target, [pictures[i] for i in share])
            for number, share in enumerate(shares)
        ]
        answers = {
            index: image
            for share, asked in zip(shares, asking, strict=True)
            for index, image in zip(share, asked.result(), strict=True)
        }
    after = served.metrics()

    for index, alone in enumerate(_one_by_one(served.grpc_target, pictures)):
        assert type(answers[index]) is type(alone)
        np.testing.assert_array_equal(answers[index], alone, err_msg=f"image {index}")
    assert after.value("denoised_batch_clients_sum") - before.value("denoised_batch_clients_sum") > (
        after.value("denoised_batch_clients_count") - before.value("denoised_batch_clients_count")
    ), "no batch was shared by clients"
