"""Many images from a program that blocks: takes the steps that ``_window`` decides, with a thread for each stream.

``denoised._aio_traffic`` is its twin.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import grpc

from denoised import _failures
from denoised._images import ImageInput
from denoised._order import Order
from denoised._scope import Background, Scope
from denoised._window import (
    FAREWELL_S,
    Alone,
    Answer,
    Close,
    Event,
    Finish,
    Give,
    Open,
    Outcome,
    Send,
    Settled,
    StreamEnd,
    Take,
    Wait,
    Window,
)
from denoised.errors import DenoisedError
from denoised.results import CleanResult
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub


def drive(
    window: Window,
    images: Iterable[ImageInput],
    stub: DenoiseServiceStub,
    clean: Callable[[Scope, Order, float], CleanResult[Any]],
    *,
    target: str,
) -> Generator[Outcome, None, None]:
    """Takes the window's steps until everything is settled; ``clean`` cleans an image alone, in a thread."""
    source = iter(images)
    traffic = _Traffic(stub, clean, target=target)
    try:
        while not isinstance(step := window.next_step(time.monotonic()), Finish):
            match step:
                case Give(outcome):
                    yield outcome
                case Take():
                    _take(source, window)
                case Wait(wait_s):
                    window.note(traffic.wait(wait_s), time.monotonic())
                case _:
                    traffic.carry_out(step)
    finally:
        traffic.end()


def _take(source: Iterator[ImageInput], window: Window) -> None:
    try:
        image = next(source)
    except StopIteration:
        window.end_source()
    else:
        window.add(image, time.monotonic())


class _Traffic:
    """What one ``clean_many`` has under way, and one inbox for all that happens to it."""

    def __init__(
        self, stub: DenoiseServiceStub, clean: Callable[[Scope, Order, float], CleanResult[Any]], *, target: str
    ) -> None:
        self._stub = stub
        self._clean = clean
        self._target = target
        self._inbox: SimpleQueue[Event] = SimpleQueue()
        self._streams: dict[int, _Stream] = {}
        self._errands: dict[int, _Errand] = {}

    def carry_out(self, step: Open | Send | Alone | Close) -> None:
        match step:
            case Open(number, timeout_s):
                self._streams[number] = _Stream(self._stub, number, timeout_s, self._inbox, target=self._target)
            case Send(number, frame):
                self._streams[number].send(frame)
            case Alone(index, order, timeout_s):
                self._errands[index] = _Errand(index, lambda scope: self._clean(scope, order, timeout_s), self._inbox)
            case Close(number):
                self._streams.pop(number).finish()

    def wait(self, wait_s: float) -> Event | None:
        """What happens next; None when nothing does in time."""
        try:
            event = self._inbox.get(timeout=wait_s)
        except Empty:
            return None
        if isinstance(event, StreamEnd) and event.stream in self._streams:
            self._streams.pop(event.stream).cancel()
        elif isinstance(event, Settled):
            self._errands.pop(event.index).join()
        return event

    def end(self) -> None:
        """Ends now what has not ended."""
        for stream in self._streams.values():
            stream.cancel()
        for errand in self._errands.values():
            errand.cancel()


class _Errand:
    """One image that is cleaned alone, in a thread."""

    def __init__(self, index: int, clean: Callable[[Scope], CleanResult[Any]], inbox: SimpleQueue[Event]) -> None:
        """Begins it; ``Settled`` comes into the inbox when it is done."""
        self._scope = Background()
        self._thread = Thread(target=self._run, args=(index, clean, inbox), name="denoised-errand", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def cancel(self) -> None:
        """Ends it now."""
        self._scope.end()
        self._thread.join()

    def _run(self, index: int, clean: Callable[[Scope], CleanResult[Any]], inbox: SimpleQueue[Event]) -> None:
        try:
            inbox.put(Settled(index, clean(self._scope)))
        except DenoisedError as error:
            inbox.put(Settled(index, error))


class _Stream:
    """One DenoiseStream call.

    A thread reads answers as they come, so that a slow caller never makes the server stop reading; what waits
    in the inbox is bounded by the items in flight.
    """

    def __init__(
        self, stub: DenoiseServiceStub, number: int, timeout_s: float, inbox: SimpleQueue[Event], *, target: str
    ) -> None:
        """Begins the call; what comes over it goes to the inbox under its number."""
        self._number = number
        self._target = target
        self._inbox = inbox
        self._outbox: SimpleQueue[pb.DenoiseStreamRequest | None] = SimpleQueue()
        self._call = stub.DenoiseStream(iter(self._outbox.get, None), timeout=timeout_s)
        self._reader = Thread(target=self._read, name="denoised-stream-reader", daemon=True)
        self._reader.start()

    def send(self, frame: pb.DenoiseStreamRequest) -> None:
        self._outbox.put(frame)

    def finish(self) -> None:
        """Says goodbye, so that the server sees a stream that ended well; a server that is slow at it is left."""
        self._outbox.put(None)
        self._reader.join(FAREWELL_S)
        self.cancel()

    def cancel(self) -> None:
        """Ends the call now; does nothing to one that has ended."""
        self._outbox.put(None)  # releases gRPC's thread, which waits for frames
        self._call.cancel()
        self._reader.join()

    def _read(self) -> None:
        error: DenoisedError | None = None
        try:
            for answer in self._call:
                self._inbox.put(Answer(self._number, answer))
        except grpc.RpcError as failure:
            error = _failures.from_call(failure, target=self._target)
        self._inbox.put(StreamEnd(self._number, error))
