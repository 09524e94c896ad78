"""Maps errors to gRPC statuses with rich details: one table, and what applies it to every method."""

import asyncio
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from service.clients import Clients, Context
from service.errors import (
    CapabilityMissing,
    ClientGone,
    DeadlineExceeded,
    InvalidArgument,
    ItemCancelled,
    ModelFailed,
    ModelUnknown,
    Overloaded,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from service.lifecycle import InFlight, Lifecycle
from service.metrics import Metrics

_log = structlog.get_logger()

Q = TypeVar("Q")
P = TypeVar("P")

ERROR_DOMAIN: Final = "denoised.v1"
CODES: Final[dict[type[ServiceError], int]] = {
    InvalidArgument: Code.INVALID_ARGUMENT,
    Unauthenticated: Code.UNAUTHENTICATED,
    ModelUnknown: Code.NOT_FOUND,
    CapabilityMissing: Code.FAILED_PRECONDITION,
    Overloaded: Code.RESOURCE_EXHAUSTED,
    DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    Unavailable: Code.UNAVAILABLE,
    ItemCancelled: Code.CANCELLED,
    ClientGone: Code.CANCELLED,
    ModelFailed: Code.INTERNAL,
}
_UNKNOWN_TEXT: Final = "the service failed on this request; the cause is in its log under the request id"
# Three times in a refusal's trailers, of which clients take 8 KiB by default.
_LONGEST_MESSAGE: Final = 1000
_OK: Final = Code.Name(Code.OK)
_REQUEST_ID_KEY: Final = "x-request-id"
_REQUEST_ID_FORM: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def status_of(error: BaseException) -> Status:
    """The status that a client gets for an error; anything unknown is INTERNAL with a fixed text."""
    if not isinstance(error, ServiceError):
        return Status(
            code=Code.INTERNAL, message=_UNKNOWN_TEXT, details=_pack(ErrorInfo(reason="INTERNAL", domain=ERROR_DOMAIN))
        )
    code = next(CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in CODES)
    text = str(error)
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]}..."
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)]
    if isinstance(error, InvalidArgument):
        details.append(BadRequest(field_violations=[BadRequest.FieldViolation(field=error.field, description=text)]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(RetryInfo(retry_delay=delay))
    return Status(code=code, message=text, details=_pack(*details))


class Calls:
    """Around every method of our API: who may call, refusal while not serving, errors to statuses, counts, ids in logs.

    Methods are wrapped once, when they are registered: an interceptor would do all of this again for each call.
    """

    def __init__(self, *, lifecycle: Lifecycle, in_flight: InFlight, clients: Clients, metrics: Metrics) -> None:
        self._lifecycle = lifecycle
        self._clients = clients
        self._in_flight = in_flight
        self._metrics = metrics

    def unary(self, behaviour: Callable[[Q, Context], Awaitable[P]], name: str) -> Callable[[Q, Context], Awaitable[P]]:
        """The method with one message in and one out; draining waits for it."""
        self.show_codes(name)
        ok_count = self._metrics.requests[name, _OK]
        lifecycle, in_flight, clients = self._lifecycle, self._in_flight, self._clients

        async def call(request: Q, context: Context) -> P:
            try:
                lifecycle.require_serving()
                if clients.are_named:
                    # Slow readers count: it is under way until the call has ended.
                    when_over(context, clients.admit(context, _size_bytes(request)).leave)
                in_flight.enter()
                try:
                    reply = await behaviour(request, context)
                finally:
                    in_flight.leave()
            except BaseException as error:
                await self._end_badly(error, context, name)
                raise
            ok_count.inc()
            return reply

        return call

    def stream(
        self, behaviour: Callable[[Context], Awaitable[None]], name: str
    ) -> Callable[[object, Context], Awaitable[None]]:
        """The method with many messages in and out, which counts its items itself, and charges them to its client."""
        self.show_codes(name)

        async def call(_: object, context: Context) -> None:
            try:
                self._lifecycle.require_serving()
                if self._clients.are_named:
                    # The call itself is one of its client's while it is open.
                    when_over(context, self._clients.admit(context, 0).leave)
                await behaviour(context)
            except ClientGone as error:
                self._count(name, CODES[ClientGone])
                _log.info(
                    "nobody is there to be answered",
                    method=name,
                    request_id=_request_id(context),
                    reason=error.reason,
                    detail=str(error),
                )
            except BaseException as error:
                await self._end_badly(error, context, name)
                raise
            else:
                self._count(name, Code.OK)

        return call

    async def _end_badly(self, error: BaseException, context: Context, name: str) -> None:
        """Answers with the error's status, which raises in its turn; what is no failure of a call passes."""
        if isinstance(error, asyncio.CancelledError):
            self._count(name, Code.CANCELLED)
            _log.info("the call was cancelled", method=name, request_id=_request_id(context))
        elif isinstance(error, Exception):
            await self._abort(error, context, name, _request_id(context))

    def show_codes(self, name: str) -> None:
        """Every outcome that can be foreseen is there from the start: a rate misses what a series begins with."""
        for code in {Code.OK, Code.INTERNAL, *CODES.values()}:
            self._metrics.requests[name, Code.Name(code)].inc(0)

    def _count(self, name: str, code: int) -> None:
        self._metrics.requests[name, Code.Name(code)].inc()

    async def _abort(self, error: Exception, context: Context, name: str, request_id: str) -> None:
        status = observe_failure(error, self._metrics, method=name, request_id=request_id)
        self._count(name, status.code)
        trailers = [(_REQUEST_ID_KEY, request_id)]
        retry_after_s = error.retry_after_s if isinstance(error, ServiceError) else None
        if retry_after_s is not None:
            trailers.append(("grpc-retry-pushback-ms", str(math.ceil(retry_after_s * 1000))))
        grpc_status = rpc_status.to_status(status)
        context.set_trailing_metadata((*(grpc_status.trailing_metadata or ()), *trailers))
        await context.abort(grpc_status.code, grpc_status.details)


def observe_failure(error: Exception, metrics: Metrics, **where: str) -> Status:
    """Counts and logs a failed image, and returns its status."""
    if isinstance(error, ServiceError):
        metrics.refusals[error.reason].inc()
        if isinstance(error, ModelFailed):
            _log.error("the model failed", reason=error.reason, detail=str(error), **where)
        else:
            _log.info("refused", reason=error.reason, detail=str(error), **where)
    else:
        metrics.refusals[ServiceError.reason].inc()
        _log.error("request failed", exc_info=error, **where)
    return status_of(error)


class _Once:
    """A callback that is forgotten as it is called, with all that it knows."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self, _: object) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def when_over(context: Context, call: Callable[[], None]) -> None:
    """Calls back when the call has terminated.

    gRPC's context and its callbacks refer to each other, so that images would wait for the garbage collector.
    """
    # The type stubs want another signature than gRPC.
    context.add_done_callback(cast("Any", _Once(call)))


def _size_bytes(request: object) -> int:
    """Of a request as it arrived; what is no image's is parsed already."""
    return len(request) if isinstance(request, bytes) else cast("Message", request).ByteSize()


def _request_id(context: Context) -> str:
    """The caller's own id when it has a harmless form, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == _REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID_FORM.fullmatch(value):
            return value
    return secrets.token_hex(8)


def _pack(*details: Message) -> list[AnyMessage]:
    packed = []
    for detail in details:
        message = AnyMessage()
        message.Pack(detail)
        packed.append(message)
    return packed
