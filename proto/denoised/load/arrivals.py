"""When requests are due, in seconds from the start of a stage. Pure: decided before the first one is sent.

An open-loop generator sends at these times whatever the server does, as a crowd of callers who don't know of each other
would. A closed loop waits for answers, so a slow server is asked less, and its worst times are never seen.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

Arrivals = Literal["poisson", "constant"]

_DRAWN_AT_ONCE = 1024


def arrival_times_s(
    pattern: Arrivals, *, rate_per_s: float, duration_s: float, rng: np.random.Generator
) -> Iterator[float]:
    """Ascending times in 0..duration_s, the end excluded.

    Args:
        pattern: ``poisson`` draws the gaps from an exponential distribution, as independent callers make them;
            ``constant`` makes all gaps 1 / rate_per_s.
        rate_per_s: mean number of arrivals a second, above 0.
        duration_s: where they end.
        rng: where ``poisson`` draws from.

    Raises:
        ValueError: the rate is not a positive number.
    """
    if not 0.0 < rate_per_s < float("inf"):
        raise ValueError(f"the rate is {rate_per_s} a second; it must be a positive number")
    return _poisson(rate_per_s, duration_s, rng) if pattern == "poisson" else _constant(rate_per_s, duration_s)


def _constant(rate_per_s: float, duration_s: float) -> Iterator[float]:
    # A product, not a sum of gaps: rounding errors would pile up over millions of them.
    index = 0
    while (time_s := index / rate_per_s) < duration_s:
        yield time_s
        index += 1


def _poisson(rate_per_s: float, duration_s: float, rng: np.random.Generator) -> Iterator[float]:
    time_s = 0.0
    while True:
        for gap_s in rng.exponential(1.0 / rate_per_s, _DRAWN_AT_ONCE).tolist():
            time_s += gap_s
            if time_s >= duration_s:
                return
            yield time_s
