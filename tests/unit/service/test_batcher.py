"""The batcher with lanes that the test turns by hand: what starts when, who shares, and that every wait ends once."""

import asyncio
import math
from typing import TypeVar

import pytest

from service.engine import WIDE_LANE
from service.errors import DeadlineExceeded, InvalidSamples, ModelFailed, NonFiniteOutput, ServiceError
from service.submission import Client, Group
from service.types import ServiceClass
from tests.unit.service.hand_lanes import (
    ALICE,
    BOB,
    EDGE_PX,
    GROUP,
    POISON,
    Bench,
    Network,
    Picture,
    hang,
    lanes_of,
    turn,
)

R = TypeVar("R")


# --- when batches start -----------------------------------------------------------------------------------------------


async def test_an_idle_lane_starts_in_the_turn_after_an_image_came() -> None:
    bench = Bench()
    work = bench.submit(Picture(1))
    assert bench.busy == [], "what comes in one turn of the event loop is looked at together"
    await turn()
    assert len(bench.busy) == 1
    await bench.run_all()
    work.assert_right()
    submission = work.submission
    assert (submission.offered_at_s, submission.started_at_s, submission.ended_at_s) == (100.0, 100.0, 101.0)


async def test_arrivals_of_one_turn_share_a_batch_and_later_ones_form_the_next_while_the_lane_is_busy() -> None:
    bench = Bench(units_in_batch=4)
    works = [bench.submit(Picture(value)) for value in (0, 1)]
    await turn()
    works += [bench.submit(Picture(value)) for value in (2, 3, 4, 5, 6)]
    await bench.run_all()
    assert bench.network.batches == [[0, 1], [2, 3, 4, 5], [6]]
    assert [work.submission.shared_request_count for work in works] == [2, 2, 4, 4, 4, 4, 1]
    for work in works:
        work.assert_right()


async def test_a_network_without_a_noise_map_shares_batches_too() -> None:
    bench = Bench()
    bench.network.has_map = False
    works = [bench.submit(Picture(value)) for value in (1, 2, 3)]
    await bench.run_all()
    assert bench.network.batches == [[1, 2, 3]]
    for work in works:
        work.assert_right(has_map=False)


async def test_one_images_tiles_spread_over_idle_lanes() -> None:
    bench = Bench(lane_count=3, units_in_batch=6)
    work = bench.submit(Picture(0, 1, 2, 3, 4, 5))
    await turn()
    assert [lane.given[0].unit_count for lane in bench.lanes] == [2, 2, 2]
    await bench.run_all()
    work.assert_right()
    assert work.submission.shared_request_count == 1


@pytest.mark.parametrize("ends_first", [0, 1])
async def test_no_two_batches_run_in_one_lane_whichever_ends_first(ends_first: int) -> None:
    bench = Bench(lane_count=2, units_in_batch=1)
    works = [bench.submit(Picture(value)) for value in range(9)]
    await turn()
    for _ in range(8):
        assert {lane.given[0].engine_lane for lane in bench.lanes} == {0, 1}
        bench.lanes[ends_first].turn()
    await bench.run_all()
    for work in works:
        work.assert_right()
    assert bench.metric("busy_lanes") == 0


async def test_a_lane_that_is_done_gets_its_next_batch_in_the_same_turn() -> None:
    bench = Bench(units_in_batch=1)
    bench.submit(Picture(0, 1))
    await turn()
    (lane,) = bench.lanes
    lane.turn()
    assert lane.given, "without another turn of the event loop"


async def test_units_of_other_models_and_shapes_get_batches_of_their_own() -> None:
    bench = Bench(units_in_batch=100)
    other = Network(bench.clock)
    bench.add("other", other, unit_s=1.0)
    wide = Group(GROUP.model, GROUP.channels, EDGE_PX, 2 * EDGE_PX)
    groups = [GROUP, Group("other", 3, EDGE_PX, EDGE_PX), wide]
    works = [
        bench.submit(Picture(value, group=group), group=group) for value, group in enumerate([*groups, *groups], 1)
    ]
    await bench.run_all()
    assert sorted(bench.network.batches) == [[1, 4], [3, 6]]
    assert other.batches == [[2, 5]]
    for work in works:
        work.assert_right()


async def test_a_second_client_is_served_before_the_rest_of_a_large_image() -> None:
    bench = Bench(units_in_batch=2)
    large = bench.submit(Picture(*range(100)), client=ALICE)
    await turn()
    small = bench.submit(Picture(500), client=BOB)
    await turn()
    bench.lanes[0].turn()
    bench.lanes[0].turn()
    assert small.is_done
    assert not large.is_done
    await bench.run_all()
    large.assert_right()


async def test_an_interactive_image_overtakes_bulk_work_that_came_before() -> None:
    bench = Bench(units_in_batch=1, unit_s=0.02)
    bench.submit(Picture(0, 1, 2, 3), service_class=ServiceClass.BULK)
    await turn()
    bench.submit(Picture(10, 11), client=BOB, service_class=ServiceClass.INTERACTIVE)
    await bench.run_all()
    assert bench.network.batches == [[0], [10], [11], [1], [2], [3]]


async def test_what_is_less_than_half_a_millisecond_waits_for_a_lane_that_is_about_to_be_free() -> None:
    bench = Bench(lane_count=3, unit_s=0.0004)
    first = bench.submit(Picture(0, 1, 2))  # more than the event loop takes on
    await turn()
    assert len(bench.busy) == 1
    bench.clock.now_s += 0.0009
    second = bench.submit(Picture(3))
    await turn()
    assert len(bench.busy) == 1, "no other lane is woken for it"
    bench.busy[0].turn()
    await bench.run_all()
    first.assert_right()
    second.assert_right()


async def test_nobody_waits_for_a_lane_that_is_overdue() -> None:
    bench = Bench(lane_count=3, unit_s=0.0004)
    bench.submit(Picture(0, 1, 2))
    await turn()
    (hanging,) = bench.busy
    bench.clock.now_s += 0.01
    bench.submit(Picture(3))
    await turn()
    assert len(bench.busy) == 2
    assert hanging in bench.busy


async def test_a_lane_that_was_about_to_be_free_and_is_not_is_waited_for_no_longer() -> None:
    bench = Bench(lane_count=3, unit_s=0.0004)
    bench.submit(Picture(0, 1, 2))
    await turn()
    (hanging,) = bench.busy
    other = next(lane for lane in bench.lanes if lane is not hanging)
    bench.clock.now_s += 0.0009
    bench.submit(Picture(3))
    await turn()
    assert not other.given
    bench.clock.now_s += 0.01
    async with asyncio.timeout(60):
        await other.was_given.wait()
    assert bench.busy == [hanging, other]


async def test_a_small_share_of_the_queue_does_not_wake_every_lane() -> None:
    bench = Bench(lane_count=4, units_in_batch=100, unit_s=0.0003)
    bench.submit(Picture(*range(6)))  # 1.8 ms, less than half a millisecond for each lane
    await turn()
    assert [lane.given[0].unit_count for lane in bench.busy] == [6]


@pytest.mark.parametrize(
    ("unit_counts", "lane_count", "expected"),
    [([4, 1], 1, {"full": 1, "no_more": 1}), ([4], 2, {"lane_share": 1, "no_more": 1}), ([1], 1, {"no_more": 1})],
    ids=["budget", "share", "last"],
)
async def test_the_reason_that_ended_a_batch_is_counted(
    unit_counts: list[int], lane_count: int, expected: dict[str, int]
) -> None:
    bench = Bench(units_in_batch=4, lane_count=lane_count)
    for count in unit_counts:
        bench.submit(Picture(*range(count)))
    await bench.run_all()
    counted = {
        reason: bench.metric("batch_releases_total", reason=reason)
        for reason in ("full", "lane_share", "no_more", "alone")
    }
    assert counted == dict.fromkeys(counted, 0) | expected


# --- on the event loop itself -----------------------------------------------------------------------------------------


async def test_what_takes_less_than_a_millisecond_runs_on_the_event_loop_and_still_not_inside_submit() -> None:
    bench = Bench(lane_count=2, unit_s=0.0003)
    works = [bench.submit(Picture(value)) for value in (1, 2, 3)]
    assert bench.network.batches == []
    await turn()
    assert bench.network.batches == [[1, 2, 3]]
    assert bench.network.lanes == [0]
    assert bench.busy == []
    assert bench.metric("lane_busy_seconds_total", lane="loop") == pytest.approx(0.0003)
    for work in works:
        work.assert_right()


async def test_the_event_loop_takes_nothing_on_while_a_lane_runs() -> None:
    bench = Bench(lane_count=3, unit_s=0.0003)
    bench.submit(Picture(*range(4)))
    await turn()
    assert len(bench.busy) == 1, "1.2 ms are too much"
    bench.submit(Picture(5))
    await turn()
    assert len(bench.busy) == 2
    assert bench.network.batches == []


async def test_a_poisoned_unit_fails_alone_on_the_event_loop_too() -> None:
    bench = Bench(unit_s=0.0003)
    works = [bench.submit(Picture(value)) for value in (1, POISON, 3)]
    await turn()
    assert isinstance(works[1].end, ModelFailed)
    works[0].assert_right()
    works[2].assert_right()


# --- all cores for one unit -------------------------------------------------------------------------------------------


async def test_a_unit_that_is_alone_gets_all_cores_and_nothing_runs_beside_it() -> None:
    bench = Bench(lane_count=2, wide_units=True)
    alone = bench.submit(Picture(0))
    await turn()
    (lane,) = bench.busy
    assert lane.given[0].engine_lane == WIDE_LANE
    others = [bench.submit(Picture(1, 2)), bench.submit(Picture(3), client=BOB)]
    await turn()
    bench.batcher.tick()
    assert bench.busy == [lane]
    lane.turn()
    assert {busy.given[0].engine_lane for busy in bench.busy} == {0, 1}
    await bench.run_all()
    for work in (alone, *others):
        work.assert_right()
    assert bench.network.lanes[0] == WIDE_LANE
    assert WIDE_LANE not in bench.network.lanes[1:]
    assert bench.metric("batch_releases_total", reason="alone") == 1
    assert bench.metric("lane_busy_seconds_total", lane="wide") == 1.0


@pytest.mark.parametrize(
    ("lane_count", "unit_s", "allowed"),
    [(2, 0.003, "wide"), (1, 1.0, "wide"), (2, 1.0, "narrow")],
    ids=["short", "one lane", "not allowed"],
)
async def test_a_unit_that_is_alone_gets_no_more_than_a_lane(lane_count: int, unit_s: float, allowed: str) -> None:
    bench = Bench(lane_count=lane_count, wide_units=allowed == "wide", unit_s=unit_s)
    bench.submit(Picture(0))
    await turn()
    assert lanes_of(bench) < {0, 1}


async def test_neither_two_units_nor_one_beside_another_get_all_cores() -> None:
    bench = Bench(lane_count=2, wide_units=True, units_in_batch=1)
    bench.submit(Picture(0, 1))
    await turn()
    assert lanes_of(bench) == {0, 1}
    bench.lanes[0].turn()
    bench.submit(Picture(2), client=BOB)
    await turn()
    assert WIDE_LANE not in lanes_of(bench), "another lane is at work"


async def test_a_lone_unit_of_an_image_beside_another_image_gets_a_lane() -> None:
    bench = Bench(lane_count=2, wide_units=True)
    arriving = bench.submit(Picture(0, 1), available_count=0)
    bench.submit(Picture(2), client=BOB)
    await turn()
    assert WIDE_LANE not in lanes_of(bench), "the other image's rows may be there any moment"
    bench.withdraw(arriving)


async def test_a_run_on_all_cores_teaches_nothing_about_lanes() -> None:
    bench = Bench(lane_count=2, wide_units=True)
    bench.network.run_s = 0.1
    bench.submit(Picture(0))
    await bench.run_all()
    assert bench.costs.predict_s(GROUP.model, EDGE_PX, EDGE_PX) == 1.0
    bench.submit(Picture(1, 2))
    await bench.run_all()
    assert bench.costs.predict_s(GROUP.model, EDGE_PX, EDGE_PX) == pytest.approx(0.1)


# --- packs ------------------------------------------------------------------------------------------------------------


async def test_small_images_in_packs_run_as_one_and_each_is_told_by_itself() -> None:
    bench = Bench(units_in_batch=6)
    work = bench.submit(Picture(*range(7)), pack_count=3, units_fail_alone=True)
    other = bench.submit(Picture(10), client=BOB)
    await bench.run_all()
    assert bench.network.batches[0] == [0, 1, 2, 10]
    assert work.unit_ends == [(index, None) for index in range(7)]
    assert work.submission.shared_request_count == 4, "of units that fail alone each is an image"
    assert other.submission.shared_request_count == 4, "and only those in the same batch share it"
    assert bench.metric("batch_requests_sum") == 8, "no image counts in two batches"
    work.assert_right()
    other.assert_right()


@pytest.mark.parametrize("poisoned", range(5))
async def test_a_poisoned_unit_of_a_pack_fails_alone(poisoned: int) -> None:
    bench = Bench(units_in_batch=8)
    work = bench.submit(
        Picture(*[POISON if index == poisoned else index for index in range(5)]), pack_count=3, units_fail_alone=True
    )
    neighbour = bench.submit(Picture(10), client=BOB)
    await bench.run_all()
    assert work.end is None, "each unit has its own outcome"
    errors = dict(work.unit_ends)
    assert isinstance(errors.pop(poisoned), ModelFailed)
    assert set(errors.values()) == {None}
    work.picture.assert_right(*errors)
    assert work.picture.answers[poisoned] == []
    neighbour.assert_right()


async def test_a_unit_of_a_pack_that_can_not_be_read_fails_alone() -> None:
    bench = Bench()
    picture = Picture(*range(4), read_errors={2: InvalidSamples("not finite", field="image")})
    work = bench.submit(picture, pack_count=4, units_fail_alone=True)
    await bench.run_all()
    assert isinstance(dict(work.unit_ends)[2], InvalidSamples)
    picture.assert_right(0, 1, 3)
    assert bench.network.batches == [[0, 1, 3]]


@pytest.mark.parametrize(
    ("unit_s", "lane_count", "unit_count", "pack_count"),
    [
        (1.0, 2, 7, 4),  # a half for each lane
        (1.0, 2, 100, 16),  # the batch's pixels
        (0.0001, 4, 8, 5),  # less than half a millisecond is not worth a lane
        (1.0, 4, 1, 1),
    ],
)
def test_packs_are_as_large_as_each_lanes_share_unless_that_is_too_little(
    unit_s: float, lane_count: int, unit_count: int, pack_count: int
) -> None:
    bench = Bench(unit_s=unit_s, lane_count=lane_count, units_in_batch=16)
    assert bench.batcher.fitting_pack_count(GROUP, unit_count) == pack_count


def test_a_pack_is_no_larger_than_a_batch_in_units() -> None:
    assert Bench(units_in_batch=16, batch_units=6).batcher.fitting_pack_count(GROUP, 100) == 6


# --- images that wait in parts, and that arrive in parts --------------------------------------------------------------


async def test_a_large_image_queues_a_few_units_at_a_time_and_is_counted_as_a_whole() -> None:
    bench = Bench(units_in_batch=1, staged_units=3)
    work = bench.submit(Picture(*range(10)))
    assert bench.metric("queued_units") == 3
    assert bench.batcher.queued_s == pytest.approx(10.0)
    await turn()
    assert bench.metric("queued_units") == 3, "the next one took the place of the one that runs"
    assert bench.batcher.queued_s == pytest.approx(9.0)
    assert bench.batcher.running_s == pytest.approx(1.0)
    await bench.run_all()
    work.assert_right()
    assert bench.network.batches == [[index] for index in range(10)]
    bench.assert_nothing_left()


async def test_an_image_stages_packs_and_the_metrics_count_their_units() -> None:
    bench = Bench(units_in_batch=2, staged_units=3)
    bench.submit(Picture(*range(10)), pack_count=2)
    assert bench.metric("queued_pixels") == 6 * GROUP.pixel_count
    assert bench.metric("queued_units") == 6


async def test_a_batch_of_packs_holds_no_more_units_than_it_may() -> None:
    bench = Bench(units_in_batch=100, batch_units=6)
    works = [bench.submit(Picture(*range(start, start + 4)), pack_count=4) for start in (0, 10, 20)]
    await bench.run_all()
    for work in works:
        work.assert_right()
    assert [len(batch) for batch in bench.network.batches] == [4, 4, 4]
    bench.assert_nothing_left()


async def test_an_image_in_parts_runs_what_is_there() -> None:
    bench = Bench(units_in_batch=2)
    work = bench.submit(Picture(*range(5)), available_count=0)
    await turn()
    assert bench.busy == []
    bench.batcher.extend(work.submission, 1)
    await turn()
    bench.batcher.extend(work.submission, 4)
    await bench.run_all()
    assert bench.network.batches == [[0], [1, 2], [3]]
    assert not work.is_done
    bench.batcher.extend(work.submission, 5)
    await bench.run_all()
    work.assert_right()
    assert [index for index, _ in work.unit_ends] == [0, 1, 2, 3, 4]
    bench.assert_nothing_left()


async def test_an_image_that_is_extended_by_its_own_progress_goes_on() -> None:
    bench = Bench(units_in_batch=1)
    picture = Picture(*range(6))
    work = bench.submit(
        picture, available_count=1, on_unit=lambda index: bench.batcher.extend(work.submission, index + 2)
    )
    await bench.run_all()
    work.assert_right()


async def test_what_arrives_of_an_image_that_is_over_is_left_alone() -> None:
    bench = Bench()
    work = bench.submit(Picture(*range(5)), available_count=0, wait_s=1.0)
    bench.clock.now_s += 1.0
    bench.batcher.tick()
    assert isinstance(work.end, DeadlineExceeded)
    bench.batcher.extend(work.submission, 5)
    await bench.run_all()
    assert bench.network.batches == []
    bench.assert_nothing_left()


async def test_an_image_without_units_is_refused_instead_of_waiting_for_ever() -> None:
    with pytest.raises(ValueError, match="submit at least one"):
        Bench().submit(Picture())


# --- what a request learns --------------------------------------------------------------------------------------------


async def test_requests_and_connections_that_shared_a_batch_are_counted() -> None:
    bench = Bench(units_in_batch=8)
    works = [
        bench.submit(Picture(1, 2), client=ALICE),
        bench.submit(Picture(3), client=ALICE),
        bench.submit(Picture(4), client=Client(share="alice", connection="alice:2")),
        bench.submit(Picture(5), client=BOB),
    ]
    await bench.run_all()
    assert [work.submission.shared_request_count for work in works] == [4] * 4
    assert [work.submission.shared_client_count for work in works] == [3] * 4


async def test_times_span_the_first_start_and_the_last_end_of_an_images_tiles() -> None:
    bench = Bench(units_in_batch=1)
    bench.submit(Picture(0))
    await turn()
    work = bench.submit(Picture(1, 2, 3), client=BOB)
    await bench.run_all()
    submission = work.submission
    assert (submission.offered_at_s, submission.started_at_s, submission.ended_at_s) == (100.0, 101.0, 104.0)


async def test_the_predicted_wait_counts_what_is_queued_what_is_not_offered_yet_and_what_runs() -> None:
    bench = Bench(lane_count=2, units_in_batch=1, staged_units=2)
    assert bench.batcher.backlog_s(ALICE, ServiceClass.NORMAL) == 0.0
    bench.submit(Picture(*range(8)), client=ALICE)
    await turn()
    assert (bench.batcher.running_s, bench.batcher.queued_s) == pytest.approx((2.0, 6.0))
    assert bench.batcher.backlog_s(ALICE, ServiceClass.NORMAL) == pytest.approx(8.0)
    assert 2.0 < bench.batcher.backlog_s(BOB, ServiceClass.NORMAL) < 5.0, "it would not wait for all of them"
    bench.clock.now_s += 0.75
    assert bench.batcher.running_s == pytest.approx(0.5)
    bench.clock.now_s += 7.0
    assert bench.batcher.running_s == 0.0
    await bench.run_all()
    bench.assert_nothing_left()


async def test_predictions_follow_the_pace_of_what_ran_well() -> None:
    bench = Bench(units_in_batch=2)
    bench.network.run_s = 3.0
    bench.submit(Picture(1, 2))
    await bench.run_all()
    assert bench.costs.predict_s(GROUP.model, EDGE_PX, EDGE_PX) == pytest.approx(1.5)
    bench.network.run_s = 1000.0
    bench.submit(Picture(POISON))
    await bench.run_all()
    assert bench.costs.predict_s(GROUP.model, EDGE_PX, EDGE_PX) == pytest.approx(1.5)


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit_count", [1, 2, 3, 7, 8])
async def test_a_poisoned_image_fails_alone(unit_count: int) -> None:
    for poisoned in range(unit_count):
        bench = Bench(units_in_batch=unit_count)
        works = [bench.submit(Picture(POISON if index == poisoned else index)) for index in range(unit_count)]
        await bench.run_all()
        for index, work in enumerate(works):
            if index == poisoned:
                assert isinstance(work.end, ModelFailed)
                assert "the cause is in the service's log" in str(work.end)
                assert work.picture.answered == []
            else:
                work.assert_right()
        assert len(bench.network.batches[0]) == unit_count
        # Halving: the culprit is alone after as many failed runs as it takes to halve the batch down to one.
        failed_count = bench.metric("batch_failures_total")
        assert failed_count == sum(POISON in batch for batch in bench.network.batches)
        assert failed_count <= 1 + math.ceil(math.log2(unit_count))


async def test_a_network_that_always_raises_ends_every_image() -> None:
    bench = Bench(units_in_batch=4, lane_count=2)
    works = [bench.submit(Picture(POISON, POISON)) for _ in range(5)]
    await bench.run_all()
    assert all(isinstance(work.end, ModelFailed) for work in works)
    bench.assert_nothing_left()
    after = bench.submit(Picture(1))
    await bench.run_all()
    after.assert_right()


async def test_an_image_whose_tile_failed_ends_at_once_and_its_other_tiles_leave_the_queue() -> None:
    bench = Bench(units_in_batch=1, staged_units=2)
    work = bench.submit(Picture(POISON, 1, 2, 3))
    await bench.run_all()
    assert isinstance(work.end, ModelFailed)
    assert bench.network.batches == [[POISON]]
    assert bench.dropped() == {"failed": 2}
    bench.assert_nothing_left()


@pytest.mark.parametrize("where", ["read", "write"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("a secret of the implementation"), ModelFailed), (NonFiniteOutput("not finite"), NonFiniteOutput)],
    ids=["unknown", "known"],
)
async def test_an_image_that_can_not_be_read_or_written_fails_alone(
    where: str, error: Exception, outcome: type[ServiceError]
) -> None:
    bench = Bench(units_in_batch=3)
    bad = Picture(1, read_errors={0: error}) if where == "read" else Picture(1, write_errors={0: error})
    left, failed, right = bench.submit(Picture(2)), bench.submit(bad), bench.submit(Picture(3))
    await bench.run_all()
    assert type(failed.end) is outcome
    assert "secret" not in str(failed.end)
    left.assert_right()
    right.assert_right()
    assert bench.metric("batch_failures_total") == 0, "the network did not fail"
    assert len(bench.network.batches) == 1, "nothing ran twice"


# --- shutdown ---------------------------------------------------------------------------------------------------------


async def test_idle_waits_for_what_runs_and_for_what_is_queued_behind_it() -> None:
    bench = Bench(units_in_batch=1)
    works = [bench.submit(Picture(value)) for value in range(3)]
    await turn()
    idle = asyncio.create_task(bench.batcher.idle(600.0))
    for _ in works:
        await turn()
        assert not idle.done()
        bench.lanes[0].turn()
    assert await idle
    for work in works:
        work.assert_right()
    assert await bench.batcher.idle(0.0), "nothing runs"


async def test_idle_gives_up_on_a_lane_that_does_not_come_back() -> None:
    bench = Bench()
    await hang(bench)
    assert not await bench.batcher.idle(0.0)
    bench.lanes[0].turn()
    assert await bench.batcher.idle(0.0)


async def test_closing_ends_lanes_that_never_started() -> None:
    assert Bench(lane_count=3).batcher.close(600.0)
