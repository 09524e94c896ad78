"""Whatever is a file before or after, or has alpha: through the codecs' threads before and after the network.

Such an image is a task of its own, because it waits for threads.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

import numpy as np

from denoised.contract import ModelContract
from service import codec
from service.codec_pool import CodecPool
from service.errors import ServiceError
from service.image_observer import ImageObserver
from service.image_run import ImageRun, ImageRuns, findings_of
from service.image_tiles import TiledImage, WholeImage
from service.job import Geometry, Job, Options, Outcome, RawOrder
from service.pixels import Scale
from service.submission import Submission
from service.types import Container, Data, Image, ImageHeader

R = TypeVar("R")

# Both directions of the slowest container, measured: what the codec queue is shared by.
CODEC_S_PER_PIXEL = 25e-9


def predict_codec_s(header: ImageHeader) -> float:
    """Seconds of a codec's thread, both ways."""
    return header.pixel_count * CODEC_S_PER_PIXEL


class CodecPath:
    """The way of images that need a codec."""

    def __init__(
        self, *, runs: ImageRuns, codecs: CodecPool, clock: Callable[[], float], observe: ImageObserver
    ) -> None:
        self._runs = runs
        self._codecs = codecs
        self._clock = clock
        self._observe = observe

    def start(self, job: Job, geometry: Geometry) -> None:
        """Runs an admitted image."""
        job.running = _Steps(job, partial(self._through_codecs, job, geometry))

    async def _through_codecs(self, job: Job, geometry: Geometry, steps: "_Steps") -> Outcome:
        order, options, header = job.order, job.order.options, geometry.header
        contract = order.model.contract
        offered_at_s = self._clock()
        image = await self._in_codec(job, header, lambda: _decode(job, header, contract))
        decoded_at_s = self._clock()
        answer, findings, submission = image, None, None
        if options.strength > 0.0:
            target = np.empty(image.colour.shape, image.colour.dtype)
            scale = Scale(image.black_level, image.white_level, contract.noise.clip)
            tiles = WholeImage(image.colour, target, plan=geometry.plan, scale=scale, strength=options.strength)
            submission = await self._computed(job, tiles, geometry, steps)
            findings = findings_of(tiles, submission)
            answer = Image(target, image.alpha, image.black_level, image.white_level, image.metadata)
            # Admission counts on it: what was decoded makes room for the answer's file.
            tiles.let_go()
            image = answer
        computed_at_s = self._clock()
        data = await self._in_codec(job, header, lambda: _encode(answer, geometry.container, options))
        timings = self._runs.timings(job, submission, decoded_at_s=decoded_at_s, computed_at_s=computed_at_s)
        outcome = Outcome(geometry.container, data, answer, findings, timings)
        self._observe(outcome, geometry, order.model, admission_s=offered_at_s - job.arrived_at_s)
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

        steps.units = self._runs.submit(job, tiles, geometry, done)
        return await future

    async def _in_codec(self, job: Job, header: ImageHeader, function: Callable[[], R]) -> R:
        return await self._codecs.run(
            function,
            client=job.client.share,
            service_class=job.order.options.service_class,
            pixel_count=header.pixel_count,
            cost_s=predict_codec_s(header),
            deadline_s=job.deadline_s,
        )


class _Steps:
    """An image on its way through several stages, as a task of its own.

    Attributes:
        units: its units, once they are in the batcher.
    """

    def __init__(self, job: Job, steps: Callable[["_Steps"], Coroutine[None, None, Outcome]]) -> None:
        self.units: ImageRun | None = None
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
        """See :class:`service.job.Running`."""
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
