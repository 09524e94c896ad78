"""Raw images of any size, whole and in rows: right answers, times, counts, and room that is given back once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from denoised.contract import ModelContract
from service.errors import InvalidSamples
from service.image_tiles import BandedImage
from service.job import Job, Options, RawOrder
from service.metrics import Metrics, Stage
from service.types import Samples
from tests.unit.service.denoiser_bench import (
    CHW,
    LARGE,
    SMALL,
    Bench,
    assert_negative,
    negative,
    noise,
    png,
    samples_of,
)


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return Bench(contract, metrics)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("options", [Options(), CHW], ids=["hwc", "chw"])
@pytest.mark.parametrize("shape", [LARGE, (100, 72, 1), (200, 20, 3)])
async def test_an_image_of_several_tiles_is_answered_whole(
    bench: Bench, dtype: Any, options: Options, shape: tuple[int, int, int]
) -> None:
    picture = noise(shape, dtype)
    (outcome,) = await bench.answers(bench.raw_job(picture, options))
    assert_negative(samples_of(outcome, picture, options.raw_layout), picture)
    assert outcome.findings is not None
    assert outcome.findings.tile_count > 1
    assert outcome.findings.noise_sigma == pytest.approx(25.5)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
async def test_half_strength_is_half_way(bench: Bench, shape: tuple[int, int, int]) -> None:
    picture = noise(shape, np.float32)
    (outcome,) = await bench.answers(bench.raw_job(picture, Options(strength=0.25)))
    expected = 0.75 * picture + 0.25 * (1 - picture)
    np.testing.assert_allclose(samples_of(outcome, picture), expected, atol=1e-6)


async def test_a_network_without_a_noise_map_leaves_the_noise_unknown(
    contract: ModelContract, metrics: Metrics
) -> None:
    bench = Bench(replace(contract, sigma_map_scale_px=0), metrics)
    for outcome in await bench.answers(bench.raw_job(noise(SMALL)), bench.raw_job(noise(LARGE))):
        assert outcome.findings is not None
        assert outcome.findings.noise_sigma is None


async def test_samples_that_are_not_finite_end_a_large_image_and_are_pointed_at(bench: Bench) -> None:
    picture = noise(LARGE, np.float32)
    picture[90, 70, 2] = np.inf
    job = bench.raw_job(picture)
    bench.start(job)
    await bench.run_all()
    assert isinstance(bench.end(job), InvalidSamples)
    assert "row 90, column 70, channel 2" in str(bench.end(job))


@pytest.mark.parametrize("shape", [SMALL, LARGE])
async def test_times_are_those_of_the_clock(bench: Bench, shape: tuple[int, int, int]) -> None:
    job = bench.raw_job(noise(shape))
    bench.start(job)
    await bench.settle()
    bench.clock.now_s = 102.0
    await bench.run_all()
    timings = bench.outcome(job).timings
    run_count = len(bench.engine.shapes)
    assert (timings.decode_s, timings.queue_s) == (0.0, 2.0)
    assert (timings.compute_s, timings.encode_s) == (run_count, 0.0)
    assert timings.total_s == 2.0 + run_count


async def test_what_became_of_images_is_in_the_metrics(bench: Bench) -> None:
    failed = np.full(LARGE, np.nan, np.float32)
    small, large = noise(SMALL), noise(LARGE)
    bench.start(bench.raw_job(small), bench.raw_job(small), bench.raw_job(large), bench.raw_job(failed))
    await bench.run_all()
    (file,) = await bench.answers(bench.file_job(png(small)))
    assert file.findings is not None
    metrics = bench.metrics
    assert metrics.images["gaussian-base", "1"].value == 4
    assert metrics.pixels.value == 3 * 16 * 16 + 100 * 72
    assert metrics.image_pixels.cumulative()[-1][1] == 4
    assert metrics.noise_sigma.cumulative()[-1][1] == 4
    assert metrics.noise_sigma.total == pytest.approx(4 * 25.5)
    for stage in Stage:
        assert metrics.stage_seconds[stage].cumulative()[-1][1] == 4
    assert metrics.stage_seconds[Stage.COMPUTE].total > 0


def rows_of(bench: Bench, picture: Samples) -> tuple[Job, BandedImage]:
    job = bench.raw_job(picture, data=b"")
    order = job.order
    assert isinstance(order, RawOrder)
    image = BandedImage(order.geometry.header, plan=order.geometry.plan, scale=order.scale, strength=1.0)
    return job, image


async def test_rows_run_as_far_as_they_have_come(bench: Bench) -> None:
    picture = noise(LARGE)
    job, image = rows_of(bench, picture)
    done: list[int] = []
    answer: list[Samples] = []

    def on_tile(index: int) -> None:
        done.append(index)
        image.note_done(index)
        while (rows := image.fetch()) is not None:
            answer.append(rows)

    allow = bench.denoiser.start_rows(job, image, on_tile=on_tile)
    await bench.run_all()
    assert bench.engine.shapes == []
    data = picture.tobytes()
    for start in range(0, len(data), 5000):
        image.feed(data[start : start + 5000])
        allow(image.available_count)
        await bench.run_all()
        assert len(done) == image.available_count or image.done_tile_count == image.plan.tile_count
    outcome = bench.outcome(job)
    assert (outcome.data, outcome.image) == (b"", None)
    np.testing.assert_array_equal(np.concatenate(answer), negative(picture))
    assert sorted(done) == list(range(image.plan.tile_count))
    assert bench.admission.pending_count == 0
    bench.denoiser.close(job)
    assert not bench.has_room_taken


async def test_rows_that_are_closed_keep_their_room_while_a_lane_has_some(bench: Bench) -> None:
    picture = noise(LARGE)
    job, image = rows_of(bench, picture)
    allow = bench.denoiser.start_rows(job, image, on_tile=image.note_done)
    image.feed(picture.tobytes())
    allow(image.available_count)
    await bench.settle()
    bench.denoiser.close(job)
    assert bench.admission.reserved_bytes > 0
    await bench.run_all()
    assert not bench.has_room_taken
    assert bench.ends[job] == []


async def test_rows_that_the_batcher_does_not_take_leave_no_room_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(bench.batcher, "submit", broken)
    job, image = rows_of(bench, noise(LARGE))
    with pytest.raises(RuntimeError):
        bench.denoiser.start_rows(job, image, on_tile=image.note_done)
    assert not bench.has_room_taken
