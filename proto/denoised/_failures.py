"""Which answer of a server becomes which exception: one table from (status code, reason).

The same table serves failed calls and the per-item statuses of a stream. What TLS fails with is read off gRPC's text,
which is all that it gives; the tests provoke each with the gRPC that is installed.
"""

from collections.abc import Iterable
from typing import Final, cast

import grpc
from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from denoised._connecting import cause_of
from denoised.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    DenoisedError,
    ImageTooLargeError,
    InternalError,
    InvalidImageError,
    InvalidLatentError,
    InvalidOptionError,
    InvalidRequestError,
    ModelUnknownError,
    NotSupportedError,
    OverloadedError,
    RequestCancelledError,
    SecureConnectionError,
    ServerUnavailableError,
    TemporaryError,
    UnsupportedImageError,
)

_Code = grpc.StatusCode
_ANY_REASON: Final = "*"
_NO_REASON: Final = ""

# Looked up with the reason first, then with _ANY_REASON; what is in neither place is an InternalError.
_TABLE: Final[dict[tuple[grpc.StatusCode, str], type[DenoisedError]]] = {
    (_Code.INVALID_ARGUMENT, "IMAGE_UNDECODABLE"): InvalidImageError,
    (_Code.INVALID_ARGUMENT, "SAMPLES_INVALID"): InvalidImageError,
    (_Code.INVALID_ARGUMENT, "IMAGE_UNSUPPORTED"): UnsupportedImageError,
    (_Code.INVALID_ARGUMENT, "IMAGE_TOO_LARGE"): ImageTooLargeError,
    (_Code.INVALID_ARGUMENT, "OPTION_INVALID"): InvalidOptionError,
    (_Code.INVALID_ARGUMENT, "LATENT_INVALID"): InvalidLatentError,
    (_Code.INVALID_ARGUMENT, "LATENT_OUT_OF_DISTRIBUTION"): InvalidLatentError,
    (_Code.INVALID_ARGUMENT, _ANY_REASON): InvalidRequestError,
    (_Code.NOT_FOUND, "MODEL_UNKNOWN"): ModelUnknownError,
    (_Code.FAILED_PRECONDITION, "CAPABILITY_MISSING"): NotSupportedError,
    (_Code.RESOURCE_EXHAUSTED, _NO_REASON): ImageTooLargeError,  # the transport's message limit gives no reason
    (_Code.RESOURCE_EXHAUSTED, _ANY_REASON): OverloadedError,
    (_Code.UNAUTHENTICATED, _ANY_REASON): AccessDeniedError,
    (_Code.UNAVAILABLE, _ANY_REASON): ServerUnavailableError,
    (_Code.DEADLINE_EXCEEDED, _ANY_REASON): DeadlineExceededError,
    (_Code.CANCELLED, _ANY_REASON): RequestCancelledError,
    (_Code.UNIMPLEMENTED, _ANY_REASON): NotSupportedError,
}

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}

_DETAILS_KEY: Final = "grpc-status-details-bin"
# A proxy that speaks HTTP and finds a message too long; gRPC makes UNKNOWN of it.
_TOO_LONG_FOR_A_PROXY: Final = ("status: 413", "status code 413", "HTTP status code: 413")

# grpc.aio's own words when it writes to a stream that has just ended; the server's status is lost then.
_WRITE_AFTER_END = "Internal error from Core"


def from_call(error: grpc.RpcError, *, target: str) -> DenoisedError:
    """The exception for a failed call, whether of grpc or of grpc.aio."""
    # Both raise objects that have a Call's methods.
    call = cast("grpc.Call", error)
    code, text = call.code(), call.details() or ""
    if code is _Code.INTERNAL and text == _WRITE_AFTER_END:
        return _exception(_Code.UNAVAILABLE, "the call ended while it was written to", (), target=target)
    if code is _Code.UNKNOWN and any(mark in text for mark in _TOO_LONG_FOR_A_PROXY):
        code = _Code.RESOURCE_EXHAUSTED
    return _exception(code, text, _details_of(call), target=target)


def _details_of(call: grpc.Call) -> Iterable[PackedMessage]:
    """None when a proxy on the way changed the code or the text: then they belong to something else."""
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            if (status.code, status.message) == (call.code().value[0], call.details()):
                return tuple(status.details)
    return ()


def from_status(status: status_pb2.Status, *, target: str) -> DenoisedError:
    """The exception for the status of one item, which is not OK."""
    code = _BY_NUMBER.get(status.code, _Code.UNKNOWN)
    return _exception(code, status.message, status.details, target=target)


def _exception(code: grpc.StatusCode, message: str, details: Iterable[PackedMessage], *, target: str) -> DenoisedError:
    reason, field, retry_after_s = _read(details)
    kind = _TABLE.get((code, reason)) or _TABLE.get((code, _ANY_REASON), InternalError)
    if kind is ImageTooLargeError and retry_after_s is not None:
        kind = OverloadedError  # "too large" is never worth sending again, and the server says that this is
    text = message or f"the server answered {code.name} without a message"
    cause = cause_of(text) if kind is ServerUnavailableError and not reason else None
    if cause is not None and cause.is_handshake:
        return SecureConnectionError(
            f"no secure connection to {target}: {cause.remedy}",
            reason=cause.reason,
            target=target,
            is_certain=cause.is_certain,
        )
    if cause is not None:
        reason, text = cause.reason, f"no denoised server answers at {target}: {cause.remedy} ({text})"
    elif not reason:
        reason, text = code.name, _explained(kind, code, text, target=target)
    if issubclass(kind, ServerUnavailableError):
        return kind(text, reason=reason, target=target, retry_after_s=retry_after_s)
    if issubclass(kind, TemporaryError):
        return kind(text, reason=reason, retry_after_s=retry_after_s)
    if issubclass(kind, InvalidRequestError):
        return kind(text, reason=reason, field=field)
    return kind(text, reason=reason)


def _explained(kind: type[DenoisedError], code: grpc.StatusCode, text: str, *, target: str) -> str:
    """The text for what gRPC, or a proxy, said instead of the service."""
    if kind is ImageTooLargeError:
        return (
            f"the image does not fit in one message ({text}): the limit is the server's or a proxy's on the way; with "
            "the client's message_bytes set to it, larger images travel in chunks"
        )
    if kind is ServerUnavailableError:
        return f"no denoised server answers at {target}: {text}"
    if code is _Code.UNIMPLEMENTED:
        return (
            f"the server at {target} does not know this method ({text}): it is older than this client, or no denoised "
            "service; update it, or name another one"
        )
    return text


def _read(details: Iterable[PackedMessage]) -> tuple[str, str, float | None]:
    """(reason, field, seconds until a retry) as far as the details say; details of other types are passed over."""
    reason, field, retry_after_s = _NO_REASON, "", None
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for packed in details:
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif packed.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return reason, field, retry_after_s
