"""Takes a call with latent codes through the service: the same admission, codec threads, scheduler and lanes as images.

A call is one entry in the ledgers, however many images it makes. Its images are units in the scheduler, so that they
share the lanes fairly with everybody else's, end at its deadline, and are dropped when nobody waits for them any more.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from service import codec
from service.admission import Admission, Demand, Reservation
from service.batcher import Batcher
from service.codec_path import CODEC_S_PER_PIXEL
from service.codec_pool import CodecPool
from service.cost import CostModel
from service.entrance import admitted
from service.errors import DeadlineExceeded, ServiceError
from service.job import Timings
from service.lanes import Tiles
from service.latent.units import CodesToPictures, Picture, PictureForm, PicturesToCodes
from service.metrics import Metrics, Stage
from service.registry import Model
from service.submission import Client, Group, Submission
from service.types import Codes, Container, Image, ServiceClass

R = TypeVar("R")

_CODE_BYTES = np.dtype(np.float32).itemsize


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, how urgently, and until when on the clock."""

    client: Client
    service_class: ServiceClass
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call asks for, known before any work.

    Attributes:
        model: has halves.
        encoded_count: images that are made codes.
        form: of the images that are made of codes; None where none is.
        decoded_count: these.
        received_bytes: the size of the request's images.
        reads_files, writes_files: whether codecs are needed before and after.
    """

    model: Model
    encoded_count: int = 0
    form: PictureForm | None = None
    decoded_count: int = 0
    received_bytes: int = 0
    reads_files: bool = False
    writes_files: bool = False

    @property
    def unit_count(self) -> int:
        """Images that the network makes or reads."""
        return self.encoded_count + self.decoded_count

    @property
    def image_pixel_count(self) -> int:
        """Of one image: a network with a code has one size."""
        return self.model.contract.fixed_side_px**2

    @property
    def codec_pixel_count(self) -> int:
        """Pixels that are read from files and written to files."""
        read_count, written_count = self.encoded_count * self.reads_files, self.decoded_count * self.writes_files
        return (read_count + written_count) * self.image_pixel_count

    @property
    def answer_bytes(self) -> int:
        """Of the images and codes that go out; of files at most about this."""
        picture_bytes = 0 if self.form is None else self.form.picture_bytes
        return self.decoded_count * picture_bytes + self.unit_count * self.model.contract.code_length * _CODE_BYTES

    @property
    def held_bytes(self) -> int:
        """The most memory that it takes: what came, its samples, the answer's samples, and the answer."""
        contract = self.model.contract
        samples_bytes = self.encoded_count * self.image_pixel_count * contract.channels * _CODE_BYTES
        return self.received_bytes + samples_bytes + 2 * self.answer_bytes


@dataclass(slots=True, eq=False)
class Visit:
    """A call in the service. Its room is free once the call is over and nothing works for it any more."""

    visitor: Visitor
    plan: Plan
    reservation: Reservation
    arrived_at_s: float
    decode_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    encode_s: float = 0.0
    _user_count: int = field(default=1)
    _run_unit_count: int = field(default=0)
    _is_over: bool = field(default=False)

    def hold(self) -> None:
        """Something uses its memory."""
        self._user_count += 1

    def let_go(self) -> None:
        """It does so no longer."""
        self._user_count -= 1
        if not self._user_count:
            self.reservation.release()

    def note_run(self, unit_count: int, now_s: float) -> None:
        """So many of its units have run; after the last one it waits for lanes no longer."""
        self._run_unit_count += unit_count
        if self._run_unit_count == self.plan.unit_count:
            self.reservation.leave_queue()
            self.reservation.note_computed(now_s - self.arrived_at_s, is_late=False)

    def close(self) -> None:
        """The call is over, answered or not; once or more."""
        if not self._is_over:
            self._is_over = True
            self.let_go()


class Coder:
    """Runs encoders and decoders for calls. Owned by the event loop's thread."""

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
        self._metrics = metrics

    def enter(self, plan: Plan, visitor: Visitor) -> Visit:
        """Lets a call in; whoever gets the visit closes it.

        Raises:
            ServiceError: it is refused.
        """
        now_s = self._clock()
        if visitor.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed when the request arrived; allow more time")
        model, side_px = plan.model, plan.model.contract.fixed_side_px
        cost_s = sum(
            count * self._costs.predict_s(key, side_px, side_px)
            for key, count in ((model.encoder_key, plan.encoded_count), (model.decoder_key, plan.decoded_count))
        )
        reservation = admitted(
            Demand(
                pixel_count=plan.unit_count * plan.image_pixel_count,
                encoded_bytes=plan.received_bytes,
                held_bytes=plan.held_bytes,
                cost_s=cost_s,
                unit_count=plan.unit_count,
                codec_s=plan.codec_pixel_count * CODEC_S_PER_PIXEL,
            ),
            admission=self._admission,
            batcher=self._batcher,
            costs=self._costs,
            client=visitor.client,
            service_class=visitor.service_class,
            remaining_s=visitor.deadline_s - now_s,
        )
        visitor.client.take_pixels(plan.unit_count * plan.image_pixel_count)
        return Visit(visitor, plan, reservation, now_s)

    async def encode(self, visit: Visit, read: Sequence[Callable[[], Picture]]) -> PicturesToCodes:
        """The codes of images.

        Args:
            visit: let in with as many to be encoded.
            read: makes the samples of each; in a codec's thread where they are files.
        """
        plan = visit.plan
        started_s = self._clock()

        def pictures() -> list[Picture]:
            return [each() for each in read]

        ready = await self._in_codec(visit, pictures, len(read)) if plan.reads_files else pictures()
        visit.decode_s += self._clock() - started_s
        units = PicturesToCodes(ready, code_length=plan.model.contract.code_length)
        await self._run(visit, units, self._group(plan.model, is_encoder=True), len(ready))
        return units

    async def decode(self, visit: Visit, code_of: Callable[[int], Codes]) -> CodesToPictures:
        """The images of codes.

        Args:
            visit: let in with a form.
            code_of: makes the code of each, (d,), by its number; in a lane's thread.
        """
        plan = visit.plan
        assert plan.form is not None
        units = CodesToPictures(
            code_of, plan.decoded_count, code_length=plan.model.contract.code_length, form=plan.form
        )
        await self._run(visit, units, self._group(plan.model, is_encoder=False), plan.decoded_count)
        return units

    async def write(
        self, visit: Visit, images: Sequence[Image], container: Container, jpeg_quality: int
    ) -> list[bytes]:
        """Images as files."""
        started_s = self._clock()
        files = await self._in_codec(
            visit,
            lambda: [codec.encode(image, container, jpeg_quality=jpeg_quality) for image in images],
            len(images),
        )
        visit.encode_s += self._clock() - started_s
        return files

    def leave(self, visit: Visit, method: str) -> Timings:
        """Everything is computed: where the time went, which the metrics learn too."""
        total_s = self._clock() - visit.arrived_at_s
        timings = Timings(visit.decode_s, visit.queue_s, visit.compute_s, visit.encode_s, total_s)
        plan, metrics = visit.plan, self._metrics
        metrics.latent_images[(*plan.model.key, method)].inc(plan.decoded_count or plan.encoded_count)
        for stage, seconds in zip(_STAGES, timings, strict=True):
            metrics.stage_seconds[stage].observe(seconds)
        return timings

    def _group(self, model: Model, *, is_encoder: bool) -> Group:
        contract = model.contract
        return Group(
            model.encoder_key if is_encoder else model.decoder_key,
            contract.channels,
            contract.fixed_side_px,
            contract.fixed_side_px,
            code_length=0 if is_encoder else contract.code_length,
            is_widened=False,
        )

    async def _run(self, visit: Visit, tiles: Tiles, group: Group, unit_count: int) -> None:
        visitor = visit.visitor
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_: Submission, error: ServiceError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        submission = self._batcher.submit(
            tiles,
            group=group,
            unit_count=unit_count,
            pack_count=self._batcher.fitting_pack_count(group, unit_count),
            client=visitor.client,
            service_class=visitor.service_class,
            deadline_s=visitor.deadline_s,
            on_done=done,
        )
        visit.hold()
        try:
            await future
        except DeadlineExceeded:
            visit.reservation.note_computed(self._clock() - visit.arrived_at_s, is_late=True)
            raise
        finally:
            self._batcher.withdraw(submission, on_still=visit.let_go)
        visit.note_run(unit_count, self._clock())
        visit.queue_s += submission.started_at_s - submission.offered_at_s
        visit.compute_s += submission.ended_at_s - submission.started_at_s

    async def _in_codec(self, visit: Visit, function: Callable[[], R], image_count: int) -> R:
        visitor, pixel_count = visit.visitor, image_count * visit.plan.image_pixel_count
        visit.hold()
        try:
            return await self._codecs.run(
                function,
                client=visitor.client.share,
                service_class=visitor.service_class,
                pixel_count=pixel_count,
                cost_s=pixel_count * CODEC_S_PER_PIXEL,
                deadline_s=visitor.deadline_s,
            )
        finally:
            visit.let_go()


# In the order of Timings.
_STAGES = (Stage.DECODE, Stage.QUEUE, Stage.COMPUTE, Stage.ENCODE, Stage.TOTAL)
