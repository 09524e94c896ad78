"""Kinds of images that come to a service, made of photographs: each a pure function of the photograph and its number.

Which verdict an image deserves is known, because it is known what was done to it.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from denoised.noise import keyed_rng
from denoised.verdicts import Verdict

Picture = NDArray[np.uint8]
Change = Callable[[Picture, np.random.Generator], Picture]

# What a report may say of a clean photograph, and of one that is only out of focus or was a JPEG.
_CLEAN: Final = frozenset({Verdict.ALREADY_CLEAN})
_NOTHING: Final[frozenset[Verdict]] = frozenset()
_CORRELATED: Final = frozenset({Verdict.NOISE_CORRELATED})
_FILTERS: Final = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
_KEY: Final = 606


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of image.

    Attributes:
        deserved: verdicts that are right for it.
        may_have: verdicts that are nobody's error, either way.
        sigma: of white noise in 8-bit levels; None where it has none, or it was changed afterwards.
    """

    change: Change
    deserved: frozenset[Verdict] = _NOTHING
    may_have: frozenset[Verdict] = _NOTHING
    sigma: float | None = None


def image_of(kind: str, photograph: Picture, number: int) -> Picture:
    """(H, W, 3) uint8; the photograph's number seeds what is drawn."""
    rng = keyed_rng(_KEY, number, *kind.encode())
    return KINDS[kind].change(photograph, rng)


def _noisy(sigma: float) -> Change:
    return lambda picture, rng: _rounded(picture + rng.standard_normal(picture.shape) * sigma)


def _rounded(values: NDArray[np.floating]) -> Picture:
    rounded: Picture = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return rounded


def _jpeg(picture: Picture, rng: np.random.Generator) -> Picture:
    """Quality 60 to 95, colour subsampled as cameras do."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(rng.integers(60, 96)), subsampling=2)
    return np.asarray(Image.open(file))


def _resized(least: float, most: float) -> Change:
    def change(picture: Picture, rng: np.random.Generator) -> Picture:
        scale, how = rng.uniform(least, most), _FILTERS[int(rng.integers(len(_FILTERS)))]
        sides = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        return np.asarray(Image.fromarray(picture).resize(sides, how))

    return change


def _blurred(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 3.0))))


def _overexposed(picture: Picture, rng: np.random.Generator) -> Picture:
    """By 0.5 to 1 stop; the noise of the sensor comes before its clipping."""
    exposed = picture * rng.uniform(1.4, 2.0)
    return _rounded(exposed + rng.standard_normal(picture.shape) * 5.0)


def _after(*changes: Change) -> Change:
    def change(picture: Picture, rng: np.random.Generator) -> Picture:
        for each in changes:
            picture = each(picture, rng)
        return picture

    return change


def _same(picture: Picture, rng: np.random.Generator) -> Picture:
    del rng
    return picture


def _kinds() -> dict[str, Kind]:
    kinds = {"clean": Kind(_same, _CLEAN, sigma=0.0)}
    for sigma in (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 50.0):
        kinds[f"noise {sigma:g}"] = Kind(_noisy(sigma), sigma=sigma)
    kinds["noise 70"] = Kind(_noisy(70.0), frozenset({Verdict.OUT_OF_RANGE_SIGMA}), sigma=70.0)
    for sigma in (15.0, 25.0, 35.0):
        for name, change in (("jpeg", _jpeg), ("enlarged", _resized(1.25, 2.0)), ("reduced", _resized(0.55, 0.85))):
            kinds[f"noise {sigma:g}, {name}"] = Kind(_after(_noisy(sigma), change), _CORRELATED)
    may_look_clean = _CLEAN | _CORRELATED
    kinds["jpeg"] = Kind(_jpeg, may_have=may_look_clean)
    kinds["blurred"] = Kind(_blurred, may_have=may_look_clean)
    kinds["blurred, noise 15"] = Kind(_after(_blurred, _noisy(15.0)))
    kinds["overexposed"] = Kind(_overexposed, frozenset({Verdict.CLIPPED_INPUT}), frozenset({Verdict.TINTED}))
    return kinds


KINDS: Final[Mapping[str, Kind]] = _kinds()
