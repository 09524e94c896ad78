"""What noise is: a serialisable NoiseSpec and the keyed random draws that realise it.

The same object is used by training, evaluation, calibration and the model file, so that none of them can disagree
about what was done to a picture, about clipping or about rounding. It knows nothing about networks or datasets; the
single stages are in :mod:`denoised._noise_sources` and :mod:`denoised._noise_effects`.

Noise levels (``sigma``) are standard deviations in 8-bit levels, 0..255, as published tables quote them; images and
sigma maps are float32 in 0..1.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoised._noise_effects import Demosaic, Jpeg, Resize
from denoised._noise_sources import Gaussian, PoissonGaussian
from denoised._noise_stage import LEVELS_8BIT, LUMA, Image, Noise, local_mean
from denoised._strict import read_dataclass

__all__ = [
    "LEVELS_8BIT",
    "LUMA",
    "Demosaic",
    "Gaussian",
    "Image",
    "Jpeg",
    "NoiseSpec",
    "Noisy",
    "PoissonGaussian",
    "Resize",
    "Stage",
    "benchmark_noisy",
    "keyed_rng",
]

Stage = Gaussian | PoissonGaussian | Resize | Demosaic | Jpeg
Quantise = Literal["none", "u8", "u16"]

_SOURCES: Final = (Gaussian, PoissonGaussian)
_QUANTISE: Final = ("none", "u8", "u16")
_QUANTISE_STEPS: Final = {"u8": 255.0, "u16": 65535.0}
_SHARES: Final = ("shuffle_share", "grey_share", "clean_share")


class Noisy(NamedTuple):
    """A picture with noise.

    Attributes:
        image: (H, W, C) float32; in 0..1 when the spec clips.
        sigma_map: (H, W) float32, the noise's local standard deviation in 0..1 units over all channels, before
            clipping and rounding.
        clean: (H, W, C) float32, what a network should make of it: the picture that was given, or its grey form.
    """

    image: Image
    sigma_map: Image
    clean: Image


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """A family of noise, and what is done to the noisy values afterwards.

    Attributes:
        stages: what happens to a picture, in this order; each with its own probability. None at all means that
            pictures are taken as they are: nothing is added, clipped or rounded.
        shuffle_share: share of the images whose stages come in random order.
        clip: whether noisy values are clipped to 0..1. A network trained on clipped noise fails on
            unclipped input (and the reverse), so this is part of the model's contract.
        quantise: the grid that noisy values are rounded to: ``none``, ``u8`` or ``u16``.
        grey_share: share of the images that are made grey, with the same noise in all channels.
        clean_share: share of the images that get no noise at all, whatever the stages.
    """

    stages: tuple[Stage, ...] = ()
    shuffle_share: float = 0.0
    clip: bool = True
    quantise: Quantise = "u8"
    grey_share: float = 0.0
    clean_share: float = 0.0

    def __post_init__(self) -> None:
        for name in _SHARES:
            # 1 and 1.0 are equal, and so are 0.0 and -0.0: equal specs have one text.
            object.__setattr__(self, name, float(getattr(self, name)) + 0.0)
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if self.quantise not in _QUANTISE:
            yield f"quantise is {self.quantise!r}; one of: {', '.join(_QUANTISE)}"
        elif self.quantise != "none" and not self.clip:
            yield "values can only be rounded to an integer grid when they are clipped: set clip"
        for name in _SHARES:
            share = getattr(self, name)
            if not 0.0 <= share <= 1.0:
                yield f"{name} is {share}; it must lie in 0..1"

    @classmethod
    def gaussian(
        cls,
        sigma_min: float,
        sigma_max: float,
        *,
        clip: bool = True,
        quantise: Quantise = "u8",
        grey_share: float = 0.0,
        clean_share: float = 0.0,
    ) -> "NoiseSpec":
        """White Gaussian noise and nothing else; equal sigmas mean a fixed level."""
        return cls(
            stages=(Gaussian(sigma_min, sigma_max),),
            clip=clip,
            quantise=quantise,
            grey_share=grey_share,
            clean_share=clean_share,
        )

    @property
    def sigma_min(self) -> float:
        """The least noise on mid grey, in 8-bit levels, that an image gets; the clean share does not count."""
        return self._sigma_bound(0)

    @property
    def sigma_max(self) -> float:
        """The most noise on mid grey, in 8-bit levels: that of all noise stages together."""
        return self._sigma_bound(1)

    def _sigma_bound(self, end: Literal[0, 1]) -> float:
        return math.hypot(
            *(
                stage.sigma_bounds()[end]
                for stage in self.stages
                if isinstance(stage, _SOURCES) and (stage.share > 0.0 if end else stage.share >= 1.0)
            )
        )

    def at(self, severity: float) -> "NoiseSpec":
        """One fixed kind of noise out of the family, from the mildest at 0 to the most severe at 1.

        Every range shrinks to one value, every share to 0 or 1; a stage that happens to a share of the images happens
        from severity 1 - share. No image is left clean, and none made grey unless all are.
        """
        if not 0.0 <= severity <= 1.0:
            raise ValueError(f"severity is {severity}; it must lie in 0..1")
        return replace(
            self,
            stages=tuple(stage.at(severity) for stage in self.stages),
            shuffle_share=float(self.shuffle_share >= 1.0),
            grey_share=float(self.grey_share >= 1.0),
            clean_share=0.0,
        )

    def apply(self, clean: Image, rng: np.random.Generator) -> Noisy:
        """A noisy copy of a clean picture; everything random is drawn here.

        Args:
            clean: (H, W, C) float32 in 0..1, of one channel or three.
            rng: where the noise comes from; see :func:`keyed_rng`.
        """
        grey, untouched, shuffled = (
            rng.random() < share for share in (self.grey_share, self.clean_share, self.shuffle_share)
        )
        channel_count = clean.shape[2]
        # All channels of a grey picture are one: it gets its noise as such.
        is_merged = grey and channel_count == 3
        if is_merged:
            clean = self._rounded((clean @ LUMA)[:, :, None])
        noise = Noise.none(clean)
        if not untouched:
            for stage in self._in_order(rng, shuffled=shuffled):
                if rng.random() < stage.share:
                    noise = stage.apply(noise, rng)
        image = clean + noise.values
        if self.stages:
            if self.clip:
                np.clip(image, 0.0, 1.0, out=image)
            image = self._rounded(image)
        sigma_map = np.empty(clean.shape[:2], np.float32)
        sigma_map[...] = np.sqrt(noise.variance.mean(axis=2))
        if is_merged:
            clean, image = (np.repeat(each, channel_count, axis=2) for each in (clean, image))
        return Noisy(image, sigma_map, clean)

    def sigma_map_of(self, noisy: Image) -> Image:
        """(H, W) float32: the noise that a picture without clean truth has according to this spec.

        From the middle of the noise stages' ranges and the picture's own local mean, where the variance depends on
        the signal. Stages that happen to a share of the images count by it.
        """
        variance = np.zeros(noisy.shape, np.float32)
        mean = local_mean(noisy)
        for stage in self.stages:
            if isinstance(stage, _SOURCES):
                variance += np.float32(stage.share) * stage.variance_on(mean)
        sigma: Image = np.sqrt(variance.mean(axis=2))
        return sigma

    def _in_order(self, rng: np.random.Generator, *, shuffled: bool) -> tuple[Stage, ...]:
        if not shuffled:
            return self.stages
        return tuple(self.stages[index] for index in rng.permutation(len(self.stages)))

    def _rounded(self, image: Image) -> Image:
        if self.quantise == "none":
            return image
        steps = np.float32(_QUANTISE_STEPS[self.quantise])
        image = image * steps
        np.rint(image, out=image)
        image /= steps
        return image

    def to_json(self) -> str:
        """A canonical text form: the same spec always gives the same characters."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "NoiseSpec":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: the text is no JSON object, has unknown or missing keys, or values out of range.
        """
        return read_dataclass(cls, json.loads(text), where="the noise spec")

    def digest(self) -> str:
        """SHA-256 of the canonical text, as hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def keyed_rng(*key: int) -> np.random.Generator:
    """The generator that belongs to a key such as (seed, epoch, index).

    A pure function of the key: draws depend neither on the order of calls nor on the number of workers,
    so a killed and resumed run sees what an uninterrupted one sees. Keys are whole numbers from 0 below 2**64.
    """
    # NumPy splits entropy into 32-bit words and pads with zeros, so that (5,) and (5, 0), or (2**32, 7) and (0, 1, 7),
    # would be one key; with the length in front and two words for each part they are not.
    words = [len(key), *(word for part in key for word in (part & 0xFFFFFFFF, part >> 32))]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def benchmark_noisy(clean_u8: NDArray[np.uint8], *, sigma: float, index: int) -> NDArray[np.uint8]:
    """The noisy 8-bit form of an evaluation image, as the project's quality tables define it.

    ``numpy.random.default_rng(1000 + index)`` for the image's index in sorted order, standard normal times
    sigma / 255 added to the image in 0..1, clipped, rounded to 8 bit.

    Args:
        clean_u8: (H, W) or (H, W, C) uint8. A grey image has its own (H, W) noise.
        sigma: standard deviation in 8-bit levels.
        index: position of the image in the sorted list of its set.
    """
    noise = np.random.default_rng(1000 + index).standard_normal(clean_u8.shape)
    noisy = np.clip(clean_u8 / LEVELS_8BIT + noise * (sigma / LEVELS_8BIT), 0.0, 1.0)
    return np.rint(noisy * LEVELS_8BIT).astype(np.uint8)
