"""Where units run, how many at once, and whether a lane is worth waking for them. Pure: state in, decisions out.

Everything is predicted seconds of one lane's time.
"""

import math
from collections.abc import Iterable
from typing import Final

# The event loop may stand still for so long.
ON_LOOP_S: Final = 0.001
# Waking a second thread costs more CPU than this much work is worth while another lane is about to be free.
_WAKE_S: Final = 0.0005
# A lone unit shorter than this gains nothing from more threads.
_LEAST_WIDE_S: Final = 0.004


def is_for_loop(expected_s: float, *, queued_s: float, running_count: int) -> bool:
    """Whether a batch is so little work that handing it to a thread and back would cost more than to run it here.

    Each of a lane's dozen calls into NumPy gives the interpreter away and waits to get it back from the loop, which
    costs more than a small image. Engine lane 0 is free then, because no lane runs.

    Args:
        queued_s: of what waits behind it, which the event loop would keep waiting.
        running_count: lanes at work.
    """
    return not running_count and queued_s + expected_s <= ON_LOOP_S


def is_for_all_cores(
    expected_s: float, *, unit_count: int, live_count: int, queued_count: int, idle_count: int, lane_count: int
) -> bool:
    """Whether a batch is a unit that is alone in the service, found it idle, and gains from more threads.

    Args:
        live_count: images in the batcher, the unit's own among them.
        queued_count: tickets that wait.
    """
    return (
        unit_count == 1
        and live_count == 1
        and idle_count == lane_count > 1
        and not queued_count
        and expected_s >= _LEAST_WIDE_S
    )


def is_lane_soon_free(now_s: float, *, queued_s: float, due_s: Iterable[float]) -> bool:
    """Whether what is queued is so little, and a lane free so soon, that waking another is a waste.

    A lane that is overdue by as much may be so for long: nobody waits for it.

    Args:
        due_s: when each batch that runs should end.
    """
    return queued_s < _WAKE_S and any(abs(due - now_s) < _WAKE_S for due in due_s)


def batch_pixel_limit(most_pixels: int, *, queued_s: float, queued_pixels: int, idle_count: int) -> int:
    """Pixels of the next batch: so that all idle lanes get some, unless that is not worth their waking."""
    if queued_s < _WAKE_S * idle_count:
        return most_pixels
    return min(most_pixels, -(-queued_pixels // idle_count))


def fitting_pack_count(unit_count: int, *, most: int, lane_count: int, unit_s: float) -> int:
    """How many of so many small units should be queued as one: enough for each lane, unless that is too little.

    Args:
        most: units that fit a batch.
        unit_s: of one unit.
    """
    even = -(-unit_count // lane_count)
    return min(most, max(even, math.ceil(_WAKE_S / unit_s)))
