"""The stages that change the noise which is there: correlation between neighbours, and files.

``resize`` and ``demosaic`` correlate. They are linear, so they act on the noise itself: the picture under it stays
where it was, to the last fraction of a pixel. They keep the noise's energy in the picture, and with it the sigma map;
the map stands for the standard deviation in a neighbourhood, since after demosaicing it differs from pixel to pixel
within each 2x2 cell. ``jpeg`` encodes picture and noise; from then on the map is the RMS of what differs from the clean
picture, in each 8x8 block.

For a megapixel of three channels, on one thread, ``resize`` takes about 40 ms, ``demosaic`` 15 ms, ``jpeg`` 70 ms.
Pillow is needed for ``jpeg`` and ``resize`` alone, and imported by them.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from denoised._noise_stage import (
    LEVELS_8BIT,
    LUMA,
    Image,
    Noise,
    StageBase,
    between,
    happens_at,
    range_problems,
    share_problems,
)

_SMALLEST_SCALE: Final = 0.125
_JPEG_BLOCK_PX: Final = 8
_SUBSAMPLINGS: Final = {"4:4:4": 0, "4:2:0": 2}


@dataclass(frozen=True, slots=True)
class Resize(StageBase):
    """Coarse grain, as of a picture that was enlarged: the noise goes down to a smaller grid and up again.

    Attributes:
        scale_min, scale_max: range of the smaller grid's size as a share of the picture's; drawn uniformly. At 1
            nothing changes, at 0.5 a grain is about 2 pixels wide.
        share: probability that the stage happens to an image.
    """

    scale_min: float
    scale_max: float
    kind: Literal["resize"] = "resize"
    share: float = 1.0

    def problems(self) -> Iterator[str]:
        yield from range_problems("scale", self.scale_min, self.scale_max, _SMALLEST_SCALE, 1.0)
        yield from share_problems("share", self.share)

    def at(self, severity: float) -> "Resize":
        scale = between(self.scale_max, self.scale_min, severity)
        return replace(self, scale_min=scale, scale_max=scale, share=happens_at(self.share, severity))

    def apply(self, noise: Noise, rng: np.random.Generator) -> Noise:
        from PIL import Image as Picture

        scale = rng.uniform(self.scale_min, self.scale_max)
        height_px, width_px, channel_count = noise.values.shape
        small_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        if small_px == (width_px, height_px):
            return noise
        coarse = np.empty_like(noise.values)
        for channel in range(channel_count):
            # Pillow maps the whole area onto the whole area, both ways: nothing moves.
            plane = Picture.fromarray(np.ascontiguousarray(noise.values[:, :, channel]))
            plane = plane.resize(small_px, Picture.Resampling.BILINEAR)
            coarse[:, :, channel] = np.asarray(plane.resize((width_px, height_px), Picture.Resampling.BILINEAR))
        return noise.correlated(coarse)


@dataclass(frozen=True, slots=True)
class Demosaic(StageBase):
    """Noise as it comes out of a colour camera: one colour per pixel is measured, the others are interpolated.

    The Bayer mosaic of the noise is demosaiced bilinearly, in one of the mosaic's four positions at random. Noise of
    one channel is the mosaic itself; its demosaiced colours become grey by JPEG's luma.

    Attributes:
        share: probability that the stage happens to an image.
    """

    kind: Literal["demosaic"] = "demosaic"
    share: float = 1.0

    def problems(self) -> Iterator[str]:
        yield from share_problems("share", self.share)

    def at(self, severity: float) -> "Demosaic":
        return replace(self, share=happens_at(self.share, severity))

    def apply(self, noise: Noise, rng: np.random.Generator) -> Noise:
        red_row, red_column = (int(each) for each in rng.integers(2, size=2))
        values = noise.values
        # One more pixel on each side; a reflection keeps the mosaic's order.
        padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        sites = (
            ((red_row, red_column),),
            ((red_row, 1 - red_column), (1 - red_row, red_column)),
            ((1 - red_row, 1 - red_column),),
        )
        colours = np.empty((*values.shape[:2], 3), np.float32)
        for channel, places in enumerate(sites):
            plane = np.zeros(padded.shape[:2], np.float32)
            for row, column in places:
                # The padding moved everything by one.
                at = (slice(1 - row, None, 2), slice(1 - column, None, 2))
                plane[at] = padded[..., channel % padded.shape[2]][at]
            colours[..., channel] = _interpolated(plane, is_green=channel == 1)
        return noise.correlated(colours if values.shape[2] == 3 else (colours @ LUMA)[:, :, None])


@dataclass(frozen=True, slots=True)
class Jpeg(StageBase):
    """What a JPEG file keeps of the picture and its noise; both are clipped and rounded to 8 bit on the way.

    The block grid begins anywhere, as in a crop of a photograph.

    Attributes:
        quality_min, quality_max: range of libjpeg's quality, 1..100; whole numbers, drawn uniformly.
        subsampling: of colour: ``4:2:0`` as cameras do, or ``4:4:4`` for none.
        share: probability that the stage happens to an image.
    """

    quality_min: int
    quality_max: int
    subsampling: Literal["4:4:4", "4:2:0"] = "4:2:0"
    kind: Literal["jpeg"] = "jpeg"
    share: float = 1.0

    def problems(self) -> Iterator[str]:
        yield from range_problems("quality", self.quality_min, self.quality_max, 1, 100)
        if self.subsampling not in _SUBSAMPLINGS:
            yield f"subsampling is {self.subsampling!r}; one of: {', '.join(_SUBSAMPLINGS)}"
        yield from share_problems("share", self.share)

    def at(self, severity: float) -> "Jpeg":
        quality = round(between(self.quality_max, self.quality_min, severity))
        return replace(self, quality_min=quality, quality_max=quality, share=happens_at(self.share, severity))

    def apply(self, noise: Noise, rng: np.random.Generator) -> Noise:
        quality = int(rng.integers(self.quality_min, self.quality_max, endpoint=True))
        # Blocks of subsampled colour cover 16 pixels.
        top_px, left_px = (int(each) for each in rng.integers(2 * _JPEG_BLOCK_PX, size=2))
        clean = noise.clean
        picture = np.pad(clean + noise.values, ((top_px, 0), (left_px, 0), (0, 0)), mode="edge")
        samples = np.rint(np.clip(picture, 0.0, 1.0) * np.float32(LEVELS_8BIT)).astype(np.uint8)
        decoded = self._through_file(samples, quality)[top_px:, left_px:]
        values = decoded.astype(np.float32) / np.float32(LEVELS_8BIT) - clean
        return Noise(clean, values, _block_mean_square(values, top_px % _JPEG_BLOCK_PX, left_px % _JPEG_BLOCK_PX))

    def _through_file(self, samples: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
        from PIL import Image as Picture

        file = io.BytesIO()
        picture = Picture.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
        picture.save(file, "JPEG", quality=quality, subsampling=_SUBSAMPLINGS[self.subsampling])
        return np.asarray(Picture.open(file)).reshape(samples.shape)


def _interpolated(plane: Image, *, is_green: bool) -> Image:
    """Bilinear demosaicing of one colour: zeros where it wasn't measured; one pixel of padding goes away."""
    if is_green:
        around = plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:]
        return plane[1:-1, 1:-1] + around * np.float32(0.25)
    rows = plane[1:-1] + (plane[:-2] + plane[2:]) * np.float32(0.5)
    return rows[:, 1:-1] + (rows[:, :-2] + rows[:, 2:]) * np.float32(0.5)


def _block_mean_square(values: Image, top_px: int, left_px: int) -> Image:
    """(H, W, 1): the mean square over each 8x8 block and all channels, for a grid that begins so far outside."""
    height_px, width_px, channel_count = values.shape
    rows, columns = (
        (np.arange(size_px) + offset_px) // _JPEG_BLOCK_PX
        for size_px, offset_px in ((height_px, top_px), (width_px, left_px))
    )
    first_row, first_column = (np.flatnonzero(np.diff(each, prepend=-1)) for each in (rows, columns))
    sums = np.add.reduceat(np.einsum("hwc,hwc->hw", values, values), first_row, axis=0)
    sums = np.add.reduceat(sums, first_column, axis=1)
    counts = np.bincount(rows)[:, None] * np.bincount(columns) * np.float32(channel_count)
    mean = (sums / counts).astype(np.float32)
    spread: Image = mean[np.ix_(rows, columns)][:, :, None]
    return spread
