"""When a call must be answered: what its client allows, within the bounds of the service. Speaks gRPC."""

import math
from collections.abc import Callable
from typing import cast

from service.clients import Context


class Deadlines:
    """Deadlines of calls, on the clock."""

    def __init__(self, *, default_timeout_s: float, longest_timeout_s: float, clock: Callable[[], float]) -> None:
        self._default_timeout_s = default_timeout_s
        self._longest_timeout_s = longest_timeout_s
        self._clock = clock

    def of(self, context: Context) -> float:
        """Of a call with one answer."""
        remaining_s = _remaining_s(context)
        if remaining_s is None:
            return self._clock() + self._default_timeout_s
        return self._clock() + min(remaining_s, self._longest_timeout_s)

    def of_stream(self, context: Context) -> float:
        """Of a stream; infinite when its client names none."""
        remaining_s = _remaining_s(context)
        return math.inf if remaining_s is None else self._clock() + remaining_s


def _remaining_s(context: Context) -> float | None:
    """Time until the call's deadline, None when it has none; the type stubs forget the latter."""
    return cast("float | None", context.time_remaining())
