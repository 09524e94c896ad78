"""What noise is: a serialisable NoiseSpec and the keyed random draws that realise it.

The same object is used by training, evaluation, calibration and the model file, so that none of them
can disagree about clipping or rounding. Pure NumPy; it knows nothing about networks or files.

Noise levels (``sigma``) are standard deviations in 8-bit levels, 0..255, as published tables quote them;
images are float32 in 0..1.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from denoised._strict import read_dataclass

Image = NDArray[np.float32]

LEVELS_8BIT: Final = 255.0

_KINDS: Final = ("gaussian",)
_QUANTISE: Final = ("none", "u8", "u16")
_QUANTISE_STEPS: Final = {"u8": 255.0, "u16": 65535.0}


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """A family of noise, and what is done to the noisy values afterwards.

    Attributes:
        kind: ``gaussian``: white, additive, independent of the signal.
        sigma_min, sigma_max: range of the standard deviation in 8-bit levels; one value is drawn per
            image, uniformly. Equal values mean a fixed level.
        clip: whether noisy values are clipped to 0..1. A network trained on clipped noise fails on
            unclipped input (and the reverse), so this is part of the model's contract.
        quantise: the grid that noisy values are rounded to: ``none``, ``u8`` or ``u16``.
        grey_share: share of the images that are made grey, with the same noise in all channels.
        clean_share: share of the images that get no noise at all, whatever the range.
    """

    kind: Literal["gaussian"]
    sigma_min: float
    sigma_max: float
    clip: bool = True
    quantise: Literal["none", "u8", "u16"] = "u8"
    grey_share: float = 0.0
    clean_share: float = 0.0

    def __post_init__(self) -> None:
        checks = (
            (self.kind in _KINDS, f"noise kind is {self.kind!r}; known kinds: {', '.join(_KINDS)}"),
            (
                0.0 <= self.sigma_min <= self.sigma_max <= LEVELS_8BIT,
                f"sigma range is {self.sigma_min}..{self.sigma_max}; it must be ordered and lie in 0..255",
            ),
            (self.quantise in _QUANTISE, f"quantise is {self.quantise!r}; one of: {', '.join(_QUANTISE)}"),
            (
                self.clip or self.quantise == "none",
                "values can only be rounded to an integer grid when they are clipped: set clip",
            ),
            (0.0 <= self.grey_share <= 1.0, f"grey_share is {self.grey_share}; it must lie in 0..1"),
            (0.0 <= self.clean_share <= 1.0, f"clean_share is {self.clean_share}; it must lie in 0..1"),
        )
        problems = [message for is_right, message in checks if not is_right]
        if problems:
            raise ValueError("; ".join(problems))

    def at(self, sigma: float) -> "NoiseSpec":
        """The same noise at one fixed level."""
        return replace(self, sigma_min=sigma, sigma_max=sigma, clean_share=0.0)

    def draw_sigma(self, rng: np.random.Generator) -> float:
        """One noise level in 8-bit levels, uniform in the range, or 0 for the clean share."""
        sigma = float(rng.uniform(self.sigma_min, self.sigma_max))
        return 0.0 if rng.random() < self.clean_share else sigma

    def apply(
        self, clean: Image, *, sigma: float, rng: np.random.Generator, same_in_all_channels: bool = False
    ) -> Image:
        """A noisy copy of ``clean``.

        Args:
            clean: (H, W, C) float32 in 0..1.
            sigma: standard deviation in 8-bit levels.
            rng: where the noise comes from; see :func:`keyed_rng`.
            same_in_all_channels: one noise field for all channels, as in a grey photograph stored as colour.

        Returns:
            (H, W, C) float32; in 0..1 when the spec clips.
        """
        height_px, width_px, channel_count = clean.shape
        shape = (height_px, width_px, 1 if same_in_all_channels else channel_count)
        noisy = rng.standard_normal(shape, dtype=np.float32)
        noisy = noisy * np.float32(sigma / LEVELS_8BIT) + clean
        if self.clip:
            np.clip(noisy, 0.0, 1.0, out=noisy)
        if self.quantise != "none":
            steps = np.float32(_QUANTISE_STEPS[self.quantise])
            noisy = np.rint(noisy * steps) / steps
        return noisy

    def to_json(self) -> str:
        """A canonical text form: the same spec always gives the same characters."""
        values = {
            # 5 and 5.0 are equal, and so are 0.0 and -0.0: equal specs have one text.
            name: float(value) + 0.0 if isinstance(value, (int, float)) and not isinstance(value, bool) else value
            for name, value in asdict(self).items()
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

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
