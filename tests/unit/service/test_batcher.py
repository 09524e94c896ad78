"""The batcher with lanes that the test turns by hand: what starts when, who shares, and that every wait ends once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.typing import EventDict

from service.batcher import Batcher, Client, Group, WorkReport
from service.errors import DeadlineExceeded, ModelFailed, NonFiniteOutput, QueueFull, ServiceError
from service.metrics import Metrics
from service.scheduler import Scheduler
from service.types import Units

R = TypeVar("R")

EDGE_PX = 4
UNIT_PIXEL_COUNT = EDGE_PX * EDGE_PX
GROUP = Group("model", EDGE_PX, EDGE_PX)
ALICE = Client(share="alice", connection="alice:1")
BOB = Client(share="bob", connection="bob:1")
POISON = -1.0
NEVER_S = 1e9


class HandLanes(Executor):
    """Threads that the test turns by hand: what is submitted runs when the test says so, in the test's own thread."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> "Future[R]":
        future: Future[R] = Future()

        def run() -> None:
            assert future.set_running_or_notify_cancel()
            future.set_result(fn(*args, **kwargs))

        self.waiting.append(run)
        return future

    def run_one(self, index: int = 0) -> None:
        self.waiting.pop(index)()


@dataclass
class HandClock:
    """Stands still unless the test moves it."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Network:
    """Doubles and adds one; raises when one of the units is poisoned. Each run takes ``run_s`` on the clock."""

    clock: HandClock
    run_s: float = 1.0
    batches: list[list[float]] = field(default_factory=list)
    lanes: list[int] = field(default_factory=list)
    has_map: bool = True

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        values = [float(unit.flat[0]) for unit in units]
        self.batches.append(values)
        self.lanes.append(lane)
        self.clock.now_s += self.run_s
        if POISON in values:
            raise RuntimeError("poisoned")
        sigma_map = units[:, :1, ::2, ::2] / np.float32(3)
        return units * np.float32(2) + np.float32(1), sigma_map if self.has_map else None


class Picture:
    """A unit filled with one value, and random below, so that a mix-up of neighbours shows."""

    def __init__(
        self, value: float, *, read_error: Exception | None = None, write_error: Exception | None = None
    ) -> None:
        noise = np.random.default_rng(abs(int(value * 7))).random((1, 3, EDGE_PX, EDGE_PX), np.float32)
        noise[0, 0, 0, 0] = value
        self.noisy: Units = noise
        self.read_error = read_error
        self.write_error = write_error
        self.answers: list[tuple[Units, Units | None]] = []

    def read(self) -> Units:
        if self.read_error is not None:
            raise self.read_error
        return self.noisy

    def write(self, denoised: Units, sigma_map: Units | None) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.answers.append((denoised.copy(), None if sigma_map is None else sigma_map.copy()))

    def assert_right(self, *, has_map: bool = True) -> None:
        """Answered once, bit for bit as if it had run alone."""
        ((denoised, sigma_map),) = self.answers
        np.testing.assert_array_equal(denoised, self.noisy * np.float32(2) + np.float32(1))
        assert (sigma_map is not None) == has_map
        if sigma_map is not None:
            np.testing.assert_array_equal(sigma_map, self.noisy[:, :1, ::2, ::2] / np.float32(3))


class Bench:
    """A batcher with everything around it in the test's hands."""

    def __init__(self, *, lane_count: int = 1, units_in_batch: int = 4, units_in_queue: int = 1000) -> None:
        self.clock = HandClock()
        self.lanes = HandLanes()
        self.network = Network(self.clock)
        self.registry = CollectorRegistry()
        self.batcher = Batcher(
            Scheduler(limit_pixel_count=units_in_queue * UNIT_PIXEL_COUNT),
            lane_count=lane_count,
            batch_pixel_count=units_in_batch * UNIT_PIXEL_COUNT,
            executor=self.lanes,
            clock=self.clock,
            metrics=Metrics(self.registry),
        )
        self.batcher.add_engine("model", self.network)

    def submit(
        self, units: Sequence[Picture], *, client: Client = ALICE, deadline_s: float = NEVER_S
    ) -> "asyncio.Task[WorkReport]":
        return asyncio.create_task(self.batcher.submit(units, group=GROUP, client=client, deadline_s=deadline_s))

    async def run_all(self) -> None:
        await turn()
        while self.lanes.waiting:
            self.lanes.run_one()
            await turn()

    def metric(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"no sample {name} {labels}"
        return value


async def turn() -> None:
    """Lets the event loop do all that it can do now: nothing here waits for anything but other callbacks."""
    for _ in range(12):
        await asyncio.sleep(0)


async def outcomes(tasks: Iterable[Awaitable[WorkReport]]) -> list[WorkReport | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


# --- when batches start ---------------------------------------------------------------------------------------------


async def test_an_idle_lane_starts_at_once() -> None:
    bench = Bench()
    task = bench.submit([picture := Picture(1)])
    await turn()
    assert len(bench.lanes.waiting) == 1
    await bench.run_all()
    picture.assert_right()
    report = task.result()
    assert (report.offered_at_s, report.started_at_s, report.ended_at_s) == (100.0, 100.0, 101.0)


async def test_a_batch_forms_while_the_lane_is_busy() -> None:
    bench = Bench(units_in_batch=4)
    tasks = [bench.submit([Picture(value)]) for value in range(6)]
    await bench.run_all()
    assert bench.network.batches == [[0], [1, 2, 3, 4], [5]]
    assert [task.result().shared_request_count for task in tasks] == [1, 4, 4, 4, 4, 1]


async def test_a_network_without_a_noise_map_shares_batches_too() -> None:
    bench = Bench()
    bench.network.has_map = False
    pictures = [Picture(value) for value in (1.0, 2.0, 3.0)]
    tasks = [bench.submit([picture]) for picture in pictures]
    await bench.run_all()
    await outcomes(tasks)
    assert bench.network.batches == [[1.0], [2.0, 3.0]]
    for picture in pictures:
        picture.assert_right(has_map=False)


async def test_one_images_tiles_spread_over_idle_lanes() -> None:
    bench = Bench(lane_count=3, units_in_batch=6)
    task = bench.submit([Picture(value) for value in range(6)])
    await turn()
    assert len(bench.lanes.waiting) == 3
    await bench.run_all()
    assert max(len(batch) for batch in bench.network.batches) == 2, "a third of six"
    assert task.result().shared_request_count == 1


@pytest.mark.parametrize("ends_first", [0, 1])
async def test_no_two_batches_run_in_one_lane_whichever_ends_first(ends_first: int) -> None:
    bench = Bench(lane_count=2, units_in_batch=1)
    tasks = [bench.submit([Picture(value)]) for value in range(9)]
    await turn()
    for _ in range(3):
        assert bench.metric("denoised_busy_lanes") == len(bench.lanes.waiting) == 2
        bench.lanes.run_one(ends_first)
        await turn()
        bench.lanes.run_one()
        bench.lanes.run_one()
        assert set(bench.network.lanes[-2:]) == {0, 1}, "both were started and neither had ended"
        await turn()
    await outcomes(tasks)
    assert bench.metric("denoised_busy_lanes") == 0


async def test_units_of_other_models_and_shapes_get_batches_of_their_own() -> None:
    bench = Bench(units_in_batch=100)
    other = Network(bench.clock)
    bench.batcher.add_engine("other", other)
    blocker = bench.submit([Picture(0)])
    await turn()
    groups = [GROUP, Group("other", EDGE_PX, EDGE_PX), GROUP, Group("other", EDGE_PX, EDGE_PX)]
    tasks = [
        asyncio.create_task(bench.batcher.submit([Picture(value)], group=group, client=ALICE, deadline_s=NEVER_S))
        for value, group in enumerate(groups, start=1)
    ]
    await bench.run_all()
    await outcomes([blocker, *tasks])
    assert bench.network.batches == [[0], [1, 3]]
    assert other.batches == [[2, 4]]


async def test_a_second_client_is_served_before_the_rest_of_a_large_image() -> None:
    bench = Bench(units_in_batch=2)
    large = bench.submit([Picture(value) for value in range(100)], client=ALICE)
    await turn()
    small = bench.submit([Picture(500)], client=BOB)
    await turn()
    bench.lanes.run_one()
    await turn()
    bench.lanes.run_one()
    await turn()
    assert small.done()
    assert not large.done()
    await bench.run_all()
    assert large.done()


@pytest.mark.parametrize(
    ("unit_counts", "lane_count", "expected"),
    [([1, 5], 1, {"full": 1, "no_more": 2}), ([4], 2, {"lane_share": 2, "no_more": 1}), ([1], 1, {"no_more": 1})],
    ids=["budget", "share", "last"],
)
async def test_the_reason_that_ended_a_batch_is_counted(
    unit_counts: list[int], lane_count: int, expected: dict[str, int]
) -> None:
    bench = Bench(units_in_batch=4, lane_count=lane_count)
    tasks = [bench.submit([Picture(value) for value in range(count)]) for count in unit_counts]
    await bench.run_all()
    await outcomes(tasks)
    counted = {
        reason: bench.metric("denoised_batch_releases_total", reason=reason)
        for reason in ("full", "lane_share", "no_more")
    }
    assert counted == {"full": 0, "lane_share": 0, "no_more": 0} | expected


# --- what a request learns ------------------------------------------------------------------------------------------


async def test_requests_and_connections_that_shared_a_batch_are_counted() -> None:
    bench = Bench(units_in_batch=8)
    blocker = bench.submit([Picture(0)])
    await turn()
    second_connection = Client(share="alice", connection="alice:2")
    tasks = [
        bench.submit([Picture(1), Picture(2)], client=ALICE),
        bench.submit([Picture(3)], client=ALICE),
        bench.submit([Picture(4)], client=second_connection),
        bench.submit([Picture(5)], client=BOB),
    ]
    await bench.run_all()
    reports = [task.result() for task in tasks]
    assert [report.shared_request_count for report in reports] == [4] * 4
    assert [report.shared_client_count for report in reports] == [3] * 4
    assert blocker.result().shared_client_count == 1


async def test_a_report_spans_the_first_start_and_the_last_end_of_an_images_tiles() -> None:
    bench = Bench(units_in_batch=1)
    blocker = bench.submit([Picture(0)])
    await turn()
    task = bench.submit([Picture(1), Picture(2), Picture(3)], client=BOB)
    await bench.run_all()
    report = task.result()
    assert (report.offered_at_s, report.started_at_s, report.ended_at_s) == (100.0, 101.0, 104.0)
    assert blocker.done()


async def test_the_predicted_wait_follows_the_measured_pace_the_queue_and_the_lanes() -> None:
    bench = Bench(lane_count=2, units_in_batch=1)
    assert bench.batcher.predicted_wait_s(10**9) == 0.0
    await bench.run_all()
    done = bench.submit([Picture(0)])
    await bench.run_all()
    assert done.done()
    assert bench.batcher.predicted_wait_s(4 * UNIT_PIXEL_COUNT) == pytest.approx(2.0)
    tasks = [bench.submit([Picture(value)]) for value in range(6)]
    await turn()
    assert bench.batcher.predicted_wait_s(0) == pytest.approx(2.0), "four of six are queued, two run"
    await bench.run_all()
    await outcomes(tasks)


async def test_idle_waits_for_what_runs_and_for_what_is_queued_behind_it() -> None:
    bench = Bench(units_in_batch=1)
    tasks = [bench.submit([Picture(value)]) for value in range(3)]
    await turn()
    idle = asyncio.create_task(bench.batcher.idle())
    for _ in range(3):
        await turn()
        assert not idle.done()
        bench.lanes.run_one()
    await asyncio.wait_for(idle, 60)
    await outcomes(tasks)
    await bench.batcher.idle()


# --- who is refused, and who is taken back --------------------------------------------------------------------------


async def test_a_request_without_units_is_refused_instead_of_waiting_for_ever() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="submit at least one"):
        await bench.batcher.submit([], group=GROUP, client=ALICE, deadline_s=NEVER_S)


async def test_a_full_queue_refuses_a_request_as_a_whole_and_says_when_to_come_back() -> None:
    bench = Bench(units_in_batch=1, units_in_queue=4)
    running = bench.submit([Picture(0)])
    await bench.run_all()
    tasks = [bench.submit([Picture(1)]), bench.submit([Picture(2), Picture(3)])]
    await turn()
    with pytest.raises(QueueFull, match="the queue is full: 32 pixels are queued and 48 were offered; the limit is 64"):
        await bench.submit([Picture(4), Picture(5), Picture(6)])
    refused = bench.submit([Picture(7), Picture(8), Picture(9)])
    error = (await outcomes([refused]))[0]
    assert isinstance(error, QueueFull)
    assert error.retry_after_s == pytest.approx(2.0), "two units are queued at one second each"
    await bench.run_all()
    assert all(isinstance(outcome, WorkReport) for outcome in await outcomes([running, *tasks]))
    assert bench.network.batches == [[0], [1], [2], [3]]


async def test_an_image_larger_than_the_queue_is_taken_when_nothing_else_waits() -> None:
    """QueueFull asks to send again later. An image whose tiles exceed the limit by themselves (padding can multiply a
    thin image's pixels) would be sent again for ever; like the memory ledger, an empty queue takes any one.
    """
    bench = Bench(units_in_batch=1, units_in_queue=2)
    task = bench.submit([Picture(value) for value in range(3)])
    await bench.run_all()
    assert isinstance(task.result(), WorkReport)


async def test_a_unit_whose_deadline_passed_in_the_queue_is_refused_and_never_runs() -> None:
    bench = Bench(units_in_batch=1)
    first = bench.submit([Picture(0)])
    await turn()
    late = bench.submit([Picture(1), Picture(2)], deadline_s=100.5)
    patient = bench.submit([Picture(3)])
    await bench.run_all()
    with pytest.raises(DeadlineExceeded):
        late.result()
    assert first.done()
    assert patient.done()
    assert bench.network.batches == [[0], [3]]
    assert bench.metric("denoised_units_dropped_total", reason="expired") == 2


async def test_a_request_whose_deadline_has_passed_is_refused_at_once_by_an_idle_service() -> None:
    bench = Bench()
    with pytest.raises(DeadlineExceeded):
        await bench.batcher.submit([Picture(1)], group=GROUP, client=ALICE, deadline_s=99.0)
    assert bench.lanes.waiting == []


async def test_a_request_that_expires_between_its_tiles_is_refused_once_and_gives_back_its_lane() -> None:
    bench = Bench(units_in_batch=1)
    task = bench.submit([Picture(value) for value in range(4)], deadline_s=101.5)
    await bench.run_all()
    with pytest.raises(DeadlineExceeded):
        task.result()
    assert bench.network.batches == [[0], [1]]
    after = bench.submit([picture := Picture(9)])
    await bench.run_all()
    picture.assert_right()
    assert after.done()


async def test_a_cancelled_callers_queued_units_leave_and_its_neighbours_get_their_answers() -> None:
    bench = Bench(units_in_batch=2)
    first = bench.submit([Picture(0)])
    await turn()
    gone = bench.submit([Picture(value) for value in (1, 2, 3)])
    neighbour = bench.submit([picture := Picture(9)], client=BOB)
    await turn()
    gone.cancel()
    await turn()
    assert gone.cancelled()
    assert bench.metric("denoised_queued_units") == 1
    assert bench.metric("denoised_units_dropped_total", reason="cancelled") == 3
    await bench.run_all()
    assert bench.network.batches == [[0], [9]]
    picture.assert_right()
    assert first.done()
    assert neighbour.done()


async def test_cancelling_a_request_whose_unit_runs_disturbs_neither_its_neighbour_nor_the_lane() -> None:
    bench = Bench(units_in_batch=2)
    blocker = bench.submit([Picture(0)])
    await turn()
    gone = bench.submit([Picture(1), Picture(2)])
    neighbour = bench.submit([picture := Picture(9)], client=BOB)
    await turn()
    bench.lanes.run_one()
    await turn()
    gone.cancel()
    await turn()
    await bench.run_all()
    assert gone.cancelled()
    assert sorted(value for batch in bench.network.batches for value in batch) == [0, 1, 9]
    picture.assert_right()
    assert blocker.done()
    assert neighbour.done()


async def test_a_caller_that_is_cancelled_at_once_never_reaches_a_lane() -> None:
    bench = Bench()
    task = bench.submit([Picture(1)])
    task.cancel()
    await bench.run_all()
    assert task.cancelled()
    assert bench.network.batches == []


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit_count", [1, 2, 3, 7, 8])
async def test_a_poisoned_unit_fails_its_own_request_alone(unit_count: int) -> None:
    for poisoned in range(unit_count):
        bench = Bench(units_in_batch=unit_count)
        blocker = bench.submit([Picture(1000)])
        await turn()
        pictures = [Picture(POISON if index == poisoned else index) for index in range(unit_count)]
        tasks = [bench.submit([picture]) for picture in pictures]
        await bench.run_all()
        assert blocker.done()
        for index, (picture, task) in enumerate(zip(pictures, tasks, strict=True)):
            if index == poisoned:
                with pytest.raises(ModelFailed, match="the cause is in the service's log"):
                    task.result()
                assert picture.answers == []
            else:
                picture.assert_right()
                assert isinstance(task.result(), WorkReport)
        assert len(bench.network.batches[1]) == unit_count
        # Halving: the culprit is alone after as many failed runs as it takes to halve the batch down to one.
        failed_count = bench.metric("denoised_batch_failures_total")
        assert failed_count == sum(POISON in batch for batch in bench.network.batches)
        assert failed_count <= 1 + int(np.ceil(np.log2(unit_count)))


async def test_every_unit_of_a_batch_can_be_poisoned() -> None:
    bench = Bench(units_in_batch=4)
    tasks = [bench.submit([Picture(POISON)]) for _ in range(5)]
    await bench.run_all()
    assert all(isinstance(outcome, ModelFailed) for outcome in await outcomes(tasks))


async def test_the_cause_of_a_failure_is_logged_and_never_sent(logs: list[EventDict]) -> None:
    bench = Bench()
    task = bench.submit([Picture(POISON)])
    await bench.run_all()
    assert "poisoned" not in str((await outcomes([task]))[0])
    (entry,) = logs
    assert entry["log_level"] == "error"
    assert str(entry["exc_info"]) == "poisoned"


async def test_a_request_whose_tile_failed_ends_at_once_and_its_other_tiles_leave_the_queue() -> None:
    bench = Bench(units_in_batch=1)
    task = bench.submit([Picture(POISON), Picture(1), Picture(2), Picture(3)])
    await bench.run_all()
    with pytest.raises(ModelFailed):
        task.result()
    assert len(bench.network.batches) <= 2
    assert bench.metric("denoised_queued_units") == 0


@pytest.mark.parametrize("where", ["read", "write"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("a secret of the implementation"), ModelFailed), (NonFiniteOutput("not finite"), NonFiniteOutput)],
    ids=["unknown", "known"],
)
async def test_a_unit_that_raises_fails_its_own_request_alone(
    where: str, error: Exception, outcome: type[ServiceError]
) -> None:
    bench = Bench(units_in_batch=3)
    blocker = bench.submit([Picture(0)])
    await turn()
    bad = Picture(1, read_error=error) if where == "read" else Picture(1, write_error=error)
    tasks = [bench.submit([left := Picture(2)]), bench.submit([bad]), bench.submit([right := Picture(3)])]
    await bench.run_all()
    assert blocker.done()
    with pytest.raises(outcome) as raised:
        tasks[1].result()
    assert "secret" not in str(raised.value)
    left.assert_right()
    right.assert_right()
    assert bench.metric("denoised_batch_failures_total") == 0, "the network did not fail"
    assert len(bench.network.batches) == 2, "nothing ran twice"


async def test_a_batch_of_which_nothing_can_be_read_never_reaches_the_network() -> None:
    bench = Bench()
    with pytest.raises(ModelFailed):
        await asyncio.gather(bench.submit([Picture(1, read_error=OSError())]), bench.run_all())
    assert bench.network.batches == []
    after = bench.submit([Picture(2)])
    await bench.run_all()
    assert isinstance(after.result(), WorkReport)


async def test_an_engine_that_answers_too_few_units_fails_only_those_without_an_answer() -> None:
    class Short(Network):
        def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
            image, _ = super().run(units, lane=lane)
            return image[:1], None

    class Strict(Picture):
        def write(self, denoised: Units, sigma_map: Units | None) -> None:
            super().write(denoised[0:1].reshape(self.noisy.shape), sigma_map)

    bench = Bench(units_in_batch=2)
    bench.batcher.add_engine("model", Short(bench.clock))
    blocker = bench.submit([Strict(0)])
    await turn()
    tasks = [bench.submit([Strict(1)]), bench.submit([Strict(2)])]
    await bench.run_all()
    answered, failed = await outcomes(tasks)
    assert isinstance(answered, WorkReport)
    assert isinstance(failed, ModelFailed)
    assert blocker.done()


# --- anything in any order ------------------------------------------------------------------------------------------

_unit = st.sampled_from(["fine", "fine", "fine", "poison", "read", "write"])
_arrival = st.tuples(
    st.just("submit"), st.lists(_unit, min_size=1, max_size=4), st.booleans(), st.sampled_from([0.5, 3.0, NEVER_S])
)
_event = st.one_of(
    _arrival,
    _arrival,
    st.tuples(st.just("cancel"), st.integers(0, 10)),
    st.tuples(st.just("run"), st.integers(0, 3)),
    st.tuples(st.just("turn")),
)


@settings(max_examples=80)
@given(
    events=st.lists(_event, max_size=25),
    lane_count=st.integers(1, 3),
    units_in_batch=st.integers(1, 4),
    units_in_queue=st.integers(4, 12),
)
def test_whatever_happens_every_submit_ends_in_one_right_way(
    events: list[tuple[Any, ...]], lane_count: int, units_in_batch: int, units_in_queue: int
) -> None:
    async def story() -> None:
        bench = Bench(lane_count=lane_count, units_in_batch=units_in_batch, units_in_queue=units_in_queue)
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        works: list[tuple[list[str], list[Picture], asyncio.Task[WorkReport]]] = []
        for event in events:
            match event:
                case ("submit", kinds, is_alice, wait_s):
                    pictures = [_picture(kind, number) for number, kind in enumerate(kinds, start=10 * len(works))]
                    deadline_s = bench.clock.now_s + wait_s
                    task = bench.submit(pictures, client=ALICE if is_alice else BOB, deadline_s=deadline_s)
                    works.append((kinds, pictures, task))
                case ("cancel", index) if works:
                    works[index % len(works)][2].cancel()
                case ("run", index) if bench.lanes.waiting:
                    bench.lanes.run_one(index % len(bench.lanes.waiting))
                case _:
                    await turn()
        await bench.run_all()

        for work in works:
            assert_right_ending(*work)
        works.clear()
        await bench.batcher.idle()
        assert bench.metric("denoised_queued_units") == bench.metric("denoised_queued_pixels") == 0
        assert bench.metric("denoised_busy_lanes") == 0
        after = bench.submit([picture := Picture(3)])
        await bench.run_all()
        assert isinstance(after.result(), WorkReport)
        picture.assert_right()
        assert unhandled == [], "no failure was left for the event loop to find"

    asyncio.run(story())


def assert_right_ending(kinds: list[str], pictures: list[Picture], task: "asyncio.Task[WorkReport]") -> None:
    assert task.done(), "nobody waits for ever"
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        assert set(kinds) == {"fine"}
        for picture in pictures:
            picture.assert_right()
    elif isinstance(error, ModelFailed):
        assert set(kinds) != {"fine"}, "a neighbour's failure is not mine"
    else:
        assert isinstance(error, (DeadlineExceeded, QueueFull))


def _picture(kind: str, number: int) -> Picture:
    match kind:
        case "poison":
            return Picture(POISON)
        case "read":
            return Picture(number, read_error=ValueError("read"))
        case "write":
            return Picture(number, write_error=ValueError("write"))
        case _:
            return Picture(number)
