"""How the statistics of a model's answers are distributed on images like those it was made for.

Measured once, at export, and carried in the model file, so that a service can say of one answer how unusual it is.
Pure NumPy; the statistics themselves are in ``denoised.statistics``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Calibration:
    """Quantiles of each statistic, in bins of the noise level.

    Attributes:
        probabilities: ascending, in 0..1; the same for every statistic.
        sigma_edges: ascending noise levels in 8-bit levels; bin i lies between edges i and i + 1.
        quantiles: by statistic, one row for each bin, one value for each probability.
    """

    probabilities: tuple[float, ...] = ()
    sigma_edges: tuple[float, ...] = ()
    quantiles: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
