"""What can go wrong for a caller, as one tree of exceptions.

    DenoisedError                 ``reason``: stable upper-case name, safe to switch on
      InvalidRequestError         can never succeed as it is; ``field`` is the part of the request at fault
        InvalidImageError           IMAGE_UNDECODABLE, SAMPLES_INVALID
          FileUnreadableError         FILE_UNREADABLE: found here, nothing was sent
        UnsupportedImageError       IMAGE_UNSUPPORTED
        ImageTooLargeError          IMAGE_TOO_LARGE, RESOURCE_EXHAUSTED from the transport's message limit
        InvalidOptionError          OPTION_INVALID
        InvalidLatentError          LATENT_INVALID, LATENT_OUT_OF_DISTRIBUTION
        ModelUnknownError           MODEL_UNKNOWN
      TemporaryError              worth sending again; ``retry_after_s`` is the server's advice, or None
        OverloadedError             QUEUE_FULL, MEMORY_BUDGET, DEADLINE_UNREACHABLE, CLIENT_QUOTA
        ServerUnavailableError      NOT_READY, DRAINING, ENGINE_STUCK, UNAVAILABLE when nothing answers; ``target``
          SecureConnectionError       TLS_NAME_WRONG, TLS_CERTIFICATE_EXPIRED, TLS_CERTIFICATE_UNTRUSTED and
                                      TLS_NOT_SPOKEN, which are not tried again; TLS_EXPECTED, which is a guess
      AccessDeniedError           UNAUTHENTICATED: the token or certificate is missing, unknown or revoked
      DeadlineExceededError       DEADLINE_EXCEEDED
      RequestCancelledError       CANCELLED
      NotSupportedError           CAPABILITY_MISSING: the model is loaded, but is made for something else;
                                  UNIMPLEMENTED: an older server that lacks the method
      InternalError               MODEL_FAILED, NONFINITE_OUTPUT, NETWORK_HUNG, and whatever has no other place

The client sends temporary errors again by itself (see ``RetryPolicy``); what it raises is the last one. Which
answer of a server becomes which exception is decided in ``_failures``.
"""


class DenoisedError(Exception):
    """Base of all. ``str(error)`` is one line for people; ``reason`` is for programs."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class InvalidRequestError(DenoisedError):
    """The request can never succeed as it is."""

    def __init__(self, message: str, *, reason: str, field: str = "") -> None:
        """``field`` is the path of the offending field, such as ``image.encoded.data``; empty when not known."""
        super().__init__(message, reason=reason)
        self.field = field


class InvalidImageError(InvalidRequestError):
    """The bytes can't be decoded, or the samples have a wrong length, type or value."""


class FileUnreadableError(InvalidImageError):
    """The file at the path can't be read; the cause is the ``OSError``."""


class UnsupportedImageError(InvalidRequestError):
    """It is an image, but of a kind that is not served."""


class ImageTooLargeError(InvalidRequestError):
    """More pixels or bytes than the server or the transport takes."""


class InvalidOptionError(InvalidRequestError):
    """An option is out of its range or does not fit the image."""


class InvalidLatentError(InvalidRequestError):
    """A latent code of a wrong length, with numbers that are none, or too far from what the model makes of images."""


class ModelUnknownError(InvalidRequestError):
    """No such model or version is loaded; ``Client.models`` lists those that are."""


class TemporaryError(DenoisedError):
    """Not now, perhaps soon."""

    def __init__(self, message: str, *, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class OverloadedError(TemporaryError):
    """The server has more work than it may take."""


class ServerUnavailableError(TemporaryError):
    """No server answers at the target, or it takes no requests now."""

    def __init__(self, message: str, *, reason: str, target: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, reason=reason, retry_after_s=retry_after_s)
        self.target = target


class SecureConnectionError(ServerUnavailableError):
    """Something answers at the target, but no connection comes about; the message says what to change.

    Attributes:
        is_certain: False where gRPC says no more than that the connection was closed as it was made, which a server
            does that wants TLS, or another certificate, and which one that stops may do as well.
    """

    def __init__(self, message: str, *, reason: str, target: str, is_certain: bool) -> None:
        super().__init__(message, reason=reason, target=target)
        self.is_certain = is_certain


class AccessDeniedError(DenoisedError):
    """The server lets nobody in without a token or certificate that it knows."""


class DeadlineExceededError(DenoisedError):
    """The time that the caller allowed was over before the answer came."""


class RequestCancelledError(DenoisedError):
    """The call was cancelled by the caller or on its way."""


class NotSupportedError(DenoisedError):
    """This server, or the model that was named, does not do it."""


class InternalError(DenoisedError):
    """The server failed; sending the same again will most likely fail again."""
