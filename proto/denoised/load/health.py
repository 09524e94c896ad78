"""Whether the generator itself kept up: how late it sent, how late its event loop ran, how busy its thread was."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Self

from denoised.load.histogram import Histogram

_TICK_S: Final = 0.02
_LAG_LIMIT_S: Final = 0.02
_BUSY_LIMIT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Health:
    """The generator during one stage.

    Attributes:
        send_lag: actual minus intended send times.
        loop_lag: how much later than asked for the event loop woke a task that slept.
        thread_share: CPU time of the event loop's thread over wall time; at 1 it can do no more.
        process_share: CPU time of the whole process over wall time.
    """

    send_lag: Histogram
    loop_lag: Histogram
    thread_share: float
    process_share: float

    def complaint(self, *, not_sent_count: int) -> str | None:
        """Why this stage says more about the generator than about the server; None when it doesn't."""
        reasons = []
        lag_s = self.send_lag.quantile_s(0.99) or 0.0
        if not_sent_count:
            reasons.append(f"{not_sent_count} images were not sent")
        if lag_s > _LAG_LIMIT_S:
            reasons.append(f"1 % of requests left more than {1000 * lag_s:.0f} ms late")
        if self.thread_share > _BUSY_LIMIT:
            reasons.append(f"its event loop was busy for {self.thread_share:.0%} of the time")
        return "; ".join(reasons) or None


class HealthMeter:
    """Watches the process that it runs in, as an asynchronous context manager around a stage."""

    def __init__(self) -> None:
        self.send_lag = Histogram()
        self._loop_lag = Histogram()

    async def __aenter__(self) -> Self:
        self._began = self._clocks()
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._ended = self._clocks()
        self._ticker.cancel()
        await asyncio.wait((self._ticker,))

    def health(self) -> Health:
        """What was seen between entering and leaving."""
        wall_s, thread_s, process_s = (end - began for began, end in zip(self._began, self._ended, strict=True))
        return Health(
            self.send_lag,
            self._loop_lag,
            thread_share=thread_s / wall_s if wall_s else 0.0,
            process_share=process_s / wall_s if wall_s else 0.0,
        )

    @staticmethod
    def _clocks() -> tuple[float, float, float]:
        return time.monotonic(), time.thread_time(), time.process_time()

    async def _tick(self) -> None:
        while True:
            due_s = time.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._loop_lag.record(time.monotonic() - due_s)
