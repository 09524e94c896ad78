"""Codes drawn from the standard normal: each a pure function of its seed and number, and of nothing else.

So image 3 of a seed is the same however many are asked for, in whatever batch, on whatever replica.
"""

import numpy as np

from denoised.noise import keyed_rng
from service.types import Codes

MOST_SEED = 2**63 - 1
MOST_TEMPERATURE = 2.0


def draw(seed: int, index: int, *, length: int, temperature: float) -> Codes:
    """(length,) numbers with this standard deviation.

    Args:
        seed: 0 or more, at most ``MOST_SEED``.
        index: number of the image, from 0.
        length: of the code.
        temperature: 0 gives the prior's middle.
    """
    drawn = keyed_rng(seed, index).standard_normal(length)
    return (drawn * temperature).astype(np.float32)
