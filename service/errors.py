"""Everything that the service refuses or fails with, as types. No gRPC here: ``rpc`` maps them to status codes.

    ServiceError
      InvalidArgument         the request can never succeed; ``field`` says which part of it
        InvalidMessage          MESSAGE_INVALID
        InvalidImage            IMAGE_UNDECODABLE
        UnsupportedImage        IMAGE_UNSUPPORTED
        ImageTooLarge           IMAGE_TOO_LARGE
        InvalidSamples          SAMPLES_INVALID
        InvalidOption           OPTION_INVALID
        InvalidChunks           CHUNKS_INVALID
        InvalidLatent           LATENT_INVALID
          LatentOutOfDistribution LATENT_OUT_OF_DISTRIBUTION
      Unauthenticated         UNAUTHENTICATED: nobody who may call
      ModelUnknown            MODEL_UNKNOWN
      CapabilityMissing       CAPABILITY_MISSING: the model is there, but is made for something else
      Overloaded              worth sending again after ``retry_after_s``
        QueueFull               QUEUE_FULL
        MemoryBudgetExceeded    MEMORY_BUDGET
        DeadlineUnreachable     DEADLINE_UNREACHABLE
        QuotaExceeded           CLIENT_QUOTA: the caller's own limit, whatever the service has left
      DeadlineExceeded        DEADLINE_EXCEEDED
      Unavailable             NOT_READY while starting
        Draining                DRAINING: while stopping
        LaneStuck               ENGINE_STUCK: no lane answers any more
      ItemCancelled           CANCELLED
      ClientGone              CLIENT_GONE: nobody is there to be told
      ModelFailed             MODEL_FAILED, NONFINITE_OUTPUT
        NetworkHung             NETWORK_HUNG: the image's own batch did not come back

Messages name the value, the limit and the remedy. ``reason`` is stable: clients may switch on it, and the
refusal metric uses it as its label.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, Final

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class ServiceError(Exception):
    """Base of all.

    Attributes:
        reason: the stable UPPER_SNAKE name, of ErrorInfo and of the refusal metric.
        retry_after_s: when it is worth sending again; None when that would fail in the same way.
        metadata: what a program may want to know of the refusal, for ErrorInfo; keys are lowerCamelCase or one word.
    """

    reason: ClassVar[str] = "INTERNAL"
    retry_after_s: float | None = None
    metadata: Mapping[str, str] = _NOTHING


class InvalidArgument(ServiceError):
    """The request can never succeed as it is."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, field: str) -> None:
        """``field`` is the path of the offending field in the request, such as ``image.encoded.data``."""
        super().__init__(message)
        self.field = field


class InvalidMessage(InvalidArgument):
    """The bytes are no message of the API."""

    reason = "MESSAGE_INVALID"


class InvalidImage(InvalidArgument):
    """The bytes can't be decoded."""

    reason = "IMAGE_UNDECODABLE"


class UnsupportedImage(InvalidArgument):
    """The bytes are an image that is not served."""

    reason = "IMAGE_UNSUPPORTED"


class ImageTooLarge(InvalidArgument):
    """More pixels or bytes than the policy allows."""

    reason = "IMAGE_TOO_LARGE"


class InvalidSamples(InvalidArgument):
    """Raw samples of a wrong length, type or value."""

    reason = "SAMPLES_INVALID"


class InvalidOption(InvalidArgument):
    """An option out of its range."""

    reason = "OPTION_INVALID"


class InvalidChunks(InvalidArgument):
    """The chunks of an image that break the stream's rules.

    None without a header, no second header, as many bytes as the header announced, nothing after the last one.
    """

    reason = "CHUNKS_INVALID"


class Unauthenticated(ServiceError):
    """The call comes from nobody who may call."""

    reason = "UNAUTHENTICATED"


class InvalidLatent(InvalidArgument):
    """A latent code of a wrong length, or with numbers that are none."""

    reason = "LATENT_INVALID"


class LatentOutOfDistribution(InvalidLatent):
    """A latent code that is further from the model's prior than any image's should be."""

    reason = "LATENT_OUT_OF_DISTRIBUTION"

    def __init__(self, message: str, *, field: str, metadata: Mapping[str, str]) -> None:
        super().__init__(message, field=field)
        self.metadata = metadata


class ModelUnknown(ServiceError):
    """No such model or version is loaded."""

    reason = "MODEL_UNKNOWN"


class CapabilityMissing(ServiceError):
    """The model is loaded, but can't do what is asked of it."""

    reason = "CAPABILITY_MISSING"


class Overloaded(ServiceError):
    """Can't be taken now, but could be after ``retry_after_s``."""

    reason = "OVERLOADED"

    retry_after_s: float

    def __init__(self, message: str, *, retry_after_s: float, metadata: Mapping[str, str] = _NOTHING) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.metadata = metadata


class QueueFull(Overloaded):
    """The queue holds as much as it may; ``metadata["cap"]`` says of what: requests, bytes or pixels."""

    reason = "QUEUE_FULL"


class MemoryBudgetExceeded(Overloaded):
    """The images in flight hold as much memory as they may."""

    reason = "MEMORY_BUDGET"


class DeadlineUnreachable(Overloaded):
    """The work ahead of it takes longer than the request may wait."""

    reason = "DEADLINE_UNREACHABLE"


class QuotaExceeded(Overloaded):
    """The caller took more than it may; ``metadata["cap"]`` says of what: requests, pixels, bytes or concurrency."""

    reason = "CLIENT_QUOTA"


class DeadlineExceeded(ServiceError):
    """The deadline passed before the answer was ready."""

    reason = "DEADLINE_EXCEEDED"


class Unavailable(ServiceError):
    """The service takes no requests now; another replica may."""

    reason = "NOT_READY"
    retry_after_s = 1.0


class Draining(Unavailable):
    """The service is stopping."""

    reason = "DRAINING"


class LaneStuck(Unavailable):
    """No lane is left that could take the image; another replica has some."""

    reason = "ENGINE_STUCK"


class ItemCancelled(ServiceError):
    """The client took the item back."""

    reason = "CANCELLED"


class ClientGone(ServiceError):
    """The client went away before its answers were written."""

    reason = "CLIENT_GONE"


class ModelFailed(ServiceError):
    """The network failed on this image."""

    reason = "MODEL_FAILED"


class NetworkHung(ModelFailed):
    """The batch that the image was in did not come back.

    No other replica is asked: the image may be the cause, and would stop one lane after the other.
    """

    reason = "NETWORK_HUNG"


class NonFiniteOutput(ModelFailed):
    """The network answered NaN or infinity for this image."""

    reason = "NONFINITE_OUTPUT"


def all_reasons() -> tuple[str, ...]:
    """Every reason that a client can see, sorted."""
    return tuple(
        sorted({error.reason for error in _family(ServiceError)} - {Overloaded.reason, InvalidArgument.reason})
    )


def error_of(reason: str) -> type[ServiceError]:
    """The error with this reason; StopIteration when there is none."""
    return next(error for error in _family(ServiceError) if error.reason == reason)


def _family(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield error
    for child in error.__subclasses__():
        yield from _family(child)
