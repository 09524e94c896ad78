"""Runs a plan: warms up, measures the capacity, then sends each stage's images when they are due, come what may.

Latency and deadline of an image run from when it was due to be sent, not from when it was: a generator or server that
stalls does not make the waiting of those who would have come in the meantime disappear.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

from denoised.aio import AsyncClient
from denoised.errors import InternalError
from denoised.load.answers import Checker
from denoised.load.arrivals import arrival_times_s
from denoised.load.clock import Clock
from denoised.load.health import HealthMeter
from denoised.load.pictures import Picture
from denoised.load.plan import GRACE_S, LoadPlan, Rate
from denoised.load.results import LoadResult, StageResult
from denoised.load.server_use import ServerUse, scrape
from denoised.load.tally import StageTally
from denoised.load.verdicts import (
    GENERATOR_BEHIND,
    IN_FLIGHT_LIMIT,
    MUST_BE_ZERO,
    NO_ANSWER,
    Outcome,
    Reply,
    Verdict,
    judge,
)
from denoised.load.wire import Wire, make_wire
from denoised.load.workload import Shot, Workload, picture_weights
from denoised.noise import keyed_rng
from denoised.retry import RetryPolicy

_HELLO_TIMEOUT_S = 10.0
_ALONE_TIMEOUT_S = 60.0
_LEAD_S = 0.05
# First parts of the keys that draws are made from.
_TIMES_KEY, _SHOTS_KEY, _CLOSED_LOOP_KEY = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Progress:
    """A look at a stage under way."""

    stage: str
    elapsed_s: float
    in_flight_count: int
    tally: StageTally


class Driver:
    """One run of one plan."""

    def __init__(
        self, plan: LoadPlan, pictures: Sequence[Picture], *, clock: Clock, say: Callable[[str], None]
    ) -> None:
        """``pictures`` are ``plan.pictures_per_kind`` of each of the plan's kinds; ``say`` gets a line at each step."""
        self._plan = plan
        self._pictures = pictures
        self._clock = clock
        self._say = say
        self._checker = Checker(pictures) if plan.is_verified else None
        self._is_stopped = False
        self._in_flight_count = 0
        self._wires: list[Wire] = []
        self.progress: Progress | None = None

    def stop(self) -> None:
        """Sends nothing more; what is under way is still waited for and counted."""
        self._is_stopped = True

    async def run(self) -> LoadResult:
        """Everything, within the stages' durations, their deadlines and a little grace.

        Raises:
            DenoisedError: the server can't be reached, or does not answer a single image as it should.
            MetricsUnreadableError: the metrics were asked for and can't be had.
        """
        server = await self._greet()
        plan = self._plan
        self._wires = [
            make_wire(
                plan.method,
                plan.target,
                timeout_s=plan.timeout_s,
                slow_pause_s=plan.slow_pause_s if index < plan.slow_connection_count else None,
                now_s=self._clock.now_s,
            )
            for index in range(plan.connection_count)
        ]
        try:
            await self._learn()
            capacity_per_s = await self._prepare()
            stages: list[StageResult] = []
            for index, rate in enumerate(plan.rates):
                if self._is_stopped:
                    break
                stages.append(await self._stage(index, rate, capacity_per_s))
        finally:
            await asyncio.gather(*(wire.close() for wire in self._wires))
        return LoadResult(plan, server, capacity_per_s, tuple(stages), was_interrupted=self._is_stopped)

    async def _greet(self) -> str:
        async with AsyncClient(self._plan.target, retry=RetryPolicy(try_count=1)) as client:
            models = await client.models(timeout_s=_HELLO_TIMEOUT_S)
        if self._plan.metrics_url:
            await self._use()
        wanted = self._plan.model
        return ", ".join(
            f"{model.name} {model.version}"
            for model in models
            if (model.name == wanted if wanted else model.is_default)
        )

    async def _learn(self) -> None:
        """Gets the right answer to each image: the one that it has alone."""
        if self._checker is None:
            return
        self._say(f"asking for {len(self._pictures)} images one by one, to know the right answers")
        for index, picture in enumerate(self._pictures):
            if self._is_stopped:
                return
            reply = await self._alone(picture)
            if reply.answer is None:
                raise InternalError(
                    f"{picture.kind} is not answered when it is alone: {reply.reason or reply.code or NO_ANSWER}",
                    reason="ALONE_UNANSWERED",
                )
            self._checker.learn(index, reply.answer)

    async def _alone(self, picture: Picture) -> Reply:
        timeout_s = max(_ALONE_TIMEOUT_S, self._plan.timeout_s)
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                (reply,) = await self._wires[-1].ask(
                    [picture.request], deadline_s=self._clock.now_s() + timeout_s, cancel_after_s=None
                )
        except TimeoutError:
            return Reply("")
        return reply

    async def _prepare(self) -> float | None:
        """Warms up and returns the capacity, if a stage needs it."""
        plan = self._plan
        if plan.warm_up_s:
            self._say(f"warming up for {plan.warm_up_s:g} s, not counted")
            await self._closed_loop(0, plan.warm_up_s)
        if not plan.needs_capacity or self._is_stopped:
            return None
        self._say(f"measuring the capacity for {plan.capacity_s:g} s, {plan.capacity_in_flight} requests at a time")
        ok_count, reasons = await self._closed_loop(1, plan.capacity_s)
        if not ok_count:
            raise InternalError(
                f"no image was answered while the capacity was measured ({', '.join(sorted(reasons)) or 'no word'}): "
                "allow more time with --timeout or --capacity-seconds, or give rates in images a second",
                reason="NO_CAPACITY",
            )
        capacity_per_s = ok_count / plan.capacity_s
        self._say(f"capacity: {capacity_per_s:.1f} images/s")
        return capacity_per_s

    async def _closed_loop(self, number: int, duration_s: float) -> tuple[int, set[str]]:
        """(images answered rightly while it ran, reasons of the others): each asker waits for its answer."""
        shots = self._workload(cancel_share=0.0).shots(
            repeat(0.0), keyed_rng(self._plan.seed, _CLOSED_LOOP_KEY, number)
        )
        prompt = [wire for wire in self._wires if not wire.is_slow]
        end_s = self._clock.now_s() + duration_s
        ok_count, reasons = 0, set[str]()

        async def ask_on(wire: Wire) -> None:
            nonlocal ok_count
            while (now_s := self._clock.now_s()) < end_s and not self._is_stopped:
                shot = next(shots)
                deadline_s = now_s + self._plan.timeout_s
                replies = await wire.ask(self._requests(shot), deadline_s=deadline_s, cancel_after_s=None)
                verdicts = self._verdicts(shot, replies, is_in_time=self._clock.now_s() <= deadline_s)
                if self._clock.now_s() <= end_s:
                    ok_count += sum(verdict.outcome is Outcome.OK for verdict in verdicts)
                reasons.update(verdict.reason for verdict in verdicts if verdict.outcome is not Outcome.OK)
                await self._clock.rest(now_s)

        askers = {
            asyncio.create_task(ask_on(prompt[index % len(prompt)])) for index in range(self._plan.capacity_in_flight)
        }
        await asyncio.wait(askers, timeout=duration_s + self._plan.timeout_s + GRACE_S)
        await self._end(askers)
        return ok_count, reasons

    async def _stage(self, index: int, rate: Rate, capacity_per_s: float | None) -> StageResult:
        plan, rate_per_s = self._plan, rate.images_per_s(capacity_per_s)
        self._say(f"stage {rate}: {rate_per_s:.1f} images/s for {plan.duration_s:g} s")
        times = arrival_times_s(
            plan.arrivals,
            rate_per_s=rate_per_s / plan.images_per_request,
            duration_s=plan.duration_s,
            rng=keyed_rng(plan.seed, _TIMES_KEY, index),
        )
        shots = self._workload(cancel_share=plan.cancel_share).shots(times, keyed_rng(plan.seed, _SHOTS_KEY, index))
        before = await self._use()
        stage, meter = _Stage(str(rate), self._clock.now_s() + _LEAD_S, StageTally(plan.duration_s)), HealthMeter()
        async with meter:
            await self._send(stage, shots, meter)
            await self._settle(stage)
        self.progress = None
        return StageResult(
            str(rate), rate_per_s, capacity_per_s, stage.tally, meter.health(), before, await self._use()
        )

    async def _send(self, stage: "_Stage", shots: Iterator[Shot], meter: HealthMeter) -> None:
        limit = self._plan.max_in_flight - self._plan.images_per_request
        for shot in shots:
            due_s = stage.began_s + shot.due_s
            while True:
                # Also when nothing is to be waited for: answers must be taken in while we are behind.
                await self._clock.rest(due_s)
                now_s = self._clock.now_s()
                self.progress = Progress(stage.name, now_s - stage.began_s, self._in_flight_count, stage.tally)
                if self._is_stopped:
                    stage.tally.ran_s = max(0.0, now_s - stage.began_s)
                    return
                if now_s >= due_s:
                    break
            stage.tally.offer(len(shot.pictures))
            meter.send_lag.record(now_s - due_s)
            if now_s >= due_s + self._plan.timeout_s:
                self._count(stage, shot, [Verdict(Outcome.NOT_SENT, GENERATOR_BEHIND)] * len(shot.pictures))
            elif self._in_flight_count > limit:
                self._count(stage, shot, [Verdict(Outcome.NOT_SENT, IN_FLIGHT_LIMIT)] * len(shot.pictures))
            else:
                self._in_flight_count += len(shot.pictures)
                stage.under_way[asyncio.create_task(self._ask(stage, shot))] = shot

    async def _ask(self, stage: "_Stage", shot: Shot) -> None:
        due_s = stage.began_s + shot.due_s
        deadline_s = due_s + self._plan.timeout_s
        wait_s = None if shot.cancel_after_s is None else due_s + shot.cancel_after_s - self._clock.now_s()
        replies = await self._wires[shot.connection].ask(
            self._requests(shot), deadline_s=deadline_s, cancel_after_s=wait_s
        )
        self._in_flight_count -= len(shot.pictures)
        is_in_time = self._clock.now_s() <= deadline_s
        verdicts = self._verdicts(shot, replies, is_in_time=is_in_time)
        self._count(stage, shot, verdicts)
        for verdict, reply in zip(verdicts, replies, strict=True):
            if verdict.outcome in MUST_BE_ZERO and reply.detail:
                stage.tally.explain(verdict, reply.detail)
        task = asyncio.current_task()
        assert task is not None
        del stage.under_way[task]

    async def _settle(self, stage: "_Stage") -> None:
        """Waits for what is under way, no longer than until its last deadline; what is not answered then is lost."""
        if stage.under_way:
            last_due_s = stage.began_s + max(shot.due_s for shot in stage.under_way.values())
            wait_s = max(0.0, last_due_s + self._plan.timeout_s - self._clock.now_s()) + GRACE_S
            await asyncio.wait(stage.under_way, timeout=wait_s)
        for shot in stage.under_way.values():
            self._count(stage, shot, [Verdict(Outcome.LOST, NO_ANSWER)] * len(shot.pictures))
        await self._end(stage.under_way)
        self._in_flight_count = 0

    async def _end(self, tasks: Iterable["asyncio.Task[None]"]) -> None:
        """Ends what still runs of these, and whatever they left open; a defect that ended one comes up here."""
        left = tuple(tasks)
        for task in left:
            task.cancel()
        results = await asyncio.gather(*left, return_exceptions=True)
        await asyncio.gather(*(wire.end_stage() for wire in self._wires))
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _verdicts(self, shot: Shot, replies: Sequence[Reply], *, is_in_time: bool) -> list[Verdict]:
        checker = self._checker
        return [
            judge(
                reply,
                is_in_time=is_in_time,
                is_right=checker is None or reply.answer is None or checker.is_right(picture, reply.answer),
                was_taken_back=shot.cancel_after_s is not None,
            )
            for picture, reply in zip(shot.pictures, replies, strict=True)
        ]

    def _count(self, stage: "_Stage", shot: Shot, verdicts: Sequence[Verdict]) -> None:
        settled_s = self._clock.now_s() - stage.began_s
        is_slow = self._wires[shot.connection].is_slow
        for verdict in verdicts:
            stage.tally.add(verdict, due_s=shot.due_s, settled_s=settled_s, is_slow=is_slow)

    def _requests(self, shot: Shot) -> list[bytes]:
        return [self._pictures[place].request for place in shot.pictures]

    def _workload(self, *, cancel_share: float) -> Workload:
        plan = self._plan
        return Workload(
            picture_weights(plan.kinds, each_count=plan.pictures_per_kind),
            images_per_shot=plan.images_per_request,
            connection_count=plan.connection_count,
            cancel_share=cancel_share,
            cancel_after_s=plan.cancel_after_s,
        )

    async def _use(self) -> ServerUse | None:
        return await asyncio.to_thread(scrape, self._plan.metrics_url) if self._plan.metrics_url else None


class _Stage:
    """One stage under way; ``began_s`` is the zero of its times."""

    def __init__(self, name: str, began_s: float, tally: StageTally) -> None:
        self.name = name
        self.began_s = began_s
        self.tally = tally
        self.under_way: dict[asyncio.Task[None], Shot] = {}
