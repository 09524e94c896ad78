"""Times every unit shape on the lanes as they are configured.

What is measured is what happens under load: all lanes run the same batch at once, because lanes share memory
bandwidth, caches and the clock of the chip. The wide lane is timed alone, because it only runs alone.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Final

import numpy as np

from service.engine import WIDE_LANE, EngineOptions, OnnxEngine
from service.profile.file import ModelProfile, Profile, ShapeProfile
from service.profile.fit import best_count, fit_cost
from service.registry import Model
from service.types import Units

# Enough for a line and a doubt.
_COUNTS_AT_LEAST: Final = 3


def profile_models(
    models: Sequence[Model],
    options: EngineOptions,
    *,
    repeat_count: int,
    on_progress: Callable[[str, int, int], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Profile:
    """Measures every shape of every model.

    Args:
        models: loaded and warm.
        options: those that the models were loaded with.
        repeat_count: runs of each batch on each lane, at least 1; the median counts.
        on_progress: called before each shape with what comes, how many shapes are done, and how many there are.
        clock: monotonic seconds, callable from any thread.
    """
    total = sum(len(list(model.engine.unit_shapes())) for model in models)
    done = 0
    profiles = []
    with ThreadPoolExecutor(options.lane_count, thread_name_prefix="lane") as lanes:
        timer = _Timer(lanes, options.lane_count, repeat_count, clock)
        for model in models:
            shapes, ratios = [], [1.0]
            for height_px, width_px in model.engine.unit_shapes():
                on_progress(f"{'/'.join(model.key)} {height_px} x {width_px}", done, total)
                shapes.append(_shape(model, options, timer, height_px, width_px, ratios))
                done += 1
            profiles.append(
                ModelProfile(
                    name=model.contract.name,
                    version=model.contract.version,
                    digest=model.digest,
                    gmac_per_megapixel=model.contract.gmac_per_megapixel,
                    spread=max(1.0, float(np.quantile(ratios, 0.95))),
                    shapes=shapes,
                )
            )
    return Profile.of(options, profiles)


def batch_counts(limit: int) -> list[int]:
    """1, 2, 4 and so on below the limit, and the limit itself."""
    return [*(1 << power for power in range((limit - 1).bit_length())), limit]


class _Timer:
    """Runs a batch on all lanes at once and alone on the wide one."""

    def __init__(
        self, lanes: ThreadPoolExecutor, lane_count: int, repeat_count: int, clock: Callable[[], float]
    ) -> None:
        self._lanes = lanes
        self._lane_count = lane_count
        self._repeat_count = repeat_count
        self._clock = clock

    def busy_s(self, engine: OnnxEngine, units: Units) -> list[float]:
        """Seconds of every run, of all lanes."""
        together = Barrier(self._lane_count)

        def on(lane: int) -> list[float]:
            together.wait()
            return self._runs_s(engine, units, lane)

        return [seconds for runs in self._lanes.map(on, range(self._lane_count)) for seconds in runs]

    def wide_s(self, engine: OnnxEngine, units: Units) -> list[float]:
        return self._runs_s(engine, units, WIDE_LANE)

    def _runs_s(self, engine: OnnxEngine, units: Units, lane: int) -> list[float]:
        engine.run(units, lane=lane)
        seconds = []
        for _ in range(self._repeat_count):
            start_s = self._clock()
            engine.run(units, lane=lane)
            seconds.append(self._clock() - start_s)
        return seconds


def _shape(
    model: Model, options: EngineOptions, timer: _Timer, height_px: int, width_px: int, ratios: list[float]
) -> ShapeProfile:
    """One shape, up to the batch that brings nothing more; adds to ``ratios`` how runs compared with their median."""
    counts = batch_counts(options.unit_count(height_px, width_px))
    units = np.random.default_rng(0).random((counts[-1], model.contract.channels, height_px, width_px), np.float32)
    seconds_by_count: dict[int, float] = {}
    for count in counts:
        if len(seconds_by_count) >= _COUNTS_AT_LEAST and best_count(seconds_by_count) != max(seconds_by_count):
            break
        runs_s = timer.busy_s(model.engine, units[:count])
        seconds_by_count[count] = statistics.median(runs_s)
        ratios += [seconds / seconds_by_count[count] for seconds in runs_s]
    cost = fit_cost(seconds_by_count)
    return ShapeProfile(
        height_px=height_px,
        width_px=width_px,
        seconds_by_count=seconds_by_count,
        per_unit_s=cost.per_unit_s,
        fixed_s=cost.fixed_s,
        wide_s=statistics.median(timer.wide_s(model.engine, units[:1])),
    )
