"""Small images side by side: each has its own right answer or reason, and is counted, told and given back once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from denoised.contract import GoldenPair, ModelContract
from service import stack_path
from service.codec import SampleLayout
from service.errors import DeadlineExceeded, InvalidSamples, ModelFailed
from service.job import Findings, Options, Outcome
from service.metrics import Drop, Metrics, Stage
from service.types import Container
from tests.unit.service.denoiser_bench import ALICE, BOB, SMALL, Bench, assert_negative, negative, noise, samples_of


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return Bench(contract, metrics)


@pytest.fixture
def grey(contract: ModelContract) -> ModelContract:
    return replace(contract, channels=1, golden=GoldenPair.of(*[np.zeros((4, 8, 1), np.uint8)] * 2))


async def test_small_images_of_one_turn_run_as_one_batch_and_have_their_own_answers(bench: Bench) -> None:
    pictures = [noise(SMALL, seed=seed) for seed in range(3)]
    order = bench.raw_order(pictures[0])
    jobs = [bench.job(order, picture.tobytes()) for picture in pictures]
    outcomes = await bench.answers(*jobs)
    assert [shape[0] for shape in bench.engine.shapes] == [3]
    for picture, outcome in zip(pictures, outcomes, strict=True):
        np.testing.assert_array_equal(samples_of(outcome, picture), negative(picture))
        assert (outcome.container, outcome.image) == (Container.RAW, None)
        assert outcome.findings == pytest.approx(Findings(25.5, 0, 1, 3, 1))


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        ("grey", (16, 16, 1)),
        ("grey", (5, 30, 1)),
        ("colour", (16, 16, 1)),
        ("colour", (5, 30, 1)),
        ("colour", (16, 16, 3)),
        ("colour", (13, 9, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("layout", SampleLayout)
async def test_small_images_of_every_kind_come_back_in_their_own_form(
    contract: ModelContract,
    grey: ModelContract,
    metrics: Metrics,
    shape: tuple[int, int, int],
    dtype: Any,
    layout: SampleLayout,
    network: str,
) -> None:
    bench = Bench(grey if network == "grey" else contract, metrics)
    pictures = [noise(shape, dtype, seed=seed) for seed in range(4)]
    order = bench.raw_order(pictures[0], Options(raw_layout=layout))
    jobs = [bench.job(order, bench.raw_job(p, Options(raw_layout=layout)).data) for p in pictures]
    for picture, outcome in zip(pictures, await bench.answers(*jobs), strict=True):
        assert_negative(samples_of(outcome, picture, layout), picture)


async def test_images_of_different_orders_or_clients_do_not_go_side_by_side(bench: Bench) -> None:
    first, second = noise(SMALL, seed=1), noise((8, 8, 3), seed=2)
    order = bench.raw_order(first)
    jobs = [
        bench.job(order, first.tobytes(), client=ALICE),
        bench.job(order, first.tobytes(), client=BOB),
        bench.raw_job(second),
    ]
    outcomes = await bench.answers(*jobs)
    for picture, outcome in zip((first, first, second), outcomes, strict=True):
        np.testing.assert_array_equal(samples_of(outcome, picture), negative(picture))
    assert outcomes[0].findings is not None
    assert (outcomes[0].findings.shared_request_count, outcomes[0].findings.shared_client_count) == (3, 2), (
        "one batch all the same"
    )


async def test_one_with_little_time_fails_alone(bench: Bench) -> None:
    picture = noise(SMALL)
    order = bench.raw_order(picture)
    hurried, patient = (bench.job(order, picture.tobytes(), deadline_s=at_s) for at_s in (100.5, 200.0))
    bench.start(hurried, patient)
    bench.clock.now_s = 101.0
    await bench.run_all()
    assert isinstance(bench.end(hurried), DeadlineExceeded)
    np.testing.assert_array_equal(samples_of(bench.outcome(patient), picture), negative(picture))


async def test_samples_that_are_not_finite_fail_alone_and_are_pointed_at(bench: Bench) -> None:
    good, bad = noise(SMALL, np.float32), noise(SMALL, np.float32)
    bad[3, 5, 1] = np.nan
    order = bench.raw_order(good)
    jobs = [bench.job(order, picture.tobytes()) for picture in (good, bad, good)]
    bench.start(*jobs)
    await bench.run_all()
    error = bench.end(jobs[1])
    assert isinstance(error, InvalidSamples)
    assert error.field == "image.raw.data"
    assert "row 3, column 5, channel 1" in str(error)
    for job in (jobs[0], jobs[2]):
        np.testing.assert_array_equal(samples_of(bench.outcome(job), good), negative(good))


async def test_one_that_breaks_the_network_fails_alone(bench: Bench) -> None:
    pictures = [np.full(SMALL, value, np.uint8) for value in (0, 255, 0)]
    bench.engine.poison = 1.0
    order = bench.raw_order(pictures[0])
    jobs = [bench.job(order, picture.tobytes()) for picture in pictures]
    bench.start(*jobs)
    await bench.run_all()
    assert [type(bench.end(job)) for job in jobs] == [Outcome, ModelFailed, Outcome]


async def test_samples_outside_the_levels_are_counted_for_each_image_apart(bench: Bench) -> None:
    inside, outside = np.full(SMALL, 100, np.uint8), np.full(SMALL, 100, np.uint8)
    outside[0, :5, 0] = 250
    order = bench.raw_order(inside, white_level=200.0)
    outcomes = await bench.answers(*(bench.job(order, picture.tobytes()) for picture in (inside, outside)))
    assert [outcome.findings and outcome.findings.clipped_sample_count for outcome in outcomes] == [0, 5]


async def test_one_that_is_closed_early_is_not_told_and_keeps_its_room_until_its_unit_has_run(bench: Bench) -> None:
    picture = noise(SMALL)
    order = bench.raw_order(picture)
    left, stays = (bench.job(order, picture.tobytes()) for _ in range(2))
    bench.start(left, stays)
    await bench.settle()
    both_bytes = bench.admission.reserved_bytes
    bench.denoiser.close(left)
    assert bench.admission.reserved_bytes == both_bytes, "a lane has its samples"
    assert bench.admission.pending_count == 1
    await bench.run_all()
    assert bench.ends[left] == []
    bench.outcome(stays)
    assert bench.admission.reserved_bytes == both_bytes // 2
    bench.denoiser.close(stays)
    assert not bench.has_room_taken


async def test_one_that_is_closed_in_the_turn_that_brought_it_never_begins(bench: Bench) -> None:
    picture = noise(SMALL)
    order = bench.raw_order(picture)
    left, stays = (bench.job(order, picture.tobytes()) for _ in range(2))
    bench.start(left, stays)
    bench.denoiser.close(left)
    assert bench.admission.request_count == 1, "nothing uses its memory"
    await bench.run_all()
    assert [shape[0] for shape in bench.engine.shapes] == [1]
    assert bench.ends[left] == []
    bench.denoiser.close(stays)
    assert not bench.has_room_taken


async def test_nothing_runs_when_all_are_closed_in_the_turn_that_brought_them(bench: Bench) -> None:
    jobs = [bench.raw_job(noise(SMALL)), bench.raw_job(noise(SMALL, np.uint16))]
    bench.start(*jobs)
    for job in jobs:
        bench.denoiser.close(job)
    assert not bench.has_room_taken
    await bench.run_all()
    assert (bench.engine.shapes, bench.ends) == ([], {job: [] for job in jobs})


async def test_when_all_have_left_what_waits_is_dropped_and_what_runs_keeps_its_room(bench: Bench) -> None:
    picture = noise(SMALL)
    order = bench.raw_order(picture)
    running = [bench.job(order, picture.tobytes()) for _ in range(2)]
    bench.start(*running)
    await bench.settle()
    waiting = [bench.job(order, picture.tobytes()) for _ in range(2)]
    bench.start(*waiting)
    await bench.settle()
    for job in (*waiting, *running):
        bench.denoiser.close(job)
    assert bench.admission.request_count == 2, "those that a lane has"
    assert bench.metrics.units_dropped[Drop.CANCELLED].value == 2
    await bench.run_all()
    assert not bench.has_room_taken
    assert not any(bench.ends.values())


async def test_images_that_expire_in_a_lane_keep_their_room_until_it_is_done(bench: Bench) -> None:
    picture = noise(SMALL)
    order = bench.raw_order(picture)
    jobs = [bench.job(order, picture.tobytes(), deadline_s=101.0) for _ in range(2)]
    bench.start(*jobs)
    await bench.settle()
    bench.clock.now_s = 102.0
    bench.batcher.tick()
    for job in jobs:
        assert isinstance(bench.end(job), DeadlineExceeded)
        bench.denoiser.close(job)
    assert bench.admission.request_count == 2
    await bench.run_all()
    assert not bench.has_room_taken
    assert [len(ends) for ends in bench.ends.values()] == [1, 1]


async def test_images_that_can_not_be_put_side_by_side_are_told_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = MemoryError()

    def no_memory(*_: object) -> None:
        raise error

    monkeypatch.setattr(stack_path, "Stack", no_memory)
    jobs = [bench.raw_job(noise(SMALL)) for _ in range(2)]
    bench.start(*jobs)
    bench.denoiser.close(jobs[0])
    await bench.run_all()
    assert bench.ends == {jobs[0]: [], jobs[1]: [error]}
    bench.denoiser.close(jobs[1])
    assert not bench.has_room_taken


async def test_who_was_answered_is_counted_though_the_others_left(contract: ModelContract, metrics: Metrics) -> None:
    """Images that were side by side and ran in two lanes, one after the other, each with its own time."""
    bench = Bench(contract, metrics, lane_count=2)
    picture = noise(SMALL)
    order = bench.raw_order(picture)
    first, second, leaves = (bench.job(order, picture.tobytes()) for _ in range(3))
    bench.start(first, second, leaves)
    await bench.settle()
    busy = [lane for lane in bench.lanes if lane.batches]
    busy[0].turn()
    answered = [job for job in (first, second, leaves) if bench.ends[job]]
    assert 0 < len(answered) < 3
    for job in (first, second, leaves):
        bench.denoiser.close(job)
    await bench.run_all()
    assert metrics.images["gaussian-base", "1"].value == len(answered)
    assert metrics.stage_seconds[Stage.TOTAL].cumulative()[-1][1] == len(answered)
    assert not bench.has_room_taken


async def test_images_side_by_side_are_counted_with_the_time_of_their_own_batch(
    contract: ModelContract, metrics: Metrics
) -> None:
    bench = Bench(contract, metrics, lane_count=2)
    picture = noise(SMALL)
    order = bench.raw_order(picture)
    outcomes = await bench.answers(*(bench.job(order, picture.tobytes()) for _ in range(4)))
    assert len({outcome.timings.total_s for outcome in outcomes}) == 2, "lanes take turns on the clock"
    assert metrics.stage_seconds[Stage.TOTAL].total == pytest.approx(sum(o.timings.total_s for o in outcomes))
