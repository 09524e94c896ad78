"""What ``Client`` and ``AsyncClient`` share: how a channel is set up, a request is built and an answer is read."""

import json
from typing import Any, Final, Literal, TypedDict

import grpc

from denoised._images import ArrayForm, ImageInput, Prepared, prepare, restore
from denoised.errors import InvalidOptionError
from denoised.results import CleanResult, clean_result
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub

DEFAULT_TARGET: Final = "localhost:50051"
DEFAULT_TIMEOUT_S: Final = 30.0

_LARGEST_MESSAGE_BYTES: Final = 64 * 2**20
_KEEPALIVE_PERIOD_MS: Final = 30_000
_KEEPALIVE_TIMEOUT_MS: Final = 10_000
_FIRST_RECONNECT_MS: Final = 200

_CONTAINERS: Final = {"png": pb.CONTAINER_PNG, "jpeg": pb.CONTAINER_JPEG}


class CleanOptions(TypedDict, total=False):
    """How to denoise; whatever is left out is the server's default.

    Attributes:
        model: name of the model.
        model_version: version of the model; left out, the newest one.
        strength: blend of input (0) and denoised image (1).
        output_container: file format of the answer to bytes and paths; left out, that of the input.
        jpeg_quality: 1..100, for answers in JPEG; left out, 95.
        black_level: the sample value that is black; 0 when white_level alone is given.
        white_level: the sample value that is white; when black_level alone is given, 255 for 8 bits, 65535 for 16
            and 1.0 for float32. A 12-bit camera's 16-bit samples want 4095. Both left out: those of the model, when
            it was trained on samples of the image's type, else as said.
    """

    model: str
    model_version: str
    strength: float | None
    output_container: Literal["png", "jpeg"] | None
    jpeg_quality: int | None
    black_level: float | None
    white_level: float | None


def channel_options(target: str) -> list[tuple[str, Any]]:
    """Options of a channel, for grpc and grpc.aio alike."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", _LARGEST_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_PERIOD_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # Below the first pause between tries: a retry that finds gRPC still waiting to reconnect fails unsent.
        ("grpc.initial_reconnect_backoff_ms", _FIRST_RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", _FIRST_RECONNECT_MS),
        # gRPC would share one connection among all clients of a process, and the server would see one client.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if target.startswith("dns:///"):
        options.append(("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})))
    return options


def service_stub(channel: grpc.Channel | grpc.aio.Channel) -> DenoiseServiceStub:
    """The generated stub, which serves both kinds of channel."""
    return DenoiseServiceStub(channel)  # type: ignore[no-untyped-call]  # generated without annotations


def build_request(
    image: ImageInput,
    *,
    model: str = "",
    model_version: str = "",
    strength: float | None = None,
    output_container: Literal["png", "jpeg"] | None = None,
    jpeg_quality: int | None = None,
    black_level: float | None = None,
    white_level: float | None = None,
) -> tuple[pb.DenoiseRequest, ArrayForm | None]:
    """The request for one image, and the form that its answer is restored to.

    Raises:
        InvalidRequestError: one of its kinds, when the server would have to refuse it anyway.
    """
    prepared = prepare(image, black_level=black_level, white_level=white_level)
    container = _container(output_container, prepared)
    try:
        options = pb.DenoiseOptions(
            model=model,
            model_version=model_version,
            strength=strength,
            output_container=container,
            jpeg_quality=jpeg_quality,
        )
    except (TypeError, ValueError) as error:
        # A value that no field can hold, such as a quality of 1e12; ranges are the server's to check.
        raise InvalidOptionError(
            f"an option can't be sent: {error}", reason="OPTION_INVALID", field="options"
        ) from error
    return pb.DenoiseRequest(image=prepared.message, options=options), prepared.form


def read_response(response: pb.DenoiseResponse, form: ArrayForm | None) -> CleanResult[Any]:
    """The answer with its image as the caller gave it.

    Raises:
        InternalError: the answer does not fit the request.
    """
    return clean_result(response, restore(response.image, form))


def _container(name: str | None, prepared: Prepared) -> pb.Container:
    if name is None:
        return pb.CONTAINER_UNSPECIFIED
    if prepared.form is not None:
        raise InvalidOptionError(
            f"output_container is {name!r}, but an array is answered with an array: leave it out, "
            "or pass the bytes of a file",
            reason="OPTION_INVALID",
            field="options.output_container",
        )
    if name not in _CONTAINERS:
        raise InvalidOptionError(
            f"output_container is {name!r}; one of: {', '.join(_CONTAINERS)}",
            reason="OPTION_INVALID",
            field="options.output_container",
        )
    return _CONTAINERS[name]
