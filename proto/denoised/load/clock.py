"""The time that a run keeps; another clock can stand in for it."""

import asyncio
import time
from typing import Protocol

# A pause is slept in pieces, so that an interrupted run ends soon at the slowest rate, too.
_LONGEST_SLEEP_S = 0.1


class Clock(Protocol):
    """Seconds from any zero, never backwards."""

    def now_s(self) -> float: ...

    async def rest(self, until_s: float) -> None:
        """Lets other tasks run and returns at ``until_s`` or before; whoever needs the whole pause asks again."""


class WallClock:
    """The real one."""

    def now_s(self) -> float:
        return time.monotonic()

    async def rest(self, until_s: float) -> None:
        await asyncio.sleep(min(_LONGEST_SLEEP_S, max(0.0, until_s - time.monotonic())))
