"""Files, alpha, and whatever needs a codec: nothing is lost of a file, and a thread keeps what it works on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from denoised.contract import ModelContract
from service import codec
from service.errors import DeadlineExceeded, InvalidImage, ModelFailed
from service.job import Job, Options, Outcome
from service.metrics import Metrics, Verdict
from service.types import Container, Image, Samples
from tests.unit.service.denoiser_bench import (
    CHW,
    LARGE,
    SMALL,
    Bench,
    CodecsAtOnce,
    HandClock,
    HeldCodecs,
    assert_negative,
    negative,
    noise,
    png,
    samples_of,
)


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return Bench(contract, metrics)


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
        self.codecs = HeldCodecs(clock=clock, metrics=metrics)
        super().__init__(contract, metrics, clock=clock, codecs=self.codecs)

    def end_threads(self) -> None:
        self.codecs.let_go()
        self.codecs.close()


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
