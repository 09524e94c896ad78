"""What the shipped network says of a whole image, asked directly: no tiles, no batches, none of the service's code."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, SIGMA_OUTPUT_NAME, ModelContract

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Whole:
    """A network's answer: (H, W, C) with black at 0 and white at 1, and the mean of its noise map in 8-bit levels.

    That mean is NaN when the network has no map.
    """

    image: Floats
    noise_sigma: float

    @property
    def levels(self) -> NDArray[np.uint8]:
        return to_u8(self.image)


class Oracle:
    """A model file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.contract = ModelContract.from_metadata(self._session.get_modelmeta().custom_metadata_map)

    def denoise(self, noisy: Floats) -> Whole:
        """(H, W, C) in 0..1, reflected up to the next size that the network takes."""
        height_px, width_px, _ = noisy.shape
        multiple_px = self.contract.size_multiple_px
        padding = ((0, -height_px % multiple_px), (0, -width_px % multiple_px), (0, 0))
        planes = np.pad(noisy, padding, mode="symmetric").transpose(2, 0, 1)[np.newaxis]
        outputs = [IMAGE_OUTPUT_NAME, *([SIGMA_OUTPUT_NAME] if self.contract.sigma_map_scale_px else [])]
        image, *sigma_map = self._session.run(outputs, {INPUT_NAME: np.ascontiguousarray(planes)})
        noise_sigma = float(sigma_map[0].mean()) * 255.0 if sigma_map else math.nan
        return Whole(image[0].transpose(1, 2, 0)[:height_px, :width_px], noise_sigma)


def to_unit(samples: NDArray[np.uint8]) -> Floats:
    return samples.astype(np.float32) / np.float32(255)


def to_u8(image: Floats) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return levels
