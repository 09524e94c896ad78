"""Figures of the steps since the last line of the log: kept on the device, looked at together.

Looking makes the device and this process wait for each other; once a line is often enough, and a step that went wrong
is named all the same.
"""

import math
import time

import torch
from torch import Tensor

from training.errors import DivergedError
from training.run.distributed import Ranks
from training.run.feed import Feed


class Tally:
    """Adds up steps between two looks, and the time they took, over the whole run too."""

    def __init__(self, feed: Feed, ranks: Ranks, *, samples_per_step: int) -> None:
        self._feed = feed
        self._ranks = ranks
        self._samples_per_step = samples_per_step
        self._rows: list[Tensor] = []
        self._first_step = 0
        self._stepping_s = self._waited_s = 0.0
        self._step_count = 0
        self.begin()

    def begin(self) -> None:
        """Steps follow from here on; what lay before, a checkpoint perhaps, is not their time."""
        self._began_s, self._waited_before_s = time.perf_counter(), self._feed.waited_s

    def add(self, step: int, figures: Tensor) -> None:
        """Counts the figures of a step that is done."""
        if not self._rows:
            self._first_step = step
        self._rows.append(figures)

    def look(self, names: tuple[str, ...]) -> dict[str, float]:
        """Means over the steps and ranks since the last look, and how fast they went.

        Raises:
            DivergedError: a figure of a step is no finite number.
        """
        rows = self._ranks.mean(torch.stack(self._rows)).cpu()
        took_s = time.perf_counter() - self._began_s
        waited_s = self._feed.waited_s - self._waited_before_s
        for offset, row in enumerate(rows.tolist()):
            wrong = [f"{name} is {value}" for name, value in zip(names, row, strict=True) if not math.isfinite(value)]
            if wrong:
                raise DivergedError(
                    f"{', '.join(wrong)} at step {self._first_step + offset}; the last good checkpoint is kept. "
                    "Resuming would repeat this: begin a run with --start-from this one and a lower "
                    "optimiser.learning_rate or optimiser.gradient_clip_norm, or with optimiser.precision=fp32"
                )
        count = len(self._rows)
        self._rows.clear()
        self._stepping_s += took_s
        self._waited_s += waited_s
        self._step_count += count
        self.begin()
        return dict(zip(names, rows.mean(0).tolist(), strict=True)) | {
            "samples_per_s": count * self._samples_per_step / took_s,
            "data_wait_share": min(1.0, waited_s / took_s),
        }

    @property
    def samples_per_s(self) -> float | None:
        """Of all steps that were looked at; checkpoints and validation left out. None before the first look."""
        return self._step_count * self._samples_per_step / self._stepping_s if self._step_count else None

    @property
    def data_wait_share(self) -> float | None:
        """Share of that time in which the next batch was not there yet; on a GPU an upper bound.

        It may have been busy with earlier steps meanwhile.
        """
        return min(1.0, self._waited_s / self._stepping_s) if self._step_count else None
