"""Maps errors to gRPC statuses with rich details: one table, and one interceptor that applies it to every method."""

import asyncio
import math
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, cast

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from service.errors import (
    CapabilityMissing,
    ClientGone,
    DeadlineExceeded,
    InvalidArgument,
    ItemCancelled,
    ModelFailed,
    ModelUnknown,
    NotImplementedYet,
    Overloaded,
    ServiceError,
    Unavailable,
)
from service.lifecycle import InFlight, Lifecycle
from service.metrics import Metrics

_log = structlog.get_logger()

# Generic for the type checker alone, hence the text.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

ERROR_DOMAIN: Final = "denoised.v1"
CODES: Final[dict[type[ServiceError], int]] = {
    InvalidArgument: Code.INVALID_ARGUMENT,
    ModelUnknown: Code.NOT_FOUND,
    CapabilityMissing: Code.FAILED_PRECONDITION,
    Overloaded: Code.RESOURCE_EXHAUSTED,
    DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    Unavailable: Code.UNAVAILABLE,
    NotImplementedYet: Code.UNIMPLEMENTED,
    ItemCancelled: Code.CANCELLED,
    ClientGone: Code.CANCELLED,
    ModelFailed: Code.INTERNAL,
}
_UNKNOWN_TEXT: Final = "the service failed on this request; the cause is in its log under the request id"
_DRAINING_RETRY_S: Final = 1.0
_REQUEST_ID_KEY: Final = "x-request-id"
_REQUEST_ID_FORM: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def status_of(error: BaseException) -> Status:
    """The status that a client gets for an error; anything unknown is INTERNAL with a fixed text."""
    if not isinstance(error, ServiceError):
        return Status(
            code=Code.INTERNAL, message=_UNKNOWN_TEXT, details=_pack(ErrorInfo(reason="INTERNAL", domain=ERROR_DOMAIN))
        )
    code = next(CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in CODES)
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)]
    if isinstance(error, InvalidArgument):
        details.append(
            BadRequest(field_violations=[BadRequest.FieldViolation(field=error.field, description=str(error))])
        )
    retry_after_s = retry_delay_s(error)
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after_s * 1e9))
        details.append(RetryInfo(retry_delay=delay))
    return Status(code=code, message=str(error), details=_pack(*details))


def retry_delay_s(error: BaseException) -> float | None:
    """When it is worth sending again, or None when it is not."""
    if isinstance(error, Overloaded):
        return error.retry_after_s
    return _DRAINING_RETRY_S if isinstance(error, Unavailable) else None


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Around every method of our API: request id, refusal while not serving, errors to statuses, counting.

    Other services (health, reflection) pass through untouched.
    """

    def __init__(self, *, lifecycle: Lifecycle, in_flight: InFlight, metrics: Metrics, service_prefix: str) -> None:
        self._lifecycle = lifecycle
        self._in_flight = in_flight
        self._metrics = metrics
        self._prefix = service_prefix

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(self._prefix):
            return handler
        name = method.removeprefix(self._prefix)
        request_id = _request_id(handler_call_details)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, name, request_id),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.stream_stream_rpc_method_handler(
            self._stream(cast("Callable[..., Awaitable[None]]", handler.stream_stream), name, request_id),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _unary(self, behaviour: Callable[..., Awaitable[Any]], name: str, request_id: str) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> Any:
            async with self._outcome(context, name, request_id):
                with self._in_flight.hold():
                    return await behaviour(request, context)

        return call

    def _stream(self, behaviour: Callable[..., Awaitable[None]], name: str, request_id: str) -> Callable[..., Any]:
        async def call(requests: AsyncIterator[Any], context: Context) -> None:
            async with self._outcome(context, name, request_id):
                await behaviour(requests, context)

        return call

    @asynccontextmanager
    async def _outcome(self, context: Context, name: str, request_id: str) -> AsyncIterator[None]:
        """Around one call: counts how it ends, and turns what it raises into its status."""
        structlog.contextvars.bind_contextvars(request_id=request_id, method=name)
        try:
            self._lifecycle.require_serving()
            yield
        except asyncio.CancelledError:
            self._count(name, Code.CANCELLED)
            _log.info("the call was cancelled")
            raise
        except ClientGone as error:
            self._count(name, CODES[ClientGone])
            _log.info("nobody is there to be answered", reason=error.reason, detail=str(error))
        except Exception as error:  # noqa: BLE001 -- the one place where anything becomes a status
            await self._abort(error, context, name, request_id)
        else:
            self._count(name, Code.OK)

    def _count(self, name: str, code: int) -> None:
        self._metrics.requests.labels(name, Code.Name(code)).inc()

    async def _abort(self, error: Exception, context: Context, name: str, request_id: str) -> None:
        status = observe_failure(error, self._metrics)
        self._count(name, status.code)
        trailers = [(_REQUEST_ID_KEY, request_id)]
        retry_after_s = retry_delay_s(error)
        if retry_after_s is not None:
            trailers.append(("grpc-retry-pushback-ms", str(math.ceil(retry_after_s * 1000))))
        grpc_status = rpc_status.to_status(status)
        context.set_trailing_metadata((*(grpc_status.trailing_metadata or ()), *trailers))
        await context.abort(grpc_status.code, grpc_status.details)


def observe_failure(error: Exception, metrics: Metrics) -> Status:
    """Counts and logs a failed image, and returns its status."""
    if isinstance(error, ServiceError):
        metrics.refusals.labels(error.reason).inc()
        if isinstance(error, ModelFailed):
            _log.error("the model failed", reason=error.reason, detail=str(error))
        else:
            _log.info("refused", reason=error.reason, detail=str(error))
    else:
        metrics.refusals.labels(ServiceError.reason).inc()
        _log.error("request failed", exc_info=error)
    return status_of(error)


def _request_id(details: grpc.HandlerCallDetails) -> str:
    """The caller's own id when it has a harmless form, else a new one."""
    for key, value in details.invocation_metadata:
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
