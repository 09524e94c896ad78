"""How the command line reaches the server: the options that every command which needs one has, and what they make."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from denoised._calls import DEFAULT_TARGET
from denoised.client import Client


@dataclass(frozen=True, slots=True)
class Connection:
    """What the options say; nothing is connected yet.

    Attributes:
        target: ``host:port``, or ``dns:///host:port``.
    """

    target: str

    def client(self) -> Client:
        """A blocking client; the caller closes it."""
        return Client(self.target)


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command, which is called with a ``connection`` in their place."""

    @functools.wraps(command)
    def connected(*, server: str, **arguments: Any) -> None:
        command(connection=Connection(server), **arguments)

    return click.option(
        "--server",
        default=DEFAULT_TARGET,
        envvar="DENOISED_SERVER",
        show_default=True,
        show_envvar=True,
        help="host:port, or dns:///host:port to spread images over all addresses of the name.",
    )(connected)
