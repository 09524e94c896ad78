"""When a failed try is worth another one, and how long to wait before it. Pure: it never sleeps itself."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from denoised.errors import (
    DenoisedError,
    InvalidOptionError,
    OverloadedError,
    SecureConnectionError,
    ServerUnavailableError,
    TemporaryError,
)

_SERVER_DELAY_SPREAD = 0.25


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Sent again are UNAVAILABLE, and RESOURCE_EXHAUSTED when the server says when to come back. Pauses double from
    ``first_pause_s`` to ``longest_pause_s``, are shortened at random by up to a half so that clients don't march
    in step, and are never shorter than what the server asks for. A pause that the deadline does not leave time
    for is not begun: the error is raised at once.

    All calls of a client share a budget, so that many that fail at once do not become many times as many: a retry
    that the server did not ask for costs 1, every image earns ``budget_share``. A lost stream costs 1, however many
    images it left unanswered.

    Attributes:
        try_count: the most tries, the first one included; 1 turns retries off.
        first_pause_s: pause after the first try.
        longest_pause_s: where the doubling ends.
        budget_share: retries that may be added to the traffic, as a share of it.
        budget_reserve: retries that are allowed before any were earned, and the most that can be saved.
    """

    try_count: int = 4
    first_pause_s: float = 0.25
    longest_pause_s: float = 4.0
    budget_share: float = 0.1
    budget_reserve: float = 20.0

    def __post_init__(self) -> None:
        if self.try_count < 1:
            raise ValueError(f"try_count is {self.try_count}; it must be 1 or more, 1 turns retries off")
        if not 0.0 <= self.first_pause_s <= self.longest_pause_s:
            raise ValueError(
                f"pauses are {self.first_pause_s} to {self.longest_pause_s} s; they must be ordered and not negative"
            )
        if self.budget_share < 0.0 or self.budget_reserve < 0.0:
            raise ValueError(
                f"the budget is a share of {self.budget_share} and a reserve of {self.budget_reserve}; "
                "they must be 0 or more, 0 and 0 leave what the server asks for"
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
        if isinstance(error, TemporaryError) and error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s * (1.0 + _SERVER_DELAY_SPREAD * draw()))
        return pause_s if pause_s < remaining_s else None


class RetryBudget:
    """What a client may still send again; see ``RetryPolicy``. Safe to share among threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._share = policy.budget_share
        self._most = policy.budget_reserve
        self._left = policy.budget_reserve
        self._lock = Lock()

    def earn(self) -> None:
        """An image, or another call, is sent for the first time."""
        with self._lock:
            self._left = min(self._most, self._left + self._share)

    def allows(self, error: DenoisedError) -> bool:
        """Whether there may be another try after the error; pays for it."""
        if isinstance(error, TemporaryError) and error.retry_after_s is not None:
            return True  # the server wants it, and has said when
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True


class Attempts:
    """The tries of one call under one deadline; the caller of it does the sending and the sleeping."""

    def __init__(
        self, policy: RetryPolicy, budget: RetryBudget, timeout_s: float, *, begun_s: float | None = None
    ) -> None:
        """``timeout_s`` runs from ``begun_s`` on the monotonic clock, or from now on.

        Raises:
            InvalidOptionError: it is not a positive number.
        """
        self._policy = policy
        self._budget = budget
        self._deadline_s = (time.monotonic() if begun_s is None else begun_s) + valid_timeout_s(timeout_s)
        self._tries_made = 0
        budget.earn()

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
        if pause_s is None or not self._budget.allows(error):
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
