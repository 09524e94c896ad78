"""Images on their way: each has its own right answer or reason, is told once, and its room is given back once.

Room is given back only when nothing uses the image's memory any more, whenever the call ended.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from denoised.contract import GoldenPair, ModelContract
from service import codec, pipeline
from service.codec import SampleLayout
from service.errors import (
    CapabilityMissing,
    DeadlineExceeded,
    ImageTooLarge,
    InvalidImage,
    InvalidSamples,
    MemoryBudgetExceeded,
    ModelFailed,
    QueueFull,
    ServiceError,
    UnsupportedImage,
)
from service.image_tiles import BandedImage
from service.job import Findings, Job, Options, Outcome, RawOrder
from service.metrics import Drop, Metrics, Stage, Verdict
from service.types import Container, Image, ImageHeader, Samples, ServiceClass
from tests.unit.service.denoiser_bench import (
    ALICE,
    BOB,
    Bench,
    CodecsAtOnce,
    HandClock,
    HeldCodecs,
    negative,
    noise,
    png,
    samples_of,
)

SMALL = (16, 16, 3)
# Several tiles of the contract's edges.
LARGE = (100, 72, 3)
CHW = Options(raw_layout=SampleLayout.CHW)


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return Bench(contract, metrics)


@pytest.fixture
def grey(contract: ModelContract) -> ModelContract:
    return replace(contract, channels=1, golden=GoldenPair.of(*[np.zeros((4, 8, 1), np.uint8)] * 2))


def assert_negative(answer: Samples, picture: Samples) -> None:
    """Exactly; of float samples but for the last bit, because a grey answer is the mean of three channels."""
    np.testing.assert_allclose(answer, negative(picture), rtol=0, atol=1e-7)


# --- small raw images, side by side -----------------------------------------------------------------------------------


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

    monkeypatch.setattr(pipeline, "Stack", no_memory)
    jobs = [bench.raw_job(noise(SMALL)) for _ in range(2)]
    bench.start(*jobs)
    bench.denoiser.close(jobs[0])
    await bench.run_all()
    assert bench.ends == {jobs[0]: [], jobs[1]: [error]}
    bench.denoiser.close(jobs[1])
    assert not bench.has_room_taken


# --- raw images of any size -------------------------------------------------------------------------------------------


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


# --- files, alpha, and whatever needs a codec -------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(16, 16), (70, 90)])
async def test_a_png_comes_back_as_a_png_of_its_depth_with_its_alpha(
    bench: Bench, channels: int, dtype: Any, size: tuple[int, int]
) -> None:
    picture = noise((*size, channels), dtype)
    (outcome,) = await bench.answers(bench.file_job(png(picture)))
    assert outcome.container is Container.PNG
    file = bytes(outcome.data)
    header = codec.sniff(file, claimed=Container.PNG)
    assert (header.channels, header.bits) == (channels, picture.dtype.itemsize * 8)
    back = codec.decode(file, header)
    colour_count = channels - (channels in {2, 4})
    np.testing.assert_array_equal(back.colour, negative(picture[:, :, :colour_count]))
    if back.alpha is not None:
        np.testing.assert_array_equal(back.alpha, picture[:, :, -1])
    assert (back.alpha is not None) == (channels in {2, 4})


@pytest.mark.parametrize("quality", [50, 95])
async def test_a_jpeg_comes_back_as_a_jpeg(bench: Bench, quality: int) -> None:
    picture = Image(noise((32, 32, 3)), None, 0.0, 255.0)
    file = bytes(codec.encode(picture, Container.JPEG, jpeg_quality=95))
    (outcome,) = await bench.answers(bench.file_job(file, Options(jpeg_quality=quality)))
    sent = codec.decode(file, codec.sniff(file, claimed=None))
    expected = codec.encode(replace(sent, colour=negative(sent.colour)), Container.JPEG, jpeg_quality=quality)
    assert bytes(outcome.data) == bytes(expected)
    assert outcome.container is Container.JPEG


@pytest.mark.parametrize("options", [Options(), CHW], ids=["hwc", "chw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(16, 16, 4), (20, 12, 2), (100, 72, 4)])
async def test_the_alpha_of_raw_samples_passes_untouched(
    bench: Bench, options: Options, dtype: Any, shape: tuple[int, int, int]
) -> None:
    picture = noise(shape, dtype)
    (outcome,) = await bench.answers(bench.raw_job(picture, options))
    answer = samples_of(outcome, picture, options.raw_layout)
    assert_negative(answer[:, :, :-1], picture[:, :, :-1])
    np.testing.assert_array_equal(answer[:, :, -1], picture[:, :, -1])
    assert outcome.image is not None
    assert outcome.image.channel_count == shape[2]


async def test_raw_samples_become_a_file_and_a_file_raw_samples(bench: Bench) -> None:
    picture = noise((24, 40, 3), np.uint16)
    to_file = Options(output_container=Container.PNG)
    to_raw = Options(output_container=Container.RAW)
    file, raw = await bench.answers(bench.raw_job(picture, to_file), bench.file_job(png(picture), to_raw))
    assert bytes(file.data) == png(negative(picture))
    np.testing.assert_array_equal(samples_of(raw, picture), negative(picture))
    assert (file.container, raw.container) == (Container.PNG, Container.RAW)


async def test_levels_of_a_file_stay_with_the_answer(bench: Bench) -> None:
    picture = np.full((16, 16, 1), 1000, np.uint16)
    job = bench.raw_job(picture, Options(output_container=Container.PNG), white_level=4000.0)
    (outcome,) = await bench.answers(job)
    assert outcome.image is not None
    assert (outcome.image.black_level, outcome.image.white_level) == (0.0, 4000.0)
    assert int(outcome.image.colour[0, 0, 0]) == 3000


@pytest.mark.parametrize("make", [lambda b, p, o: b.raw_job(p, o), lambda b, p, o: b.file_job(png(p), o)])
@pytest.mark.parametrize("shape", [SMALL, LARGE, (16, 16, 4)])
async def test_without_strength_an_image_comes_back_as_it_came(
    bench: Bench, make: Callable[[Bench, Samples, Options], Job], shape: tuple[int, int, int]
) -> None:
    job = make(bench, noise(shape), Options(strength=0.0))
    (outcome,) = await bench.answers(job)
    assert outcome.data is job.data
    assert (outcome.findings, outcome.image) == (None, None)
    assert outcome.timings == (0.0,) * 5
    assert bench.engine.shapes == []
    assert not bench.has_room_taken


async def test_without_strength_no_time_of_the_network_is_charged_or_waited_for(
    contract: ModelContract, metrics: Metrics
) -> None:
    bench = Bench(contract, metrics, seconds_per_pixel=1.0)
    ahead = bench.raw_job(noise((32, 32, 3)))
    bench.start(ahead)
    await bench.settle()
    offered_s = metrics.offered_work_seconds[Verdict.ADMITTED].value
    job = bench.raw_job(noise((32, 32, 3)), Options(strength=0.0, output_container=Container.PNG), deadline_s=1e3)
    bench.start(job)
    assert metrics.offered_work_seconds[Verdict.ADMITTED].value == offered_s
    assert (bench.admission.pending_count, bench.admission.request_count) == (1, 2)
    await bench.settle()
    (end,) = bench.ends[job]
    assert isinstance(end, Outcome)
    bench.denoiser.close(job)
    await bench.run_all()
    bench.denoiser.close(ahead)
    assert bench.admission.reserved_bytes == 0


async def test_without_strength_another_container_is_all_that_changes(bench: Bench) -> None:
    picture = noise((16, 24, 3))
    options = Options(strength=0.0, output_container=Container.PNG)
    (outcome,) = await bench.answers(bench.raw_job(picture, options))
    assert bytes(outcome.data) == png(picture)
    assert outcome.findings is None
    assert bench.engine.shapes == []


async def test_an_untouched_image_that_is_closed_before_it_is_told_is_not_told(bench: Bench) -> None:
    job = bench.raw_job(noise(SMALL), Options(strength=0.0))
    bench.start(job)
    bench.denoiser.close(job)
    await bench.settle()
    assert bench.ends[job] == []


async def test_a_file_that_can_not_be_read_fails_and_leaves_nothing(bench: Bench) -> None:
    file = png(noise((16, 16, 3)))
    job = bench.file_job(file[:60] + bytes(len(file) - 60))
    bench.start(job)
    await bench.run_all()
    assert isinstance(bench.end(job), InvalidImage)
    bench.denoiser.close(job)
    await bench.settle()
    assert not bench.has_room_taken


async def test_a_file_that_breaks_the_network_fails(bench: Bench) -> None:
    bench.engine.poison = 1.0
    job = bench.file_job(png(np.full(LARGE, 255, np.uint8)))
    bench.start(job)
    await bench.run_all()
    assert isinstance(bench.end(job), ModelFailed)


# --- rows that come one after the other -------------------------------------------------------------------------------


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


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SMALL, LARGE, (16, 16, 4)])
@pytest.mark.parametrize("change", [-1, 1])
async def test_samples_of_a_wrong_length_are_refused(bench: Bench, shape: tuple[int, int, int], change: int) -> None:
    picture = noise(shape)
    with pytest.raises(InvalidSamples, match=f"are {picture.size} bytes, got {picture.size + change}") as raised:
        bench.start(bench.raw_job(picture, data=bytes(picture.size + change)))
    assert raised.value.field == "image.raw.data"
    assert not bench.has_room_taken


def header_of(*, side_px: int = 16, channels: int = 3, bits: int = 8) -> ImageHeader:
    return ImageHeader(Container.RAW, side_px, side_px, channels, bits)


def test_a_model_that_does_not_denoise_takes_no_image(bench: Bench, contract: ModelContract) -> None:
    model = replace(bench.model, contract=replace(contract, kind="vae", capabilities=("encode",), code_length=3))
    with pytest.raises(CapabilityMissing, match="can't denoise, it can encode; choose another one"):
        bench.denoiser.geometry(header_of(), model, Options())


def test_a_model_of_one_size_takes_that_size_alone(bench: Bench, contract: ModelContract) -> None:
    sized = replace(
        contract,
        fixed_side_px=16,
        unit_edges_px=(16,),
        halo_px=0,
        golden=GoldenPair.of(*[np.zeros((16, 16, 3), np.uint8)] * 2),
    )
    model = replace(bench.model, contract=sized)
    assert bench.denoiser.geometry(header_of(side_px=16), model, Options()).plan.tile_count == 1
    for side_px in (15, 17):
        with pytest.raises(UnsupportedImage, match=f"{side_px} x {side_px} px and the model .* 16 x 16 px only"):
            bench.denoiser.geometry(header_of(side_px=side_px), model, Options())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_grey_model_takes_no_colour(bench: Bench, grey: ModelContract, channels: int) -> None:
    model = replace(bench.model, contract=grey)
    if channels <= 2:
        assert bench.denoiser.geometry(header_of(channels=channels), model, Options()).group.channels == 1
        return
    with pytest.raises(UnsupportedImage, match="has colour") as raised:
        bench.denoiser.geometry(header_of(channels=channels), model, Options())
    assert raised.value.field == "options.model"


def test_what_comes_in_chunks_may_be_larger(bench: Bench) -> None:
    header = ImageHeader(Container.RAW, 1001, 1000, 1, 8)
    with pytest.raises(ImageTooLarge):
        bench.denoiser.geometry(header, bench.model, Options())
    assert bench.denoiser.geometry(header, bench.model, Options(), in_chunks=True).header is header


@pytest.mark.parametrize("header", [header_of(bits=16), header_of(bits=32), header_of(channels=4)])
def test_what_does_not_fit_the_container_is_refused_before_anything_runs(bench: Bench, header: ImageHeader) -> None:
    with pytest.raises(ServiceError) as raised:
        bench.denoiser.geometry(header, bench.model, Options(output_container=Container.JPEG))
    assert getattr(raised.value, "field", "") == "options.output_container"


MAKERS: dict[str, Callable[[Bench], Job]] = {
    "small": lambda bench: bench.raw_job(noise(SMALL)),
    "large": lambda bench: bench.raw_job(noise(LARGE)),
    "file": lambda bench: bench.file_job(png(noise(LARGE))),
}
every_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@every_kind
async def test_an_image_whose_deadline_has_passed_is_refused(bench: Bench, make: Callable[[Bench], Job]) -> None:
    job = make(bench)
    job.deadline_s = bench.clock.now_s
    with pytest.raises(DeadlineExceeded, match="when the image arrived"):
        bench.start(job)
    assert not bench.has_room_taken


@every_kind
async def test_a_full_queue_refuses_and_takes_again_when_it_is_empty(
    contract: ModelContract, metrics: Metrics, make: Callable[[Bench], Job]
) -> None:
    bench = Bench(contract, metrics, queue_requests=1)
    first = make(bench)
    bench.start(first)
    refused = make(bench)
    with pytest.raises(QueueFull):
        bench.start(refused)
    await bench.run_all()
    bench.denoiser.close(refused)
    bench.denoiser.close(first)
    await bench.settle()
    assert not bench.has_room_taken
    assert bench.ends[refused] == []
    bench.start(make(bench))


@every_kind
async def test_memory_is_the_callers_until_it_closes(
    contract: ModelContract, metrics: Metrics, make: Callable[[Bench], Job]
) -> None:
    """Who reads the answer slowly holds it all the while."""
    one = Bench(contract, metrics)
    one.start(make(one))
    bench = Bench(contract, metrics, memory_bytes=one.admission.reserved_bytes)
    first = make(bench)
    await bench.answers(first)
    assert bench.admission.pending_count == 0
    with pytest.raises(MemoryBudgetExceeded):
        bench.start(make(bench))
    bench.denoiser.close(first)
    await bench.settle()
    await bench.answers(make(bench))
    await one.run_all()


@every_kind
async def test_an_image_that_the_batcher_does_not_take_leaves_no_room_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, make: Callable[[Bench], Job]
) -> None:
    error = RuntimeError("a bug")

    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(bench.batcher, "submit", broken)
    job = make(bench)
    with contextlib.suppress(RuntimeError):
        bench.start(job)
        await bench.settle()
        assert bench.ends[job] == [error], "told, unless start raised it"
        bench.denoiser.close(job)
        await bench.settle()
    assert not bench.has_room_taken


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


# --- deadlines and departures at every stage --------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("is_running", [False, True], ids=["queued", "running"])
async def test_a_deadline_that_passes_before_the_network_is_done_is_the_end(
    bench: Bench, make: Callable[[Bench], Job], *, is_running: bool
) -> None:
    before = bench.raw_job(noise((64, 64, 3)))
    if not is_running:
        bench.start(before)
        await bench.settle()
    job = make(bench)
    job.deadline_s = 150.0
    bench.start(job)
    await bench.settle()
    bench.clock.now_s = 151.0
    bench.batcher.tick()
    await bench.settle()
    assert isinstance(bench.end(job), DeadlineExceeded)
    bench.denoiser.close(job)
    await bench.settle()
    assert bench.admission.request_count == 1, "the one that is in the lane"
    await bench.run_all()
    bench.denoiser.close(before)
    assert not bench.has_room_taken
    assert len(bench.ends[job]) == 1


@every_kind
@pytest.mark.parametrize("is_running", [False, True], ids=["queued", "running"])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_image_that_is_closed_before_the_network_is_done_is_dropped(
    bench: Bench, make: Callable[[Bench], Job], times: int, *, is_running: bool
) -> None:
    before = bench.raw_job(noise((64, 64, 3)))
    if not is_running:
        bench.start(before)
        await bench.settle()
    job = make(bench)
    bench.start(job)
    await bench.settle()
    for _ in range(times):
        bench.denoiser.close(job)
        await bench.settle()
    assert bench.admission.request_count == 1, "the one that is in the lane"
    await bench.run_all()
    bench.denoiser.close(before)
    assert not bench.has_room_taken
    assert bench.ends[job] == []
    assert len(bench.engine.shapes) == (not is_running), "nobody waits for it when the lane comes to it"


@every_kind
async def test_an_answered_image_gives_its_room_back_once(bench: Bench, make: Callable[[Bench], Job]) -> None:
    job = make(bench)
    await bench.answers(job)
    assert bench.admission.reserved_bytes > 0
    for _ in range(2):
        bench.denoiser.close(job)
        await bench.settle()
        assert not bench.has_room_taken


async def test_a_file_that_is_closed_at_once_is_never_decoded(contract: ModelContract, metrics: Metrics) -> None:
    codecs = CodecsAtOnce()
    bench = Bench(contract, metrics, codecs=codecs)
    job = bench.file_job(png(noise(SMALL)))
    bench.start(job)
    bench.denoiser.close(job)
    await bench.run_all()
    assert not bench.has_room_taken
    assert (codecs.run_count, bench.ends[job]) == (0, [])


class CodecBench(Bench):
    """With one codec thread that the test holds."""

    def __init__(self, contract: ModelContract, metrics: Metrics) -> None:
        clock = HandClock()
        self.codecs = HeldCodecs(clock=clock)
        super().__init__(contract, metrics, clock=clock, codecs=self.codecs)

    def end_threads(self) -> None:
        self.codecs.let_go()
        self.codecs.close()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """The thread's result comes back through the loop."""
        while not is_so():  # noqa: ASYNC110 -- what is waited for is whatever the test asks, and comes soon
            await asyncio.sleep(0)


async def test_a_file_that_is_closed_while_a_thread_reads_it_keeps_its_room_until_then(
    contract: ModelContract, metrics: Metrics
) -> None:
    bench = CodecBench(contract, metrics)
    job = bench.file_job(png(noise(LARGE)))
    bench.start(job)
    await bench.codecs.wait_begun()
    for _ in range(2):
        bench.denoiser.close(job)
        await bench.settle()
        assert bench.admission.request_count == 1
    bench.codecs.let_go()
    await bench.until(lambda: bench.codecs.busy_count == 0)
    await bench.settle()
    assert not bench.has_room_taken
    assert (bench.ends[job], bench.engine.shapes) == ([], [])
    bench.end_threads()


async def test_a_file_that_is_closed_while_a_thread_writes_its_answer_keeps_its_room_until_then(
    contract: ModelContract, metrics: Metrics
) -> None:
    bench = CodecBench(contract, metrics)
    job = bench.file_job(png(noise(SMALL)))
    bench.start(job)
    await bench.codecs.wait_begun()
    bench.codecs.let_go()
    await bench.until(lambda: bool(bench.lanes[0].batches))
    bench.lanes[0].turn()
    await bench.codecs.wait_begun()
    assert bench.admission.pending_count == 0, "the network is done with it"
    bench.denoiser.close(job)
    await bench.settle()
    assert bench.admission.reserved_bytes > 0
    bench.codecs.let_go()
    await bench.until(lambda: bench.codecs.busy_count == 0)
    await bench.settle()
    assert not bench.has_room_taken
    assert bench.ends[job] == []
    bench.end_threads()


@pytest.mark.parametrize("is_closed", [False, True], ids=["deadline", "closed"])
async def test_a_file_that_waits_for_a_thread_is_taken_back(
    contract: ModelContract, metrics: Metrics, *, is_closed: bool
) -> None:
    bench = CodecBench(contract, metrics)
    first, waiting = bench.file_job(png(noise(SMALL))), bench.file_job(png(noise(SMALL)), deadline_s=150.0)
    bench.start(first, waiting)
    await bench.codecs.wait_begun()
    if is_closed:
        bench.denoiser.close(waiting)
        await bench.settle()
        assert bench.admission.request_count == 1, "no thread has it"
    bench.clock.now_s = 151.0
    bench.codecs.let_go()
    await bench.until(lambda: bool(bench.lanes[0].batches))
    bench.lanes[0].turn()
    await bench.codecs.wait_begun()
    bench.codecs.let_go()
    await bench.until(lambda: bool(bench.ends[first]))
    assert [type(end) for end in bench.ends[waiting]] == ([] if is_closed else [DeadlineExceeded])
    for job in (first, waiting):
        bench.denoiser.close(job)
    await bench.settle()
    assert not bench.has_room_taken
    bench.end_threads()


# --- who else is there ------------------------------------------------------------------------------------------------


async def test_what_is_too_small_for_a_thread_runs_on_the_loop_and_is_the_same(
    contract: ModelContract, metrics: Metrics
) -> None:
    bench = Bench(contract, metrics, seconds_per_pixel=1e-9)
    picture = noise(SMALL)
    job = bench.raw_job(picture)
    bench.start(job)
    await bench.settle()
    np.testing.assert_array_equal(samples_of(bench.outcome(job), picture), negative(picture))
    assert not any(lane.batches for lane in bench.lanes)


async def test_the_urgency_that_is_asked_for_is_kept(bench: Bench) -> None:
    """Bulk work that came first runs after what somebody waits for."""
    bench.start(bench.raw_job(noise((64, 64, 3))))
    await bench.settle()
    ended: list[ServiceClass] = []
    for service_class in (ServiceClass.BULK, ServiceClass.INTERACTIVE):
        picture = noise((32, 64, 3) if service_class is ServiceClass.BULK else (64, 32, 3))
        job = bench.raw_job(picture, Options(service_class=service_class))
        job.on_done = lambda job, _: ended.append(job.order.options.service_class)
        bench.denoiser.start(job)
        await bench.settle()
    await bench.run_all()
    assert ended == [ServiceClass.INTERACTIVE, ServiceClass.BULK]
