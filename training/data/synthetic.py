"""Generated pictures: flat areas, ramps, boxes and lines, as screenshots and graphics have them.

Photographs hold no exactly constant area. A network that never saw one takes it for noise and answers with
faint ripples, strongest at the picture's border; a few generated crops in the training set prevent that.
"""

import numpy as np
from numpy.typing import NDArray

_MOST_SHAPES = 12


def draw_picture(rng: np.random.Generator, *, side_px: int, channels: int) -> NDArray[np.float32]:
    """One (side, side, channels) picture on the 8-bit grid, 0..1: flat or a ramp, with up to 12 boxes and lines."""
    picture = np.empty((side_px, side_px, channels), dtype=np.float32)
    picture[:] = _draw_colour(rng, channels)
    if rng.random() < 0.3:
        direction = rng.uniform(-1, 1, size=2)
        rows, columns = np.mgrid[0:side_px, 0:side_px] / side_px
        ramp = (direction[0] * rows + direction[1] * columns).astype(np.float32)
        picture += ramp[:, :, None] * (_draw_colour(rng, channels) - picture)
    for _ in range(int(rng.integers(_MOST_SHAPES + 1)) if rng.random() < 0.6 else 0):
        top, left = rng.integers(side_px, size=2)
        height_px, width_px = rng.integers(1, side_px // 2, size=2)
        if rng.random() < 0.4:
            # A line: text strokes and rules are one to three pixels wide.
            thickness_px = int(rng.integers(1, 4))
            height_px, width_px = (thickness_px, width_px) if rng.random() < 0.5 else (height_px, thickness_px)
        picture[top : top + height_px, left : left + width_px] = _draw_colour(rng, channels)
    rounded: NDArray[np.float32] = np.rint(np.clip(picture, 0.0, 1.0) * np.float32(255)) / np.float32(255)
    return rounded


def _draw_colour(rng: np.random.Generator, channels: int) -> NDArray[np.float32]:
    """Any colour; some are grey, some black or white, some have only full and empty channels."""
    kind = rng.random()
    if kind < 0.25:
        return np.full(channels, rng.random(), dtype=np.float32)
    if kind < 0.4:
        return np.full(channels, rng.integers(2), dtype=np.float32)
    if kind < 0.5:
        return rng.integers(2, size=channels).astype(np.float32)
    return rng.random(channels, dtype=np.float32)
