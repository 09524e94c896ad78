"""How the statistics of a model's answers are distributed on images like those it was made for.

Measured once, at export, and carried in the model file, so that a service can say of one answer how unusual it is.
Pure NumPy; the statistics themselves are in ``denoised.statistics``.
"""

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from denoised.statistics import CodeDensity, EnergyModel, Likelihood


@dataclass(frozen=True, slots=True)
class Calibration:
    """Quantiles of each statistic by noise level, and the constants of the energy. Empty: not calibrated.

    Attributes:
        probabilities: strictly ascending, in 0..1; the same for every statistic.
        sigmas: ascending noise levels in 8-bit levels, those of the middle of each group of images that were alike
            in noise.
        quantiles: by statistic, as ``Statistics.comparable`` names them: one row for each noise level, one ascending
            value for each probability.
        likelihood: of an image given its reconstruction.
        reconstruction_sigma: s of a Gaussian likelihood, in 0..1 units.
        code_mean_base64, code_whitening_base64: of a deterministic encoder's codes, little-endian float32; the
            whitening is its lower triangle row by row, or its diagonal alone. Empty without such an encoder.
    """

    probabilities: tuple[float, ...] = ()
    sigmas: tuple[float, ...] = ()
    quantiles: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    likelihood: Likelihood = "gaussian"
    reconstruction_sigma: float = 0.1
    code_mean_base64: str = ""
    code_whitening_base64: str = ""

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ValueError("the calibration is wrong: " + "; ".join(problems))

    def _problems(self) -> list[str]:
        probabilities, sigmas = np.asarray(self.probabilities), np.asarray(self.sigmas)
        checks = [
            (
                bool(self.probabilities) == bool(self.sigmas) == bool(self.quantiles),
                "probabilities, sigmas and quantiles must all be given, or none",
            ),
            (
                not self.probabilities
                or (len(probabilities) >= 2 and _ascends(probabilities, 0.0, 1.0) and np.diff(probabilities).all()),
                f"probabilities is {self.probabilities}; two or more in 0..1, each above the one before",
            ),
            (_ascends(sigmas, 0.0, np.inf), f"sigmas is {self.sigmas}; must be 0 or more and ascend"),
            (
                self.likelihood in get_args(Likelihood),
                f"likelihood is {self.likelihood!r}; known: {', '.join(get_args(Likelihood))}",
            ),
            (
                0.0 < self.reconstruction_sigma < np.inf,
                f"reconstruction_sigma is {self.reconstruction_sigma}; must be more than 0",
            ),
        ]
        for name, rows in self.quantiles.items():
            shape = {len(row) for row in rows}
            checks.append(
                (
                    len(rows) == len(sigmas)
                    and shape == {len(probabilities)}
                    and all(_ascends(np.asarray(row), -np.inf, np.inf) for row in rows),
                    f"quantiles of {name} must be {len(sigmas)} rows of {len(probabilities)} ascending finite values",
                )
            )
        problems = [message for is_right, message in checks if not is_right]
        try:
            self._code_density()
        except ValueError as error:
            problems.append(f"the distribution of codes is damaged: {error}")
        return problems

    @property
    def is_empty(self) -> bool:
        """Whether no quantiles were measured."""
        return not self.quantiles

    def quantile_of(self, statistic: str, value: float, sigma: float, *, tie_position: float = 0.5) -> float:
        """The share of comparable images whose statistic lies below ``value``, 0..1.

        Interpolated between the quantiles and between the noise levels; values beyond all that were seen give 0 or 1.
        What is no number gives 1: an answer that can't be measured must not pass for an ordinary one.

        Args:
            statistic: as ``Statistics.comparable`` names it.
            value: the image's.
            sigma: the image's noise level, ``Statistics.sigma``.
            tie_position: which of the shares is meant, 0..1 from the least to the greatest, where many images have
                this very value, such as no clipped sample at all. A number drawn for each image makes a histogram
                of quantiles flat even there.
        """
        return rank(self.row(statistic, sigma), self.probabilities, value, tie_position=tie_position)

    def value_at(self, statistic: str, probability: float, sigma: float) -> float:
        """The value below which this share of comparable images lies: the threshold that belongs to a quantile.

        Args:
            statistic, sigma: as for :meth:`quantile_of`.
            probability: 0..1.
        """
        return float(np.interp(probability, self.probabilities, self.row(statistic, sigma)))

    def energy_model(self) -> EnergyModel:
        """The constants of the energy, decoded; make it once for each model."""
        return EnergyModel(self.likelihood, self.reconstruction_sigma, self._code_density())

    def row(self, statistic: str, sigma: float) -> list[float]:
        """A statistic's quantiles at a noise level, one for each probability; beyond the outermost levels theirs."""
        if statistic not in self.quantiles:
            known = ", ".join(sorted(self.quantiles)) or "none, the model is not calibrated"
            raise ValueError(f"no quantiles of {statistic!r} were measured; there are: {known}")
        rows = self.quantiles[statistic]
        upper = bisect_right(self.sigmas, sigma)
        if upper in (0, len(self.sigmas)):
            return list(rows[min(upper, len(rows) - 1)])
        least, greatest = self.sigmas[upper - 1], self.sigmas[upper]
        part = (sigma - least) / (greatest - least)
        return [low + (high - low) * part for low, high in zip(rows[upper - 1], rows[upper], strict=True)]

    def _code_density(self) -> CodeDensity | None:
        if not self.code_mean_base64 and not self.code_whitening_base64:
            return None
        mean, packed = _floats(self.code_mean_base64), _floats(self.code_whitening_base64)
        length = mean.size
        if packed.size not in (length, length * (length + 1) // 2):
            raise ValueError(f"{packed.size} numbers are neither the diagonal nor the triangle for {length} codes")
        if packed.size == length:
            whitening = packed
        else:
            whitening = np.zeros((length, length), dtype=np.float32)
            whitening[np.tril_indices(length)] = packed
        diagonal = whitening if whitening.ndim == 1 else np.diagonal(whitening)
        if not (length and np.isfinite(mean).all() and np.isfinite(packed).all() and (diagonal > 0.0).all()):
            raise ValueError("its numbers must be finite, and the whitening's diagonal positive")
        return CodeDensity(mean, whitening)


def rank(row: Sequence[float], probabilities: Sequence[float], value: float, *, tie_position: float = 0.5) -> float:
    """Where a value lies among quantiles: see :meth:`Calibration.quantile_of`.

    Args:
        row: ascending quantiles, one for each probability; see :meth:`Calibration.row`.
    """
    if isnan(value):
        return 1.0
    below, above = bisect_left(row, value), bisect_right(row, value)
    if below < above:
        least, greatest = probabilities[below], probabilities[above - 1]
        return least + (greatest - least) * tie_position
    if below == 0:
        return 0.0
    if below == len(row):
        return 1.0
    part = (value - row[below - 1]) / (row[below] - row[below - 1])
    return probabilities[below - 1] + part * (probabilities[below] - probabilities[below - 1])


def encode_code_density(density: CodeDensity | None) -> tuple[str, str]:
    """``code_mean_base64`` and ``code_whitening_base64`` of a distribution of codes; empty texts of none."""
    if density is None:
        return "", ""
    whitening = density.whitening
    packed = whitening if whitening.ndim == 1 else whitening[np.tril_indices(len(whitening))]
    mean_base64, whitening_base64 = (
        base64.b64encode(values.astype("<f4").tobytes()).decode() for values in (density.mean, packed)
    )
    return mean_base64, whitening_base64


def _floats(text: str) -> NDArray[np.float32]:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _ascends(values: NDArray[np.float64], least: float, greatest: float) -> bool:
    """Whether finite values ascend, weakly, inside the bounds."""
    inside = np.isfinite(values).all() and (values >= least).all() and (values <= greatest).all()
    return bool(inside and (np.diff(values) >= 0.0).all())
