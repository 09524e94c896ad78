"""How far a run is: one line that is redrawn on a terminal, and a line now and then where there is none."""

import shutil
import time
from collections.abc import Callable
from typing import Final, TextIO

_REDRAW_PERIOD_S: Final = 0.1
_PLAIN_PERIOD_S: Final = 10.0
_WIPE_LINE: Final = "\r\x1b[K"


class Progress:
    """Counts what is settled, and says so: how many, how fast, how long still, how many failed, and what was last."""

    def __init__(self, total_count: int, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``stream`` is where it is shown; it is asked whether it is a terminal."""
        self._total_count = total_count
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._begun_s = clock()
        self._shown_s = self._begun_s
        self._settled_count = 0
        self._failed_count = 0
        self._last_name = ""
        self._is_drawn = False

    def settled(self, name: str, *, is_failed: bool) -> None:
        """One more image is done or has failed."""
        self._settled_count += 1
        self._failed_count += is_failed
        self._last_name = name
        self._show(self._line)

    def under_way(self, name: str, done_share: float) -> None:
        """How much of a lone image is done."""
        self._show(lambda: f"{name}: {done_share:.0%}")

    def say(self, line: str) -> None:
        """A line that stays, above the one that is redrawn."""
        self._wipe()
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leaves nothing of the redrawn line."""
        self._wipe()
        self._stream.flush()

    def _show(self, line: Callable[[], str]) -> None:
        now_s = self._clock()
        if now_s - self._shown_s < (_REDRAW_PERIOD_S if self._is_terminal else _PLAIN_PERIOD_S):
            return
        self._shown_s = now_s
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"{_WIPE_LINE}{line()[:width]}")
            self._is_drawn = True
        else:
            self._stream.write(f"{line()}\n")
        self._stream.flush()

    def _line(self) -> str:
        per_s = self._settled_count / max(self._clock() - self._begun_s, 1e-9)
        left_s = round((self._total_count - self._settled_count) / per_s)
        failed = f"  {self._failed_count} failed" if self._failed_count else ""
        return (
            f"{self._settled_count}/{self._total_count}  {self._settled_count / self._total_count:.0%}  "
            f"{per_s:.3g} images/s  {_duration(left_s)} left{failed}  {self._last_name}"
        )

    def _wipe(self) -> None:
        if self._is_drawn:
            self._stream.write(_WIPE_LINE)
            self._is_drawn = False


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
