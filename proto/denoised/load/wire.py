"""Connections that ask and hear: one class for each way, unary, batch or stream. Messages leave as bytes.

Nothing is tried twice. Replies are parsed as far as their outcome needs it: a unary answer not at all, a stream's
frame because its id lies inside.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Literal, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from denoised import _failures
from denoised._calls import channel_options
from denoised.errors import DenoisedError
from denoised.load.pictures import batch_message, item_message
from denoised.load.verdicts import NOT_READ_IN_TIME, Reply
from denoised.v1 import denoised_pb2 as pb

Method = Literal["unary", "batch", "stream"]
METHODS: Final[tuple[Method, ...]] = ("unary", "batch", "stream")

_SERVICE: Final = f"/{pb.DESCRIPTOR.services_by_name['DenoiseService'].full_name}/"
_DETAILS_KEY: Final = "grpc-status-details-bin"
# A stream is renewed after this, so that it ends well before a server closes its connection for its age.
_LINE_SPAN_S: Final = 60.0
_FAREWELL_S: Final = 2.0
_STREAM_ENDED: Final = "STREAM_ENDED"
_UNREADABLE: Final = "ANSWER_UNREADABLE"

_NOT_RETRIED: Final = ("grpc.enable_retries", 0)
# A slow reader's own machine must not read ahead for it.
_SLOW_OPTIONS: Final = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))

_StreamCall: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"
_Seconds = Callable[[], float]


class Wire(ABC):
    """One connection of its own."""

    def __init__(self, target: str, *, timeout_s: float, slow_pause_s: float | None, now_s: _Seconds) -> None:
        """Requests get ``timeout_s`` at most.

        A wire with a ``slow_pause_s`` waits so long before it reads an answer; until then the server can't write it.
        """
        options = [*channel_options(target), _NOT_RETRIED, *(() if slow_pause_s is None else _SLOW_OPTIONS)]
        self._channel = grpc.aio.insecure_channel(target, options=options)
        self._timeout_s = timeout_s
        self._pause_s = slow_pause_s
        self._now_s = now_s

    @property
    def is_slow(self) -> bool:
        return self._pause_s is not None

    @abstractmethod
    async def ask(
        self, requests: Sequence[bytes], *, deadline_s: float, cancel_after_s: float | None
    ) -> Sequence[Reply]:
        """A reply for each request, in order.

        Args:
            requests: serialised ``DenoiseRequest`` messages.
            deadline_s: when the answer is due, by the clock that the wire was given.
            cancel_after_s: when to take them back, from now on.
        """

    @abstractmethod
    async def end_stage(self) -> None:
        """Nothing more is asked in this stage, and all that will be answered has been."""

    async def close(self) -> None:
        await self.end_stage()
        await self._channel.close()


def make_wire(method: Method, target: str, *, timeout_s: float, slow_pause_s: float | None, now_s: _Seconds) -> Wire:
    """A new connection; it is made when the first request goes over it."""
    match method:
        case "unary":
            return _UnaryWire(target, timeout_s=timeout_s, slow_pause_s=slow_pause_s, now_s=now_s)
        case "batch":
            return _BatchWire(target, timeout_s=timeout_s, slow_pause_s=slow_pause_s, now_s=now_s)
        case "stream":
            return _StreamWire(target, timeout_s=timeout_s, slow_pause_s=slow_pause_s, now_s=now_s)


class _CallWire(Wire):
    """One call for each request."""

    _method_name = ""

    def __init__(self, target: str, *, timeout_s: float, slow_pause_s: float | None, now_s: _Seconds) -> None:
        super().__init__(target, timeout_s=timeout_s, slow_pause_s=slow_pause_s, now_s=now_s)
        self._prompt_call: Callable[..., Any] = self._channel.unary_unary(_SERVICE + self._method_name)
        # The same on the wire, but gRPC asks for the answer's bytes only when it is read.
        self._slow_call: Callable[..., Any] = self._channel.unary_stream(_SERVICE + self._method_name)

    async def end_stage(self) -> None:
        """Calls end by themselves."""

    async def _call(self, message: bytes, *, deadline_s: float, cancel_after_s: float | None) -> Reply:
        timeout_s = max(0.0, deadline_s - self._now_s())
        call = (self._prompt_call if self._pause_s is None else self._slow_call)(message, timeout=timeout_s)
        with _later(cancel_after_s, call.cancel):
            try:
                if self._pause_s is None:
                    return Reply("OK", answer=await call)
                await asyncio.sleep(self._pause_s)
                return Reply("OK", answer=await call.read())
            except grpc.aio.AioRpcError as error:
                return _reply_of(error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                return Reply("CANCELLED")  # the call was, not the task that waits for it


class _UnaryWire(_CallWire):
    _method_name = "Denoise"

    async def ask(
        self, requests: Sequence[bytes], *, deadline_s: float, cancel_after_s: float | None
    ) -> Sequence[Reply]:
        (request,) = requests
        return (await self._call(request, deadline_s=deadline_s, cancel_after_s=cancel_after_s),)


class _BatchWire(_CallWire):
    _method_name = "DenoiseBatch"

    async def ask(
        self, requests: Sequence[bytes], *, deadline_s: float, cancel_after_s: float | None
    ) -> Sequence[Reply]:
        reply = await self._call(batch_message(requests), deadline_s=deadline_s, cancel_after_s=cancel_after_s)
        if not isinstance(reply.answer, bytes):
            return (reply,) * len(requests)
        try:
            results = pb.DenoiseBatchResponse.FromString(reply.answer).results
        except DecodeError:
            return (Reply("INTERNAL", _UNREADABLE),) * len(requests)
        replies = [_reply_of_item(result) for result in results]
        # A server that answers fewer images than it was asked has lost the others.
        return [*replies, *(Reply("") for _ in requests)][: len(requests)]


@dataclass(frozen=True, slots=True)
class _Item:
    item_id: str
    request: bytes
    deadline_s: float


@dataclass(slots=True)
class _Line:
    """One DenoiseStream call."""

    call: _StreamCall
    opened_s: float
    outbox: "asyncio.Queue[_Item | bytes | None]" = field(default_factory=asyncio.Queue)
    unanswered: "dict[str, asyncio.Future[Reply]]" = field(default_factory=dict)
    is_open: bool = True
    tasks: "tuple[asyncio.Task[None], ...]" = ()

    def settle(self, item_id: str, reply: Reply) -> None:
        future = self.unanswered.pop(item_id, None)
        if future is not None and not future.done():
            future.set_result(reply)


class _StreamWire(Wire):
    """Items of long streams; what the server does not read yet waits here, its time running."""

    def __init__(self, target: str, *, timeout_s: float, slow_pause_s: float | None, now_s: _Seconds) -> None:
        super().__init__(target, timeout_s=timeout_s, slow_pause_s=slow_pause_s, now_s=now_s)
        self._method: Callable[..., _StreamCall] = self._channel.stream_stream(_SERVICE + "DenoiseStream")
        self._lines: list[_Line] = []
        self._ids = count()

    async def ask(
        self, requests: Sequence[bytes], *, deadline_s: float, cancel_after_s: float | None
    ) -> Sequence[Reply]:
        (request,) = requests
        line, item_id = self._line(), str(next(self._ids))
        line.unanswered[item_id] = asyncio.get_running_loop().create_future()
        reply = line.unanswered[item_id]
        line.outbox.put_nowait(_Item(item_id, request, deadline_s))
        take_back = pb.DenoiseStreamRequest(item_id=item_id, cancel=pb.CancelItem()).SerializeToString()
        with _later(cancel_after_s, lambda: line.outbox.put_nowait(take_back)):
            return (await reply,)

    async def end_stage(self) -> None:
        lines, self._lines = self._lines, []
        for line in lines:
            line.outbox.put_nowait(None)
        tasks = [task for line in lines for task in line.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=_FAREWELL_S)
        for line in lines:
            line.call.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _line(self) -> _Line:
        now_s = self._now_s()
        if self._lines and self._lines[-1].is_open:
            if now_s - self._lines[-1].opened_s < _LINE_SPAN_S:
                return self._lines[-1]
            self._lines[-1].outbox.put_nowait(None)
        self._lines = [line for line in self._lines if line.is_open]
        line = _Line(self._method(timeout=_LINE_SPAN_S + self._timeout_s + _FAREWELL_S), now_s)
        line.tasks = (asyncio.create_task(self._write(line)), asyncio.create_task(self._read(line)))
        self._lines.append(line)
        return line

    async def _write(self, line: _Line) -> None:
        try:
            while (entry := await line.outbox.get()) is not None:
                if isinstance(entry, bytes):
                    await line.call.write(entry)
                    continue
                remaining_s = entry.deadline_s - self._now_s()
                if remaining_s > 0.0:
                    await line.call.write(item_message(entry.item_id, entry.request, remaining_s))
                else:
                    line.settle(entry.item_id, Reply("DEADLINE_EXCEEDED", NOT_READ_IN_TIME))
            await line.call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return  # the call is over; the reader hears how it ended

    async def _read(self, line: _Line) -> None:
        end = Reply("", _STREAM_ENDED)
        try:
            async for frame in self._frames(line.call):
                answer = pb.DenoiseStreamResponse.FromString(frame)
                line.settle(answer.item_id, _reply_of_item(answer.result))
        except grpc.aio.AioRpcError as error:
            end = _reply_of(error)
        except DecodeError:
            end = Reply("INTERNAL", _UNREADABLE)
        except asyncio.CancelledError:
            pass  # grpc.aio raises it when the call is cancelled, which is how a stage ends that can't wait
        finally:
            line.is_open = False
            line.outbox.put_nowait(None)
            for item_id in tuple(line.unanswered):
                line.settle(item_id, end)

    async def _frames(self, call: _StreamCall) -> AsyncIterator[bytes]:
        while True:
            if self._pause_s is not None:
                await asyncio.sleep(self._pause_s)
            frame = await call.read()
            if not isinstance(frame, bytes):
                return
            yield frame


@contextmanager
def _later(delay_s: float | None, act: Callable[[], object]) -> Any:
    """Calls ``act`` after the delay unless the block has ended; never without a delay."""
    timer = None if delay_s is None else asyncio.get_running_loop().call_later(max(0.0, delay_s), act)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def _reply_of(error: grpc.aio.AioRpcError) -> Reply:
    """The reply that a failed call is; a status that the service did not write itself has no reason."""
    failure = _failures.from_call(error, target="")
    is_its_own = any(key == _DETAILS_KEY for key, _ in error.trailing_metadata())
    return Reply(error.code().name, failure.reason if is_its_own else "", detail=error.details() or "")


def _reply_of_item(result: pb.DenoiseResult) -> Reply:
    if result.status.code == 0:
        return Reply("OK", answer=result.response)
    return Reply(_code_name(result.status), _failure(result.status).reason, detail=result.status.message)


def _failure(status: status_pb2.Status) -> DenoisedError:
    return _failures.from_status(status, target="")


def _code_name(status: status_pb2.Status) -> str:
    return next((code.name for code in grpc.StatusCode if code.value[0] == status.code), "UNKNOWN")
