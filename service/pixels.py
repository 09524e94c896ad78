"""Turns samples of any depth into what the network sees, and its answer back into such samples. Pure NumPy.

Owns the input contract's arithmetic: black and white levels, clipping, grey on a colour network, strength.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from service.types import Image, Samples


def count_outside(image: Image) -> int:
    """How many colour samples lie outside black..white."""
    if _levels_span_type(image):
        return 0
    return int(np.count_nonzero((image.colour < image.black_level) | (image.colour > image.white_level)))


def is_grey(colour: Samples) -> bool:
    """Whether all channels of (H, W, C) are equal everywhere."""
    return all(np.array_equal(colour[:, :, 0], colour[:, :, channel]) for channel in range(1, colour.shape[2]))


def to_unit(tile: Samples, *, black_level: float, white_level: float, channels: int, clip: bool) -> NDArray[np.float32]:
    """(h, w, C) samples to a (channels, h, w) unit, black at 0 and white at 1.

    A grey tile is repeated for a colour network; a colour tile on a grey network never gets here.
    """
    unit = tile.astype(np.float32)
    if black_level != 0.0:
        unit -= np.float32(black_level)
    unit /= np.float32(white_level - black_level)
    if clip:
        np.clip(unit, 0.0, 1.0, out=unit)
    planes = unit.transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(planes, (channels, *planes.shape[1:])))


def from_unit(
    denoised: NDArray[np.float32],
    noisy: NDArray[np.float32],
    *,
    strength: float,
    black_level: float,
    white_level: float,
    clip: bool,
    grey: bool,
    like: Samples,
) -> Samples:
    """A network's answer as (h, w, C) samples of the type and channels of ``like``.

    Args:
        denoised, noisy: (channels, h, w) output and input of the network.
        strength: 0 gives the input, 1 the output, a blend between.
        black_level, white_level: what 0 and 1 stand for.
        clip: as in :func:`to_unit`; without it the answer, too, may lie beyond black and white.
        grey: all channels show the same picture, so their mean is the better answer and they stay equal.
        like: samples whose type and number of channels are wanted.
    """
    answer = denoised if strength == 1.0 else noisy + np.float32(strength) * (denoised - noisy)
    if grey:
        answer = answer.mean(axis=0, keepdims=True)
    answer = np.clip(answer, 0.0, 1.0) if clip else answer.copy()
    answer *= np.float32(white_level - black_level)
    if black_level != 0.0:
        answer += np.float32(black_level)
    if np.issubdtype(like.dtype, np.integer):
        # Levels may lie outside the type; without a limit such an answer would wrap around.
        limits = np.iinfo(cast("np.dtype[np.uint8 | np.uint16]", like.dtype))
        np.clip(np.rint(answer, out=answer), limits.min, limits.max, out=answer)
    samples = answer.transpose(1, 2, 0).astype(like.dtype)
    return cast("Samples", np.broadcast_to(samples, (*samples.shape[:2], like.shape[2])))


def _levels_span_type(image: Image) -> bool:
    """Whether no sample can lie outside the levels, so that none need be counted."""
    if image.colour.dtype == np.float32:
        return False
    limits = np.iinfo(cast("np.dtype[np.uint8 | np.uint16]", image.colour.dtype))
    return image.black_level <= limits.min and image.white_level >= limits.max
