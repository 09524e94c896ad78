"""The fastest way to read and write a file alone, in this process, with the libraries that the service has."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Literal

import imagecodecs
import simplejpeg

from service import codec
from service.types import Container, Image
from tests.bench.networks import Picture

# The service's default quality, without chroma subsampling.
JPEG_QUALITY: Final = 95

Decode = Callable[[bytes], Any]
Encode = Callable[[Picture], Any]


def jpeg(image: Picture, *, quality: int = JPEG_QUALITY, subsampling: Literal["444", "420"] = "444") -> bytes:
    """(H, W, C) as a JPEG; the service's answers have full chroma, cameras' files half of it."""
    file: bytes = simplejpeg.encode_jpeg(
        image, quality=quality, colorspace="RGB" if image.shape[2] == 3 else "GRAY", colorsubsampling=subsampling
    )
    return file


def png(image: Picture) -> bytes:
    """(H, W, C) as a PNG, with what suits noise: Paeth's filter and run lengths."""
    return bytes(
        imagecodecs.png_encode(
            image, level=1, filter=imagecodecs.PNG.FILTER.PAETH, strategy=imagecodecs.PNG.STRATEGY.RLE
        )
    )


def served_png(image: Picture) -> bytes:
    """(H, W, C) as the service writes it."""
    return codec.encode(Image(image, None, 0.0, 255.0), Container.PNG, jpeg_quality=JPEG_QUALITY)


_CANDIDATES: Final[Mapping[str, tuple[Mapping[str, Decode], Mapping[str, Encode]]]] = {
    "jpeg": (
        {"simplejpeg": simplejpeg.decode_jpeg, "imagecodecs jpeg8": imagecodecs.jpeg8_decode},
        {
            "simplejpeg": jpeg,
            "imagecodecs jpeg8": lambda image: imagecodecs.jpeg8_encode(image, level=JPEG_QUALITY, subsampling="444"),
        },
    ),
    "png": (
        {"imagecodecs png": imagecodecs.png_decode, "imagecodecs spng": imagecodecs.spng_decode},
        {"imagecodecs png": png, "the service's own": served_png},
    ),
}


@dataclass(slots=True)
class Floor:
    """Rounds of every candidate: CPU milliseconds of one image, by the candidate's name.

    Attributes:
        fastest: the name whose median is least.
    """

    rounds_ms: dict[str, list[float]] = field(default_factory=dict)

    def add(self, candidates: Mapping[str, Callable[[Any], Any]], given: bytes | Picture) -> None:
        """One more round."""
        for name, candidate in candidates.items():
            began_s = time.thread_time()
            candidate(given)
            self.rounds_ms.setdefault(name, []).append(1000 * (time.thread_time() - began_s))

    @property
    def fastest(self) -> str:
        return min(self.rounds_ms, key=lambda name: median(self.rounds_ms[name]))

    @property
    def fastest_ms(self) -> list[float]:
        """Of the fastest, round by round."""
        return self.rounds_ms[self.fastest]


class Floors:
    """What reading and writing one file costs at least."""

    def __init__(self, kind: Literal["jpeg", "png"], file: bytes, image: Picture) -> None:
        """``file`` is read, ``image`` is written."""
        self._decoders, self._encoders = _CANDIDATES[kind]
        self._file, self._image = file, image
        self.decode, self.encode = Floor(), Floor()

    def add_round(self) -> None:
        """Every candidate once."""
        self.decode.add(self._decoders, self._file)
        self.encode.add(self._encoders, self._image)
