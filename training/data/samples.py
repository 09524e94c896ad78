"""Decoded images as arrays: which sample types exist here, and how others become one of them.

It decides what a value means (narrowing, grey of colour), never what black and white are: see ``levels``.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from denoised.contract import SampleType
from denoised.noise import LUMA
from training.errors import DataError

# (H, W, C) with one channel or three.
Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

# As they lie in a pack's files.
DTYPES: Final[dict[SampleType, np.dtype[Any]]] = {
    "u8": np.dtype(np.uint8),
    "u16": np.dtype("<u2"),
    "f32": np.dtype("<f4"),
}

# Larger than any camera's frame; a page is decoded as a whole, so this bounds the memory that one image can take.
MAX_PIXELS: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded image and what had to be done to it.

    Attributes:
        samples: (H, W, C).
        notes: such as "alpha dropped"; empty when it is as the file has it.
    """

    samples: Samples
    notes: tuple[str, ...] = ()


def sample_type(samples: Samples) -> SampleType:
    """The name of the type, as the model contract spells it."""
    return next(name for name, dtype in DTYPES.items() if samples.dtype == dtype)


def narrowed(values: NDArray[Any], bits: int = 8) -> tuple[Samples, tuple[str, ...]]:
    """Any numeric array as u8, u16 or f32 without changing a value, and a note when the type changed.

    Integers wider than 16 bits, or signed, are taken when what they hold fits 0..65535; double precision is rounded
    to single, which keeps 24 bits. Of fewer bits than eight the white becomes 255, as decoders of other formats do it.

    Args:
        values: as decoded.
        bits: what a sample has in the file; fewer than eight are decoded into bytes as they are.

    Raises:
        DataError: the values don't fit, are not finite, or are no numbers.
    """
    kind, size_bytes = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255), ("bilevel, widened to 8 bits",)
    if kind == "u" and size_bytes == 1 and bits < 8:
        white = (1 << bits) - 1
        scaled = np.rint(np.arange(256) * (255 / white)).clip(0, 255).astype(np.uint8)
        return scaled[values], (f"{bits} bits, widened to 8 bits",)
    if kind == "u" and size_bytes <= 2:
        return cast("Samples", np.asarray(values, dtype=np.uint8 if size_bytes == 1 else np.uint16)), ()
    if kind in "iu":
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise DataError(
                f"{values.dtype} samples lie in {low}..{high}; integers must lie in 0..65535: add an offset, or "
                "store the file as 32-bit float"
            )
        return values.astype(np.uint16), (f"{values.dtype} stored as 16 bits",)
    if kind != "f":
        raise DataError(f"{values.dtype} samples are no brightness; store the file as 8 or 16 bits or 32-bit float")
    with np.errstate(over="ignore"):
        single = values.astype(np.float32, copy=False)
    broken_count = single.size - int(np.count_nonzero(np.isfinite(single)))
    if broken_count:
        raise DataError(
            f"{broken_count} of {single.size} float samples are NaN or infinite; replace them or crop them away"
        )
    return single, () if size_bytes == 4 else (f"{values.dtype} stored as 32-bit float",)


def in_channels(samples: Samples, channels: int) -> Samples:
    """Grey of colour by its luma, colour of grey by repeating it; as it is when the count fits."""
    if samples.shape[2] == channels:
        return samples
    return cast("Samples", np.repeat(samples, 3, axis=2)) if channels == 3 else grey_of(samples)


def grey_of(colour: Samples) -> Samples:
    """(H, W, 1) luma of (H, W, 3), rounded where the type is a whole number."""
    luma = (colour @ LUMA)[:, :, np.newaxis]
    if colour.dtype.kind == "u":
        np.rint(luma, out=luma)
    return cast("Samples", luma.astype(colour.dtype, copy=False))


def check_size(height_px: int, width_px: int) -> None:
    """Before a decoder makes room for what a header claims.

    Raises:
        DataError: nothing, or more than MAX_PIXELS.
    """
    if height_px < 1 or width_px < 1:
        raise DataError(f"{width_px} x {height_px}: the image is empty")
    if height_px * width_px > MAX_PIXELS:
        raise DataError(
            f"{width_px} x {height_px} are {height_px * width_px / 1e6:.0f} megapixels, more than the "
            f"{MAX_PIXELS / 1e6:.0f} that are read as one image; cut the file into tiles"
        )
