"""The threads that run networks: each takes batches from its queue, one at a time, and hands them back to the loop.

A lane owns the buffer that its units are read into, so that samples are copied into the network's input once and no
memory is asked for while it works. Everything here but :meth:`Lane.start` and :meth:`Lane.close` runs in the lane's
thread. What is decided (which units, which lane, what becomes of a failure) is decided elsewhere.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from service.engine import Engine
from service.errors import DeadlineExceeded, ModelFailed, ServiceError
from service.types import Plane, Units

_log = structlog.get_logger()


class Tiles(Protocol):
    """An image in tiles, as a lane works on them. Both methods are called in a lane's thread.

    Tiles of one image may be in several lanes at once, each tile in one.
    """

    def read(self, index: int, out: Plane) -> None:
        """Puts tile ``index`` into ``out``, (C, h, w). Raises what shall become of the image."""
        ...

    def write(self, index: int, denoised: Plane, noisy: Plane, sigma_map: Plane | None) -> None:
        """Takes the network's answer to a tile: (C, h, w) each and (1, h', w'), valid during the call only."""
        ...


class Unit(Protocol):
    """One tile of an image on its way."""

    tiles: Tiles
    index: int

    def is_wanted(self, now_s: float) -> bool:
        """Whether somebody still waits for it; asked in the lane's thread."""
        ...


@dataclass(slots=True, eq=False)
class Batch:
    """Units for one run of one network.

    Attributes:
        shape: (C, h, w) of each unit.
        engine_lane: the lane of the engine to run on.
        expected_s: how long it should take.
        sent_at_s: when it was given to the lane.
        errors: for each unit, None or what went wrong; filled by the lane, as all that follows.
        started_at_s, ended_at_s: when the lane worked on it.
        failure_count: runs of the network that raised.
    """

    engine: Engine
    engine_lane: int
    shape: tuple[int, int, int]
    units: Sequence[Unit]
    expected_s: float
    sent_at_s: float
    errors: list[ServiceError | None] = field(default_factory=list)
    started_at_s: float = 0.0
    ended_at_s: float = 0.0
    failure_count: int = 0


class Lane:
    """One thread and its input buffer."""

    def __init__(self, name: str, *, clock: Callable[[], float], on_done: Callable[["Lane", Batch], None]) -> None:
        """``on_done`` is called on the event loop for each batch, in order."""
        self._clock = clock
        self._on_done = on_done
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._input = np.empty(0, np.float32)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Must be called on the event loop that shall get the results."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Queues a batch."""
        self._batches.put(batch)

    def close(self, timeout_s: float) -> bool:
        """Ends the thread after what is queued; False when it is still at work after that time.

        A thread that hangs in a network can't be ended; it is a daemon, so that it does not keep the process.
        """
        self._batches.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        assert self._loop is not None
        while (batch := self._batches.get()) is not None:
            self.run(batch)
            self._loop.call_soon_threadsafe(self._on_done, self, batch)
            # Else the last batch, with its images, would live until the next one comes.
            del batch

    def run(self, batch: Batch) -> None:
        """Reads, computes and writes the units. Never raises: each unit has its own outcome."""
        batch.started_at_s = self._clock()
        batch.errors = [None] * len(batch.units)
        try:
            self._run_part(batch, range(len(batch.units)))
        except BaseException as error:  # noqa: BLE001 -- a lane that raised would never answer its waiters
            batch.errors = [_as_service_error(error)] * len(batch.units)
            batch.failure_count += 1
        batch.ended_at_s = self._clock()

    def _run_part(self, batch: Batch, indices: Sequence[int]) -> None:
        """Runs some of the units together; a run that fails is halved until the culprit is alone."""
        noisy = self._buffer(len(indices), batch.shape)
        ready: list[int] = []
        for index in indices:
            unit = batch.units[index]
            if not unit.is_wanted(batch.started_at_s):
                batch.errors[index] = DeadlineExceeded("the deadline passed before the network began; allow more time")
                continue
            try:
                unit.tiles.read(unit.index, noisy[len(ready)])
            except Exception as error:  # noqa: BLE001 -- whatever a unit raises is its request's outcome
                batch.errors[index] = _as_service_error(error)
            else:
                ready.append(index)
        if not ready:
            return
        noisy = noisy[: len(ready)]
        try:
            denoised, sigma_maps = batch.engine.run(noisy, lane=batch.engine_lane)
        except Exception as error:  # noqa: BLE001 -- ONNX Runtime's exceptions have no common public base
            batch.failure_count += 1
            if len(ready) == 1:
                batch.errors[ready[0]] = _as_service_error(error)
                return
            _log.warning("batch failed, splitting it", unit_count=len(ready), exc_info=True)
            half = len(ready) // 2
            self._run_part(batch, ready[:half])
            self._run_part(batch, ready[half:])
            return
        for position, index in enumerate(ready):
            unit = batch.units[index]
            sigma_map = None if sigma_maps is None else sigma_maps[position]
            try:
                unit.tiles.write(unit.index, denoised[position], noisy[position], sigma_map)
            except Exception as error:  # noqa: BLE001 -- whatever a unit raises is its request's outcome
                batch.errors[index] = _as_service_error(error)

    def _buffer(self, count: int, shape: tuple[int, int, int]) -> Units:
        channels, height_px, width_px = shape
        size = count * channels * height_px * width_px
        if size > self._input.size:
            self._input = np.empty(size, np.float32)
        buffer: NDArray[np.float32] = self._input[:size].reshape(count, channels, height_px, width_px)
        return buffer


def _as_service_error(error: BaseException) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    _log.error("the network failed on a unit", exc_info=error)
    return ModelFailed("the network failed on this image; the cause is in the service's log")
