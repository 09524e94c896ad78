"""A small raw image that finds the service at rest: computed where it arrived, on the event loop, in one go.

Queue, lane and batch are there for images that meet others. One that meets none pays for them all the same, and they
cost it more than its inference. Here all that follows from its order is prepared once, and what is left for each image
is its samples: into the network's input, through the network, out of its output.

Nobody is kept waiting: it runs only while nothing else does or waits, and the event loop stands still for a
millisecond of each turn at most. What does not fit, and whatever goes wrong, takes the usual way, which says why.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service import codec, pixels
from service.admission import Admission, held_bytes
from service.batcher import Batcher
from service.cost import CostModel
from service.dispatch import ON_LOOP_S
from service.image_tiles import mean_of_map, noise_sigma_levels
from service.job import SMALL_PIXELS, Findings, Job, Outcome, RawOrder, Timings
from service.metrics import Lane, Metrics, Release, Stage, Verdict
from service.types import Container, Samples

# Orders that are prepared: as many as there are recipes.
_PREPARED_COUNT: Final = 1024
_MOST_CHANNELS: Final = 3
# Every so many images of an order what they cost is learnt; a machine changes its pace more slowly.
_LEARN_EVERY: Final = 8


class Express:
    """The way of small images through a service at rest."""

    def __init__(
        self,
        *,
        batcher: Batcher,
        admission: Admission,
        costs: CostModel,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._batcher = batcher
        self._admission = admission
        self._costs = costs
        self._clock = clock
        self._metrics = metrics
        self._input = np.empty(SMALL_PIXELS * _MOST_CHANNELS, np.float32)
        self._prepared: dict[RawOrder, _Prepared] = {}
        self._left_s = ON_LOOP_S
        self._compute = metrics.stage_seconds[Stage.COMPUTE]
        self._encode = metrics.stage_seconds[Stage.ENCODE]
        self._total = metrics.stage_seconds[Stage.TOTAL]
        self._batch = metrics.batch_seconds
        self._admitted_work = metrics.offered_work_seconds[Verdict.ADMITTED]
        self._busy = metrics.lane_busy_seconds[Lane.LOOP]
        metrics.before_scrape(self._show)

    def take(self, job: Job, order: RawOrder) -> bool:
        """Answers the image and tells its job, before this returns; False, and nothing done, when it can't.

        Args:
            job: has arrived; its deadline lies ahead.
            order: the job's; ``is_small`` holds.
        """
        way = self._prepared.get(order) or self._prepare(order)
        if (
            way.expected_s > self._left_s
            or len(job.data) != way.sample_bytes
            or way.returns_input
            or job.arrived_at_s + way.expected_s >= job.deadline_s
            or not self._batcher.is_at_rest
        ):
            return False
        reservation = self._admission.admit_at_rest(way.held_bytes)
        if reservation is None:
            return False
        try:
            outcome = self._computed(job, way)
        except Exception:  # noqa: BLE001 -- whatever it is, the usual way meets it again, and says what it is
            reservation.release()
            return False
        self._admitted_work.inc(way.expected_s)
        job.reservation = reservation
        job.on_done(job, outcome)
        return True

    def _computed(self, job: Job, way: "_Prepared") -> Outcome:
        clock, order = self._clock, way.order
        started_s = clock()
        outside_count = 0
        if order.is_plain:
            flat = np.frombuffer(job.data, way.dtype)
            pixels.read_planes(flat, way.flat_units, order.scale)
            denoised, sigma_maps = way.engine.run(way.units, lane=0)
            answer: Samples = np.empty(len(flat), way.dtype)
            pixels.write_planes(denoised.reshape(-1), answer, order.scale)
        else:
            samples = codec.view_raw(job.data, way.header, order.layout)
            outside_count = pixels.read_unit(samples, way.units[0], order.scale, counted=way.whole)
            denoised, sigma_maps = way.engine.run(way.units, lane=0)
            # In the order of the request, so that the memory behind it is the answer's data.
            answer = np.empty_like(samples)
            pixels.write_unit(
                denoised[0],
                way.units[0],
                answer,
                top_px=0,
                left_px=0,
                strength=order.options.strength,
                scale=order.scale,
                grey=pixels.is_grey(samples),
            )
        ended_s = clock()
        findings = way.nothing_found
        if sigma_maps is not None:
            sigma = noise_sigma_levels(mean_of_map(sigma_maps[0]))
            self._metrics.noise_sigma.observe(sigma)
            findings = findings._replace(noise_sigma=sigma, clipped_sample_count=outside_count)
        elif outside_count:
            findings = findings._replace(clipped_sample_count=outside_count)
        self._spend(ended_s - started_s)
        self._learn(way, ended_s - started_s)
        now_s = clock()
        data = answer.data if order.is_plain else codec.raw_bytes(answer, order.layout)
        timings = Timings(0.0, 0.0, ended_s - started_s, now_s - ended_s, now_s - job.arrived_at_s)
        self._batch.observe(timings.compute_s)
        self._compute.observe(timings.compute_s)
        self._encode.observe(timings.encode_s)
        self._total.observe(timings.total_s)
        return Outcome(Container.RAW, data, None, findings, timings)

    def _spend(self, seconds: float) -> None:
        if self._left_s == ON_LOOP_S:
            asyncio.get_running_loop().call_soon(self._turn)
        self._left_s -= seconds

    def _turn(self) -> None:
        """The event loop has looked at everything else."""
        self._left_s = ON_LOOP_S

    def _learn(self, way: "_Prepared", seconds: float) -> None:
        if way.count % _LEARN_EVERY == 0:
            group = way.order.geometry.group
            self._costs.observe(group.model, group.height_px, group.width_px, 1, seconds)
            way.expected_s = self._costs.predict_s(group.model, group.height_px, group.width_px)
        way.count += 1
        way.unshown_s += seconds

    def _prepare(self, order: RawOrder) -> "_Prepared":
        if len(self._prepared) >= _PREPARED_COUNT:
            self.forget()
        group = order.geometry.group
        expected_s = self._costs.predict_s(group.model, group.height_px, group.width_px)
        way = self._prepared[order] = _Prepared(order, self._input, expected_s)
        return way

    def forget(self) -> None:
        """Other models are served from now on: what was prepared for those that left keeps them no longer."""
        self._show()
        self._prepared.clear()

    def _show(self) -> None:
        """What is the same for every image of an order is counted when somebody looks."""
        for way in self._prepared.values():
            if count := way.count - way.shown_count:
                self._show_some(way, count)

    def _show_some(self, way: "_Prepared", count: int) -> None:
        metrics, group, header = self._metrics, way.order.geometry.group, way.header
        way.shown_count = way.count
        metrics.images[way.order.model.key].inc(count)
        metrics.pixels.inc(header.pixel_count * count)
        metrics.image_pixels.observe_many(header.pixel_count, count)
        metrics.padding_pixels.inc(way.order.geometry.plan.padding_pixel_count * count)
        metrics.stage_seconds[Stage.ADMISSION].observe_many(0.0, count)
        metrics.batch_wait_seconds.observe_many(0.0, count)
        metrics.stage_seconds[Stage.DECODE].observe_many(0.0, count)
        metrics.stage_seconds[Stage.QUEUE].observe_many(0.0, count)
        self._batcher.observe.started(Release.NO_MORE, group, 1, 1, 1, count=count)
        self._busy.inc(way.unshown_s)
        way.unshown_s = 0.0


class _Prepared:
    """What all images of an order have in common, and how many there were.

    Attributes:
        units, flat_units: (1, C, h, w) and (C * h * w,) views of the input that all orders share.
        expected_s: of one image on the event loop.
        count, shown_count: images, and those that the metrics know of.
        unshown_s: time of those that they do not know of.
    """

    def __init__(self, order: RawOrder, shared_input: NDArray[np.float32], expected_s: float) -> None:
        geometry, group = order.geometry, order.geometry.group
        header = self.header = geometry.header
        self.order = order
        self.engine = order.model.engine
        self.returns_input = geometry.returns_input(order.options)
        self.sample_bytes = header.decoded_bytes
        self.held_bytes = held_bytes(header, encoded_bytes=header.decoded_bytes, is_raw=True)
        shape = (1, group.channels, group.height_px, group.width_px)
        self.dtype = codec.dtype_of(header)
        self.flat_units = shared_input[: group.channels * group.pixel_count]
        self.units = self.flat_units.reshape(shape)
        self.whole = (slice(0, header.height_px), slice(0, header.width_px))
        self.nothing_found = Findings(None, 0, 1, 1, 1)
        self.expected_s = expected_s
        self.count = self.shown_count = 0
        self.unshown_s = 0.0
