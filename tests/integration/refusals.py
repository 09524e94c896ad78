"""What a refusal says, read from a failed call or from the status of one item."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import grpc
import pytest
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

DOMAIN = "denoised.v1"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status and its details. ``field`` is empty without a BadRequest, ``reason`` without an ErrorInfo."""

    code: str
    reason: str
    field: str
    message: str
    retry_after_s: float | None


def refusal_of_status(status: Status) -> Refusal:
    reason, field, retry_after_s = "", "", None
    for packed in status.details:
        info, bad_request, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if packed.Unpack(info):
            assert info.domain == DOMAIN
            reason = info.reason
        elif packed.Unpack(bad_request):
            (violation,) = bad_request.field_violations
            assert violation.description == status.message
            field = violation.field
        else:
            assert packed.Unpack(retry), f"no known detail: {packed.TypeName()}"
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return Refusal(Code.Name(status.code), reason, field, status.message, retry_after_s)


def refusal_of_error(error: BaseException) -> Refusal:
    """What a failed call says, whether of grpc or grpc.aio; without details when it came from the transport."""
    call = cast("grpc.Call", error)
    status = rpc_status.from_call(call)
    if status is None:
        return Refusal(call.code().name, "", "", call.details() or "", None)
    return refusal_of_status(status)


def refused(call: Callable[[], object]) -> Refusal:
    """What a call is refused with; fails when it succeeds."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal_of_error(caught.value)


def trailer(error: BaseException, key: str) -> str | None:
    """One value of the trailing metadata of a failed call."""
    metadata = cast("grpc.Call", error).trailing_metadata() or ()
    return next((str(value) for name, value in metadata if name == key), None)
