"""SIGTERM and SIGINT as a wish that the loop reads between two steps, never as an end in the middle of one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the process was asked to end, and by which signal; 0 for none."""

    def __init__(self) -> None:
        self.signal_number = 0

    def handle(self, signal_number: int, _frame: FrameType | None) -> None:
        """Notes the wish; a second one, from someone who will not wait, ends the process at once."""
        if self.signal_number:
            raise KeyboardInterrupt
        self.signal_number = signal_number


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Handlers for the length of the block; the earlier ones are back after it.

    Outside the main thread no handler can be set; the wish stays unset then.
    """
    interrupt = Interrupt()
    earlier = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            earlier[number] = signal.signal(number, interrupt.handle)
    except ValueError:
        pass
    try:
        yield interrupt
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
