"""An image that waits for threads on its way, as a task of its own: what all such ways have in common."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from service.codec_pool import CodecPool
from service.errors import ServiceError
from service.image_run import ImageRun, ImageRuns
from service.image_tiles import TiledImage
from service.job import Geometry, Job, Outcome
from service.lanes import Tiles
from service.submission import Group, Submission

R = TypeVar("R")


class ImageTask:
    """An image on its way through several stages.

    Attributes:
        units: those that are in the batcher, or were there last.
    """

    def __init__(self, job: Job, steps: Callable[["ImageTask"], Coroutine[None, None, Outcome]]) -> None:
        self.units: ImageRun | None = None
        self._job = job
        self._is_closed = False
        self._task = asyncio.create_task(self._run(steps))

    async def _run(self, steps: Callable[["ImageTask"], Coroutine[None, None, Outcome]]) -> None:
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


class ImageTasks:
    """What a task waits for: lanes and codec threads; one for the service."""

    def __init__(self, *, runs: ImageRuns, codecs: CodecPool) -> None:
        self._runs = runs
        self._codecs = codecs

    async def computed(self, job: Job, tiles: TiledImage, geometry: Geometry, task: ImageTask) -> Submission:
        """All tiles of an image through the lanes."""
        return await self.run(job, tiles, geometry.group, geometry.plan.tile_count, task)

    async def run(self, job: Job, tiles: Tiles, group: Group, unit_count: int, task: ImageTask) -> Submission:
        """Units of any kind through the lanes; raises what went wrong."""
        waiter = Waiter()
        task.units = self._runs.submit(job, tiles, group, unit_count, waiter)
        return await waiter.future

    async def in_codec(self, job: Job, pixel_count: int, cost_s: float, function: Callable[[], R]) -> R:
        """A function in a codec's thread; see :meth:`service.codec_pool.CodecPool.run`."""
        return await self._codecs.run(
            function,
            client=job.client.share,
            service_class=job.order.options.service_class,
            pixel_count=pixel_count,
            cost_s=cost_s,
            deadline_s=job.deadline_s,
        )


class Waiter:
    """Tells a task that its units have run.

    Attributes:
        future: the submission, or what went wrong.
    """

    def __init__(self) -> None:
        self.future: asyncio.Future[Submission] = asyncio.get_running_loop().create_future()

    def __call__(self, submission: Submission, error: ServiceError | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(submission)
