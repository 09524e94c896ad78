"""Everything that answers a noisy image: networks through the service, classical methods here, the input itself."""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from denoised import Client
from denoised.noise import LEVELS_8BIT, Image
from denoised.results import Model
from tests.bench.quality.images import Samples

# (noisy (H, W, C) float32 in 0..1, sigma in 8-bit levels) -> an estimate alike.
Denoise = Callable[[Image, float], NDArray[np.floating]]

NOISY: Final = "noisy"
OPENCV_NLM: Final = "OpenCV NLM"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        samples: of the input's shape, uint8.
        wall_s: from handing the input in to having the answer.
        sigma_found: in 8-bit levels, where the method says one.
    """

    samples: Samples
    wall_s: float
    sigma_found: float | None = None


class Method(Protocol):
    """One row of the table."""

    @property
    def name(self) -> str: ...

    def answer(self, noisy: Samples, sigma: float) -> Answer:
        """The clean form of (H, W) or (H, W, 3) samples; ``sigma`` is for methods that have to be told."""
        ...


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The noisy input as its own answer."""

    name: str = NOISY

    def answer(self, noisy: Samples, sigma: float) -> Answer:
        return Answer(noisy, 0.0)


@dataclass(frozen=True, slots=True)
class Served:
    """A network of the running service: PNG in, PNG out, told nothing."""

    client: Client
    model: Model

    @property
    def name(self) -> str:
        return f"{self.model.name}/{self.model.version}"

    def takes(self, samples: Samples) -> bool:
        """Whether the network was made for images of these channels and sides."""
        has_channels = samples.ndim == 2 or self.model.channel_count == 3
        side_px = self.model.fixed_side_px
        return has_channels and (side_px == 0 or samples.shape[:2] == (side_px, side_px))

    def clean(self, noisy: Samples) -> Samples:
        """The answer's samples alone."""
        return self.answer(noisy, 0.0).samples

    def answer(self, noisy: Samples, sigma: float) -> Answer:
        file = png_of(noisy)
        began_s = time.perf_counter()
        result = self.client.clean(file, model=self.model.name, model_version=self.model.version)
        wall_s = time.perf_counter() - began_s
        with PillowImage.open(io.BytesIO(result.image)) as image:
            return Answer(np.asarray(image), wall_s, result.noise_sigma)


@dataclass(frozen=True, slots=True)
class Classical:
    """A method without a network, told the noise level."""

    name: str
    denoise: Denoise = field(repr=False)

    def answer(self, noisy: Samples, sigma: float) -> Answer:
        planes = noisy if noisy.ndim == 3 else noisy[:, :, np.newaxis]
        unit = planes.astype(np.float32) / np.float32(LEVELS_8BIT)
        began_s = time.perf_counter()
        estimate = self.denoise(unit, sigma)
        wall_s = time.perf_counter() - began_s
        samples = np.rint(np.clip(estimate, 0.0, 1.0) * LEVELS_8BIT).astype(np.uint8)
        return Answer(samples.reshape(noisy.shape), wall_s)


def served_methods(client: Client) -> list[Served]:
    """Every model of the service that can denoise, the default first."""
    models = [model for model in client.models() if "denoise" in model.capabilities]
    return [Served(client, model) for model in sorted(models, key=lambda model: not model.is_default)]


def png_of(samples: Samples) -> bytes:
    """A quickly written PNG file."""
    buffer = io.BytesIO()
    PillowImage.fromarray(samples).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def classical_methods(report: Callable[[str], None]) -> Iterator[Classical]:
    """The classical methods whose libraries are installed.

    Args:
        report: told of each method that is skipped, and why.
    """
    makers: dict[str, Callable[[], Denoise]] = {
        OPENCV_NLM: _opencv_nlm,
        "scikit-image NLM": _skimage_nlm,
        "wavelet BayesShrink": _wavelet,
        "TV Chambolle": _total_variation,
    }
    for name, make in makers.items():
        try:
            yield Classical(name, make())
        except ImportError as error:
            report(f"{name} skipped: {error}; `make quality` installs what is needed")


# Strengths, in sigma, that did best at sigma 25 on scikit-image's astronaut.
_OPENCV_STRENGTH: Final = 0.8
_TV_WEIGHT: Final = 0.8


def _opencv_nlm() -> Denoise:
    import cv2

    def denoise(noisy: Image, sigma: float) -> NDArray[np.floating]:
        samples = np.rint(noisy * LEVELS_8BIT).astype(np.uint8)
        strength = _OPENCV_STRENGTH * max(sigma, 0.1)
        if samples.shape[2] == 1:
            cleaned = cv2.fastNlMeansDenoising(samples[:, :, 0], None, strength, 7, 21)
        else:
            # Colours are in RGB order here and BGR there; its Lab needs the right one.
            bgr = np.ascontiguousarray(samples[:, :, ::-1])
            cleaned = cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength, 7, 21)[:, :, ::-1]
        return np.asarray(cleaned, np.float32).reshape(noisy.shape) / np.float32(LEVELS_8BIT)

    return denoise


def _skimage_nlm() -> Denoise:
    from training.evaluation.baselines import NonLocalMeans

    return NonLocalMeans()


def _wavelet() -> Denoise:
    # scikit-image imports it at the first call only.
    import pywt  # noqa: F401

    from training.evaluation.baselines import Wavelet

    return Wavelet()


def _total_variation() -> Denoise:
    from skimage.restoration import denoise_tv_chambolle

    def denoise(noisy: Image, sigma: float) -> NDArray[np.floating]:
        answer: NDArray[np.floating] = denoise_tv_chambolle(  # type: ignore[no-untyped-call]  # scikit-image states no types
            noisy, weight=_TV_WEIGHT * max(sigma, 0.1) / LEVELS_8BIT, channel_axis=-1
        )
        return answer

    return denoise
