"""How the command line reaches the server: the options that every command which needs one has, and what they make."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from denoised._calls import DEFAULT_TARGET
from denoised._connection import Tls
from denoised._order import LARGEST_MESSAGE_BYTES
from denoised.client import Client
from denoised.errors import InvalidOptionError
from denoised.retry import RetryPolicy

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Connection:
    """What the options say; nothing is connected yet.

    Attributes:
        target: ``host:port``, or ``dns:///host:port``.
        message_bytes: the longest message to send.
        tls: False is plain text.
        token: who is calling; None is nobody in particular.
    """

    target: str
    message_bytes: int = LARGEST_MESSAGE_BYTES
    tls: Tls | bool = False
    token: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the target alone says how to connect."""
        return not self.tls and self.token is None

    def client(self, retry: RetryPolicy | None = None) -> Client:
        """A blocking client; the caller closes it.

        Raises:
            UsageError: a file that an option names can't be read.
        """
        try:
            return Client(self.target, tls=self.tls, token=self.token, retry=retry, message_bytes=self.message_bytes)
        except InvalidOptionError as error:
            raise click.UsageError(str(error)) from error


_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS: Final = (
    click.option(
        "--server",
        default=DEFAULT_TARGET,
        envvar="DENOISED_SERVER",
        show_default=True,
        show_envvar=True,
        help="host:port, or dns:///host:port to spread images over all addresses of the name.",
    ),
    click.option("--tls", "wants_tls", is_flag=True, help="Connect by TLS; so does any of the next four."),
    click.option("--tls-ca", type=_FILE, help="PEM of the authorities to trust.  [default: those that gRPC knows]"),
    click.option("--tls-cert", type=_FILE, help="PEM of the certificate to show, together with --tls-key."),
    click.option("--tls-key", type=_FILE, help="PEM of its key."),
    click.option("--tls-server-name", help="Name in the server's certificate, where that is not the server's."),
    click.option("--token-file", type=_FILE, help="File with the token that says who is calling."),
    click.option(
        "--message-mib",
        type=click.FloatRange(min=0.5, max=LARGEST_MESSAGE_BYTES / _MIB),
        default=LARGEST_MESSAGE_BYTES / _MIB,
        show_default=True,
        help="The longest message to send, in MiB, such as 4 where a proxy takes no more; larger images go in chunks.",
    ),
)


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command, which is called with a ``connection`` in their place."""

    @functools.wraps(command)
    def connected(
        *,
        server: str,
        wants_tls: bool,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_server_name: str | None,
        token_file: Path | None,
        message_mib: float,
        **arguments: Any,
    ) -> None:
        try:
            tls = Tls(tls_ca, tls_cert, tls_key, tls_server_name)
            token = None if token_file is None else token_file.read_text(encoding="ascii").strip()
        except (InvalidOptionError, OSError, UnicodeDecodeError) as error:
            raise click.UsageError(str(error)) from error
        connection = Connection(
            target=server,
            message_bytes=round(message_mib * _MIB),
            tls=tls if wants_tls or tls != Tls() else False,
            token=token,
        )
        command(connection=connection, **arguments)

    for option in reversed(_OPTIONS):
        option(connected)
    return connected
