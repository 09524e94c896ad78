"""What follows from an image's statistics: how unusual each is for the model, and what is the matter, in one word.

Statistics are ranked among those of held-out images of like noise, which the model file carries
(``denoised.calibration``). A verdict starts where all but 1 % of those lie, or 2.5 % of those for correlated noise, and
never below a floor under which the statistic harms nobody, however narrow the model's own range is; so one set of rules
fits every model. Pure; what to do about a verdict is in docs/energy.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Final

from denoised.calibration import Calibration, rank
from denoised.contract import ModelContract
from denoised.statistics import SAMPLE_LIMIT, Statistics

# From here on a statistic is unusual: one image of a hundred like those of the calibration reaches it.
_UNUSUAL: Final = 0.99
# Correlation is worth a few more false alarms. Of noisy photographs that became JPEG files or were resized 84 % lie
# above this one, 68 % above the 99th percentile; of others 1 % and none.
_CORRELATED: Final = 0.975
# In 8-bit levels: less noise than anybody sees. Of held-out photographs 95 % are found to have less without any added.
CLEAN_SIGMA: Final = 1.5
# A network finds the end of its own range to within this share.
_RANGE_MARGIN: Final = 0.05
# Standard deviations of what chance alone makes of a small image's correlations.
_CHANCE_DEVIATIONS: Final = 3.0


class Verdict(StrEnum):
    """What is the matter with an image, or with its answer."""

    OK = "OK"
    OUT_OF_RANGE_SIGMA = "OUT_OF_RANGE_SIGMA"
    NOISE_CORRELATED = "NOISE_CORRELATED"
    CLIPPED_INPUT = "CLIPPED_INPUT"
    HIGH_RECONSTRUCTION_ENERGY = "HIGH_RECONSTRUCTION_ENERGY"
    TINTED = "TINTED"
    ALREADY_CLEAN = "ALREADY_CLEAN"


@dataclass(frozen=True, slots=True)
class _Rule:
    """From where on a statistic means a verdict.

    Attributes:
        floor: least value that does.
        probability: share of the calibration's images that lie below.
        has_chance: whether small images reach large values by chance.
    """

    verdict: Verdict
    floor: float
    probability: float = _UNUSUAL
    has_chance: bool = False


_RULES: Final[Mapping[str, _Rule]] = {
    "neighbour_correlation": _Rule(Verdict.NOISE_CORRELATED, 0.005, _CORRELATED, has_chance=True),
    "channel_correlation": _Rule(Verdict.NOISE_CORRELATED, 0.1, _CORRELATED, has_chance=True),
    "clipped_share": _Rule(Verdict.CLIPPED_INPUT, 0.02),
    "reconstruction_bits_per_pixel": _Rule(Verdict.HIGH_RECONSTRUCTION_ENERGY, float("-inf")),
    # In 8-bit levels.
    "colour_bias": _Rule(Verdict.TINTED, 0.5),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One statistic of an image, seen in the light of the model's calibration.

    Attributes:
        value: the statistic.
        quantile: share of the calibration's images of like noise with a smaller one, 0..1; None where the model was
            not calibrated for it.
        threshold: the value above which the verdict is no longer OK; None where none follows from this statistic.
        verdict: what follows from it.
    """

    value: float
    quantile: float | None = None
    threshold: float | None = None
    verdict: Verdict = Verdict.OK


@dataclass(frozen=True, slots=True)
class Judgement:
    """All findings of one image.

    Attributes:
        findings: by name, ``sigma`` and those of ``Statistics.comparable``.
        verdicts: what is the matter, each once, in the order of ``Verdict``; ``OK`` alone where nothing is.
    """

    findings: Mapping[str, Finding]
    verdicts: tuple[Verdict, ...]


def judge(statistics: Statistics, contract: ModelContract) -> Judgement:
    """Ranks an image's statistics, and says what is the matter with it.

    Args:
        statistics: of an image and its answer at full strength.
        contract: of the model that answered. Without a calibration only what its range of noise says is judged.
    """
    findings = {name: _finding(name, value, statistics, contract) for name, value in statistics.comparable().items()}
    is_correlated = any(finding.verdict is Verdict.NOISE_CORRELATED for finding in findings.values())
    findings = {"sigma": _sigma_finding(statistics.sigma, contract, is_correlated=is_correlated), **findings}
    raised = {finding.verdict for finding in findings.values()} - {Verdict.OK}
    return Judgement(findings, tuple(verdict for verdict in Verdict if verdict in raised) or (Verdict.OK,))


def ranks(statistics: Statistics, calibration: Calibration, draw: Callable[[], float]) -> dict[str, float]:
    """Quantiles of an image's statistics for a histogram of many images, by name; those that were calibrated.

    Images like those of the calibration fill all of 0..1 alike: a histogram that is not flat means other images.

    Args:
        draw: a number from 0..1, for statistics that many images have in common, such as no clipped sample.
    """
    return {
        name: rank(calibration.row(name, statistics.sigma), calibration.probabilities, value, tie_position=draw())
        for name, value in statistics.comparable().items()
        if name in calibration.quantiles
    }


def _finding(name: str, value: float, statistics: Statistics, contract: ModelContract) -> Finding:
    calibration = contract.calibration
    if name not in calibration.quantiles:
        return Finding(value)
    row, probabilities = calibration.row(name, statistics.sigma), calibration.probabilities
    quantile = rank(row, probabilities, value)
    rule = _RULES.get(name)
    if rule is None:
        return Finding(value, quantile)
    threshold = max(_value_at(row, probabilities, rule.probability), rule.floor)
    if rule.has_chance:
        threshold += _chance(statistics.sample_count, contract)
    return Finding(value, quantile, threshold, rule.verdict if value > threshold else Verdict.OK)


def _value_at(row: list[float], probabilities: tuple[float, ...], probability: float) -> float:
    """The quantile at the first probability that is no smaller."""
    return next((value for value, each in zip(row, probabilities, strict=True) if each >= probability), row[-1])


def _chance(sample_count: int, contract: ModelContract) -> float:
    """How much farther chance alone takes the correlations of so few samples than those of the calibration's."""
    side_px = contract.fixed_side_px
    calibrated_count = side_px * side_px * contract.channels if side_px else SAMPLE_LIMIT
    return _CHANCE_DEVIATIONS * max(1.0 / sqrt(sample_count) - 1.0 / sqrt(calibrated_count), 0.0)


def _sigma_finding(sigma: float, contract: ModelContract, *, is_correlated: bool) -> Finding:
    """Noise that the model was not made for, or none; correlated noise is hardly found, and no clean image has any."""
    least, most = contract.noise.sigma_min, contract.noise.sigma_max
    threshold = most * (1.0 + _RANGE_MARGIN) if most > 0.0 else None
    verdict = Verdict.OK
    if sigma < CLEAN_SIGMA:
        verdict = Verdict.OK if is_correlated else Verdict.ALREADY_CLEAN
    elif threshold is not None and not least * (1.0 - _RANGE_MARGIN) <= sigma <= threshold:
        verdict = Verdict.OUT_OF_RANGE_SIGMA
    return Finding(sigma, None, threshold, verdict)
