"""Codes on the way from one to another. Pure NumPy.

Between draws from a standard normal the way is an arc (Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH
1985; White, "Sampling Generative Networks", arXiv 1609.04468): in d dimensions nearly all draws are about sqrt(d) from
the middle, and a straight line leaves that shell. Codes of other models have no such shell: between them the way is
straight.
"""

import math
from typing import Final

import numpy as np

from service.types import Codes

# Below this sine two codes point the same way, or opposite ones: an arc between them is a line, or not determined.
_LEAST_SINE: Final = 1e-6


def point(start: Codes, stop: Codes, share: float, *, spherical: bool) -> Codes:
    """The code at a share of the way, 0..1; 0 and 1 give the ends themselves, bit for bit.

    Args:
        start, stop: (d,) finite.
        share: of the way, by angle or by length.
        spherical: an arc about the origin, on which the length goes evenly from one end's to the other's.
    """
    first, last = start.astype(np.float64), stop.astype(np.float64)
    lengths = math.sqrt(first @ first), math.sqrt(last @ last)
    if share in {0.0, 1.0}:
        return (last if share else first).astype(np.float32)
    if not spherical or min(lengths) == 0.0:
        return ((1.0 - share) * first + share * last).astype(np.float32)
    cosine = float(np.clip((first / lengths[0]) @ (last / lengths[1]), -1.0, 1.0))
    angle = math.acos(cosine)
    if math.sin(angle) < _LEAST_SINE:
        return ((1.0 - share) * first + share * last).astype(np.float32)
    arc = math.sin((1.0 - share) * angle) * (first / lengths[0]) + math.sin(share * angle) * (last / lengths[1])
    length = (1.0 - share) * lengths[0] + share * lengths[1]
    return (arc / math.sin(angle) * length).astype(np.float32)
