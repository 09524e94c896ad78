"""Images on their way: what is let in and what is refused, and that every way gives its room back once.

Room is given back only when nothing uses the image's memory any more, whenever the call ended.
"""

import contextlib
from collections.abc import Callable

import numpy as np
import pytest

from denoised.contract import ModelContract
from service.errors import DeadlineExceeded, ImageTooLarge, InvalidSamples, MemoryBudgetExceeded, QueueFull
from service.job import Job, Options
from service.metrics import Metrics
from service.types import Container, ImageHeader, ServiceClass
from tests.unit.service.denoiser_bench import LARGE, SMALL, Bench, negative, noise, png, samples_of


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return Bench(contract, metrics)


@pytest.mark.parametrize("shape", [SMALL, LARGE, (16, 16, 4)])
@pytest.mark.parametrize("change", [-1, 1])
async def test_samples_of_a_wrong_length_are_refused(bench: Bench, shape: tuple[int, int, int], change: int) -> None:
    picture = noise(shape)
    with pytest.raises(InvalidSamples, match=f"are {picture.size} bytes, got {picture.size + change}") as raised:
        bench.start(bench.raw_job(picture, data=bytes(picture.size + change)))
    assert raised.value.field == "image.raw.data"
    assert not bench.has_room_taken


def test_what_comes_in_chunks_may_be_larger(bench: Bench) -> None:
    header = ImageHeader(Container.RAW, 1001, 1000, 1, 8)
    with pytest.raises(ImageTooLarge):
        bench.denoiser.geometry(header, bench.model, Options())
    assert bench.denoiser.geometry(header, bench.model, Options(), in_chunks=True).header is header


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
