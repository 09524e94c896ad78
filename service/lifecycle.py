"""The states of the service and the legal ways between them, as a table."""

from enum import Enum
from typing import Final


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

    def enter(self, state: State) -> None:
        if (self._state, state) not in _TRANSITIONS:
            raise IllegalTransition(f"the service is {self._state.value}; it can't become {state.value}")
        self._state = state
