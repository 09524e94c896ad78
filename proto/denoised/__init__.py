"""Client of denoised, a production denoising service: noisy images in over gRPC, clean images out.

::

    from denoised import Client

    with Client("localhost:50051") as client:
        result = client.clean("noisy.png")

Public here: the two clients, what they return, and what they raise. Beside them ``denoised.noise``,
``denoised.quality`` and ``denoised.report`` for measuring and showing what was gained.
"""

from typing import TYPE_CHECKING, Any

from denoised._connection import Tls
from denoised._energy_messages import EnergyReport, Statistic, SureEstimate
from denoised._latents import LatentOptions, PictureOptions
from denoised._order import CleanOptions, InspectOptions
from denoised.client import Client
from denoised.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    DenoisedError,
    FileUnreadableError,
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
from denoised.results import (
    CleanResult,
    DecodeResult,
    EncodeResult,
    GenerateResult,
    InspectResult,
    InterpolateResult,
    Model,
    ModelReference,
    Server,
    Timings,
)
from denoised.retry import RetryPolicy

if TYPE_CHECKING:
    from denoised.aio import AsyncClient

__all__ = [
    "AccessDeniedError",
    "AsyncClient",
    "CleanOptions",
    "CleanResult",
    "Client",
    "DeadlineExceededError",
    "DecodeResult",
    "DenoisedError",
    "EncodeResult",
    "EnergyReport",
    "FileUnreadableError",
    "GenerateResult",
    "ImageTooLargeError",
    "InspectOptions",
    "InspectResult",
    "InternalError",
    "InterpolateResult",
    "InvalidImageError",
    "InvalidLatentError",
    "InvalidOptionError",
    "InvalidRequestError",
    "LatentOptions",
    "Model",
    "ModelReference",
    "ModelUnknownError",
    "NotSupportedError",
    "OverloadedError",
    "PictureOptions",
    "RequestCancelledError",
    "RetryPolicy",
    "SecureConnectionError",
    "Server",
    "ServerUnavailableError",
    "Statistic",
    "SureEstimate",
    "TemporaryError",
    "Timings",
    "Tls",
    "UnsupportedImageError",
]


def __getattr__(name: str) -> Any:
    """Most programs use one of the two clients, and the blocking one is what they use."""
    if name != "AsyncClient":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from denoised.aio import AsyncClient

    return AsyncClient
