"""What it costs to turn samples into a unit and its answer into samples.

CPU time of one thread, the best of many rounds, for each size and depth; prints the table of ADR 13.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from service.pixels import Scale, read_unit, write_unit
from service.types import Samples

_CASES = (
    (28, 1, np.uint8),
    (64, 1, np.uint8),
    (64, 3, np.uint8),
    (256, 3, np.uint8),
    (256, 3, np.uint16),
    (256, 3, np.float32),
    (552, 3, np.uint8),
    (552, 3, np.uint16),
    (552, 3, np.float32),
)
_ROUNDS = 15
_ROUND_S = 0.01


def main() -> None:
    print("| unit | read us | write us | both us | ns a sample |")
    print("|---|---|---|---|---|")
    for side_px, channels, dtype in _CASES:
        read_us, write_us = _measure(side_px, channels, np.dtype(dtype))
        both_us = read_us + write_us
        per_sample_ns = 1e3 * both_us / (side_px * side_px * channels)
        print(
            f"| {side_px} x {side_px} x {channels} {np.dtype(dtype)} | {read_us:.1f} | {write_us:.1f} | {both_us:.1f} "
            f"| {per_sample_ns:.2f} |"
        )


def _measure(side_px: int, channels: int, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Microseconds to read and to write. A tenth of the answer lies beyond black and white, as noise makes it."""
    white = 1.0 if dtype == np.float32 else float(np.iinfo(dtype.name).max)
    rng = np.random.default_rng(0)
    tile: Samples = (rng.random((side_px, side_px, channels)) * white).astype(dtype)
    unit = np.empty((channels, side_px, side_px), np.float32)
    denoised = (rng.random(unit.shape) * 1.1 - 0.05).astype(np.float32)
    target = np.empty_like(tile)
    scale = Scale(0.0, white, clip=True)
    counted = (slice(0, side_px), slice(0, side_px))
    return (
        _best_us(lambda: read_unit(tile, unit, scale, counted=counted)),
        _best_us(
            lambda: write_unit(denoised, unit, target, top_px=0, left_px=0, strength=1.0, scale=scale, grey=False)
        ),
    )


def _best_us(function: Callable[[], object]) -> float:
    function()
    best_s = float("inf")
    for _ in range(_ROUNDS):
        count, start_s, spent_s = 0, time.thread_time(), 0.0
        while spent_s < _ROUND_S:
            function()
            count += 1
            spent_s = time.thread_time() - start_s
        best_s = min(best_s, spent_s / count)
    return best_s * 1e6


if __name__ == "__main__":
    main()
