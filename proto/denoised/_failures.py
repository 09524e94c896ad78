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
from grpc_status import rpc_status

from denoised.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    DenoisedError,
    ImageTooLargeError,
    InternalError,
    InvalidImageError,
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

# What gRPC says of a connection that did not come about, the reason that we give for it, and the remedy. The first that
# all fits counts.
_NOT_CONNECTED: Final = "failed to connect"
_HANDSHAKES: Final = (
    (
        "Hostname Verification Check failed",
        "TLS_NAME_WRONG",
        "its certificate is for other names: connect by one of these, or name it (Tls.server_name, --tls-server-name)",
    ),
    (
        "certificate has expired",
        "TLS_CERTIFICATE_EXPIRED",
        "its certificate has expired, or this machine's clock is wrong: whoever runs the server has to renew it",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "TLS_CERTIFICATE_UNTRUSTED",
        "its certificate comes from an authority that is not trusted here: name the authority (Tls(ca=...), --tls-ca)",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "TLS_NOT_SPOKEN",
        "it speaks plain text: connect without TLS, or to the port that has it",
    ),
    (
        "Socket closed",
        "TLS_EXPECTED",
        "it hung up at once, as one does that wants TLS (tls=True, --tls) or a certificate (--tls-cert, --tls-key)",
    ),
)
# Other causes end the same way: a server that stops, a proxy without one behind it.
_GUESSED: Final = "TLS_EXPECTED"

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


# grpc.aio's own words when it writes to a stream that has just ended; the server's status is lost then.
_WRITE_AFTER_END = "Internal error from Core"


def from_call(error: grpc.RpcError, *, target: str) -> DenoisedError:
    """The exception for a failed call, whether of grpc or of grpc.aio."""
    # Both raise objects that have a Call's methods; grpc_status.aio takes unfinished calls only.
    call = cast("grpc.Call", error)
    if call.code() is grpc.StatusCode.INTERNAL and call.details() == _WRITE_AFTER_END:
        return _exception(grpc.StatusCode.UNAVAILABLE, "the call ended while it was written to", (), target=target)
    try:
        status = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        # A proxy on the way changed the code or the text: its word counts, the details no longer belong to it.
        status = None
    if status is None:
        return _exception(call.code(), call.details() or "", (), target=target)
    return _exception(call.code(), status.message, status.details, target=target)


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
    if kind is ImageTooLargeError and not reason:
        text = f"the image does not fit in one message ({text}): send a smaller one, or a file instead of samples"
    if kind is ServerUnavailableError and not reason and text.startswith(_NOT_CONNECTED):
        for sign, handshake_reason, remedy in _HANDSHAKES:
            if sign in text:
                return SecureConnectionError(
                    f"no secure connection to {target}: {remedy}",
                    reason=handshake_reason,
                    target=target,
                    is_certain=handshake_reason != _GUESSED,
                )
    if kind is ServerUnavailableError and not reason:
        text = f"no denoised server answers at {target}: {text}"
    reason = reason or code.name
    if issubclass(kind, ServerUnavailableError):
        return kind(text, reason=reason, target=target, retry_after_s=retry_after_s)
    if issubclass(kind, TemporaryError):
        return kind(text, reason=reason, retry_after_s=retry_after_s)
    if issubclass(kind, InvalidRequestError):
        return kind(text, reason=reason, field=field)
    return kind(text, reason=reason)


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
