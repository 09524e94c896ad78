"""A batcher with everything around it in the test's hands: lanes that run when told, and a clock that stands still."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from prometheus_client import CollectorRegistry

from denoised.contract import ModelContract
from service.batcher import Batcher, BatcherOptions
from service.cost import CostModel, ModelCost, ShapeCost
from service.errors import ServiceError
from service.lanes import Batch, Lane, Tiles
from service.metrics import Metrics
from service.scheduler import Scheduler
from service.submission import Client, Group, Submission
from service.types import ServiceClass, Units

MODEL = "model"
EDGE_PX = 4
GROUP = Group(MODEL, 3, EDGE_PX, EDGE_PX)
ALICE = Client(share="alice", connection="alice:1")
BOB = Client(share="bob", connection="bob:1")
POISON = -1.0
NEVER_S = 1e9
START_S = 100.0


@dataclass
class HandClock:
    """Stands still unless the test moves it."""

    now_s: float = START_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Network:
    """Doubles and adds one; raises when one of the units is poisoned. Each run takes ``run_s`` on the clock."""

    clock: HandClock
    run_s: float = 1.0
    has_map: bool = True
    batches: list[list[float]] = field(default_factory=list)
    lanes: list[int] = field(default_factory=list)

    @property
    def contract(self) -> ModelContract:
        raise NotImplementedError("neither batcher nor lanes look into the contract")

    @property
    def digest(self) -> str:
        raise NotImplementedError("neither batcher nor lanes ask for the digest")

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        values = [float(unit.flat[0]) for unit in units]
        self.batches.append(values)
        self.lanes.append(lane)
        self.clock.now_s += self.run_s
        if POISON in values:
            raise RuntimeError("poisoned")
        return doubled(units), mapped(units) if self.has_map else None


def doubled(units: Units) -> Units:
    return units * np.float32(2) + np.float32(1)


def mapped(units: Units) -> Units:
    return units[:, :1, ::2, ::2] / np.float32(3)


class Picture:
    """An image's units: each is filled with a value, and random below, so that a mix-up of neighbours shows.

    Attributes:
        noisy: (N, C, h, w); the first sample of each unit is its value.
        read_errors, write_errors: by unit, what :meth:`read` and :meth:`write` raise.
        is_released: nothing may be read or written any more.
        reads: how often each unit was read.
        answers: what was written, by unit.
    """

    def __init__(
        self,
        *values: float,
        read_errors: Mapping[int, Exception] | None = None,
        write_errors: Mapping[int, Exception] | None = None,
        group: Group = GROUP,
    ) -> None:
        shape = (len(values), group.channels, group.height_px, group.width_px)
        self.noisy: Units = np.random.default_rng(1).random(shape, np.float32)
        self.noisy[:, 0, 0, 0] = values
        self.read_errors = read_errors or {}
        self.write_errors = write_errors or {}
        self.is_released = False
        self.reads = [0] * len(values)
        self.answers: list[list[tuple[Units, Units | None]]] = [[] for _ in values]

    def read(self, first: int, count: int, out: Units) -> None:
        assert not self.is_released
        for index in range(first, first + count):
            if index in self.read_errors:
                raise self.read_errors[index]
            self.reads[index] += 1
            out[index - first] = self.noisy[index]

    def write(self, first: int, count: int, denoised: Units, noisy: Units, sigma_maps: Units | None) -> None:
        assert not self.is_released
        for index in range(first, first + count):
            if index in self.write_errors:
                raise self.write_errors[index]
        for index in range(first, first + count):
            np.testing.assert_array_equal(noisy[index - first], self.noisy[index])
            sigma_map = None if sigma_maps is None else sigma_maps[index - first].copy()
            self.answers[index].append((denoised[index - first].copy(), sigma_map))

    def assert_right(self, *indices: int, has_map: bool = True) -> None:
        """These units, or all, are answered once, bit for bit as if each had run alone."""
        for index in indices or range(len(self.answers)):
            ((denoised, sigma_map),) = self.answers[index]
            np.testing.assert_array_equal(denoised, doubled(self.noisy[index]))
            assert (sigma_map is not None) == has_map
            if sigma_map is not None:
                np.testing.assert_array_equal(sigma_map, mapped(self.noisy[index : index + 1])[0])

    @property
    def answered(self) -> list[int]:
        return [index for index, answers in enumerate(self.answers) if answers]


class HandLane(Lane):
    """A lane without a thread: it keeps the batch that it was given until the test turns it.

    Attributes:
        has_run: whether its batch was run and not handed back.
        starts: the units that it ever ran, as (picture, number).
    """

    def __init__(self, name: str, *, clock: Callable[[], float], on_done: Callable[[Lane, Batch], None]) -> None:
        super().__init__(name, clock=clock, on_done=on_done)
        self.name = name
        self.given: list[Batch] = []
        self.was_given = asyncio.Event()
        self.has_run = False
        self.starts: list[tuple[Tiles, int]] = []
        self._tell_done = on_done

    def start(self) -> None:
        raise NotImplementedError("the test turns it")

    def put(self, batch: Batch) -> None:
        assert not self.given, "a lane has one batch at a time"
        self.given.append(batch)
        self.was_given.set()

    def run(self, batch: Batch) -> None:
        self.starts += [(pack.tiles, pack.first + index) for pack in batch.packs for index in range(pack.count)]
        super().run(batch)
        self.has_run = True

    def turn(self) -> Batch:
        """Runs what it was given, in the test's own thread, and hands it back."""
        self.run(self.given[0])
        return self.hand_back()

    def hand_back(self) -> Batch:
        """The second half of a turn, for tests in which something happens between the two."""
        batch = self.given.pop()
        self.has_run = False
        self._tell_done(self, batch)
        return batch


@dataclass
class Work:
    """One image in the batcher, and all that it was told."""

    picture: Picture
    submission: Submission
    ends: list[ServiceError | None] = field(default_factory=list)
    unit_ends: list[tuple[int, ServiceError | None]] = field(default_factory=list)
    still_count: int = 0

    @property
    def is_done(self) -> bool:
        return bool(self.ends)

    @property
    def end(self) -> ServiceError | None:
        (end,) = self.ends
        return end

    def assert_right(self, *, has_map: bool = True) -> None:
        assert self.end is None
        self.picture.assert_right(has_map=has_map)


class Bench:
    """The batcher with hand-turned lanes, a network that doubles, and a profile of ``unit_s`` for each unit."""

    def __init__(
        self,
        *,
        lane_count: int = 1,
        units_in_batch: int = 4,
        batch_units: int = 1000,
        staged_units: int = 1000,
        unit_s: float = 1.0,
        wide_units: bool = False,
        stuck_factor: float = 10.0,
        stuck_after_s: float = 30.0,
    ) -> None:
        self.clock = HandClock()
        self.network = Network(self.clock, run_s=unit_s)
        self.registry = CollectorRegistry()
        self.costs = CostModel()
        self.made: list[HandLane] = []
        self.batcher = Batcher(
            Scheduler(),
            lane_count=lane_count,
            options=BatcherOptions(
                batch_pixels=units_in_batch * GROUP.pixel_count,
                batch_units=batch_units,
                staged_units_per_image=staged_units,
                wide_units=wide_units,
                stuck_factor=stuck_factor,
                stuck_after_s=stuck_after_s,
            ),
            costs=self.costs,
            clock=self.clock,
            metrics=Metrics(self.registry),
            lane_of=self._lane,
        )
        self.lanes = self.made[:lane_count]
        self.add(MODEL, self.network, unit_s)

    def _lane(self, name: str, *, clock: Callable[[], float], on_done: Callable[[Lane, Batch], None]) -> Lane:
        lane = HandLane(name, clock=clock, on_done=on_done)
        self.made.append(lane)
        return lane

    def add(self, model: str, network: Network, unit_s: float) -> None:
        """Makes a network known whose batches are predicted to take ``unit_s`` for each unit of 4 x 4 px."""
        shapes = {(EDGE_PX, EDGE_PX): ShapeCost(unit_s)}
        self.costs.add_model(model, ModelCost(unit_s / GROUP.pixel_count, shapes))
        self.batcher.add_engine(model, network)

    def submit(
        self,
        picture: Picture,
        *,
        group: Group = GROUP,
        client: Client = ALICE,
        service_class: ServiceClass = ServiceClass.NORMAL,
        wait_s: float = NEVER_S,
        pack_count: int = 1,
        available_count: int | None = None,
        units_fail_alone: bool = False,
        on_done: Callable[[Work], None] | None = None,
        on_unit: Callable[[int], None] | None = None,
    ) -> Work:
        """Offers an image; ``on_done`` and ``on_unit`` are told after the work has noted it."""
        work = Work(picture, cast(Submission, None))
        is_submitted = False

        def note_end(submission: Submission, error: ServiceError | None) -> None:
            assert is_submitted, "told before submit returned"
            assert submission is work.submission
            work.ends.append(error)
            assert len(work.ends) == 1, "told twice"
            if on_done is not None:
                on_done(work)

        def note_unit(submission: Submission, index: int, error: ServiceError | None) -> None:
            assert submission is work.submission
            assert not work.is_done, "a unit ended after its image"
            work.unit_ends.append((index, error))
            if on_unit is not None:
                on_unit(index)

        work.submission = self.batcher.submit(
            picture,
            group=group,
            unit_count=len(picture.answers),
            pack_count=pack_count,
            available_count=available_count,
            client=client,
            service_class=service_class,
            deadline_s=self.clock.now_s + wait_s,
            on_done=note_end,
            on_unit=note_unit,
            units_fail_alone=units_fail_alone,
        )
        is_submitted = True
        return work

    def withdraw(self, work: Work) -> None:
        """Takes an image back; once nothing uses it, its memory is as good as gone."""

        def still() -> None:
            work.still_count += 1
            work.picture.is_released = True

        self.batcher.withdraw(work.submission, on_still=still)

    @property
    def busy(self) -> list[HandLane]:
        """Lanes that have a batch, in the order of their numbers."""
        return [lane for lane in self.lanes if lane.given]

    async def run_all(self) -> None:
        await turn()
        while self.busy:
            self.busy[0].turn()
            await turn()

    def metric(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(f"denoised_{name}", labels)
        assert value is not None, f"no sample {name} {labels}"
        return value

    def dropped(self) -> dict[str, float]:
        """How many units left the queue without running, by reason; those that some did for."""
        counts = {
            reason: self.metric("units_dropped_total", reason=reason) for reason in ("cancelled", "expired", "failed")
        }
        return {reason: count for reason, count in counts.items() if count}

    def assert_nothing_left(self) -> None:
        """Every gauge is back to 0, and so is every prediction of what is to come."""
        names = ("queued_units", "queued_pixels", "queued_work_seconds", "busy_lanes", "stuck_lanes")
        assert {name: self.metric(name) for name in names} == dict.fromkeys(names, 0)
        assert (self.batcher.queued_s, self.batcher.running_s, self.batcher.stuck_lane_count) == (0, 0, 0)
        for client in (ALICE, BOB):
            assert self.batcher.backlog_s(client, ServiceClass.BULK) == 0


async def turn() -> None:
    """Lets the event loop do all that it can do now: nothing here waits for anything but other callbacks."""
    for _ in range(4):
        await asyncio.sleep(0)


def values(batches: Sequence[Sequence[float]]) -> list[float]:
    """All units that ran, sorted."""
    return sorted(value for batch in batches for value in batch)


def lanes_of(bench: Bench) -> set[int]:
    return {lane.given[0].engine_lane for lane in bench.busy}


async def hang(bench: Bench) -> Work:
    """An image whose lane has just been given up."""
    work = bench.submit(Picture(0))
    await turn()
    bench.clock.now_s += 30.001
    bench.batcher.tick()
    return work
