"""How a client is connected: plain or by TLS, with a token or without. The same for grpc and grpc.aio."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc

from denoised.errors import InvalidOptionError

_METADATA_KEY: Final = "authorization"


@dataclass(frozen=True, slots=True)
class Tls:
    """What a client trusts, and what it shows.

    Attributes:
        ca: PEM file of the authorities that the server's certificate may come from; None for those that gRPC knows.
        certificate, key: PEM files of what the client shows to a server that asks for it; both or neither.
        server_name: name that the server's certificate must have, where that is not the target's.

    Raises:
        InvalidOptionError: only one of certificate and key.
    """

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidOptionError(
                "a client shows a certificate together with its key; name both, or neither",
                reason="OPTION_INVALID",
                field="tls.certificate",
            )

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            InvalidOptionError: one of them can't be read.
        """
        return grpc.ssl_channel_credentials(
            _read(self.ca, "tls.ca"), _read(self.key, "tls.key"), _read(self.certificate, "tls.certificate")
        )

    def options(self) -> list[tuple[str, Any]]:
        """Of the channel."""
        return [] if self.server_name is None else [("grpc.ssl_target_name_override", self.server_name)]


def credentials_of(
    credentials: grpc.ChannelCredentials | None, *, tls: Tls | bool
) -> tuple[grpc.ChannelCredentials | None, list[tuple[str, Any]]]:
    """A channel's credentials, None for plain text, and the options that go with them.

    Raises:
        InvalidOptionError: both were given, or a file can't be read.
    """
    if not tls:
        return credentials, []
    if credentials is not None:
        raise InvalidOptionError(
            "tls and credentials both say how to connect; give one of them", reason="OPTION_INVALID", field="tls"
        )
    tls = Tls() if tls is True else tls
    return tls.credentials(), tls.options()


class TokenChannel:
    """A channel whose calls carry a token. What stubs use of a channel, and nothing else."""

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel, token: str) -> None:
        """
        Raises:
            InvalidOptionError: the token has characters that no metadata can hold. It is not in the message.
        """
        if not (token.isascii() and token.isprintable() and token.strip() == token and token):
            raise InvalidOptionError(
                "the token is empty, or has spaces around it or characters that are not printable ASCII",
                reason="OPTION_INVALID",
                field="token",
            )
        self._channel = channel
        self._metadata = ((_METADATA_KEY, f"Bearer {token}"),)

    def __getattr__(self, kind: str) -> Callable[..., Callable[..., Any]]:
        """``unary_unary`` and its three kin."""
        make = getattr(self._channel, kind)
        return lambda *args, **kwargs: partial(make(*args, **kwargs), metadata=self._metadata)


def _read(path: str | os.PathLike[str] | None, field: str) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123 -- pathlib would be a tenth of what importing the client costs
            return file.read()
    except OSError as error:
        raise InvalidOptionError(
            f"{path} can't be read: {error.strerror or error}", reason="FILE_UNREADABLE", field=field
        ) from error
