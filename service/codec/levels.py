"""Which sample values are black and white: those that were stated, else the ends of the samples' type."""

import math

import numpy as np

from service.errors import InvalidSamples

_LEAST_SPAN, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def resolve(black_level: float | None, white_level: float | None, *, bits: int, field: str) -> tuple[float, float]:
    """(black, white) of samples of 8, 16 or 32 (float) bits; None is what was not stated.

    Raises:
        InvalidSamples: there is no range between them, or no finite one; ``field`` is the part of the request that
            states them.
    """
    black = 0.0 if black_level is None else black_level
    white = (1.0 if bits == 32 else float((1 << bits) - 1)) if white_level is None else white_level
    for name, level in (("black_level", black), ("white_level", white)):
        if not math.isfinite(level):
            raise InvalidSamples(f"{name} is {level}; it must be a finite number", field=f"{field}.{name}")
    # In single precision, which the network computes in: else the levels would be infinite, or one.
    if not _LEAST_SPAN <= white - black <= _MOST or max(abs(black), abs(white)) > _MOST:
        raise InvalidSamples(
            f"white_level {white} is not above black_level {black} by a finite amount; "
            "set it to the sample value that is white",
            field=f"{field}.white_level",
        )
    return black, white
