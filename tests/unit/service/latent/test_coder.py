"""Calls with codes on their way: right answers, shared batches, and room given back once, when nothing uses it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from denoised.contract import ModelContract
from service.errors import (
    DeadlineExceeded,
    DeadlineUnreachable,
    ImageTooLarge,
    MemoryBudgetExceeded,
    ModelFailed,
    QueueFull,
)
from service.latent.coder import Visit
from service.latent.units import CodesToPictures, PicturesToCodes
from service.metrics import Drop, Lane, Metrics, Stage
from service.types import Codes
from tests.unit.service.denoiser_bench import ALICE, BOB
from tests.unit.service.latent.coder_bench import FORM, LENGTH, POISON, CoderBench, code_of, picture


@pytest.fixture
def bench(vae: ModelContract, metrics: Metrics) -> CoderBench:
    return CoderBench(vae, metrics)


def _always(code: Codes) -> Callable[[int], Codes]:
    return lambda _: code


async def encode(bench: CoderBench, visit: Visit, *seeds: int) -> PicturesToCodes:
    return await bench.coder.encode(visit, [partial(picture, seed) for seed in seeds])


async def test_images_become_their_codes_in_their_order(bench: CoderBench) -> None:
    visit = bench.coder.enter(bench.encoding(2), bench.visitor())
    units = await bench.done(encode(bench, visit, 1, 2))
    for code, seed in zip(units.codes, (1, 2), strict=True):
        np.testing.assert_array_equal(code, picture(seed).colour.ravel() / np.float32(255))
    assert units.log_variances is None


async def test_codes_become_their_images_in_their_order(bench: CoderBench) -> None:
    visit = bench.coder.enter(bench.decoding(10), bench.visitor())
    units = await bench.done(bench.coder.decode(visit, code_of))
    assert units.pictures.shape == (10, FORM.height_px, FORM.width_px, 1)
    for index in range(10):
        np.testing.assert_array_equal(units.codes[index], code_of(index))
        np.testing.assert_array_equal(units.pictures[index], np.full((4, 4, 1), code_of(index)[0] / 2))


async def test_calls_of_several_clients_share_batches(bench: CoderBench) -> None:
    visits = [bench.coder.enter(bench.decoding(), bench.visitor(client)) for client in (ALICE, BOB, BOB)]
    work = [asyncio.ensure_future(bench.coder.decode(visit, _always(code_of(i)))) for i, visit in enumerate(visits)]
    await bench.turn_all()
    for index, units in enumerate(await asyncio.gather(*work)):
        np.testing.assert_array_equal(units.codes[0], code_of(index))
    assert sum(bench.decoder.counts) == 3
    assert len(bench.decoder.counts) < 3


async def test_files_are_read_and_written_by_codecs_and_samples_are_not(bench: CoderBench) -> None:
    visit = bench.coder.enter(bench.encoding(), bench.visitor())
    await bench.done(encode(bench, visit, 1))
    assert bench.codecs.run_count == 0
    from_file = bench.coder.enter(replace(bench.encoding(), reads_files=True), bench.visitor())
    await bench.done(encode(bench, from_file, 1))
    assert bench.codecs.run_count == 1


# --- room ------------------------------------------------------------------------------------------------------------


async def test_a_call_waits_for_lanes_until_its_units_have_run_and_keeps_its_room_until_it_is_over(
    bench: CoderBench,
) -> None:
    visit = bench.coder.enter(bench.decoding(3), bench.visitor())
    desk = bench.admission
    assert (desk.request_count, desk.pending_count, desk.pending_unit_count) == (1, 1, 3)
    assert desk.reserved_bytes == bench.decoding(3).held_bytes > 3 * (LENGTH * 4 + FORM.picture_bytes)
    await bench.done(bench.coder.decode(visit, code_of))
    assert (desk.request_count, desk.pending_count, desk.pending_unit_count) == (1, 0, 0)
    visit.close()
    visit.close()
    assert not bench.has_room_taken


async def test_a_call_that_encodes_and_decodes_waits_until_both_are_done(bench: CoderBench) -> None:
    visit = bench.coder.enter(replace(bench.encoding(), form=FORM, decoded_count=2), bench.visitor())
    await bench.done(encode(bench, visit, 1))
    assert bench.admission.pending_count == 1
    await bench.done(bench.coder.decode(visit, code_of))
    assert bench.admission.pending_count == 0
    visit.close()
    assert not bench.has_room_taken


async def test_what_nobody_waits_for_any_more_is_dropped_from_the_queue(bench: CoderBench) -> None:
    running = bench.coder.enter(bench.decoding(), bench.visitor())
    first = asyncio.ensure_future(bench.coder.decode(running, code_of))
    await bench.settle()
    waiting = bench.coder.enter(bench.decoding(3), bench.visitor())
    second = asyncio.ensure_future(bench.coder.decode(waiting, code_of))
    await bench.settle()
    second.cancel()
    await asyncio.wait((second,))
    waiting.close()
    assert bench.metrics.units_dropped[Drop.CANCELLED].value == 3
    assert bench.admission.request_count == 1
    await bench.turn_all()
    await first
    running.close()
    assert bench.decoder.counts == [1]
    assert not bench.has_room_taken


async def test_a_call_that_is_cancelled_in_a_lane_keeps_its_room_until_the_lane_is_done(bench: CoderBench) -> None:
    visit = bench.coder.enter(bench.decoding(), bench.visitor())
    work = asyncio.ensure_future(bench.coder.decode(visit, code_of))
    await bench.settle()
    work.cancel()
    await asyncio.wait((work,))
    visit.close()
    assert bench.admission.reserved_bytes > 0
    await bench.turn_all()
    assert not bench.has_room_taken


# --- refusals and failures -------------------------------------------------------------------------------------------


async def test_a_deadline_that_passes_in_the_queue_ends_the_call(bench: CoderBench) -> None:
    visit = bench.coder.enter(bench.decoding(2), bench.visitor(deadline_s=110.0))
    work = asyncio.ensure_future(bench.coder.decode(visit, code_of))
    await bench.settle()
    bench.clock.now_s = 111.0
    bench.batcher.tick()
    with pytest.raises(DeadlineExceeded):
        await work
    visit.close()
    await bench.turn_all()
    assert not bench.has_room_taken


async def test_a_deadline_that_has_passed_is_refused_unadmitted(bench: CoderBench) -> None:
    with pytest.raises(DeadlineExceeded, match="had passed when the request arrived"):
        bench.coder.enter(bench.decoding(), bench.visitor(deadline_s=100.0))
    assert not bench.has_room_taken


async def test_what_can_not_be_done_in_time_is_refused(bench: CoderBench) -> None:
    bench.coder.enter(bench.decoding(5), bench.visitor())
    with pytest.raises(DeadlineUnreachable):
        bench.coder.enter(bench.decoding(5), bench.visitor(deadline_s=101.0))


async def test_a_full_queue_and_a_full_memory_are_refused(vae: ModelContract, metrics: Metrics) -> None:
    bench = CoderBench(vae, metrics, queue_requests=1)
    bench.coder.enter(bench.decoding(), bench.visitor())
    with pytest.raises(QueueFull):
        bench.coder.enter(bench.decoding(), bench.visitor())
    frugal = CoderBench(vae, metrics, memory_bytes=bench.decoding(3).held_bytes)
    frugal.coder.enter(frugal.decoding(2), frugal.visitor())
    with pytest.raises(MemoryBudgetExceeded):
        frugal.coder.enter(frugal.decoding(2), frugal.visitor())
    with pytest.raises(ImageTooLarge):
        frugal.coder.enter(frugal.decoding(4), frugal.visitor())


async def test_a_network_that_fails_on_one_call_answers_the_others(bench: CoderBench) -> None:
    codes = [code_of(1), np.full(LENGTH, POISON, np.float32), code_of(2)]
    visits = [bench.coder.enter(bench.decoding(), bench.visitor()) for _ in codes]
    work = [
        asyncio.ensure_future(bench.coder.decode(visit, _always(code)))
        for visit, code in zip(visits, codes, strict=True)
    ]
    await bench.turn_all()
    ends = await asyncio.gather(*work, return_exceptions=True)
    assert [type(end) for end in ends] == [CodesToPictures, ModelFailed, CodesToPictures]
    for visit in visits:
        visit.close()
    assert not bench.has_room_taken


# --- what is seen of it ----------------------------------------------------------------------------------------------


async def test_metrics_tell_what_was_made_and_where_the_time_went(bench: CoderBench) -> None:
    visit = bench.coder.enter(bench.decoding(3), bench.visitor())
    await bench.done(bench.coder.decode(visit, code_of))
    timings = bench.coder.leave(visit, "Generate")
    assert timings.compute_s == pytest.approx(1.0)
    assert timings.total_s >= timings.queue_s + timings.compute_s
    assert bench.metrics.latent_images["digits", "1", "Generate"].value == 3
    assert bench.metrics.stage_seconds[Stage.COMPUTE].total == pytest.approx(1.0)


async def test_a_lone_call_does_not_take_all_cores(vae: ModelContract, metrics: Metrics) -> None:
    """Its half runs on one thread, whatever it gets."""
    bench = CoderBench(vae, metrics, lane_count=2)
    visit = bench.coder.enter(bench.decoding(), bench.visitor())
    await bench.done(bench.coder.decode(visit, code_of))
    assert metrics.lane_busy_seconds[Lane.NARROW].value == pytest.approx(1.0)
    assert metrics.lane_busy_seconds[Lane.WIDE].value == 0
