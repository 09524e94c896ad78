"""Codec threads: who runs, who waits, who is told what, and what stays in memory."""

import asyncio
import gc
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from service.codec_pool import LARGE_PIXELS, CodecPool
from service.errors import DeadlineExceeded
from service.metrics import Metrics
from service.types import ServiceClass

R = TypeVar("R")

# Nothing here takes long: who waits for longer than this waits for ever.
PATIENCE_S = 30.0


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A pool, its clock, and functions that run until they are told to end."""

    def __init__(self, thread_count: int) -> None:
        self.clock = Clock()
        self.metrics = Metrics(CollectorRegistry())
        self.pool = CodecPool(thread_count=thread_count, clock=self.clock, metrics=self.metrics)
        self.release = threading.Event()

    def run(
        self,
        function: Callable[[], R],
        *,
        client: str = "someone",
        large: bool = False,
        cost_s: float = 0.01,
        deadline_s: float = math.inf,
    ) -> Coroutine[Any, Any, R]:
        return self.pool.run(
            function,
            client=client,
            service_class=ServiceClass.NORMAL,
            pixel_count=LARGE_PIXELS + large,
            cost_s=cost_s,
            deadline_s=deadline_s,
        )

    async def hold(self, count: int, *, large: bool = False) -> list[asyncio.Task[None]]:
        """Tasks that each hold a thread until the release."""
        all_in = asyncio.Event()
        loop, waiting = asyncio.get_running_loop(), iter(range(count - 1, -1, -1))

        def arrived() -> None:
            if next(waiting) == 0:
                all_in.set()

        def function() -> None:
            loop.call_soon_threadsafe(arrived)
            assert self.release.wait(PATIENCE_S)

        tasks = [asyncio.create_task(self.run(function, large=large)) for _ in range(count)]
        await asyncio.wait_for(all_in.wait(), PATIENCE_S)
        return tasks


async def turn() -> None:
    """Lets the tasks that were created begin."""
    await asyncio.sleep(0)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(getattr(request, "param", 1))
    yield made
    made.release.set()
    made.pool.close()


def threads(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", [count], indirect=True, ids=[f"{count} threads"])


async def test_the_result_comes_from_another_thread(bench: Bench) -> None:
    assert await bench.run(threading.get_native_id) != threading.get_native_id()
    assert (bench.pool.busy_count, bench.pool.queued_count) == (0, 0)


@pytest.mark.parametrize("error", [ValueError("bad bytes"), SystemExit("from a thread")])
async def test_an_error_comes_to_the_one_who_waits_and_the_thread_goes_on(bench: Bench, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await bench.run(fail)
    assert raised.value is error
    assert await bench.run(lambda: "next") == "next"


@threads(3)
async def test_small_images_use_all_threads_at_once(bench: Bench) -> None:
    together = threading.Barrier(3)
    await asyncio.gather(*(bench.run(lambda: together.wait(PATIENCE_S)) for _ in range(3)))


@pytest.mark.parametrize(("bench", "large_count"), [(1, 1), (2, 1), (4, 3)], indirect=["bench"])
async def test_large_images_leave_small_ones_every_thread(bench: Bench, large_count: int) -> None:
    held = await bench.hold(large_count, large=True)
    one_more = asyncio.create_task(bench.run(lambda: None, large=True))
    await turn()
    assert (bench.pool.busy_count, bench.pool.queued_count) == (large_count, 1)
    assert await bench.run(lambda: "small") == "small"
    assert not one_more.done()
    bench.release.set()
    await asyncio.gather(*held, one_more)


async def test_one_client_with_many_images_delays_another_by_few(bench: Bench) -> None:
    held = await bench.hold(1)
    order: list[str] = []
    tasks = [
        asyncio.create_task(bench.run(lambda client=client: order.append(client), client=client))  # type: ignore[misc]
        for client in ["greedy"] * 10 + ["modest"] * 2
    ]
    await turn()
    assert bench.pool.queued_count == 12
    bench.release.set()
    await asyncio.gather(*held, *tasks)
    assert sorted(order) == ["greedy"] * 10 + ["modest"] * 2
    assert order.index("modest") <= 2
    assert order.index("modest", order.index("modest") + 1) <= 4


async def test_a_function_whose_deadline_passes_while_it_waits_never_runs(bench: Bench) -> None:
    held = await bench.hold(1)
    ran: list[str] = []
    late = asyncio.create_task(bench.run(lambda: ran.append("late"), deadline_s=5.0))
    good = asyncio.create_task(bench.run(lambda: ran.append("good"), deadline_s=50.0))
    await turn()
    bench.clock.now_s = 5.0
    bench.release.set()
    await asyncio.gather(*held, good)
    with pytest.raises(DeadlineExceeded, match="allow more time"):
        await late
    assert ran == ["good"]


async def test_a_function_that_comes_too_late_never_runs(bench: Bench) -> None:
    ran: list[str] = []
    with pytest.raises(DeadlineExceeded):
        await bench.run(lambda: ran.append("late"), deadline_s=0.0)
    assert not ran
    assert bench.pool.busy_count == 0


async def test_a_cancelled_function_that_waits_never_runs(bench: Bench) -> None:
    held = await bench.hold(1)
    ran: list[str] = []
    waiting = asyncio.create_task(bench.run(lambda: ran.append("cancelled")))
    await turn()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bench.pool.queued_count == 0
    bench.release.set()
    await asyncio.gather(*held)
    assert await bench.run(lambda: "next") == "next"
    assert not ran


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_function_that_runs_ends_and_frees_its_thread(bench: Bench, *, fails: bool) -> None:
    ended: list[str] = []
    began = asyncio.Event()
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))

    def function() -> None:
        loop.call_soon_threadsafe(began.set)
        assert bench.release.wait(PATIENCE_S)
        ended.append("ended")
        if fails:
            raise ValueError

    task = asyncio.create_task(bench.run(function))
    await asyncio.wait_for(began.wait(), PATIENCE_S)
    task.cancel()
    await turn()
    await turn()
    assert not task.done(), "whoever waits for the call may rely on it: nothing uses the image any more"
    assert bench.pool.busy_count == 1, "its thread is not free before it ends"
    bench.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.pool.busy_count == 0
    assert await bench.run(lambda: "next") == "next"
    assert ended == ["ended"]
    assert not complaints


class Picture:
    """Something large that can be watched."""


async def test_an_idle_thread_keeps_no_result_alive(bench: Bench) -> None:
    gc.disable()
    try:
        picture: Picture | None = await bench.run(Picture)
        watched = weakref.ref(picture)
        picture = None
        await turn()  # until then the loop itself holds what it hands over
        assert watched() is None
    finally:
        gc.enable()


async def test_an_error_that_was_dealt_with_keeps_no_image_alive(bench: Bench) -> None:
    gc.disable()
    try:
        picture = Picture()
        watched = weakref.ref(picture)

        def fail(picture: Picture = picture) -> None:
            raise ValueError(picture)

        failed = False
        try:
            await bench.run(fail)
        except ValueError:
            failed = True
        assert failed
        del picture, fail
        await turn()
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
@threads(2)
async def test_large_images_run_at_a_lower_priority(bench: Bench) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    small, large = await bench.run(niceness), await bench.run(niceness, large=True)
    assert small == niceness()
    assert large == min(small + 5, 19)


async def test_closing_ends_what_runs_cancels_what_waits_and_stops_the_threads() -> None:
    before = set(threading.enumerate())
    bench = Bench(2)
    held = await bench.hold(2)
    waiting = asyncio.create_task(bench.run(lambda: None))
    await turn()
    bench.release.set()
    bench.pool.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.gather(*held)
    assert set(threading.enumerate()) <= before


def test_a_loop_that_is_gone_is_no_trouble_for_a_thread(bench: Bench) -> None:
    began = threading.Event()

    def function() -> None:
        began.set()
        assert bench.release.wait(PATIENCE_S)

    async def leave() -> None:
        task = asyncio.create_task(bench.run(function))
        await turn()
        assert began.wait(PATIENCE_S)
        task.cancel()

    asyncio.run(leave())
    bench.release.set()
    bench.pool.close()


async def test_what_threads_do_and_what_waits_for_them_is_in_the_metrics(bench: Bench) -> None:
    """One small and one large image hold their threads for 2 s; another small one waits for as long."""
    metrics = bench.metrics
    holding = await bench.hold(1) + await bench.hold(1, large=True)
    waiting = asyncio.create_task(bench.run(lambda: None))
    await turn()
    assert (metrics.codec_threads.value, metrics.codec_jobs_busy.value, metrics.codec_jobs_queued.value) == (2, 2, 1)
    bench.clock.now_s = 2.0
    bench.release.set()
    await asyncio.gather(*holding, waiting)
    assert (metrics.codec_jobs_busy.value, metrics.codec_jobs_queued.value) == (0, 0)
    assert metrics.codec_busy_seconds.value == 4.0
    assert (metrics.codec_wait_seconds.total, metrics.codec_wait_seconds.cumulative()[-1][1]) == (2.0, 3)
