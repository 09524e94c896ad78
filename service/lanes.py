"""The threads that run networks: each takes batches from its queue, one at a time, and hands them back to the loop.

A lane owns the buffer that its units are read into, so that samples are copied into the network's input once and no
memory is asked for while it works. Everything here but :meth:`Lane.start` and :meth:`Lane.close` runs in the lane's
thread. What is decided (which units, which lane, what becomes of a failure) is decided elsewhere.
"""

import asyncio
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from service.engine import Engine
from service.errors import DeadlineExceeded, ModelFailed, ServiceError
from service.types import Units

_log = structlog.get_logger()


class Tiles(Protocol):
    """Units of work as lanes see them: the tiles of an image, or small images side by side.

    Both methods are called in a lane's thread. Units may be in several lanes at once, each unit in one.
    """

    def read(self, first: int, count: int, out: Units) -> None:
        """Puts units ``first`` and following into ``out``, (count, C, h, w).

        Raises what shall become of them; when several are read, what raises is read again one by one.
        """
        ...

    def write(self, first: int, count: int, denoised: Units, noisy: Units, sigma_maps: Units | None) -> None:
        """Takes the network's answers: (count, C, h, w) each and (count, 1, h', w'), valid during the call only.

        Raises as :meth:`read`.
        """
        ...


class Pack(Protocol):
    """Consecutive units of one submission, which run together."""

    @property
    def tiles(self) -> Tiles: ...
    @property
    def first(self) -> int: ...
    @property
    def count(self) -> int: ...

    def is_wanted(self, now_s: float) -> bool:
        """Whether somebody still waits for them; asked in the lane's thread."""
        ...


@dataclass(slots=True, eq=False)
class Batch:
    """Units for one run of one network.

    Attributes:
        shape: of each unit: (C, h, w), or (d,) of a latent code.
        engine_lane: the lane of the engine to run on.
        expected_s: how long it should take.
        sent_at_s: when it was given to the lane.
        unit_count: of all packs.
        errors: for each unit, in the order of the packs, None or what went wrong; filled by the lane, as what follows.
        started_at_s, ended_at_s: when the lane worked on it.
        stitch_s: how much of that went into putting the network's answers into their images.
        failure_count: runs of the network that raised.
    """

    engine: Engine
    engine_lane: int
    shape: tuple[int, ...]
    packs: Sequence[Pack]
    unit_count: int
    expected_s: float
    sent_at_s: float
    errors: list[ServiceError | None] = field(default_factory=list)
    started_at_s: float = 0.0
    ended_at_s: float = 0.0
    stitch_s: float = 0.0
    failure_count: int = 0


class _Span(NamedTuple):
    """Consecutive units of a pack.

    Attributes:
        at: the place of the first one among the batch's errors.
    """

    tiles: Tiles
    first: int
    unit_count: int
    at: int

    def part(self, start: int, stop: int) -> "_Span":
        return _Span(self.tiles, self.first + start, stop - start, self.at + start)

    def singly(self) -> "Iterator[_Span]":
        return (self.part(index, index + 1) for index in range(self.unit_count))


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
        batch.errors = [None] * batch.unit_count
        try:
            self._run_spans(batch, self._wanted(batch))
        except BaseException as error:  # noqa: BLE001 -- a lane that raised would never answer its waiters
            batch.errors = [_as_service_error(error)] * batch.unit_count
            batch.failure_count += 1
        batch.ended_at_s = self._clock()

    def _wanted(self, batch: Batch) -> list[_Span]:
        spans, at = [], 0
        for pack in batch.packs:
            if pack.is_wanted(batch.started_at_s):
                spans.append(_Span(pack.tiles, pack.first, pack.count, at))
            else:
                late = DeadlineExceeded("the deadline passed before the network began; allow more time")
                batch.errors[at : at + pack.count] = [late] * pack.count
            at += pack.count
        return spans

    def _run_spans(self, batch: Batch, spans: Sequence[_Span]) -> None:
        """Runs some of the units together; a run that fails is halved until the culprit is alone."""
        noisy = self._buffer(sum(span.unit_count for span in spans), batch.shape)
        ready: list[_Span] = []
        count = 0
        for span in spans:
            count = self._read(batch, span, noisy, count, ready)
        if not count:
            return
        noisy = noisy[:count]
        try:
            denoised, sigma_maps = batch.engine.run(noisy, lane=batch.engine_lane)
        except Exception as error:  # noqa: BLE001 -- ONNX Runtime's exceptions have no common public base
            batch.failure_count += 1
            if count == 1:
                batch.errors[ready[0].at] = _as_service_error(error)
                return
            _log.warning("batch failed, splitting it", unit_count=count, exc_info=True)
            units = [unit for span in ready for unit in span.singly()]
            self._run_spans(batch, units[: count // 2])
            self._run_spans(batch, units[count // 2 :])
            return
        computed_at_s = self._clock()
        count = 0
        for span in ready:
            part = slice(count, count + span.unit_count)
            self._write(batch, span, denoised[part], noisy[part], None if sigma_maps is None else sigma_maps[part])
            count += span.unit_count
        batch.stitch_s += self._clock() - computed_at_s

    def _read(self, batch: Batch, span: _Span, noisy: Units, at: int, ready: list[_Span]) -> int:
        """Reads a span to place ``at``, adds what could be read to ``ready``; returns the next free place."""
        try:
            span.tiles.read(span.first, span.unit_count, noisy[at : at + span.unit_count])
        except Exception as error:  # noqa: BLE001 -- whatever a unit raises is its request's outcome
            if span.unit_count > 1:
                for unit in span.singly():
                    at = self._read(batch, unit, noisy, at, ready)
            else:
                batch.errors[span.at] = _as_service_error(error)
            return at
        ready.append(span)
        return at + span.unit_count

    def _write(self, batch: Batch, span: _Span, denoised: Units, noisy: Units, sigma_maps: Units | None) -> None:
        try:
            span.tiles.write(span.first, span.unit_count, denoised, noisy, sigma_maps)
        except Exception as error:  # noqa: BLE001 -- whatever a unit raises is its request's outcome
            if span.unit_count == 1:
                batch.errors[span.at] = _as_service_error(error)
                return
            for index, unit in enumerate(span.singly()):
                part = slice(index, index + 1)
                self._write(batch, unit, denoised[part], noisy[part], None if sigma_maps is None else sigma_maps[part])

    def _buffer(self, count: int, shape: tuple[int, ...]) -> Units:
        size = count * math.prod(shape)
        if size > self._input.size:
            self._input = np.empty(size, np.float32)
        buffer: NDArray[np.float32] = self._input[:size].reshape(count, *shape)
        return buffer


def _as_service_error(error: BaseException) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    _log.error("the network failed on a unit", exc_info=error)
    return ModelFailed("the network failed on this image; the cause is in the service's log")
