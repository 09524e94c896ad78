"""The states of the service, the legal ways between them as a table, and what is still to be answered."""

import asyncio
from enum import Enum
from typing import Final

from service.errors import Draining, Unavailable


class State(Enum):
    """Where the service is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


_TRANSITIONS: Final = frozenset(
    {
        (State.STARTING, State.SERVING),
        (State.STARTING, State.STOPPED),
        (State.SERVING, State.DRAINING),
        (State.DRAINING, State.STOPPED),
    }
)


class IllegalTransition(Exception):
    """The service can't go there from where it is."""


class Lifecycle:
    """The present state. An illegal transition raises and changes nothing."""

    def __init__(self) -> None:
        self._state = State.STARTING

    @property
    def state(self) -> State:
        return self._state

    def require_serving(self) -> None:
        """Raises Unavailable or Draining unless requests are taken."""
        if self._state is State.STARTING:
            raise Unavailable("the service is starting; send again shortly")
        if self._state is not State.SERVING:
            raise Draining("the service is stopping; send again, another replica will take it")

    def enter(self, state: State) -> None:
        if (self._state, state) not in _TRANSITIONS:
            raise IllegalTransition(f"the service is {self._state.value}; it can't become {state.value}")
        self._state = state


class InFlight:
    """Requests that were taken and are not answered yet."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        """One more."""
        self._count += 1
        if self._count == 1:
            self._idle.clear()

    def leave(self) -> None:
        """One less; each :meth:`enter` has one."""
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """True once all are answered, False when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
