"""The values that travel between the stages. Pure data: no I/O, no policy.

Array axes are stated once here: images are (H, W, C), what the network sees is (N, C, h, w), latent codes are (d,) or
(N, d).
"""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
Plane = NDArray[np.float32]
Units = NDArray[np.float32]
Codes = NDArray[np.float32]
Data = bytes | memoryview


class ServiceClass(Enum):
    """What share of the machine an image gets while others wait."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    BULK = "bulk"


class ReportLevel(Enum):
    """How much is said of an image. Unspecified: the fast report, as long as reports take little of the time."""

    UNSPECIFIED = "unspecified"
    NONE = "none"
    FAST = "fast"
    SURE = "sure"


class Container(Enum):
    """What an image came in, or shall leave in."""

    PNG = "png"
    JPEG = "jpeg"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image claims to be, read without decoding it.

    Attributes:
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha: what decoding will give.
        bits: 8 or 16 for files; 8, 16 or 32 (float) for raw samples.
    """

    container: Container
    height_px: int
    width_px: int
    channels: int
    bits: int

    @property
    def pixel_count(self) -> int:
        return self.height_px * self.width_px

    @property
    def decoded_bytes(self) -> int:
        return self.pixel_count * self.channels * self.bits // 8


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says about its pixels and must still say afterwards; the service never reads inside.

    Attributes:
        exif: the TIFF structure of Exif, without its marker (orientation lives here), or None.
        icc_profile: the colour profile, or None.
    """

    exif: bytes | None = None
    icc_profile: bytes | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A decoded image.

    Attributes:
        colour: (H, W, 1) or (H, W, 3), uint8, uint16 or float32.
        alpha: (H, W) of the same type, or None. It is never filtered.
        black_level, white_level: the sample values that stand for 0 and 1.
        metadata: carried from input to output.
    """

    colour: Samples
    alpha: Samples | None
    black_level: float
    white_level: float
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def height_px(self) -> int:
        return int(self.colour.shape[0])

    @property
    def width_px(self) -> int:
        return int(self.colour.shape[1])

    @property
    def channel_count(self) -> int:
        """Alpha included."""
        return int(self.colour.shape[2]) + (self.alpha is not None)
