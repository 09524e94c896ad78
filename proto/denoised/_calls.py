"""What ``Client`` and ``AsyncClient`` share: how a channel is set up, a request is built and an answer is read."""

from typing import Any, Final, Unpack

import grpc
from google.protobuf.duration_pb2 import Duration

from denoised._connection import TokenChannel
from denoised._images import ArrayForm, ImageInput, restore
from denoised._order import LARGEST_MESSAGE_BYTES, CleanOptions, build_order
from denoised.errors import ServerUnavailableError
from denoised.results import CleanResult, clean_result
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub

DEFAULT_TARGET: Final = "localhost:50051"

_KEEPALIVE_PERIOD_MS: Final = 30_000
_KEEPALIVE_TIMEOUT_MS: Final = 10_000
_FIRST_RECONNECT_MS: Final = 200
_CONNECT_TIMEOUT_MS: Final = 3_000
_BALANCED_STREAM_COUNT: Final = 4
_ROUND_ROBIN: Final = '{"loadBalancingConfig": [{"round_robin": {}}]}'
_HEALTH_STATES: Final = {1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def channel_options(target: str) -> list[tuple[str, Any]]:
    """Options of a channel, for grpc and grpc.aio alike."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_PERIOD_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # gRPC would stop asking after two pings while an answer is computed, which is when a dead peer must be noticed.
        ("grpc.http2.max_pings_without_data", 0),
        # Below the first pause between tries: a retry that finds gRPC still waiting to reconnect fails unsent.
        ("grpc.initial_reconnect_backoff_ms", _FIRST_RECONNECT_MS),
        # Not a pause, whatever its name: how long one attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),
        # gRPC would share one connection among all clients of a process, and the server would see one client.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_balanced(target):
        options.append(("grpc.service_config", _ROUND_ROBIN))
    return options


def is_balanced(target: str) -> bool:
    """Whether the target may stand for several servers, over which calls are spread in turn."""
    return target.startswith("dns:///") or (target.startswith(("ipv4:", "ipv6:")) and "," in target)


def default_stream_count(target: str) -> int:
    """How many streams carry many images when the caller does not say; a stream stays with one server."""
    return _BALANCED_STREAM_COUNT if is_balanced(target) else 1


def service_stub(channel: grpc.Channel | grpc.aio.Channel, token: str | None = None) -> DenoiseServiceStub:
    """The generated stub, which serves both kinds of channel; its calls carry the token.

    Raises:
        InvalidOptionError: the token can't be sent.
    """
    return DenoiseServiceStub(channel if token is None else TokenChannel(channel, token))  # type: ignore[no-untyped-call]  # generated without annotations


def health_method(channel: grpc.Channel | grpc.aio.Channel) -> Any:
    """``grpc.health.v1.Health.Check`` of the whole server, from anything to the name of its state.

    Written by hand, because its package would be one more to install for one number.
    """
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check", request_serializer=lambda _: b"", response_deserializer=_health_state
    )


def _health_state(response: bytes) -> str:
    """Field 1 as a number of one byte; left out, it is 0."""
    return _HEALTH_STATES.get(response[1], "UNKNOWN") if response[:1] == b"\x08" else "UNKNOWN"


def build_request(image: ImageInput, **options: Unpack[CleanOptions]) -> tuple[pb.DenoiseRequest, ArrayForm | None]:
    """The request for one image, and the form that its answer is restored to.

    Raises:
        InvalidRequestError: one of its kinds, when the server would have to refuse it anyway.
    """
    order = build_order(image, **options)
    return order.request(), order.image.form


def read_response(response: pb.DenoiseResponse, form: ArrayForm | None) -> CleanResult[Any]:
    """The answer with its image as the caller gave it.

    Raises:
        InternalError: the answer does not fit the request.
    """
    return clean_result(response, restore(response.image, form))


def duration(seconds: float) -> Duration:
    """As a message; an item whose time is just over still has some, or the server would call it misspelt."""
    message = Duration()
    message.FromMicroseconds(max(1, round(seconds * 1e6)))
    return message


def stream_ended(target: str) -> ServerUnavailableError:
    """A stream that ended well, but with images unanswered."""
    return ServerUnavailableError(
        f"the server at {target} ended the stream before all answers", reason="STREAM_ENDED", target=target
    )
