"""One image from its data to its answer: the stages of the design, in order.

Raw samples need no stage but the network: lanes read them out of the message that brought them, and no task or thread
is used for them besides; small ones of a kind go side by side. Files go through the codecs' threads before and after.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

import numpy as np

from denoised.contract import ModelContract
from service import codec, tiling
from service.admission import Admission, Demand, Reservation, held_bytes
from service.batcher import Batcher, Client, Group, Submission
from service.codec_pool import CodecPool
from service.cost import CostModel
from service.errors import CapabilityMissing, DeadlineExceeded, ServiceError, UnsupportedImage
from service.express import Express
from service.image_tiles import BandedImage, TiledImage, WholeImage, noise_sigma_levels
from service.job import NO_TIME, Findings, Geometry, Job, Options, Outcome, RawOrder, Timings
from service.metrics import Metrics, Stage
from service.pixels import Scale
from service.registry import Model
from service.stack import Stack
from service.types import Container, Data, Image, ImageHeader

R = TypeVar("R")

# Both directions of the slowest container, measured: what the codec queue is shared by.
_CODEC_S_PER_PIXEL = 25e-9
# Images whose deadlines lie this much apart, as a share of the time left, still go side by side.
_DEADLINE_STEP = 0.1


class Denoiser:
    """Takes images through all stages."""

    def __init__(
        self,
        *,
        batcher: Batcher,
        admission: Admission,
        codecs: CodecPool,
        costs: CostModel,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._batcher = batcher
        self._admission = admission
        self._codecs = codecs
        self._costs = costs
        self._clock = clock
        self._observe = _Observer(metrics)
        self._express = Express(batcher=batcher, admission=admission, costs=costs, clock=clock, metrics=metrics)
        self._stacks: dict[tuple[RawOrder, Client, int], list[Job]] = {}

    def start(self, job: Job, *, in_chunks: bool = False, is_alone: bool = False, unsent_bytes: int = 0) -> None:
        """Lets an image in, or refuses it at once.

        Args:
            in_chunks: it came in chunks, and may be larger.
            is_alone: no other image came in the same message; then ``on_done`` may be called before this returns.
            unsent_bytes: the most of its answer that will be in memory once more while it leaves in parts.

        Raises:
            ServiceError: it is refused; ``on_done`` will not be called.
        """
        now_s = self._arrive(job)
        order = job.order
        if is_alone and isinstance(order, RawOrder) and order.is_small and self._express.take(job, order):
            return
        if isinstance(order, RawOrder):
            geometry = order.geometry
            codec.check_raw_length(len(job.data), geometry.header)
        else:
            header = codec.sniff(bytes(job.data), claimed=order.claimed)
            geometry = self.geometry(header, order.model, order.options, in_chunks=in_chunks)
        if geometry.returns_input(order.options):
            if in_chunks:
                job.reservation = self.reserve(len(job.data) + min(unsent_bytes, len(job.data)))
            untouched = Outcome(geometry.container, job.data, None, None, NO_TIME)
            asyncio.get_running_loop().call_soon(_tell_unless_closed, job, untouched)
            return
        is_raw = geometry.header.container is Container.RAW
        held = held_bytes(geometry.header, encoded_bytes=len(job.data), is_raw=is_raw)
        held += min(unsent_bytes, geometry.header.decoded_bytes)
        job.reservation = self._admit(job, geometry, now_s, held=held)
        try:
            self._begin(job, geometry, now_s)
        except BaseException:
            job.release()
            raise

    def _begin(self, job: Job, geometry: Geometry, now_s: float) -> None:
        order = job.order
        if isinstance(order, RawOrder) and order.is_small:
            self._stack(job, order, now_s)
        elif isinstance(order, RawOrder) and order.is_direct:
            self._start_raw(job, order)
        else:
            job.running = _Steps(job, partial(self._through_codecs, job, geometry))

    def start_rows(
        self, job: Job, image: BandedImage, *, on_tile: Callable[[int], None], unsent_bytes: int = 0
    ) -> Callable[[int], None]:
        """Lets an image in whose rows are still to come. Its outcome has no data.

        Args:
            on_tile: called on the event loop with the number of each tile that is done.
            unsent_bytes: the most of its answer that will be in memory once more while it leaves.

        Returns:
            What to call when more has come: the tiles with lower numbers than its argument may run.

        Raises:
            ServiceError: it is refused; ``on_done`` will not be called.
        """
        now_s = self._arrive(job)
        order = job.order
        assert isinstance(order, RawOrder)
        header = order.geometry.header
        held = BandedImage.held_bytes(header, order.geometry.plan) + min(unsent_bytes, header.decoded_bytes)
        job.reservation = self._admit(job, order.geometry, now_s, held=held)

        def on_unit(_: Submission, index: int, error: ServiceError | None) -> None:
            if error is None:
                on_tile(index)

        try:
            submission = self._submit(
                job, image, order.geometry, self._raw_done(job, image, order, b""), available_count=0, on_unit=on_unit
            )
        except BaseException:
            job.release()
            raise
        job.running = _Units(job, submission, self._batcher)
        return partial(self._batcher.extend, submission)

    def reserve(self, size_bytes: int) -> Reservation:
        """Room for bytes that come in parts and are an image once they are all there. Raises as :meth:`start`."""
        return self._admission.reserve(size_bytes)

    def close(self, job: Job) -> None:
        """Its call is over, answered or not: what has not run is dropped, its room is free once nothing uses it."""
        if job.running is None:
            job.release()
            job.running = _CLOSED
        else:
            job.running.close()

    def geometry(self, header: ImageHeader, model: Model, options: Options, *, in_chunks: bool = False) -> Geometry:
        """What an image of this size asks of a model.

        Raises:
            InvalidArgument: too large, or it does not fit the container that is asked for, or the model.
            CapabilityMissing: the model does not denoise.
        """
        container = options.output_container or header.container
        self._admission.check_size(header, in_chunks=in_chunks)
        codec.check_encodable(header, container, jpeg_quality=options.jpeg_quality)
        contract = model.contract
        _check_model(header, contract)
        plan = tiling.plan(
            height_px=header.height_px,
            width_px=header.width_px,
            edges_px=contract.unit_edges_px,
            halo_px=contract.halo_px,
            multiple_px=contract.size_multiple_px,
        )
        group = Group(model.key, contract.channels, plan.rows.edge_px, plan.columns.edge_px)
        return Geometry(header, container, plan, group)

    def _arrive(self, job: Job) -> float:
        job.arrived_at_s = now_s = self._clock()
        if job.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed when the image arrived; allow more time")
        return now_s

    def _admit(self, job: Job, geometry: Geometry, now_s: float, *, held: int) -> Reservation:
        plan, group, header = geometry.plan, geometry.group, geometry.header
        has_codec = header.container is not Container.RAW or geometry.container is not Container.RAW
        codec_s = header.pixel_count * _CODEC_S_PER_PIXEL if has_codec else 0.0
        if job.order.options.strength == 0.0:
            return self._admission.admit_to_codecs(
                len(job.data), held_bytes=held, codec_s=codec_s, remaining_s=job.deadline_s - now_s
            )
        self._batcher.require_lane()
        remaining_s, spread = job.deadline_s - now_s, self._costs.spread()
        # All that waits is more than what runs before it, and is known without looking; mostly that is enough to know.
        backlog_s = self._batcher.queued_s + self._batcher.running_s
        if 2 * spread * backlog_s > remaining_s:
            backlog_s = self._batcher.backlog_s(job.client, job.order.options.service_class)
        tile_count = plan.tile_count
        demand = Demand(
            pixel_count=tile_count * plan.tile_pixel_count,
            encoded_bytes=len(job.data),
            held_bytes=held,
            cost_s=tile_count * self._costs.predict_s(group.model, group.height_px, group.width_px),
            unit_count=tile_count,
            codec_s=codec_s,
        )
        return self._admission.admit(
            demand,
            backlog_s=backlog_s,
            lane_count=self._batcher.lane_count,
            remaining_s=remaining_s,
            spread=spread,
        )

    def _stack(self, job: Job, order: RawOrder, now_s: float) -> None:
        """Small images of one kind and client that come in this turn of the event loop go side by side."""
        key = (order, job.client, int((job.deadline_s - now_s) / _DEADLINE_STEP))
        jobs = self._stacks.get(key)
        if jobs is None:
            jobs = self._stacks[key] = []
            asyncio.get_running_loop().call_soon(self._start_stack, key)
        jobs.append(job)

    def _start_stack(self, key: tuple[RawOrder, Client, int]) -> None:
        order, client, _ = key
        jobs = [job for job in self._stacks.pop(key) if job.running is None]
        if not jobs:
            return
        try:
            self._run_stack(jobs, order, client)
        except Exception as error:  # noqa: BLE001 -- nobody else is there to tell the images that wait
            for job in jobs:
                job.running = None
                asyncio.get_running_loop().call_soon(_tell_unless_closed, job, error)

    def _run_stack(self, jobs: list[Job], order: RawOrder, client: Client) -> None:
        group, service_class = order.geometry.group, order.options.service_class
        deadline_s = min(job.deadline_s for job in jobs)
        stack = Stack(order, [job.data for job in jobs])
        run = _StackRun(stack, jobs, order, batcher=self._batcher, clock=self._clock, observe=self._observe)
        if self._batcher.run_at_once(
            stack,
            group=group,
            unit_count=len(jobs),
            client=client,
            service_class=service_class,
            deadline_s=deadline_s,
            on_unit=run.end_one,
        ):
            run.show()
            return
        run.submission = self._batcher.submit(
            stack,
            group=group,
            unit_count=len(jobs),
            pack_count=self._batcher.fitting_pack_count(group, len(jobs)),
            client=client,
            service_class=service_class,
            deadline_s=deadline_s,
            on_done=run.end,
            on_unit=run.end_one,
            units_fail_alone=True,
        )

    def _start_raw(self, job: Job, order: RawOrder) -> None:
        """Raw samples to raw samples: nothing but the network."""
        samples = codec.view_raw(job.data, order.geometry.header, order.layout)
        # In the order of the request, so that the memory behind it is the answer's data.
        target = np.empty_like(samples)
        image = WholeImage(
            samples, target, plan=order.geometry.plan, scale=order.scale, strength=order.options.strength
        )
        data = codec.raw_bytes(target, order.layout)
        submission = self._submit(job, image, order.geometry, self._raw_done(job, image, order, data))
        job.running = _Units(job, submission, self._batcher)

    def _raw_done(
        self, job: Job, image: TiledImage, order: RawOrder, data: Data
    ) -> Callable[[Submission, ServiceError | None], None]:
        def done(submission: Submission, error: ServiceError | None) -> None:
            if error is not None:
                job.on_done(job, error)
                return
            timings = self._timings(job, submission, decoded_at_s=job.arrived_at_s, computed_at_s=submission.ended_at_s)
            outcome = Outcome(Container.RAW, data, None, _findings(image, submission), timings)
            self._observe(outcome, order.geometry.header, order.model)
            job.on_done(job, outcome)

        return done

    async def _through_codecs(self, job: Job, geometry: Geometry, steps: "_Steps") -> Outcome:
        """Whatever is a file before or after, or has an alpha channel."""
        order, options, header = job.order, job.order.options, geometry.header
        contract = order.model.contract
        image = await self._in_codec(job, header, lambda: _decode(job, header, contract))
        decoded_at_s = self._clock()
        answer, findings, submission = image, None, None
        if options.strength > 0.0:
            target = np.empty(image.colour.shape, image.colour.dtype)
            scale = Scale(image.black_level, image.white_level, contract.noise.clip)
            tiles = WholeImage(image.colour, target, plan=geometry.plan, scale=scale, strength=options.strength)
            submission = await self._computed(job, tiles, geometry, steps)
            findings = _findings(tiles, submission)
            answer = Image(target, image.alpha, image.black_level, image.white_level, image.metadata)
            # Admission counts on it: what was decoded makes room for the answer's file.
            tiles.let_go()
            image = answer
        computed_at_s = self._clock()
        data = await self._in_codec(job, header, lambda: _encode(answer, geometry.container, options))
        timings = self._timings(job, submission, decoded_at_s=decoded_at_s, computed_at_s=computed_at_s)
        outcome = Outcome(geometry.container, data, answer, findings, timings)
        self._observe(outcome, header, order.model)
        return outcome

    async def _computed(self, job: Job, tiles: TiledImage, geometry: Geometry, steps: "_Steps") -> Submission:
        future: asyncio.Future[Submission] = asyncio.get_running_loop().create_future()

        def done(submission: Submission, error: ServiceError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(submission)

        steps.units = _Units(job, self._submit(job, tiles, geometry, done), self._batcher)
        return await future

    def _submit(
        self,
        job: Job,
        tiles: TiledImage,
        geometry: Geometry,
        on_done: Callable[[Submission, ServiceError | None], None],
        *,
        available_count: int | None = None,
        on_unit: Callable[[Submission, int, ServiceError | None], None] | None = None,
    ) -> Submission:
        def computed(submission: Submission, error: ServiceError | None) -> None:
            job.leave_queue()
            if error is None or isinstance(error, DeadlineExceeded):
                job.note_computed(self._clock(), is_late=error is not None)
            on_done(submission, error)

        return self._batcher.submit(
            tiles,
            group=geometry.group,
            unit_count=geometry.plan.tile_count,
            available_count=available_count,
            client=job.client,
            service_class=job.order.options.service_class,
            deadline_s=job.deadline_s,
            on_done=computed,
            on_unit=on_unit,
        )

    async def _in_codec(self, job: Job, header: ImageHeader, function: Callable[[], R]) -> R:
        return await self._codecs.run(
            function,
            client=job.client.share,
            service_class=job.order.options.service_class,
            pixel_count=header.pixel_count,
            cost_s=header.pixel_count * _CODEC_S_PER_PIXEL,
            deadline_s=job.deadline_s,
        )

    def _timings(
        self, job: Job, submission: Submission | None, *, decoded_at_s: float, computed_at_s: float
    ) -> Timings:
        now_s = self._clock()
        return Timings(
            decode_s=decoded_at_s - job.arrived_at_s,
            queue_s=submission.started_at_s - submission.offered_at_s if submission else 0.0,
            compute_s=submission.ended_at_s - submission.started_at_s if submission else 0.0,
            encode_s=now_s - computed_at_s,
            total_s=now_s - job.arrived_at_s,
        )


class _Observer:
    """Shows in the metrics what became of images."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stages = [metrics.stage_seconds[stage] for stage in _STAGES]

    def __call__(self, outcome: Outcome, header: ImageHeader, model: Model, *, count: int = 1) -> None:
        """``count`` images with the same outcome."""
        metrics = self._metrics
        metrics.images[model.key].inc(count)
        metrics.pixels.inc(header.pixel_count * count)
        metrics.image_pixels.observe_many(header.pixel_count, count)
        for stage, seconds in zip(self._stages, outcome.timings, strict=True):
            stage.observe_many(seconds, count)
        if outcome.findings is not None and outcome.findings.noise_sigma is not None:
            self.noise_sigma(outcome.findings.noise_sigma)

    def noise_sigma(self, sigma: float) -> None:
        """What was found in one image, in 8-bit levels."""
        self._metrics.noise_sigma.observe(sigma)


# In the order of Timings.
_STAGES = (Stage.DECODE, Stage.QUEUE, Stage.COMPUTE, Stage.ENCODE, Stage.TOTAL)


class _Closed:
    """An image that nobody waited for any more before anything worked for it."""

    __slots__ = ()

    def close(self) -> None:
        """It is."""


_CLOSED = _Closed()


def _tell_unless_closed(job: Job, end: Outcome | Exception) -> None:
    """For images that nothing works for."""
    if job.running is None:
        job.on_done(job, end)


class _Units:
    """An image whose units are in the batcher."""

    __slots__ = ("_batcher", "_job", "_submission")

    def __init__(self, job: Job, submission: Submission, batcher: Batcher) -> None:
        self._job = job
        self._submission = submission
        self._batcher = batcher

    def close(self) -> None:
        self._batcher.withdraw(self._submission, on_still=self._job.release)


class _Steps:
    """An image on its way through several stages, as a task of its own.

    Attributes:
        units: its units, once they are in the batcher.
    """

    def __init__(self, job: Job, steps: Callable[["_Steps"], Coroutine[None, None, Outcome]]) -> None:
        self.units: _Units | None = None
        self._job = job
        self._is_closed = False
        self._task = asyncio.create_task(self._run(steps))

    async def _run(self, steps: Callable[["_Steps"], Coroutine[None, None, Outcome]]) -> None:
        end: Outcome | Exception
        try:
            end = await steps(self)
        except Exception as error:  # noqa: BLE001 -- a job's failure is its outcome, whatever it is
            end = error
        self._job.on_done(self._job, end)

    def close(self) -> None:
        if self._task.done():
            self._give_back()
        elif not self._is_closed:
            # A codec's thread that has the image keeps the task until it is done with it.
            self._is_closed = True
            self._task.cancel()
            self._task.add_done_callback(lambda _: self._give_back())

    def _give_back(self) -> None:
        if self.units is not None:
            self.units.close()
        else:
            self._job.release()


class _StackRun:
    """Small images side by side: each is told by itself, and leaves by itself."""

    # None before the batcher has them, and when they run at once.
    submission: Submission | None = None

    def __init__(
        self,
        stack: Stack,
        jobs: list[Job],
        order: RawOrder,
        *,
        batcher: Batcher,
        clock: Callable[[], float],
        observe: _Observer,
    ) -> None:
        self._stack = stack
        self._order = order
        self._batcher = batcher
        self._clock = clock
        self._observe = observe
        # None once it was told, or closed.
        self._waiting: list[Job | None] = list(jobs)
        self._waiting_count = len(jobs)
        # Closed while a lane may use its samples; None once its unit has ended.
        self._leaving: list[Job | None] = [None] * len(jobs)
        self._has_ended = [False] * len(jobs)
        self._answered_count = 0
        self._nothing_found: Findings | None = None
        self._timings: Timings | None = None
        self._timed_at_s = 0.0
        for index, job in enumerate(jobs):
            job.running = _StackMember(self, index, job)

    def end_one(self, submission: Submission, index: int, error: ServiceError | None) -> None:
        """A unit ended."""
        self._has_ended[index] = True
        job = self._take(index)
        if job is None:
            self._release(index)
            return
        if error is not None:
            job.on_done(job, error)
            return
        timings = self._timings_of(job, submission)
        self._answered_count += 1
        job.on_done(
            job, Outcome(Container.RAW, self._stack.answer(index), None, self._findings_of(index, submission), timings)
        )

    def show(self) -> None:
        """Counts those that were answered; a pack at a time, because it costs as much as for one."""
        count, self._answered_count = self._answered_count, 0
        if count and self._timings is not None:
            outcome = Outcome(Container.RAW, b"", None, None, self._timings)
            self._observe(outcome, self._order.geometry.header, self._order.model, count=count)

    def end(self, submission: Submission, error: ServiceError | None) -> None:
        """All units have ended, or none will any more."""
        del submission
        self.show()
        for index in range(len(self._waiting)):
            job = self._take(index)
            if job is not None:
                assert error is not None
                job.on_done(job, error)

    def close(self, index: int, job: Job) -> None:
        """Nobody waits for one of the images."""
        self._take(index)
        self._leaving[index] = job
        if self._has_ended[index]:
            self._release(index)
        elif self._waiting_count == 0 and self.submission is not None:
            self.show()
            self._batcher.withdraw(self.submission, on_still=self._release_all)

    def _release(self, index: int) -> None:
        job, self._leaving[index] = self._leaving[index], None
        if job is not None:
            job.release()

    def _release_all(self) -> None:
        for index in range(len(self._leaving)):
            self._release(index)

    def _take(self, index: int) -> Job | None:
        job = self._waiting[index]
        if job is not None:
            self._waiting[index] = None
            self._waiting_count -= 1
            job.leave_queue()
        return job

    def _findings_of(self, index: int, submission: Submission) -> Findings:
        """One for all in which nothing was found: whoever writes replies then writes the same again."""
        mean_sigma, outside_count = self._stack.mean_sigmas[index], self._stack.outside_counts[index]
        if mean_sigma is None and not outside_count:
            if self._nothing_found is None:
                self._nothing_found = _single_findings(None, 0, submission)
            return self._nothing_found
        sigma = None if mean_sigma is None else noise_sigma_levels(mean_sigma)
        if sigma is not None:
            self._observe.noise_sigma(sigma)
        return _single_findings(sigma, outside_count, submission)

    def _timings_of(self, job: Job, submission: Submission) -> Timings:
        """The same for all images of a pack: they came in one turn of the event loop, and ran together."""
        if self._timings is None or self._timed_at_s != submission.ended_at_s:
            self.show()
            self._timed_at_s = submission.ended_at_s
            now_s = self._clock()
            self._timings = Timings(
                decode_s=0.0,
                queue_s=submission.started_at_s - submission.offered_at_s,
                compute_s=submission.ended_at_s - submission.started_at_s,
                encode_s=now_s - submission.ended_at_s,
                total_s=now_s - job.arrived_at_s,
            )
        return self._timings


class _StackMember:
    """One of the images side by side."""

    __slots__ = ("_index", "_job", "_run")

    def __init__(self, run: _StackRun, index: int, job: Job) -> None:
        self._run = run
        self._index = index
        self._job = job

    def close(self) -> None:
        self._run.close(self._index, self._job)


def _single_findings(noise_sigma: float | None, outside_count: int, submission: Submission) -> Findings:
    shared = (submission.shared_request_count, submission.shared_client_count)
    return Findings(noise_sigma, outside_count, 1, *shared)


def _findings(tiles: TiledImage, submission: Submission) -> Findings:
    return Findings(
        noise_sigma=tiles.noise_sigma,
        clipped_sample_count=tiles.outside_count,
        tile_count=submission.unit_count,
        shared_request_count=submission.shared_request_count,
        shared_client_count=submission.shared_client_count,
    )


def _decode(job: Job, header: ImageHeader, contract: ModelContract) -> Image:
    order = job.order
    if isinstance(order, RawOrder):
        return codec.decode_raw(
            job.data,
            header,
            layout=order.layout,
            black_level=order.scale.black_level,
            white_level=order.scale.white_level,
        )
    levels = order.levels.or_those_of(contract.levels, header)
    return codec.decode(bytes(job.data), header, black_level=levels.black, white_level=levels.white)


def _encode(image: Image, container: Container, options: Options) -> Data:
    if container is Container.RAW:
        return codec.encode_raw(image, options.raw_layout)
    return codec.encode(image, container, jpeg_quality=options.jpeg_quality)


def _check_model(header: ImageHeader, contract: ModelContract) -> None:
    """Raises unless the model denoises, and images like this one."""
    if "denoise" not in contract.capabilities:
        raise CapabilityMissing(
            f"the model {contract.name!r} can't denoise, it can {', '.join(contract.capabilities)}; "
            "choose another one, ListModels tells what each can"
        )
    if contract.channels == 1 and header.channels >= 3:
        raise UnsupportedImage(
            f"the image has colour and the model {contract.name!r} takes grey images only; "
            "choose a colour model or send a grey image",
            field="options.model",
        )
    side_px = contract.fixed_side_px
    if side_px and (header.width_px, header.height_px) != (side_px, side_px):
        raise UnsupportedImage(
            f"the image has {header.width_px} x {header.height_px} px and the model {contract.name!r} takes images of "
            f"{side_px} x {side_px} px only; scale or crop it to that size, or choose another model",
            field="options.model",
        )
