"""How a command fails: one line on standard error, and an exit code that says what kind of failure it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from denoised.errors import DenoisedError, ServerUnavailableError


class Failed(click.ClickException):
    """Exit code 1: an image failed, or what the command was to find out is not as it should be."""

    exit_code = 1


class Unreachable(click.ClickException):
    """Exit code 3: no server answers."""

    exit_code = 3

    @classmethod
    def because(cls, error: ServerUnavailableError) -> "Unreachable":
        """With the remedy."""
        return cls(f"{error}; name another server with --server or DENOISED_SERVER")


@contextmanager
def failures_in_one_line() -> Iterator[None]:
    """Turns what the client raises into an exit.

    Raises:
        Unreachable: no server answers.
        Failed: anything else went wrong.
    """
    try:
        yield
    except ServerUnavailableError as error:
        raise Unreachable.because(error) from error
    except (DenoisedError, OSError) as error:
        raise Failed(str(error)) from error
