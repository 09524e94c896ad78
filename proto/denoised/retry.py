"""When a failed try is worth another one, and how long to wait before it. Pure: it never sleeps itself."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from denoised.errors import (
    DenoisedError,
    InvalidOptionError,
    OverloadedError,
    SecureConnectionError,
    ServerUnavailableError,
)

_SERVER_DELAY_SPREAD = 0.25


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Sent again are UNAVAILABLE, and RESOURCE_EXHAUSTED when the server says when to come back. Pauses double from
    ``first_pause_s`` to ``longest_pause_s``, are shortened at random by up to a half so that clients don't march
    in step, and are never shorter than what the server asks for. A pause that the deadline does not leave time
    for is not begun: the error is raised at once.

    Attributes:
        try_count: the most tries, the first one included; 1 turns retries off.
        first_pause_s: pause after the first try.
        longest_pause_s: where the doubling ends.
    """

    try_count: int = 4
    first_pause_s: float = 0.25
    longest_pause_s: float = 4.0

    def __post_init__(self) -> None:
        if self.try_count < 1:
            raise ValueError(f"try_count is {self.try_count}; it must be 1 or more, 1 turns retries off")
        if not 0.0 <= self.first_pause_s <= self.longest_pause_s:
            raise ValueError(
                f"pauses are {self.first_pause_s} to {self.longest_pause_s} s; they must be ordered and not negative"
            )

    def pause_s(
        self, error: DenoisedError, *, tries_made: int, remaining_s: float, draw: Callable[[], float]
    ) -> float | None:
        """Seconds to wait before the next try, or None when there is to be none.

        Args:
            error: what the last try ended with.
            tries_made: tries so far, 1 or more.
            remaining_s: time left until the deadline.
            draw: gives numbers that are uniform in 0..1.
        """
        if tries_made >= self.try_count or not _is_worth_retrying(error):
            return None
        pause_s = min(self.longest_pause_s, self.first_pause_s * 2.0 ** (tries_made - 1)) * (1.0 - 0.5 * draw())
        if isinstance(error, OverloadedError | ServerUnavailableError) and error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s * (1.0 + _SERVER_DELAY_SPREAD * draw()))
        return pause_s if pause_s < remaining_s else None


class Attempts:
    """The tries of one call under one deadline; the caller of it does the sending and the sleeping."""

    def __init__(self, policy: RetryPolicy, timeout_s: float, *, begun_s: float | None = None) -> None:
        """``timeout_s`` runs from ``begun_s`` on the monotonic clock, or from now on.

        Raises:
            InvalidOptionError: it is not a positive number.
        """
        self._policy = policy
        self._deadline_s = (time.monotonic() if begun_s is None else begun_s) + valid_timeout_s(timeout_s)
        self._tries_made = 0

    @property
    def remaining_s(self) -> float:
        """What the deadline leaves for the next try; never below zero."""
        return max(0.0, self._deadline_s - time.monotonic())

    def pause_after(self, error: DenoisedError) -> float:
        """Seconds to wait before trying again.

        Raises:
            DenoisedError: ``error`` itself, when there is to be no other try.
        """
        self._tries_made += 1
        pause_s = self._policy.pause_s(
            error, tries_made=self._tries_made, remaining_s=self.remaining_s, draw=random.random
        )
        if pause_s is None:
            raise error
        return pause_s


def valid_timeout_s(timeout_s: float) -> float:
    """The timeout itself when it is one.

    Raises:
        InvalidOptionError: it is not a positive finite number.
    """
    if not 0.0 < timeout_s < float("inf"):
        raise InvalidOptionError(
            f"timeout_s is {timeout_s}; every call has a deadline, so it must be a positive number of seconds",
            reason="OPTION_INVALID",
            field="timeout_s",
        )
    return timeout_s


def _is_worth_retrying(error: DenoisedError) -> bool:
    if isinstance(error, OverloadedError):
        return error.retry_after_s is not None
    if isinstance(error, SecureConnectionError):
        return not error.is_certain
    return isinstance(error, ServerUnavailableError)
