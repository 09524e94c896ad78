"""A coder and all around it, real but for what takes time: the clock, the networks, and who turns the lanes.

A code is the image's samples in 0..1, and the image of a code is half as bright: so every answer is known.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from denoised.contract import ModelContract
from service.admission import Admission, Limits
from service.batcher import Batcher, BatcherOptions
from service.cost import CostModel, ModelCost
from service.engine import Half, Halves, OnnxEngine
from service.latent.coder import Coder, Plan, Visitor
from service.latent.units import Picture, PictureForm
from service.metrics import Metrics
from service.pixels import Scale
from service.registry import Model
from service.scheduler import Scheduler
from service.submission import Client
from service.types import Codes, Samples, ServiceClass, Units
from tests.unit.service.denoiser_bench import ALICE, CodecsAtOnce, HandClock, HandLane

R = TypeVar("R")

SIDE_PX = 4
LENGTH = SIDE_PX**2
POISON = 0.75


@dataclass
class HandHalf:
    """An encoder or decoder that takes a second; fails on poisoned units.

    Attributes:
        counts: of the units in each run.
    """

    clock: HandClock
    contract: ModelContract
    of: Callable[[Units], tuple[Units, Units | None]]
    digest: str = "f00d"
    counts: list[int] = field(default_factory=list)

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        del lane
        self.counts.append(len(units))
        self.clock.now_s += 1.0
        if (units == np.float32(POISON)).any():
            raise RuntimeError("poisoned")
        return self.of(units)


class CoderBench:
    """A coder and all that it works with."""

    def __init__(
        self,
        contract: ModelContract,
        metrics: Metrics,
        *,
        lane_count: int = 1,
        queue_requests: int = 100,
        memory_bytes: int = 10**9,
    ) -> None:
        self.clock = HandClock()
        self.metrics = metrics
        self.codecs = CodecsAtOnce()
        self.encoder = HandHalf(self.clock, contract, lambda units: (units.reshape(len(units), LENGTH), None))
        self.decoder = HandHalf(self.clock, contract, _halved)
        halves = Halves(cast("Half", self.encoder), cast("Half", self.decoder))
        self.model = Model(contract, "f00d", cast("OnnxEngine", None), halves=halves)
        costs = CostModel(first_spread=1.0)
        self.admission = Admission(
            Limits(
                image_pixels=10**6,
                chunked_image_pixels=10**6,
                queue_requests=queue_requests,
                queue_bytes=10**9,
                queue_pixels=10**9,
                memory_bytes=memory_bytes,
            ),
            metrics,
        )
        self.lanes: list[HandLane] = []
        self.batcher = Batcher(
            Scheduler(),
            lane_count=lane_count,
            options=BatcherOptions(
                batch_pixels=65_536,
                batch_units=64,
                staged_units_per_image=4,
                wide_units=True,
                stuck_factor=1e9,
                stuck_after_s=1e9,
            ),
            costs=costs,
            clock=self.clock,
            metrics=metrics,
            lane_of=self._lane,
        )
        for key, half in ((self.model.encoder_key, self.encoder), (self.model.decoder_key, self.decoder)):
            costs.add_model(key, ModelCost(1.0 / SIDE_PX**2))
            self.batcher.add_engine(key, half)
        self.coder = Coder(
            batcher=self.batcher,
            admission=self.admission,
            codecs=self.codecs,
            costs=costs,
            clock=self.clock,
            metrics=metrics,
        )

    def _lane(self, name: str, **how: Any) -> HandLane:
        lane = HandLane(name, **how)
        self.lanes.append(lane)
        return lane

    def visitor(self, client: Client = ALICE, deadline_s: float = 1e6) -> Visitor:
        return Visitor(client, ServiceClass.NORMAL, deadline_s)

    def encoding(self, count: int = 1) -> Plan:
        return Plan(self.model, encoded_count=count, received_bytes=count * LENGTH)

    def decoding(self, count: int = 1) -> Plan:
        return Plan(self.model, form=FORM, decoded_count=count)

    async def settle(self) -> None:
        """All that needs no lane happens."""
        for _ in range(12):
            await asyncio.sleep(0)

    async def turn_all(self) -> None:
        """Lanes are turned until there is nothing left to do."""
        await self.settle()
        while busy := [lane for lane in self.lanes if lane.batches]:
            busy[0].turn()
            await self.settle()

    async def done(self, work: Coroutine[Any, Any, R]) -> R:
        """What work gives that lanes do."""
        task = asyncio.ensure_future(work)
        await self.turn_all()
        return await task

    @property
    def has_room_taken(self) -> bool:
        """Whether anything is in the ledgers; nothing may be there less than once."""
        desk = self.admission
        left = (desk.request_count, desk.reserved_bytes, desk.pending_count, desk.pending_unit_count)
        assert min(left) >= 0, "given back twice"
        return any(left)


FORM = PictureForm(SIDE_PX, SIDE_PX, 1, np.dtype(np.float32), Scale(0.0, 1.0, clip=True))


def picture(seed: int = 0) -> Picture:
    colour: Samples = np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 1), np.uint8, endpoint=False)
    return Picture(colour, Scale(0.0, 255.0, clip=True), "")


def code_of(index: int) -> Codes:
    """A code whose numbers all are its own, never the poison."""
    return np.full(LENGTH, (index % 64) / 64 if index % 64 != 48 else 0.5, np.float32)


def _halved(codes: Units) -> tuple[Units, Units | None]:
    return (codes * np.float32(0.5)).reshape(len(codes), 1, SIDE_PX, SIDE_PX), None
