"""Client of denoised, a production denoising service: noisy images in over gRPC, clean images out.

::

    from denoised import Client

    with Client("localhost:50051") as client:
        result = client.clean("noisy.png")

Public here: the two clients, what they return, and what they raise. Beside them ``denoised.noise``,
``denoised.quality`` and ``denoised.report`` for measuring and showing what was gained.
"""

from denoised._connection import Tls
from denoised._latents import LatentOptions, PictureOptions
from denoised._order import CleanOptions
from denoised.aio import AsyncClient
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
    InterpolateResult,
    Model,
    ModelReference,
    Timings,
)
from denoised.retry import RetryPolicy

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
    "FileUnreadableError",
    "GenerateResult",
    "ImageTooLargeError",
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
    "ServerUnavailableError",
    "TemporaryError",
    "Timings",
    "Tls",
    "UnsupportedImageError",
]
