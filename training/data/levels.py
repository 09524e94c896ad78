"""Which sample values are black and white in a set of images: fitted once for the whole set, or given.

8-bit samples are always 0..255. In wider types a camera rarely fills its container: 12-bit data in 16-bit files read
as 0..65535 would be nearly black, and the noise in it far below what a network is trained for. White is therefore the
full scale of the converter that made the data, told from the largest value: a later frame that is brighter must not
clip. Black is 0 unless the set shows a camera's offset.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from denoised.contract import SampleLevels, SampleType
from training.data.samples import Samples
from training.errors import DataError

# Full scales of 8, 10, 12, 14, 15 (signed files) and 16 bits.
_FULL_SCALES: Final = (255.0, 1023.0, 4095.0, 16383.0, 32767.0, 65535.0)
# Hot and dead pixels: this share of the samples at either end decides nothing.
_OUTLIER_SHARE: Final = 1e-5
# A scale that the data fill by less is not the one that they were made on.
_LEAST_FILL: Final = 0.25
# An offset below this share of the largest value wastes too little of the range to risk clipping anything.
_LEAST_OFFSET: Final = 1 / 16
# Scenes differ in their darkest values, a camera's offset does not: floors that agree this well are the camera's.
_FLOOR_AGREEMENT: Final = 0.25
_FEWEST_FLOORS: Final = 3

_BIN_COUNT: Final = 1 << 16
# Counting takes eight bytes a sample.
_PIECE_COUNT: Final = 1 << 20
# Of a float32 pattern: sign, exponent and 7 bits of mantissa remain, which is a resolution of 0.8 %.
_FLOAT_SHIFT: Final = 16
_SIGN_BIT: Final = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class FittedLevels:
    """Levels, and in words where they come from."""

    levels: SampleLevels
    reason: str


class Histogram:
    """Counts of the samples of a whole set, of one type, in constant memory; and the darkest value of each image."""

    def __init__(self, kind: SampleType) -> None:
        self.kind = kind
        self._counts = np.zeros(_BIN_COUNT, dtype=np.int64)
        self._floors: list[float] = []
        self.low, self.high = np.inf, -np.inf

    def add(self, samples: Samples) -> None:
        """Counts one image."""
        self.low, self.high = min(self.low, float(samples.min())), max(self.high, float(samples.max()))
        if self.kind == "u8":
            return
        flat = samples.reshape(-1)
        counts = np.zeros(_BIN_COUNT, dtype=np.int64)
        for start in range(0, flat.size, _PIECE_COUNT):
            counts += np.bincount(_bins(flat[start : start + _PIECE_COUNT]), minlength=_BIN_COUNT)
        self._counts += counts
        self._floors.append(_value_at(counts, self.kind, _OUTLIER_SHARE))

    def robust_low(self) -> float:
        """The value that at most one sample in 100,000 lies below."""
        return max(self.low, _value_at(self._counts, self.kind, _OUTLIER_SHARE))

    def robust_high(self) -> float:
        """The value that at most one sample in 100,000 lies above."""
        # Counted from above; a bin of floats is answered by its upper edge.
        return min(self.high, _value_at(self._counts, self.kind, 1 - _OUTLIER_SHARE, upper=True))

    def common_floor(self) -> float | None:
        """The darkest value that the images share, or None when they don't, or are too few to tell."""
        if len(self._floors) < _FEWEST_FLOORS:
            return None
        lowest, middle, highest = np.quantile(self._floors, (0.1, 0.5, 0.9))
        return float(middle) if middle > 0 and highest - lowest <= _FLOOR_AGREEMENT * middle else None


def fit_levels(histogram: Histogram, *, black: float | None = None, white: float | None = None) -> FittedLevels:
    """Black and white of a set; what is given is taken, the rest fitted.

    Raises:
        DataError: black would not lie below white.
    """
    fitted_black, black_reason = _fit_black(histogram)
    if black is not None:
        fitted_black, black_reason = black, f"black {black:g} as given"
    fitted_white, white_reason = _fit_white(histogram, fitted_black)
    if white is not None:
        fitted_white, white_reason = white, f"white {white:g} as given"
    if not fitted_black < fitted_white:
        raise DataError(
            f"levels would be {fitted_black:g}..{fitted_white:g} for samples in {histogram.low:g}..{histogram.high:g}; "
            "black must lie below white: give --black and --white"
        )
    return FittedLevels(
        SampleLevels(histogram.kind, float(fitted_black), float(fitted_white)),
        "; ".join(r for r in (black_reason, white_reason) if r),
    )


def to_unit(samples: Samples, levels: SampleLevels) -> NDArray[np.float32]:
    """float32 with black at 0 and white at 1, clipped there."""
    unit = samples.astype(np.float32)
    if levels.black:
        unit -= np.float32(levels.black)
    unit /= np.float32(levels.white - levels.black)
    if levels.sample_type != "u8" or (levels.black, levels.white) != (0, 255):
        np.clip(unit, 0.0, 1.0, out=unit)
    return unit


def _fit_black(histogram: Histogram) -> tuple[float, str]:
    if histogram.kind == "u8":
        return 0.0, ""
    low, high = histogram.robust_low(), histogram.robust_high()
    if histogram.kind == "f32" and low < 0:
        return low, f"black {low:g}: the lowest sample"
    floor = histogram.common_floor()
    if floor is not None and floor >= _LEAST_OFFSET * high and 0 < low < high:
        # The lowest sample rather than the offset itself: noise around the offset must stay symmetric.
        return low, f"black {low:g}: all images share a floor near {floor:g}, a camera's offset"
    return 0.0, "black 0"


def _fit_white(histogram: Histogram, black: float) -> tuple[float, str]:
    if histogram.kind == "u8":
        return 255.0, "8-bit samples are 0..255"
    high = histogram.robust_high()
    if histogram.kind == "f32":
        scales: tuple[float, ...] = (1.0,) if histogram.high <= 1 else ()
        kind = "full scale"
    else:
        scales, kind = _FULL_SCALES, "the full scale of its bit depth"
    scale = next((scale for scale in scales if high <= scale), None)
    if scale is not None and high - black >= _LEAST_FILL * (scale - black):
        reason = f"white {scale:g}: {kind} for a largest sample of {high:g}"
    else:
        scale, reason = high, f"white {high:g}: the largest sample, far from any full scale"
    if histogram.high > high:
        reason += f" (one sample in 100,000 or fewer is brighter, up to {histogram.high:g})"
    return scale, reason


def _bins(flat: Samples) -> NDArray[Any]:
    """The bin of each sample, in the order of their values."""
    if flat.dtype.kind == "u":
        return flat
    # Positive patterns ascend with their values, negative ones descend: flipped, all ascend.
    patterns = np.ascontiguousarray(flat, dtype=np.float32).view(np.uint32)
    ordered = np.where(patterns & _SIGN_BIT, ~patterns, patterns | _SIGN_BIT)
    return ordered >> _FLOAT_SHIFT


def _value_at(counts: NDArray[np.int64], kind: SampleType, share: float, *, upper: bool = False) -> float:
    """The value of the bin in which the given share of the samples is reached; a float bin's lower or upper edge."""
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    if upper:
        bin_index = int(np.searchsorted(cumulative, total - np.floor((1 - share) * total), side="left"))
    else:
        bin_index = int(np.searchsorted(cumulative, np.floor(share * total), side="right"))
    if kind != "f32":
        return float(bin_index)
    ordered = np.uint32((bin_index << _FLOAT_SHIFT) | ((1 << _FLOAT_SHIFT) - 1 if upper else 0))
    pattern = ordered & ~_SIGN_BIT if ordered & _SIGN_BIT else ~ordered
    return float(np.array([pattern], dtype=np.uint32).view(np.float32)[0])
