"""Knows which lanes hang: those whose batch is far overdue. What becomes of its images is decided elsewhere."""

from collections.abc import Mapping

import structlog

from service.lanes import Batch, Lane

_log = structlog.get_logger()


class Watchdog:
    """Looks at lanes now and then."""

    def __init__(self, *, stuck_factor: float, stuck_after_s: float) -> None:
        """A lane hangs when it takes ``stuck_factor`` times as long as expected, and at least ``stuck_after_s``."""
        self._stuck_factor = stuck_factor
        self._stuck_after_s = stuck_after_s
        self._stuck: set[Lane] = set()

    @property
    def stuck_count(self) -> int:
        return len(self._stuck)

    def look(self, running: Mapping[Lane, Batch], now_s: float) -> list[Batch]:
        """The batches of lanes that hang and did not when it last looked."""
        found = []
        for lane, batch in running.items():
            waited_s = now_s - batch.sent_at_s
            limit_s = max(self._stuck_after_s, self._stuck_factor * batch.expected_s)
            if lane not in self._stuck and waited_s > limit_s:
                self._stuck.add(lane)
                _log.error("a lane hangs", waited_s=round(waited_s, 3), expected_s=round(batch.expected_s, 3))
                found.append(batch)
        return found

    def note_back(self, lane: Lane) -> None:
        """A lane's batch has ended."""
        if lane in self._stuck:
            self._stuck.discard(lane)
            _log.warning("a lane that hung has come back")
