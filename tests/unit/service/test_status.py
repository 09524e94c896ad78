"""Errors to statuses: each kind has a code and details, the unknown says nothing, only what can succeed is retried."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from prometheus_client import CollectorRegistry
from structlog.typing import EventDict

from service import errors
from service.clients import Clients
from service.errors import (
    CapabilityMissing,
    ClientGone,
    DeadlineExceeded,
    Draining,
    InvalidArgument,
    ItemCancelled,
    LatentOutOfDistribution,
    ModelFailed,
    ModelUnknown,
    NonFiniteOutput,
    Overloaded,
    QueueFull,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from service.lifecycle import InFlight, Lifecycle, State
from service.metrics import Metrics
from service.status import CODES, ERROR_DOMAIN, Calls, observe_failure, status_of

EXPECTED_CODES = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    ModelUnknown: grpc.StatusCode.NOT_FOUND,
    CapabilityMissing: grpc.StatusCode.FAILED_PRECONDITION,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    ItemCancelled: grpc.StatusCode.CANCELLED,
    ClientGone: grpc.StatusCode.CANCELLED,
    ModelFailed: grpc.StatusCode.INTERNAL,
}


def every_kind(base: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """All errors of the service, found by themselves so that a new one can't be forgotten here."""
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from every_kind(kind)


def an(kind: type[ServiceError]) -> ServiceError:
    if issubclass(kind, LatentOutOfDistribution):
        return kind("the code is 9 deviations away; the limit is 8", field="options.strength", metadata={})
    if issubclass(kind, InvalidArgument):
        return kind("the value is 7; the limit is 5", field="options.strength")
    if issubclass(kind, Overloaded):
        return kind("too much", retry_after_s=1.25)
    return kind("no")


def details_of(status: Status) -> dict[type[Message], Any]:
    found = {}
    for packed in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found[kind] = message
    assert len(found) == len(status.details)
    return found


@pytest.mark.parametrize("kind", list(every_kind()), ids=lambda kind: kind.__name__)
def test_every_error_has_the_code_and_the_details_of_its_kind(kind: type[ServiceError]) -> None:
    error = an(kind)
    status = status_of(error)
    (code,) = {code for base, code in EXPECTED_CODES.items() if issubclass(kind, base)}
    assert status.code == code.value[0]
    assert status.message == str(error)
    details = details_of(status)
    assert details.pop(ErrorInfo) == ErrorInfo(reason=kind.reason, domain=ERROR_DOMAIN)
    if isinstance(error, InvalidArgument):
        (violation,) = details.pop(BadRequest).field_violations
        assert (violation.field, violation.description) == ("options.strength", str(error))
    if isinstance(error, Overloaded):
        delay = details.pop(RetryInfo).retry_delay
        assert (delay.seconds, delay.nanos) == (1, 250_000_000)
    if isinstance(error, Unavailable):
        assert details.pop(RetryInfo).retry_delay.seconds == 1
    assert details == {}, "nothing else is said: RetryInfo would make clients send a hopeless request again"


def test_every_code_is_that_of_an_error_that_there_is() -> None:
    assert {Code.Name(code) for code in CODES.values()} == {code.name for code in EXPECTED_CODES.values()}
    assert set(CODES) == set(EXPECTED_CODES)


def test_what_a_program_may_want_to_know_is_in_the_metadata() -> None:
    error = QueueFull("full", retry_after_s=1.0, metadata={"cap": "bytes", "limit": "7"})
    assert details_of(status_of(error))[ErrorInfo].metadata == {"cap": "bytes", "limit": "7"}


def test_reasons_are_stable_names_of_their_own() -> None:
    reasons = [kind.reason for kind in every_kind()]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.replace("_", "").isalpha() and reason.isupper() for reason in [*reasons, ServiceError.reason])


@pytest.mark.parametrize("error", [ValueError("password=1234"), KeyError("/home/someone/cat.png"), BaseException()])
def test_an_unknown_error_is_internal_with_a_fixed_text(error: BaseException) -> None:
    status = status_of(error)
    assert status.code == Code.INTERNAL
    assert status.message == "the service failed on this request; the cause is in its log under the request id"
    assert details_of(status) == {ErrorInfo: ErrorInfo(reason="INTERNAL", domain=ERROR_DOMAIN)}


@pytest.mark.parametrize("retry_after_s", [0.0, 1e-9, 0.05, 3600.0])
def test_any_delay_becomes_a_legal_duration(retry_after_s: float) -> None:
    delay = details_of(status_of(QueueFull("full", retry_after_s=retry_after_s)))[RetryInfo].retry_delay
    assert delay.seconds + delay.nanos / 1e9 == pytest.approx(retry_after_s, abs=1e-9)


def test_a_refusal_is_counted_by_its_reason_and_logged_without_a_traceback(
    metrics: Metrics, logs: list[EventDict]
) -> None:
    status = observe_failure(QueueFull("full", retry_after_s=1.0), metrics, method="Denoise", request_id="7f")
    assert status.code == Code.RESOURCE_EXHAUSTED
    assert metrics.refusals["QUEUE_FULL"].value == 1
    (entry,) = logs
    assert (entry["log_level"], entry["reason"]) == ("info", "QUEUE_FULL")
    assert (entry["method"], entry["request_id"]) == ("Denoise", "7f"), "what it is found by"
    assert "exc_info" not in entry


def test_an_unknown_failure_is_counted_as_internal_and_logged_with_its_cause(
    metrics: Metrics, logs: list[EventDict]
) -> None:
    cause = ValueError("the cause")
    observe_failure(cause, metrics)
    assert metrics.refusals["INTERNAL"].value == 1
    (entry,) = logs
    assert (entry["log_level"], entry["exc_info"]) == ("error", cause)


def test_a_failing_network_is_an_error_for_whoever_is_on_call(metrics: Metrics, logs: list[EventDict]) -> None:
    observe_failure(NonFiniteOutput("not finite"), metrics)
    (entry,) = logs
    assert (entry["log_level"], entry["reason"]) == ("error", "NONFINITE_OUTPUT")


# --- calls ------------------------------------------------------------------------------------------------------------


class Aborted(Exception):
    """What a gRPC context raises to end a call."""


@dataclass
class FakeContext:
    """Of a call's context, what is used."""

    metadata: Sequence[tuple[str, str | bytes]] | None = ()
    code: grpc.StatusCode | None = None
    text: str = ""
    trailers: dict[str, str | bytes] = field(default_factory=dict)

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        return self.metadata

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.trailers = dict(metadata)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.text = code, details
        raise Aborted

    def rich_status(self) -> Status:
        return Status.FromString(cast("bytes", self.trailers["grpc-status-details-bin"]))


class Server:
    """The calls around one behaviour, as gRPC makes them."""

    def __init__(self, state: State = State.SERVING) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = InFlight()
        self.lifecycle = Lifecycle()
        for step in {State.SERVING: [State.SERVING], State.DRAINING: [State.SERVING, State.DRAINING]}.get(state, []):
            self.lifecycle.enter(step)
        self.metrics = Metrics(self.registry)
        self.calls = Calls(lifecycle=self.lifecycle, in_flight=self.in_flight, clients=Clients(), metrics=self.metrics)

    async def call(self, behaviour: Callable[..., Awaitable[Any]], context: FakeContext) -> Any:
        return await self.calls.unary(behaviour, "Denoise")("request", cast("Any", context))

    async def stream(self, behaviour: Callable[..., Awaitable[Any]], context: FakeContext) -> None:
        async def serve(context: Any) -> None:
            await behaviour("frames", context)

        await self.calls.stream(serve, "DenoiseStream")("frames", cast("Any", context))

    def answered_count(self, method: str, code: str) -> float | None:
        return self.registry.get_sample_value("denoised_requests_total", {"method": method, "code": code})


async def echo(request: Any, _: Any) -> Any:
    return request


def raising(error: BaseException) -> Callable[[Any, Any], Awaitable[Any]]:
    async def behaviour(_: Any, __: Any) -> None:
        raise error

    return behaviour


async def test_an_answer_passes_and_is_counted() -> None:
    server, context = Server(), FakeContext()
    assert await server.call(echo, context) == "request"
    assert server.answered_count("Denoise", "OK") == 1
    assert (context.code, context.trailers) == (None, {})


async def test_a_call_is_in_flight_until_it_is_answered() -> None:
    server = Server()

    async def behaviour(_: Any, __: Any) -> bool:
        return await server.in_flight.wait_idle(0)

    assert await server.call(behaviour, FakeContext()) is False
    assert await server.in_flight.wait_idle(0)


async def test_a_stream_counts_its_items_itself() -> None:
    """A stream that is open and has nothing to answer does not keep the service from stopping."""
    server = Server()
    idle: list[bool] = []

    async def behaviour(_: Any, __: Any) -> None:
        idle.append(await server.in_flight.wait_idle(0))

    await server.stream(behaviour, FakeContext())
    assert idle == [True]


async def test_a_refusal_reaches_the_client_with_details_pushback_and_request_id(logs: list[EventDict]) -> None:
    server, context = Server(), FakeContext([("x-request-id", "job-7.a_B")])
    with pytest.raises(Aborted):
        await server.call(raising(QueueFull("full", retry_after_s=0.2501, metadata={"cap": "bytes"})), context)
    assert (context.code, context.text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert context.trailers["grpc-retry-pushback-ms"] == "251", "rounded up: never earlier than promised"
    assert context.trailers["x-request-id"] == "job-7.a_B"
    info = details_of(context.rich_status())[ErrorInfo]
    assert (info.reason, info.metadata) == ("QUEUE_FULL", {"cap": "bytes"})
    assert server.answered_count("Denoise", "RESOURCE_EXHAUSTED") == 1
    assert server.answered_count("Denoise", "OK") == 0
    assert server.metrics.refusals["QUEUE_FULL"].value == 1
    assert [(entry["method"], entry["request_id"]) for entry in logs] == [("Denoise", "job-7.a_B")]


@pytest.mark.parametrize("kind", list(every_kind()), ids=lambda kind: kind.__name__)
async def test_every_error_ends_a_call_with_its_status_and_counts_it(kind: type[ServiceError]) -> None:
    server, context = Server(), FakeContext()
    error = an(kind)
    with pytest.raises(Aborted):
        await server.call(raising(error), context)
    expected = status_of(error)
    assert context.rich_status() == expected
    assert context.code is not None
    assert (context.code.value[0], context.text) == (expected.code, expected.message)
    assert server.answered_count("Denoise", Code.Name(expected.code)) == 1
    assert server.metrics.refusals[kind.reason].value == 1
    assert ("grpc-retry-pushback-ms" in context.trailers) == (error.retry_after_s is not None), (
        "a hopeless request must not be sent again"
    )


async def test_what_an_unknown_failure_says_stays_in_the_service(logs: list[EventDict]) -> None:
    server, context = Server(), FakeContext()
    error = ValueError("password=1234")
    with pytest.raises(Aborted):
        await server.call(raising(error), context)
    assert context.code is grpc.StatusCode.INTERNAL
    assert "1234" not in context.text
    assert b"1234" not in cast("bytes", context.trailers["grpc-status-details-bin"])
    assert server.answered_count("Denoise", "INTERNAL") == 1
    (entry,) = logs
    assert (entry["exc_info"], entry["request_id"]) == (error, context.trailers["x-request-id"])


@pytest.mark.parametrize("request_id", ["", "x" * 65, "line\nbreak", "end\n", 'quote"', "naïve", b"bytes"])
async def test_a_request_id_that_could_harm_a_log_is_replaced(request_id: str | bytes) -> None:
    server, context = Server(), FakeContext([("x-request-id", request_id)])
    with pytest.raises(Aborted):
        await server.call(raising(ModelUnknown("no")), context)
    assert context.trailers["x-request-id"] != request_id
    assert len(context.trailers["x-request-id"]) == 16


@pytest.mark.parametrize("metadata", [None, (), [("user-agent", "x")], [("x-other-id", "job-7")]])
async def test_a_call_without_an_id_gets_one_of_its_own(metadata: Any) -> None:
    ids = set()
    for _ in range(2):
        context = FakeContext(metadata)
        with pytest.raises(Aborted):
            await Server().call(raising(ModelUnknown("no")), context)
        ids.add(context.trailers["x-request-id"])
    assert [len(request_id) for request_id in ids] == [16, 16]


@pytest.mark.parametrize("request_id", ["x", "x" * 64, "A-z.0_9"])
async def test_the_callers_own_id_is_kept(request_id: str) -> None:
    context = FakeContext([("user-agent", "x"), ("x-request-id", request_id)])
    with pytest.raises(Aborted):
        await Server().call(raising(ModelUnknown("no")), context)
    assert context.trailers["x-request-id"] == request_id


@pytest.mark.parametrize(("state", "reason"), [(State.STARTING, Unavailable.reason), (State.DRAINING, Draining.reason)])
async def test_nothing_is_taken_while_the_service_starts_or_stops(state: State, reason: str) -> None:
    server, context = Server(state), FakeContext()
    for way in (server.call, server.stream):
        with pytest.raises(Aborted):
            await way(raising(AssertionError("called")), context)
        assert context.code is grpc.StatusCode.UNAVAILABLE
        assert details_of(context.rich_status())[ErrorInfo].reason == reason
        assert context.trailers["grpc-retry-pushback-ms"] == "1000"
    assert await server.in_flight.wait_idle(0)


async def test_a_method_that_is_registered_while_starting_serves_once_the_service_does() -> None:
    server = Server(State.STARTING)
    method = server.calls.unary(echo, "Denoise")
    server.lifecycle.enter(State.SERVING)
    assert await method("request", cast("Any", FakeContext())) == "request"


async def test_a_stream_that_fails_gets_a_status_and_one_that_ends_is_counted() -> None:
    server, context = Server(), FakeContext()
    await server.stream(echo, context)
    assert server.answered_count("DenoiseStream", "OK") == 1
    with pytest.raises(Aborted):
        await server.stream(raising(ModelUnknown("no such model")), context)
    assert (context.code, context.text) == (grpc.StatusCode.NOT_FOUND, "no such model")
    assert server.answered_count("DenoiseStream", "NOT_FOUND") == 1


async def test_a_call_that_the_client_ends_is_counted_and_still_ends() -> None:
    server = Server()
    for way, method in ((server.call, "Denoise"), (server.stream, "DenoiseStream")):
        context = FakeContext()
        with pytest.raises(asyncio.CancelledError):
            await way(raising(asyncio.CancelledError()), context)
        assert server.answered_count(method, "CANCELLED") == 1
        assert not server.answered_count(method, "OK")
        assert context.code is None, "nobody is there to be answered"
    assert await server.in_flight.wait_idle(0)
    assert not any(counter.value for counter in server.metrics.refusals.values())


async def test_what_ends_the_process_passes_uncounted() -> None:
    server, context = Server(), FakeContext()
    for way in (server.call, server.stream):
        with pytest.raises(SystemExit):
            await way(raising(SystemExit()), context)
    assert (context.code, context.trailers) == (None, {})
    assert await server.in_flight.wait_idle(0)


async def test_a_stream_whose_client_is_gone_is_counted_as_cancelled_and_not_answered(logs: list[EventDict]) -> None:
    server, context = Server(), FakeContext([("x-request-id", "job-7")])
    await server.stream(raising(ClientGone("gone")), context)
    assert context.code is None
    assert server.answered_count("DenoiseStream", "CANCELLED") == 1
    assert server.answered_count("DenoiseStream", "OK") == 0
    (entry,) = logs
    assert (entry["log_level"], entry["request_id"], entry["detail"]) == ("info", "job-7", "gone")


def test_a_long_message_is_cut() -> None:
    """Messages name what was sent, and trailers have to fit what clients take."""
    status = status_of(InvalidArgument(f"model {'x' * 1_000_000!r} is not loaded", field="options.model"))
    assert status.message.startswith("model 'xxx")
    assert status.message.endswith("...")
    assert status.ByteSize() < 4096
