"""Gain and read noise of a camera, from its own frames: of a still scene taken repeatedly, or of any scenes.

Repeats are the better way: whatever differs between two frames of a still scene is noise. From single images it is read
off the blocks that hold no structure, as far as the frames have any. Either way a straight line through variance
against mean gives the two numbers; :mod:`training.noise.line` fits it.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoised.contract import SampleLevels
from denoised.noise import LEVELS_8BIT, Gaussian, NoiseSpec, PoissonGaussian, Quantise, Stage
from training.data.manifest import PackedImage
from training.data.pack import Pack
from training.errors import DataError
from training.noise.blocks import REPEAT_DEGREES, SIDE_PX, SINGLE_DEGREES, Blocks
from training.noise.frames import Planes, evenly_chosen, pixels_of, repeated_pairs
from training.noise.line import SIGNIFICANT_ERRORS, Bin, Line, binned, fit_line

_SELECTIONS: Final = 6
# The flattest blocks of each brightness, to begin with.
_FLATTEST_SHARE: Final = 0.1
# The 90 % quantile of the structure's chi-square distribution over its mean: flat blocks stay, structured ones go.
_FLAT_BELOW: Final = 1.52
# Correlated noise, as of demosaiced images, has so many times the coarse structure of white noise.
_CORRELATED_COARSENESS: Final = 2.5
# 64 values less the three numbers of a plane.
_PLANE_REMOVED: Final = 64 / 61
# Closer to black or white than so many standard deviations, clipping makes noise look weaker.
_CLIPPING_MARGIN: Final = 3.0
_CORRELATED_FROM: Final = 0.1
# What subtracting a plane from 8x8 white values does to the correlation of neighbours.
_WHITE_CORRELATION: Final = -0.05
_WHITE_CORRELATION_OF_REPEATS: Final = -0.016
_BRIGHTNESSES: Final = 40
_FEWEST_BLOCKS: Final = 100
_QUANTISE: Final[dict[str, Quantise]] = {"u8": "u8", "u16": "u16", "f32": "none"}
# Of rounding to all values of a type between black and white, as the spec does.
_ROUNDING_VARIANCE: Final[dict[str, float]] = {"u8": 1 / (12 * 255**2), "u16": 1 / (12 * 65535**2), "f32": 0.0}
# A millionth of white, a fifteenth of the finest step of any file, squared: blocks with less than that hold no noise.
# Noise of a fifth of a sample value or more leaves no block quite without: those are masks, drawings or copies.
_NO_NOISE: Final = 1e-12

Method = Literal["repeats", "single images"]


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """What a camera's noise is: variance = gain * signal + read_sigma ** 2, the signal 0..1 from black to white.

    Attributes:
        gain: the signal of one photo-electron; 1 / gain electrons make white.
        gain_error, read_sigma_error: standard errors.
        read_sigma: standard deviation at black, in 8-bit levels; with the rounding of files whose samples don't fill
            their type, as 12-bit data, because a spec rounds by the type.
        dark_level: the sample value at which the noise ends, where that is above black by more than chance: the
            camera's dark level is there or a little higher. None where black is right, as far as noise tells.
        correlation: of adjacent pixels' noise; 0 for raw data, more for demosaiced, resized or JPEG images.
        method: what it was read from.
        image_count: how many were looked at.
        levels: black and white of the images.
        bins: the points that the line was fitted to.
    """

    gain: float
    gain_error: float
    read_sigma: float
    read_sigma_error: float
    dark_level: float | None
    correlation: float
    method: Method
    image_count: int
    levels: SampleLevels
    bins: tuple[Bin, ...]

    def sigma_at(self, signal: float) -> float:
        """Standard deviation in 8-bit levels."""
        return math.sqrt(self.gain * signal + (self.read_sigma / LEVELS_8BIT) ** 2) * LEVELS_8BIT

    @property
    def has_gain(self) -> bool:
        """Whether the noise depends on the signal, by more than chance."""
        return self.gain > SIGNIFICANT_ERRORS * self.gain_error

    @property
    def is_correlated(self) -> bool:
        return self.correlation > _CORRELATED_FROM

    def spec(self) -> NoiseSpec:
        """The noise to train with, clipped and rounded as such images are."""
        read_sigma = _rounded(self.read_sigma)
        stage: Stage
        if self.has_gain:
            gain = _rounded(self.gain)
            stage = PoissonGaussian(gain, gain, read_sigma, read_sigma)
        else:
            sigma = _rounded(self.sigma_at(0.5))
            stage = Gaussian(sigma, sigma)
        return NoiseSpec((stage,), quantise=_QUANTISE[self.levels.sample_type])

    def to_json(self) -> str:
        """Everything, with the spec, as indented JSON."""
        return json.dumps(asdict(self) | {"spec": json.loads(self.spec().to_json())}, indent=1)


def fit_noise(
    pack: Pack, *, repeats: bool = False, on_image: Callable[[PackedImage], None] = lambda _: None
) -> NoiseFit:
    """Reads gain and read noise off a pack's images; of pairs, off the noisy ones.

    Args:
        pack: as ``prepare`` made it.
        repeats: the planes of each stack, or all images where there are no stacks, show one still scene.
        on_image: called after each image.

    Raises:
        DataError: too little to read it from.
    """
    images = pack.manifest.images
    if repeats:
        pairs = evenly_chosen(repeated_pairs(images), lambda pair: pixels_of(pair[0]) * 2)
        used = [image for pair in pairs for image in pair]
        degrees, white_correlation = REPEAT_DEGREES, _WHITE_CORRELATION_OF_REPEATS
    else:
        used = list(evenly_chosen(images, pixels_of))
        pairs = [(image, image) for image in used]
        degrees, white_correlation = SINGLE_DEGREES, _WHITE_CORRELATION
    planes = Planes(pack)
    parts = []
    for one, other in pairs:
        parts += planes.repeat(one, other) if repeats else planes.single(one)
        for image in {one.file: one, other.file: other}.values():
            on_image(image)
    blocks = Blocks.joined(parts)
    settled = _settled(blocks, planes.limits, degrees=degrees, repeats=repeats)
    line = settled.line
    levels = pack.manifest.levels
    # The spec rounds by the sample type, and so adds this much again; what coarser steps added stays in.
    start = max(0.0, line.start - _ROUNDING_VARIANCE[levels.sample_type])
    read_sigma = math.sqrt(start)
    return NoiseFit(
        gain=line.slope,
        gain_error=line.slope_error,
        read_sigma=read_sigma * LEVELS_8BIT,
        # Also right near 0, where the error of a root is the root of the error.
        read_sigma_error=(math.sqrt(start + line.start_error) - read_sigma) * LEVELS_8BIT,
        dark_level=_dark_level(line, levels),
        correlation=settled.correlation - white_correlation,
        method="repeats" if repeats else "single images",
        image_count=len(used),
        levels=levels,
        bins=settled.bins,
    )


class _Settled(NamedTuple):
    """A line, its bins, and the correlation of neighbours in the blocks behind them."""

    line: Line
    bins: tuple[Bin, ...]
    correlation: float


def _settled(blocks: Blocks, limits: tuple[float, float], *, degrees: float, repeats: bool) -> _Settled:
    """The line, and what it was read from: fine detail where the noise is white, all of it where it isn't.

    Of correlated noise, as in demosaiced images, second differences see little; the whole energy of flat blocks sees
    it, and some of the scene with it.
    """
    block_count = blocks.mean.size
    blocks = blocks.where(blocks.variance > _NO_NOISE)
    if block_count and not blocks.mean.size:
        raise DataError(
            f"no noise found in {block_count} blocks of {SIDE_PX}x{SIDE_PX} pixels: each is constant, or the same in "
            "both frames. Take raw frames of a camera, not drawings, denoised images or copies of one file"
        )
    settled = _settled_at(blocks, limits, degrees=degrees, coarseness=1.0)
    if not repeats and (settled is None or settled.correlation > _CORRELATED_FROM):
        by_energy = blocks._replace(variance=blocks.energy * _PLANE_REMOVED)
        settled = _settled_at(by_energy, limits, degrees=degrees, coarseness=_CORRELATED_COARSENESS) or settled
    if settled is None:
        raise DataError(
            f"fewer than {_FEWEST_BLOCKS} of {block_count} blocks of {SIDE_PX}x{SIDE_PX} pixels are neither "
            "clipped nor textured nor without noise. Take more images or larger ones, out of focus or of a plain "
            "wall, or repeats of one scene"
        )
    return settled


def _settled_at(blocks: Blocks, limits: tuple[float, float], *, degrees: float, coarseness: float) -> _Settled | None:
    """Which blocks are flat follows from the line, the line from the flat blocks, and so on; None if few are left."""
    chosen = _flattest(blocks)
    if chosen.sum() < _FEWEST_BLOCKS:
        return None
    for _ in range(_SELECTIONS):
        bins = binned(blocks.mean[chosen], blocks.variance[chosen], degrees=degrees)
        line = fit_line(bins)
        variance = line.at(blocks.mean)
        margin = _CLIPPING_MARGIN * np.sqrt(variance)
        chosen = (
            (blocks.structure <= coarseness * _FLAT_BELOW * variance)
            & (blocks.mean - margin > limits[0])
            & (blocks.mean + margin < limits[1])
        )
        if chosen.sum() < _FEWEST_BLOCKS:
            return None
    flat = blocks.where(chosen)
    return _Settled(line, bins, float(flat.neighbours.sum() / flat.energy.sum()))


def _flattest(blocks: Blocks) -> NDArray[np.bool_]:
    """The least structured blocks of each brightness; all of them where there is no structure at all."""
    chosen = np.zeros(blocks.mean.size, dtype=bool)
    for part in np.array_split(np.argsort(blocks.mean, kind="stable"), _BRIGHTNESSES):
        if part.size:
            chosen[part] = blocks.structure[part] <= np.quantile(blocks.structure[part], _FLATTEST_SHARE)
    return chosen


def _dark_level(line: Line, levels: SampleLevels) -> float | None:
    """The sample value where the line reaches 0, if that is above black; a line that starts below 0 has a slope."""
    return levels.black - line.start / line.slope * (levels.white - levels.black) if line.start < 0 else None


def _rounded(value: float) -> float:
    """Three digits: more than a fit can know."""
    return float(f"{value:.3g}")
