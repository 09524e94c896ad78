"""Turns samples of any depth into what the network sees, and its answer back into such samples. NumPy alone.

Owns the input contract's arithmetic: black and white levels, clipping, grey on a colour network, strength. It runs in
a lane's thread around every unit, so its cost counts: ADR 13 has the figures and what else was tried. Rows go through
in blocks that stay in a core's cache, planes first, because NumPy's inner loop should run along a row and not across
three channels.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import NonFiniteOutput
from service.types import Samples

# 256 KiB of float32: half of it costs a tenth more in calls, twice of it leaves the cache of smaller cores.
_BLOCK_SAMPLES = 65_536
_LARGEST = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)

Region = tuple[slice, slice]
"""Rows and columns of a tile."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How samples stand for 0..1.

    Attributes:
        black_level, white_level: the sample values that stand for 0 and 1.
        clip: whether the network was trained on values within 0..1 alone, so that others are cut off, before and after.
    """

    black_level: float
    white_level: float
    clip: bool

    def spans(self, dtype: np.dtype[Any]) -> bool:
        """Whether no sample of the type can lie outside the levels."""
        largest = _LARGEST.get(dtype)
        return largest is not None and self.black_level <= 0.0 and self.white_level >= largest

    def is_plain(self, dtype: np.dtype[Any]) -> bool:
        """Whether black is 0 and white the type's largest value, and the network's answer is cut off at both."""
        return self.clip and self.black_level == 0.0 and self.white_level == _LARGEST.get(dtype)


class NonFiniteSamples(Exception):
    """A tile has NaN or infinities. Where in its image they are is for the caller to say, who has the image."""


def read_planes(samples: NDArray[Any], out: NDArray[np.float32], scale: Scale) -> None:
    """Fills ``out`` with samples in the same order: :func:`read_unit` where nothing is to be found out about any.

    Args:
        samples: (n,) integers of which none can lie outside the levels, see :meth:`Scale.is_plain`.
        out: (n,).
        scale: of the samples.
    """
    np.divide(samples, np.float32(scale.white_level), out=out)


def write_planes(denoised: NDArray[np.float32], target: Samples, scale: Scale) -> None:
    """Writes a network's answer as samples in the same order: :func:`write_unit` at full strength.

    Args:
        denoised: (n,), of one channel.
        target: (n,) integers, as for :func:`read_planes`.
        scale: of the samples.

    Raises:
        NonFiniteOutput: not all values are finite.
    """
    block = _scratch.block(denoised.shape)
    if not require_finite(denoised):
        # One call of clip() takes longer than both: it passes through Python.
        denoised = np.minimum(np.maximum(denoised, _ZERO, out=block), _ONE, out=block)
    np.multiply(denoised, np.float32(scale.white_level), out=block)
    np.rint(block, out=block)
    np.copyto(target, block, casting="unsafe")


def read_unit(tile: Samples, out: NDArray[np.float32], scale: Scale, *, counted: Region) -> int:
    """Fills ``out`` with the tile, black at 0 and white at 1, and counts the samples that lie outside black..white.

    Args:
        tile: (h, w, C) samples with any strides. A grey tile is repeated for a colour network; a colour tile on a grey
            network never gets here.
        out: (channels, H, W), at least as large; what lies beyond the tile becomes the tile mirrored.
        scale: with ``clip``, samples outside become black or white; else they are kept, and none is counted.
        counted: the part of the tile in which samples are counted, so that overlapping tiles count each once.

    Raises:
        NonFiniteSamples: ``out`` is then filled in part.
    """
    height_px, width_px, channels = tile.shape
    unit = out[:, :height_px, :width_px]
    black, span = np.float32(scale.black_level), np.float32(scale.white_level - scale.black_level)
    clips = scale.clip and not scale.spans(tile.dtype)
    looks = clips or tile.dtype == np.float32
    outside_count = 0
    row_count = max(1, _BLOCK_SAMPLES // (width_px * channels))
    for top_px in range(0, height_px, row_count):
        rows = slice(top_px, top_px + row_count)
        block = unit[:channels, rows]
        np.copyto(block, tile[rows].transpose(2, 0, 1))
        is_beyond = False
        if looks:
            least, most = _extremes(block)
            if not (math.isfinite(least) and math.isfinite(most)):
                raise NonFiniteSamples
            if clips:
                outside_count += _count_outside(block, least, most, scale, tile.dtype, counted, top_px=top_px)
                is_beyond = bool((least - black) / span < _ZERO or (most - black) / span > _ONE)
        if black:
            np.subtract(block, black, out=block)
        if span != _ONE:
            np.divide(block, span, out=block)
        if is_beyond:
            block.clip(_ZERO, _ONE, out=block)
    if channels < len(out):
        np.copyto(unit[1:], unit[:1])
    _mirror(out, height_px, width_px)
    return outside_count


def write_unit(
    denoised: NDArray[np.float32],
    noisy: NDArray[np.float32],
    target: Samples,
    *,
    top_px: int,
    left_px: int,
    strength: float,
    scale: Scale,
    grey: bool,
) -> None:
    """Writes a network's answer into samples, those of the rows and columns that ``target`` stands for.

    Args:
        denoised, noisy: (channels, H, W) output and input of the network; both stay as they are.
        target: (h, w, C) view of the image's answer with any strides; its type decides. Integers are rounded, a half
            to the even one, and saturate.
        top_px, left_px: where the target begins in the unit.
        strength: 0 gives the input, 1 the output, a blend between.
        scale: as in :func:`read_unit`; without ``clip`` the answer, too, may lie beyond black and white.
        grey: all channels show the same picture, so their mean is the better answer and they stay equal.

    Raises:
        NonFiniteOutput: of the values that are used, some are not finite; the target is then written in part.
    """
    height_px, width_px, _ = target.shape
    columns = slice(left_px, left_px + width_px)
    row_count = max(1, _BLOCK_SAMPLES // (width_px * len(denoised)))
    for start_px in range(0, height_px, row_count):
        stop_px = min(start_px + row_count, height_px)
        rows = slice(top_px + start_px, top_px + stop_px)
        answer = denoised[:, rows, columns]
        # A network that clips sees 0..1; then a blend, however it is rounded, lies there whenever the answer does.
        clips = not require_finite(answer) and scale.clip
        block = _scratch.block(answer.shape)
        if strength != 1.0:
            answer = _blend(answer, noisy[:, rows, columns], strength, out=block)
        if grey and len(answer) > 1:
            answer, block = _mean(answer, out=block[:1]), block[:1]
        _finish(answer, block, target[start_px:stop_px], scale, clips=clips)


def require_finite(answer: NDArray[np.float32]) -> bool:
    """Raises NonFiniteOutput unless all values of a network's answer are finite; says whether all lie in 0..1."""
    least, most = _extremes(answer)
    if not (math.isfinite(least) and math.isfinite(most)):
        raise NonFiniteOutput(
            "the network answered with values that are not finite for this image; "
            "its samples may lie far outside what the model was trained for"
        )
    return bool(least >= _ZERO and most <= _ONE)


def is_grey(colour: Samples) -> bool:
    """Whether all channels of (H, W, C) are equal everywhere; colour shows in the first rows of most images."""
    height_px, width_px, channels = colour.shape
    start_px, row_count = 0, 1
    most_rows = max(1, _BLOCK_SAMPLES // width_px)
    while channels > 1 and start_px < height_px:
        rows = colour[start_px : start_px + row_count]
        if not all((rows[:, :, 0] == rows[:, :, channel]).all() for channel in range(1, channels)):
            return False
        start_px += row_count
        row_count = min(2 * row_count, most_rows)
    return True


class _Scratch(threading.local):
    """A block for each thread that writes units: it needs no owner and no lock, and a lane's takes 256 KiB.

    Allocating it for every unit would have the system map and clear its pages again and again.
    """

    def __init__(self) -> None:
        self._samples = np.empty(_BLOCK_SAMPLES, np.float32)

    def block(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        sample_count = math.prod(shape)
        if sample_count > _BLOCK_SAMPLES:  # a single row
            return np.empty(shape, np.float32)
        return self._samples[:sample_count].reshape(shape)


_scratch = _Scratch()


def _extremes(values: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """(least, largest); both are NaN when any value is: exact, and half the price of looking at each value."""
    return np.minimum.reduce(values, axis=None), np.maximum.reduce(values, axis=None)


def _blend(
    denoised: NDArray[np.float32], noisy: NDArray[np.float32], strength: float, *, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    np.subtract(denoised, noisy, out=out)
    np.multiply(out, np.float32(strength), out=out)
    return np.add(out, noisy, out=out)


def _mean(planes: NDArray[np.float32], *, out: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels as the only plane of ``out``, which may be the first of them."""
    np.add(planes[0], planes[1], out=out[0])
    for plane in planes[2:]:
        np.add(out[0], plane, out=out[0])
    return np.divide(out, np.float32(len(planes)), out=out)


def _finish(
    source: NDArray[np.float32], block: NDArray[np.float32], target: Samples, scale: Scale, *, clips: bool
) -> None:
    """Writes planes of 0..1 as samples, a single one into all channels. The block is for what lies between."""
    black, span = np.float32(scale.black_level), np.float32(scale.white_level - scale.black_level)
    largest = _LARGEST.get(target.dtype)
    if clips:
        source = source.clip(_ZERO, _ONE, out=block)
    if span != _ONE:
        source = np.multiply(source, span, out=block)
    if black:
        source = np.add(source, black, out=block)
    if largest is not None:
        # Levels may lie outside the type; without a limit such an answer would wrap around.
        if not scale.clip or black < 0.0 or span + black > largest:
            source = source.clip(_ZERO, np.float32(largest), out=block)
        source = np.rint(source, out=block)
    for channel in range(target.shape[2]):
        np.copyto(target[:, :, channel], source[channel % len(source)], casting="unsafe")


def _count_outside(
    block: NDArray[np.float32],
    least: np.float32,
    most: np.float32,
    scale: Scale,
    dtype: np.dtype[Any],
    counted: Region,
    *,
    top_px: int,
) -> int:
    """How many samples, not scaled yet, lie outside the levels in the counted rows from ``top_px`` on."""
    if dtype == np.float32:
        lower, upper = np.float32(scale.black_level), np.float32(scale.white_level)
    else:
        # Single precision holds every sample, but not every level; the whole numbers within decide alike.
        lower, upper = np.float32(math.ceil(scale.black_level)), np.float32(math.floor(scale.white_level))
    rows, columns = counted
    start_px, stop_px = max(rows.start - top_px, 0), rows.stop - top_px
    if stop_px <= start_px or (least >= lower and most <= upper):
        return 0
    part = block[:, start_px:stop_px, columns]
    return int(np.count_nonzero(part < lower)) + int(np.count_nonzero(part > upper))


def _mirror(out: NDArray[np.float32], height_px: int, width_px: int) -> None:
    """Fills what lies beyond the first rows and columns with their reflection, the border's own pixel included."""
    _mirror_last_axis(out[:, :height_px], width_px)
    _mirror_last_axis(out.transpose(0, 2, 1), height_px)


def _mirror_last_axis(out: NDArray[np.float32], size_px: int) -> None:
    end_px = out.shape[2]
    if size_px == end_px:
        return
    filled_px = min(2 * size_px, end_px)
    np.copyto(out[:, :, size_px:filled_px], out[:, :, 2 * size_px - filled_px : size_px][:, :, ::-1])
    # Forth and back is the period from here on.
    while filled_px < end_px:
        stop_px = min(2 * filled_px, end_px)
        np.copyto(out[:, :, filled_px:stop_px], out[:, :, : stop_px - filled_px])
        filled_px = stop_px
