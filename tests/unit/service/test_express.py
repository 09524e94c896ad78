"""An image that meets no other is answered on the spot, and nobody can tell but by the time that it took."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from denoised.contract import GoldenPair, ModelContract
from service.codec import SampleLayout
from service.errors import DeadlineExceeded, InvalidSamples, MemoryBudgetExceeded, ModelFailed
from service.job import Job, Options, Outcome
from service.metrics import Metrics
from service.types import Samples
from tests.unit.service.denoiser_bench import Bench, negative, noise, samples_of

# Of the bench's network: short enough for the event loop, by prediction and in fact.
SECONDS_PER_PIXEL = 1e-7
RUN_S = 1e-4
COLOUR = (16, 16, 3)


def bench_of(contract: ModelContract, metrics: Metrics, **how: Any) -> Bench:
    bench = Bench(contract, metrics, seconds_per_pixel=SECONDS_PER_PIXEL, **how)
    bench.engine.run_s = RUN_S
    return bench


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return bench_of(contract, metrics)


@pytest.fixture
def grey(contract: ModelContract) -> ModelContract:
    return replace(contract, channels=1, golden=GoldenPair.of(*[np.zeros((4, 8, 1), np.uint8)] * 2))


def answered_at_once(bench: Bench, job: Job) -> Outcome | None:
    """The answer when there is one before ``start`` returns."""
    bench.denoiser.start(job, is_alone=True)
    return bench.outcome(job) if bench.ends[job] else None


@pytest.mark.parametrize(
    ("network", "shape"),
    [("grey", (16, 16, 1)), ("grey", (5, 30, 1)), ("colour", (16, 16, 1)), ("colour", COLOUR), ("colour", (13, 9, 3))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("layout", SampleLayout)
@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("inner_levels", [False, True])
async def test_the_answer_is_the_one_of_the_usual_way(
    contract: ModelContract,
    grey: ModelContract,
    metrics: Metrics,
    network: str,
    shape: tuple[int, int, int],
    dtype: Any,
    layout: SampleLayout,
    strength: float,
    *,
    inner_levels: bool,
) -> None:
    bench = bench_of(grey if network == "grey" else contract, metrics)
    picture = noise(shape, dtype)
    options = Options(raw_layout=layout, strength=strength)
    white = {"u": float(np.iinfo(dtype).max) if dtype != np.float32 else 0.0, "f": 1.0}[np.dtype(dtype).kind]
    black, white = (white * 0.25, white * 0.75) if inner_levels else (0.0, white)
    alone, usual = (bench.raw_job(picture, options, black_level=black, white_level=white) for _ in range(2))
    fast = answered_at_once(bench, alone)
    (slow,) = await bench.answers(usual)
    assert fast is not None
    assert bytes(fast.data) == bytes(slow.data)
    assert fast._replace(data=b"", timings=slow.timings) == slow._replace(data=b"")


async def test_all_time_is_the_networks(bench: Bench) -> None:
    outcome = answered_at_once(bench, bench.raw_job(noise(COLOUR)))
    assert outcome is not None
    assert outcome.timings == pytest.approx((0.0, 0.0, RUN_S, 0.0, RUN_S))


async def test_its_room_is_taken_until_its_call_ends_whoever_reads_slowly(bench: Bench) -> None:
    job = bench.raw_job(noise(COLOUR))
    assert answered_at_once(bench, job)
    assert bench.admission.reserved_bytes == 3 * len(noise(COLOUR).tobytes())
    assert bench.admission.pending_count == 0
    bench.denoiser.close(job)
    bench.denoiser.close(job)
    assert not bench.has_room_taken


async def test_the_metrics_are_those_of_the_usual_way(contract: ModelContract) -> None:
    texts = []
    for is_alone in (True, False):
        metrics = Metrics(CollectorRegistry())
        bench = bench_of(contract, metrics)
        for seed in range(20):
            job = bench.raw_job(noise(COLOUR, seed=seed))
            bench.denoiser.start(job, is_alone=is_alone)
            assert bool(bench.ends[job]) == is_alone
            await bench.settle()
            assert bench.outcome(job)
            bench.denoiser.close(job)
        # What a prediction was, and the lanes' own stitching, are not the same on both ways.
        lines = metrics.exposition().decode().splitlines()
        texts.append([_rounded(line) for line in lines if "offered" not in line and "stitch" not in line])
    assert texts[0] == texts[1]
    assert 'denoised_images_total{model="gaussian-base",version="1"} 20' in texts[0]


def _rounded(line: str) -> str:
    """Sums of floats differ in their last bits."""
    name, _, value = line.rpartition(" ")
    return line if line.startswith("#") else f"{name} {float(value):.9g}"


async def test_who_looks_twice_sees_each_image_once(bench: Bench, metrics: Metrics) -> None:
    assert answered_at_once(bench, bench.raw_job(noise(COLOUR)))
    for _ in range(2):
        assert b'denoised_images_total{model="gaussian-base",version="1"} 1.0' in metrics.exposition()


async def test_the_event_loop_stands_still_for_a_bounded_time_of_each_turn(bench: Bench) -> None:
    # Of a millisecond; what the second one leaves is too little for a third.
    bench.engine.run_s = 4e-4
    order = bench.raw_order(noise(COLOUR))

    def job() -> Job:
        return bench.job(order, noise(COLOUR).tobytes())

    assert [answered_at_once(bench, job()) is not None for _ in range(5)] == [True, True, False, False, False]
    await bench.run_all()
    await asyncio.sleep(0)
    assert answered_at_once(bench, job()) is not None


async def test_an_image_that_meets_another_takes_the_usual_way(bench: Bench) -> None:
    large = bench.raw_job(noise((100, 72, 3)))
    bench.denoiser.start(large, is_alone=True)
    small = bench.raw_job(noise(COLOUR))
    assert answered_at_once(bench, small) is None
    await bench.run_all()
    for job, shape in ((large, (100, 72, 3)), (small, COLOUR)):
        np.testing.assert_array_equal(samples_of(bench.outcome(job), noise(shape)), negative(noise(shape)))


async def test_what_takes_long_is_no_work_for_the_event_loop(contract: ModelContract, metrics: Metrics) -> None:
    bench = Bench(contract, metrics, seconds_per_pixel=1e-4)
    assert answered_at_once(bench, bench.raw_job(noise(COLOUR))) is None


async def test_what_it_costs_is_learnt(bench: Bench) -> None:
    bench.engine.run_s = 0.01
    order = bench.raw_order(noise(COLOUR))
    assert answered_at_once(bench, bench.job(order, noise(COLOUR).tobytes())) is not None
    await bench.settle()
    assert answered_at_once(bench, bench.job(order, noise(COLOUR).tobytes())) is None


async def test_a_network_that_fails_fails_this_image_with_its_reason(bench: Bench, metrics: Metrics) -> None:
    picture: Samples = noise(COLOUR, np.float32)
    bench.engine.poison = float(picture[0, 0, 0])
    job = bench.raw_job(picture)
    assert answered_at_once(bench, job) is None
    await bench.run_all()
    assert isinstance(bench.end(job), ModelFailed)
    bench.denoiser.close(job)
    assert not bench.has_room_taken
    assert metrics.batch_failures.value == 1


async def test_samples_that_are_not_finite_are_pointed_at(bench: Bench) -> None:
    picture = noise(COLOUR, np.float32)
    picture[3, 5, 1] = np.nan
    job = bench.raw_job(picture)
    assert answered_at_once(bench, job) is None
    await bench.run_all()
    assert isinstance(bench.end(job), InvalidSamples)


async def test_too_few_samples_are_refused(bench: Bench) -> None:
    with pytest.raises(InvalidSamples, match="got 767"):
        bench.denoiser.start(bench.raw_job(noise(COLOUR), data=bytes(767)), is_alone=True)
    assert not bench.has_room_taken


async def test_an_image_without_room_is_refused(contract: ModelContract, metrics: Metrics) -> None:
    bench = bench_of(contract, metrics, memory_bytes=3 * 768)
    held = bench.raw_job(noise(COLOUR))
    assert answered_at_once(bench, held)
    with pytest.raises(MemoryBudgetExceeded):
        bench.denoiser.start(bench.raw_job(noise(COLOUR)), is_alone=True)


async def test_a_deadline_that_has_passed_is_told(bench: Bench) -> None:
    with pytest.raises(DeadlineExceeded):
        bench.denoiser.start(bench.raw_job(noise(COLOUR), deadline_s=bench.clock.now_s), is_alone=True)


async def test_strength_zero_gives_the_input_back(bench: Bench) -> None:
    picture = noise(COLOUR)
    job = bench.raw_job(picture, Options(strength=0.0))
    assert answered_at_once(bench, job) is None
    await bench.settle()
    assert bytes(bench.outcome(job).data) == picture.tobytes()
    assert bench.engine.shapes == []
