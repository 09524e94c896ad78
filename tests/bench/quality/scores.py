"""What was measured, as data: a score for each method, condition and image; a row for each method; intervals.

Everything here is what the JSON holds. It knows neither services nor pictures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from denoised.noise import keyed_rng
from denoised.quality import (
    DETAIL_DEFINITION,
    METRIC_DEFINITION,
    PSNR_CEILING_DB,
    Interval,
    capped_psnr_db,
    detail_kept,
    ssim,
)
from tests.bench.quality.images import Samples
from tests.bench.quality.protocols import Protocol

DEFINITIONS: Final = (
    f"{METRIC_DEFINITION}; equal images count as {PSNR_CEILING_DB:g} dB. {DETAIL_DEFINITION}. 95 % intervals of the "
    "mean: percentile bootstrap over images"
)

Kind = Literal["input", "network", "classical"]

_RESAMPLE_COUNT: Final = 10_000
_KEY: Final = 2**34 + 5


@dataclass(frozen=True, slots=True)
class Score:
    """One method's answer for one image under one condition.

    Attributes:
        method, file: whose answer, for which image.
        protocol, sigma, is_grey: the condition, see :class:`tests.bench.quality.protocols.Condition`.
        psnr_db, ssim, detail: against the clean image.
        sigma_found: in 8-bit levels, where the method says one.
        ms_per_megapixel: wall time of the answer; 0 for the input.
    """

    method: str
    file: str
    protocol: Protocol
    sigma: int
    is_grey: bool
    psnr_db: float
    ssim: float
    detail: float
    sigma_found: float | None
    ms_per_megapixel: float


@dataclass(frozen=True, slots=True)
class Row:
    """A method and its costs.

    Attributes:
        method, kind: what it is.
        is_grey_only: whether it is a one-channel network, measured on the grey versions.
        version, digest: of a network's file.
        gmac_per_megapixel: by a network's contract.
        ms_per_megapixel: median over the Gaussian answers, of a network through the service.
        raw_ms_per_megapixel: of a network in ONNX Runtime alone, all cores, median over the images.
    """

    method: str
    kind: Kind
    is_grey_only: bool = False
    version: str | None = None
    digest: str | None = None
    gmac_per_megapixel: float | None = None
    ms_per_megapixel: float | None = None
    raw_ms_per_megapixel: float | None = None


def figures_of(image: Samples, reference: Samples) -> tuple[float, float, float]:
    """(PSNR in dB, SSIM, detail kept), rounded as they are written."""
    return (
        round(capped_psnr_db(image, reference), 4),
        round(ssim(image, reference), 5),
        round(detail_kept(image, reference), 5),
    )


def at(
    scores: Iterable[dict[str, Any]], method: str, protocol: Protocol, *, sigma: int = 0, is_grey: bool = False
) -> list[dict[str, Any]]:
    """The scores, as they are in the JSON, of a method under a condition."""
    wanted = {"method": method, "protocol": protocol, "sigma": sigma, "is_grey": is_grey}
    return [score for score in scores if wanted.items() <= score.items()]


def bootstrap_interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval by the percentile bootstrap; the same values give the same interval.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values; a mean needs at least one")
    array, count = np.asarray(values, np.float64), len(values)
    if count == 1:
        return Interval(float(array[0]), None, None, 1)
    drawn = keyed_rng(_KEY, count).integers(count, size=(_RESAMPLE_COUNT, count))
    low, high = np.quantile(array[drawn].mean(axis=1), (0.025, 0.975))
    return Interval(float(array.mean()), float(low), float(high), count)
