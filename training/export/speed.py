"""How much faster one file is than another on this machine: one paired run, so that both meet the same disturbances.

Times are those of the one thread that computes, without what it waits for other programs.
"""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from denoised.contract import INPUT_NAME
from denoised.noise import keyed_rng
from training.export import onnx_file

_SHAPES_PX: Final = ((64, 64), (256, 256), (512, 512))
_LEAST_REPEATS: Final = 15
_LEAST_TIME_S: Final = 1.5
_SPEED_KEY: Final = 2**33 + 5


class SpeedUp(NamedTuple):
    """Time of the first file over time of the second, for one picture on one thread.

    Attributes:
        height_px, width_px: of the picture.
        ratio: median over the repeats; above 1 the second file is faster.
        low, high: quartiles.
        first_ms, second_ms: medians.
        repeat_count: pairs of runs.
    """

    height_px: int
    width_px: int
    ratio: float
    low: float
    high: float
    first_ms: float
    second_ms: float
    repeat_count: int


def speed_up(first: bytes, second: bytes, *, channels: int, multiple_px: int) -> Sequence[SpeedUp]:
    """Runs both files in turn, on pictures of several sizes.

    Args:
        first, second: model files with the same inputs.
        channels, multiple_px: of the pictures that they take.
    """
    sessions = [onnx_file.session(model_bytes, thread_count=1) for model_bytes in (first, second)]
    found = []
    for shape_px in _SHAPES_PX:
        height_px, width_px = (-(-side_px // multiple_px) * multiple_px for side_px in shape_px)
        picture = keyed_rng(_SPEED_KEY).random((1, channels, height_px, width_px), dtype=np.float32)
        feed = {INPUT_NAME: picture}
        for session in sessions:
            session.run(None, feed)
        times_s: list[list[float]] = []
        started_s = time.thread_time()
        while len(times_s) < _LEAST_REPEATS or time.thread_time() - started_s < _LEAST_TIME_S:
            pair_s = []
            for session in sessions:
                before_s = time.thread_time()
                session.run(None, feed)
                pair_s.append(time.thread_time() - before_s)
            times_s.append(pair_s)
        pairs = np.array(times_s)
        low, ratio, high = np.quantile(pairs[:, 0] / pairs[:, 1], (0.25, 0.5, 0.75))
        first_ms, second_ms = np.median(pairs, axis=0) * 1e3
        found.append(
            SpeedUp(
                height_px=height_px,
                width_px=width_px,
                ratio=float(ratio),
                low=float(low),
                high=float(high),
                first_ms=float(first_ms),
                second_ms=float(second_ms),
                repeat_count=len(times_s),
            )
        )
    return found
