"""Images that leave the batcher early: their deadline passes, their call ends, or their lane hangs."""

from typing import TypeVar

import pytest
from structlog.typing import EventDict

from service.engine import WIDE_LANE
from service.errors import DeadlineExceeded, LaneStuck, ModelFailed, NetworkHung
from service.types import Units
from tests.unit.service.hand_lanes import (
    BOB,
    MODEL,
    POISON,
    Bench,
    Network,
    Picture,
    Work,
    hang,
    lanes_of,
    turn,
    values,
)

R = TypeVar("R")


# --- who expires ------------------------------------------------------------------------------------------------------


async def test_an_image_whose_deadline_passed_in_the_queue_is_refused_and_never_runs() -> None:
    bench = Bench(units_in_batch=1)
    first = bench.submit(Picture(0))
    await turn()
    late = bench.submit(Picture(1, 2), wait_s=0.5)
    patient = bench.submit(Picture(3))
    await bench.run_all()
    assert isinstance(late.end, DeadlineExceeded)
    first.assert_right()
    patient.assert_right()
    assert bench.network.batches == [[0], [3]]
    assert bench.dropped() == {"expired": 2}
    bench.assert_nothing_left()


@pytest.mark.parametrize("staged_units", [1, 2, 1000])
async def test_an_image_that_can_not_be_done_in_time_starts_none_of_its_units(staged_units: int) -> None:
    bench = Bench(units_in_batch=1, staged_units=staged_units)
    first = bench.submit(Picture(0))
    await turn()
    late = bench.submit(Picture(1, 2, 3, 4), wait_s=1.5)
    patient = bench.submit(Picture(5), wait_s=2.0)
    await bench.run_all()
    assert isinstance(late.end, DeadlineExceeded)
    first.assert_right()
    patient.assert_right()
    assert bench.network.batches == [[0], [5]]
    assert bench.dropped() == {"expired": min(staged_units, 4)}
    bench.assert_nothing_left()


async def test_an_image_whose_last_unit_is_judged_alone_does_not_run_it_after_the_others_expired() -> None:
    bench = Bench(units_in_batch=1, staged_units=2)
    first = bench.submit(Picture(0))
    await turn()
    late = bench.submit(Picture(1, 2, 3, 4), wait_s=1.5)
    await bench.run_all()
    assert isinstance(late.end, DeadlineExceeded)
    assert bench.network.batches == [[0]], "too late for the first of its units is too late for the next"
    assert {picture for picture, _ in bench.lanes[0].starts} == {first.picture}, "no lane was given any"
    assert bench.dropped() == {"expired": 2}
    bench.assert_nothing_left()


async def test_a_tick_ends_what_has_outlived_its_deadline_in_the_queue() -> None:
    bench = Bench(units_in_batch=1)
    bench.submit(Picture(0))
    await turn()
    late = bench.submit(Picture(1, 2), wait_s=0.5)
    bench.clock.now_s += 0.49
    bench.batcher.tick()
    assert not late.is_done
    bench.clock.now_s += 0.01
    bench.batcher.tick()
    assert isinstance(late.end, DeadlineExceeded)
    assert bench.metric("queued_units") == 0
    await bench.run_all()
    assert values(bench.network.batches) == [0]
    assert bench.dropped() == {"expired": 2}


async def test_a_tick_ends_an_image_whose_unit_runs_and_the_lane_is_used_again() -> None:
    bench = Bench(units_in_batch=2)
    late = bench.submit(Picture(0, 1, 2), wait_s=5.0)
    await turn()
    bench.clock.now_s += 5.0
    bench.batcher.tick()
    assert isinstance(late.end, DeadlineExceeded)
    bench.batcher.tick()
    after = bench.submit(Picture(9))
    await bench.run_all()
    after.assert_right()
    assert late.picture.answered == []
    assert len(late.ends) == 1
    bench.assert_nothing_left()


async def test_a_unit_whose_deadline_passes_on_its_way_to_the_lane_does_not_run() -> None:
    bench = Bench(units_in_batch=2)
    late, patient = bench.submit(Picture(1), wait_s=2.5), bench.submit(Picture(2))
    await turn()
    bench.clock.now_s += 2.5
    await bench.run_all()
    assert isinstance(late.end, DeadlineExceeded)
    assert late.picture.reads == [0]
    patient.assert_right()
    assert bench.network.batches == [[2]]


async def test_an_image_that_expires_on_its_way_to_the_lane_takes_its_other_units_along() -> None:
    bench = Bench(units_in_batch=1)
    late = bench.submit(Picture(1, 2, 3), wait_s=1.5)
    await turn()
    bench.clock.now_s += 1.5
    await bench.run_all()
    assert isinstance(late.end, DeadlineExceeded)
    assert bench.network.batches == []
    assert bench.dropped() == {"expired": 2}


async def test_an_image_that_arrives_too_slowly_ends_at_its_deadline() -> None:
    bench = Bench()
    work = bench.submit(Picture(1, 2), available_count=1, wait_s=3.0)
    await bench.run_all()
    assert not work.is_done
    bench.clock.now_s += 2.0
    bench.batcher.tick()
    assert isinstance(work.end, DeadlineExceeded)
    bench.assert_nothing_left()


# --- who is taken back ------------------------------------------------------------------------------------------------


async def test_a_withdrawn_images_units_leave_the_queue_and_its_neighbours_get_their_answers() -> None:
    bench = Bench(units_in_batch=2)
    bench.submit(Picture(0))
    await turn()
    gone = bench.submit(Picture(1, 2, 3))
    neighbour = bench.submit(Picture(9), client=BOB)
    bench.withdraw(gone)
    assert gone.still_count == 1, "no lane used it"
    assert bench.metric("queued_units") == 1
    assert bench.dropped() == {"cancelled": 3}
    await bench.run_all()
    assert bench.network.batches == [[0], [9]]
    neighbour.assert_right()
    assert gone.ends == []
    bench.assert_nothing_left()


async def test_a_withdrawn_image_is_still_only_when_no_lane_uses_it() -> None:
    bench = Bench(lane_count=2, units_in_batch=1)
    gone = bench.submit(Picture(0, 1, 2, 3))
    await turn()
    bench.withdraw(gone)
    assert gone.still_count == 0
    bench.lanes[1].turn()
    assert gone.still_count == 0
    bench.lanes[0].turn()
    assert gone.still_count == 1
    await bench.run_all()
    assert gone.ends == []
    assert gone.unit_ends == []
    assert bench.network.batches == [], "neither had begun, so neither ran"
    bench.assert_nothing_left()


async def test_an_image_that_is_withdrawn_while_the_network_runs_is_written_and_not_told() -> None:
    bench = Bench()
    gone = bench.submit(Picture(0))

    class Slow(Network):
        def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
            bench.withdraw(gone)
            assert gone.still_count == 0
            return super().run(units, lane=lane)

    bench.add(MODEL, Slow(bench.clock), unit_s=1.0)
    await bench.run_all()
    assert gone.still_count == 1, "the picture itself checks that nothing was written after this"
    assert gone.picture.answered == [0]
    assert gone.ends == []


async def test_an_image_that_is_over_can_be_withdrawn_and_is_still_at_once() -> None:
    bench = Bench()
    work = bench.submit(Picture(0))
    await bench.run_all()
    bench.withdraw(work)
    assert work.still_count == 1
    assert bench.dropped() == {}


async def test_an_image_that_failed_while_its_other_units_run_is_still_when_the_last_one_ends() -> None:
    bench = Bench(lane_count=3, units_in_batch=1)
    work = bench.submit(Picture(POISON, 1, 2, 3, 4), on_done=bench.withdraw)
    await turn()
    by_value = {lane.given[0].packs[0].first: lane for lane in bench.lanes}
    last, first = by_value[2], by_value[1]
    last.run(last.given[0])
    by_value[0].turn()
    assert isinstance(work.end, ModelFailed)
    assert bench.dropped() == {"failed": 2}
    assert work.still_count == 0, "two lanes use it"
    first.turn()
    assert work.still_count == 0, "one lane has written to it and has not said so"
    last.hand_back()
    assert work.still_count == 1
    assert work.picture.answered == [2], "what had not begun when the image failed did not"
    await bench.run_all()
    bench.assert_nothing_left()


async def test_a_listener_that_raises_harms_nobody(logs: list[EventDict]) -> None:
    def deaf(_: object) -> None:
        raise ValueError("deaf")

    def deaf_still() -> None:
        raise ValueError("deaf")

    bench = Bench(units_in_batch=4)
    works = [bench.submit(Picture(1), on_done=deaf), bench.submit(Picture(2), on_unit=deaf)]
    gone, last = bench.submit(Picture(3)), bench.submit(Picture(4))
    await turn()
    bench.batcher.withdraw(gone.submission, on_still=deaf_still)
    bench.lanes[0].turn()
    for work in (*works, last):
        work.assert_right()
    after = bench.submit(Picture(5))
    await bench.run_all()
    after.assert_right()
    assert [str(entry["event"]) for entry in logs] == ["an image could not be told what became of it"] * 3
    bench.assert_nothing_left()


async def test_an_image_that_is_sent_again_by_whoever_is_told_is_queued_like_any_other() -> None:
    bench = Bench()
    again: list[Work] = []
    bench.submit(Picture(POISON), on_done=lambda _: again.append(bench.submit(Picture(2))))
    await bench.run_all()
    again[0].assert_right()


# --- lanes that hang --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit_count", "limit_s"), [(1, 30.0), (4, 40.0)], ids=["least time", "factor"])
async def test_a_lane_hangs_when_it_is_far_overdue(unit_count: int, limit_s: float) -> None:
    bench = Bench(stuck_factor=10.0, stuck_after_s=30.0)
    work = bench.submit(Picture(*range(unit_count)))
    await turn()
    bench.clock.now_s += limit_s
    bench.batcher.tick()
    assert (bench.batcher.stuck_lane_count, bench.batcher.lane_count) == (0, 1)
    assert not work.is_done
    bench.clock.now_s += 0.001
    bench.batcher.tick()
    assert bench.batcher.stuck_lane_count == bench.metric("stuck_lanes") == 1
    assert bench.batcher.lane_count == 0
    assert isinstance(work.end, NetworkHung)


async def test_an_image_that_hung_a_lane_is_not_asked_to_come_again_and_drops_its_other_units(
    logs: list[EventDict],
) -> None:
    bench = Bench(lane_count=2, units_in_batch=1, staged_units=2)
    hanging = bench.submit(Picture(0, 1, 2, 3, 4))
    await turn()
    bench.lanes[0].turn()
    bench.clock.now_s += 30.0
    bench.batcher.tick()
    assert isinstance(hanging.end, NetworkHung)
    assert hanging.end.reason == "NETWORK_HUNG"
    assert hanging.end.retry_after_s is None
    assert bench.dropped() == {"failed": 2}
    for _ in range(3):
        bench.batcher.tick()
    assert [entry["event"] for entry in logs] == ["a lane hangs"], "given up once"
    await bench.run_all()
    assert len(hanging.ends) == 1
    assert hanging.picture.answered == [0], "a unit that had not begun did not"
    bench.assert_nothing_left()


async def test_the_others_go_on_beside_a_lane_that_hangs_and_it_is_used_again_when_it_comes_back() -> None:
    bench = Bench(lane_count=2, units_in_batch=1)
    hanging, blocked = bench.submit(Picture(0)), bench.submit(Picture(1), client=BOB)
    await turn()
    lane = next(lane for lane in bench.lanes if lane.given[0].packs[0].tiles is hanging.picture)
    other = next(each for each in bench.lanes if each is not lane)
    other.turn()
    waiting = [bench.submit(Picture(value)) for value in (2, 3)]
    await turn()
    bench.clock.now_s += 28.5
    other.turn()
    bench.batcher.tick()
    blocked.assert_right()
    assert isinstance(hanging.end, NetworkHung)
    waiting += [bench.submit(Picture(4))]
    await turn()
    other.turn()
    other.turn()
    for work in waiting:
        work.assert_right()
    bench.withdraw(hanging)
    assert hanging.still_count == 0, "its lane may still use it"
    bench.batcher.require_lane()
    lane.turn()
    assert hanging.still_count == 1
    assert (bench.batcher.stuck_lane_count, bench.batcher.lane_count) == (0, 2)
    after = [bench.submit(Picture(value)) for value in (5, 6)]
    await turn()
    assert len(bench.busy) == 2
    await bench.run_all()
    for work in after:
        work.assert_right()
    bench.assert_nothing_left()


async def test_images_in_one_batch_that_hangs_all_end_once() -> None:
    bench = Bench(lane_count=2)
    pack = bench.submit(Picture(0, 1), pack_count=2, units_fail_alone=True)
    other = bench.submit(Picture(2, 3))
    await turn()
    bench.clock.now_s += 100.0
    bench.batcher.tick()
    assert isinstance(pack.end, NetworkHung)
    assert isinstance(other.end, NetworkHung)
    await bench.run_all()
    assert pack.unit_ends == other.unit_ends == []
    bench.assert_nothing_left()


async def test_when_every_lane_hangs_what_waits_and_what_comes_is_told_to_go_elsewhere() -> None:
    bench = Bench(lane_count=2, units_in_batch=1)
    hanging = [bench.submit(Picture(value)) for value in (0, 1)]
    await turn()
    waiting = bench.submit(Picture(2, 3), client=BOB)
    arriving = bench.submit(Picture(4), available_count=0)
    bench.batcher.require_lane()
    bench.clock.now_s += 30.001
    bench.batcher.tick()
    assert all(isinstance(work.end, NetworkHung) for work in hanging)
    for work in (waiting, arriving):
        assert isinstance(work.end, LaneStuck)
        assert work.end.reason == "ENGINE_STUCK"
        assert work.end.retry_after_s == 1.0
    with pytest.raises(LaneStuck, match="no lane answers any more; send again, another replica will take it"):
        bench.batcher.require_lane()
    late = bench.submit(Picture(5))
    bench.batcher.tick()
    assert isinstance(late.end, LaneStuck), "one that was let in before and is decoded only now"
    bench.lanes[0].turn()
    bench.batcher.require_lane()
    after = bench.submit(Picture(6))
    await bench.run_all()
    after.assert_right()
    bench.assert_nothing_left()


async def test_an_image_that_was_withdrawn_from_a_lane_that_hangs_is_still_when_the_lane_comes_back() -> None:
    bench = Bench(lane_count=2)
    gone = bench.submit(Picture(0))
    await turn()
    bench.withdraw(gone)
    bench.clock.now_s += 31.0
    bench.batcher.tick()
    assert (gone.ends, gone.still_count) == ([], 0)
    bench.busy[0].turn()
    assert (gone.ends, gone.still_count) == ([], 1)


async def test_a_wide_lane_that_hangs_holds_nobody_else_up() -> None:
    bench = Bench(lane_count=2, wide_units=True)
    hanging = await hang(bench)
    assert isinstance(hanging.end, NetworkHung)
    (wide,) = bench.busy
    other = bench.submit(Picture(1))
    await turn()
    (lane,) = set(bench.busy) - {wide}
    assert lane.given[0].engine_lane != WIDE_LANE, "the wide lane is not free"
    lane.turn()
    other.assert_right()
    wide.turn()
    bench.assert_nothing_left()
    again = bench.submit(Picture(2))
    await turn()
    assert lanes_of(bench) == {WIDE_LANE}
    await bench.run_all()
    again.assert_right()
