"""One lane: units are read, computed and written by the thread that takes the batch, and each has its own outcome."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from structlog.typing import EventDict

from service.engine import Engine
from service.errors import DeadlineExceeded, InvalidSamples, ModelFailed, ServiceError
from service.lanes import Batch, Lane
from service.types import Units
from tests.unit.service.hand_lanes import POISON, START_S, HandClock, Network, Picture


@dataclass(frozen=True)
class Pack:
    """Units of a picture, wanted until a time."""

    tiles: Picture
    first: int
    count: int
    until_s: float = float("inf")

    def is_wanted(self, now_s: float) -> bool:
        return now_s < self.until_s


def batch_of(packs: Sequence[Pack], engine: Engine, *, shape: tuple[int, int, int] = (3, 4, 4)) -> Batch:
    return Batch(
        engine=engine,
        engine_lane=1,
        shape=shape,
        packs=packs,
        unit_count=sum(pack.count for pack in packs),
        expected_s=1.0,
        sent_at_s=START_S,
    )


def whole(picture: Picture) -> Pack:
    return Pack(picture, 0, len(picture.answers))


class Desk:
    """A lane without its thread, and a network."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.network = Network(self.clock)
        self.lane = Lane("lane", clock=self.clock, on_done=lambda *_: None)

    def run(self, *packs: Pack) -> Batch:
        batch = batch_of(packs, self.network)
        self.lane.run(batch)
        return batch


def kinds(batch: Batch) -> list[type[ServiceError] | None]:
    return [None if error is None else type(error) for error in batch.errors]


def test_packs_of_several_images_run_together_and_each_gets_its_own_answers() -> None:
    desk = Desk()
    left, right = Picture(0, 1, 2, 3), Picture(10, 11)
    batch = desk.run(Pack(left, 1, 2), whole(right))
    assert desk.network.batches == [[1, 2, 10, 11]]
    assert desk.network.lanes == [1]
    assert batch.errors == [None] * 4
    left.assert_right(1, 2)
    assert left.answered == [1, 2]
    right.assert_right()
    assert (batch.started_at_s, batch.ended_at_s, batch.failure_count) == (START_S, START_S + 1, 0)


def test_the_network_gets_contiguous_units_and_no_new_memory_once_the_largest_batch_was_there() -> None:
    inputs: list[Units] = []

    class Watching(Network):
        def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
            inputs.append(units)
            return super().run(units, lane=lane)

    desk = Desk()
    desk.network = Watching(desk.clock)
    for count in (2, 5, 3):
        desk.run(whole(picture := Picture(*range(count))))
        picture.assert_right()
    assert [units.shape for units in inputs] == [(2, 3, 4, 4), (5, 3, 4, 4), (3, 3, 4, 4)]
    assert all(units.flags.c_contiguous and units.dtype == np.float32 for units in inputs)
    assert np.shares_memory(inputs[1], inputs[2])


def test_a_network_without_a_noise_map_writes_none() -> None:
    desk = Desk()
    desk.network.has_map = False
    desk.run(whole(picture := Picture(1, 2)))
    picture.assert_right(has_map=False)


@pytest.mark.parametrize("poisoned", range(7))
def test_of_a_batch_that_fails_halves_run_until_the_culprit_is_alone(poisoned: int) -> None:
    desk = Desk()
    numbers = [POISON if index == poisoned else index for index in range(7)]
    pictures = [Picture(*numbers[:3]), Picture(*numbers[3:4]), Picture(*numbers[4:])]
    batch = desk.run(*map(whole, pictures))
    assert kinds(batch) == [ModelFailed if index == poisoned else None for index in range(7)]
    answered = [(at, index) for at, picture in enumerate(pictures) for index in picture.answered]
    assert len(answered) == 6
    for at, index in answered:
        pictures[at].assert_right(index)
    assert 2 <= batch.failure_count == sum(POISON in values for values in desk.network.batches) <= 4


def test_every_unit_may_be_poisoned() -> None:
    desk = Desk()
    batch = desk.run(whole(Picture(POISON, POISON)), whole(Picture(POISON)))
    assert kinds(batch) == [ModelFailed] * 3
    assert batch.failure_count == 5


def test_units_that_can_not_be_read_leave_their_places_to_the_others() -> None:
    desk = Desk()
    refusal = InvalidSamples("not finite", field="image")
    left = Picture(0, 1, 2, read_errors={1: refusal})
    right = Picture(10, read_errors={0: OSError("disk")})
    last = Picture(20)
    batch = desk.run(whole(left), whole(right), whole(last))
    assert desk.network.batches == [[0, 2, 20]]
    assert batch.errors[1] is refusal
    assert kinds(batch) == [None, InvalidSamples, None, ModelFailed, None]
    left.assert_right(0, 2)
    last.assert_right()
    assert batch.failure_count == 0


def test_units_that_can_not_be_read_and_poisoned_ones_are_told_apart() -> None:
    desk = Desk()
    picture = Picture(0, POISON, 2, 3, read_errors={2: InvalidSamples("not finite", field="image")})
    batch = desk.run(whole(picture))
    assert kinds(batch) == [None, ModelFailed, InvalidSamples, None]
    picture.assert_right(0, 3)


def test_a_unit_that_can_not_be_written_fails_alone() -> None:
    desk = Desk()
    picture, other = Picture(0, 1, 2, write_errors={1: OSError("disk")}), Picture(10)
    batch = desk.run(whole(picture), whole(other))
    assert kinds(batch) == [None, ModelFailed, None, None]
    assert picture.answered == [0, 2]
    np.testing.assert_array_equal(picture.answers[2][-1][0], picture.noisy[2] * 2 + 1)
    other.assert_right()
    assert len(desk.network.batches) == 1, "nothing ran twice"


def test_a_batch_of_which_nothing_can_be_read_never_reaches_the_network() -> None:
    desk = Desk()
    batch = desk.run(whole(Picture(1, 2, read_errors={0: OSError(), 1: OSError()})))
    assert kinds(batch) == [ModelFailed] * 2
    assert desk.network.batches == []


def test_what_nobody_waits_for_any_more_is_not_read() -> None:
    desk = Desk()
    late, patient = Picture(0, 1), Picture(2)
    batch = desk.run(Pack(late, 0, 2, until_s=START_S), whole(patient))
    assert kinds(batch) == [DeadlineExceeded, DeadlineExceeded, None]
    assert late.reads == [0, 0]
    assert desk.network.batches == [[2]]
    patient.assert_right()


def test_a_batch_that_nobody_waits_for_never_reaches_the_network() -> None:
    desk = Desk()
    assert kinds(desk.run(Pack(Picture(0), 0, 1, until_s=START_S))) == [DeadlineExceeded]
    assert desk.network.batches == []


def test_units_without_an_answer_fail_when_the_network_answers_too_few() -> None:
    class Short(Network):
        def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
            image, _ = super().run(units, lane=lane)
            return image[:1], None

    desk = Desk()
    desk.network = Short(desk.clock)
    answered, failed = Picture(1), Picture(2)
    batch = desk.run(whole(answered), whole(failed))
    assert kinds(batch) == [None, ModelFailed]
    answered.assert_right(has_map=False)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError()])
def test_whatever_the_network_raises_every_unit_has_an_outcome_and_the_lane_goes_on(error: BaseException) -> None:
    class Raising(Network):
        def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
            raise error

    desk = Desk()
    good, desk.network = desk.network, Raising(desk.clock)
    batch = desk.run(whole(Picture(1, 2)))
    assert kinds(batch) == [ModelFailed] * 2
    assert batch.failure_count > 0
    desk.network = good
    desk.run(whole(picture := Picture(3)))
    picture.assert_right()


def test_the_cause_of_a_failure_is_logged_and_never_sent(logs: list[EventDict]) -> None:
    (error,) = Desk().run(whole(Picture(POISON))).errors
    assert "poisoned" not in str(error)
    assert "the cause is in the service's log" in str(error)
    (entry,) = logs
    assert entry["log_level"] == "error"
    assert str(entry["exc_info"]) == "poisoned"


# --- the thread -----------------------------------------------------------------------------------------------------


async def test_the_thread_works_in_order_and_its_batches_come_back_on_the_event_loop() -> None:
    clock = HandClock()
    threads: list[threading.Thread] = []

    class Watching(Network):
        def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
            threads.append(threading.current_thread())
            return super().run(units, lane=lane)

    done: asyncio.Queue[tuple[Lane, Batch, threading.Thread]] = asyncio.Queue()
    lane = Lane(
        "lane-7",
        clock=clock,
        on_done=lambda lane, batch: done.put_nowait((lane, batch, threading.current_thread())),
    )
    lane.start()
    network = Watching(clock)
    pictures = [Picture(1), Picture(POISON), Picture(3)]
    batches = [batch_of([whole(picture)], network) for picture in pictures]
    for batch in batches:
        lane.put(batch)
    async with asyncio.timeout(60):
        assert [await done.get() for _ in batches] == [(lane, batch, threading.current_thread()) for batch in batches]
    assert [kinds(batch) for batch in batches] == [[None], [ModelFailed], [None]]
    pictures[2].assert_right()
    assert {thread.name for thread in threads} == {"lane-7"}
    assert lane.close(60.0)


async def test_closing_waits_for_what_runs_and_says_when_it_does_not_end() -> None:
    may_end = threading.Event()

    class Hanging(Network):
        def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
            assert may_end.wait(60.0)
            return super().run(units, lane=lane)

    clock = HandClock()
    done: asyncio.Queue[Batch] = asyncio.Queue()
    lane = Lane("lane", clock=clock, on_done=lambda _, batch: done.put_nowait(batch))
    lane.start()
    batch = batch_of([whole(picture := Picture(1))], Hanging(clock))
    lane.put(batch)
    assert not lane.close(0.0)
    may_end.set()
    assert lane.close(60.0)
    async with asyncio.timeout(60):
        assert await done.get() is batch
    picture.assert_right()
