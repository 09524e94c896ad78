"""Which answer of a server becomes which exception, over a real connection."""

import re
from collections import deque
from typing import NoReturn

import grpc
import pytest
from google.rpc import status_pb2

from denoised import Client, DenoisedError, RetryPolicy, _failures, errors
from tests.unit.denoised.conftest import Refusal, Server

Code = grpc.StatusCode

# (code, ErrorInfo.reason, RetryInfo's seconds) -> class, reason
CASES = [
    (Code.INVALID_ARGUMENT, "IMAGE_UNDECODABLE", None, errors.InvalidImageError),
    (Code.INVALID_ARGUMENT, "SAMPLES_INVALID", None, errors.InvalidImageError),
    (Code.INVALID_ARGUMENT, "IMAGE_UNSUPPORTED", None, errors.UnsupportedImageError),
    (Code.INVALID_ARGUMENT, "IMAGE_TOO_LARGE", None, errors.ImageTooLargeError),
    (Code.INVALID_ARGUMENT, "OPTION_INVALID", None, errors.InvalidOptionError),
    (Code.INVALID_ARGUMENT, "FROM_A_NEWER_SERVER", None, errors.InvalidRequestError),
    (Code.NOT_FOUND, "MODEL_UNKNOWN", None, errors.ModelUnknownError),
    (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", 0.5, errors.OverloadedError),
    (Code.RESOURCE_EXHAUSTED, "MEMORY_BUDGET", 0.5, errors.OverloadedError),
    (Code.RESOURCE_EXHAUSTED, "DEADLINE_UNREACHABLE", None, errors.OverloadedError),
    (Code.RESOURCE_EXHAUSTED, "", 0.5, errors.OverloadedError),
    (Code.RESOURCE_EXHAUSTED, "", None, errors.ImageTooLargeError),
    (Code.UNAVAILABLE, "NOT_READY", 1.0, errors.ServerUnavailableError),
    (Code.UNAVAILABLE, "DRAINING", None, errors.ServerUnavailableError),
    (Code.UNAVAILABLE, "", None, errors.ServerUnavailableError),
    (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", None, errors.DeadlineExceededError),
    (Code.CANCELLED, "CANCELLED", None, errors.RequestCancelledError),
    (Code.UNIMPLEMENTED, "NOT_IMPLEMENTED", None, errors.NotSupportedError),
    (Code.INTERNAL, "MODEL_FAILED", None, errors.InternalError),
    (Code.INTERNAL, "NONFINITE_OUTPUT", None, errors.InternalError),
    (Code.DATA_LOSS, "", None, errors.InternalError),
]


@pytest.mark.parametrize(("code", "reason", "retry_after_s", "kind"), CASES)
def test_each_refusal_has_its_class_reason_and_details(
    server: Server, code: grpc.StatusCode, reason: str, retry_after_s: float | None, kind: type[Exception]
) -> None:
    sent = Refusal(code, reason=reason, field="image.encoded.data", retry_after_s=retry_after_s)
    server.service.script = deque([sent])
    with Client(server.target, retry=RetryPolicy(try_count=1)) as client, pytest.raises(DenoisedError) as caught:
        client.clean(b"x")
    error = caught.value
    assert type(error) is kind
    assert error.reason == (reason or code.name)
    assert "refused by the test" in str(error)
    if isinstance(error, errors.ImageTooLargeError) and not reason:
        assert "message_bytes" in str(error)
    if isinstance(error, errors.InvalidRequestError):
        assert error.field == "image.encoded.data"
    if isinstance(error, errors.TemporaryError):
        assert error.retry_after_s == retry_after_s
    if isinstance(error, errors.ServerUnavailableError):
        assert error.target == server.target


@pytest.mark.parametrize(("code", "reason", "retry_after_s", "kind"), CASES)
def test_the_status_of_a_stream_item_means_the_same(
    code: grpc.StatusCode, reason: str, retry_after_s: float | None, kind: type[Exception]
) -> None:
    status = Refusal(code, reason=reason, retry_after_s=retry_after_s).status()
    assert type(_failures.from_status(status, target="t:1")) is kind


def test_a_code_from_the_future_is_an_internal_error() -> None:
    error = _failures.from_status(status_pb2.Status(code=99), target="t:1")
    assert type(error) is errors.InternalError
    assert error.reason == "UNKNOWN"
    assert "UNKNOWN" in str(error)


def test_details_that_a_proxy_made_wrong_are_left_aside(server: Server) -> None:
    sent = Refusal(Code.INVALID_ARGUMENT, reason="IMAGE_TOO_LARGE")
    rewritten = sent.status()
    rewritten.message = "the status says this, the trailer that"

    def deny(context: grpc.ServicerContext) -> NoReturn:
        context.set_trailing_metadata((("grpc-status-details-bin", rewritten.SerializeToString()),))
        context.abort(Code.INVALID_ARGUMENT, sent.message)

    server.service.answer = deny
    with Client(server.target) as client, pytest.raises(errors.InvalidRequestError) as caught:
        client.clean(b"x")
    assert type(caught.value) is errors.InvalidRequestError
    assert str(caught.value) == sent.message


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn: dict[str, int] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ( *)(\w+Error)\b", line)
        if match:
            drawn[match[2]] = len(match[1]) // 2
    classes = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert set(drawn) == set(classes)
    for name, kind in classes.items():
        assert drawn[name] == len(kind.__mro__) - len(DenoisedError.__mro__)
