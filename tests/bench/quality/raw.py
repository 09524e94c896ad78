"""ONNX Runtime without a service, all cores on one image: what a network costs by itself."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, MODEL_FILES, ModelContract, Precision
from denoised.noise import LEVELS_8BIT
from denoised.results import Model
from service.cpu import usable_core_count
from service.settings import Settings
from tests.bench.networks import session
from tests.bench.quality.images import Samples

# A whole photograph of a camera at once would need many gigabytes.
_LARGEST_SIDE_PX: Final = 1024


@dataclass(frozen=True, slots=True)
class RawNetwork:
    """A model's file, whole images at a time.

    Attributes:
        contract: of the file.
    """

    contract: ModelContract
    _session: ort.InferenceSession

    @classmethod
    def of(cls, model: Model) -> "RawNetwork":
        """The file that the service of these settings serves as ``model``.

        Raises:
            FileNotFoundError: the store has no such file.
            ValueError: the file is another than the service's.
        """
        path = _path_of(model)
        if hashlib.sha256(path.read_bytes()).hexdigest() != model.digest:
            raise ValueError(f"{path} is not the file that the service serves; was the store changed meanwhile?")
        ort_session = session(path, thread_count=usable_core_count(), spinning=False)
        return cls(ModelContract.from_metadata(ort_session.get_modelmeta().custom_metadata_map), ort_session)

    def answer(self, noisy: Samples) -> Samples:
        """The whole image at once, without tiles, for images of any size that fits memory."""
        channels = self.contract.channels
        planes = np.broadcast_to(np.atleast_3d(noisy), (*noisy.shape[:2], channels))
        (image,) = self._session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: self._padded(planes)})
        values = image[0, :, : noisy.shape[0], : noisy.shape[1]].transpose(1, 2, 0)
        # As in the service: the channels of a grey picture are equal, and their mean is the better answer.
        values = values if noisy.ndim == 3 else values.mean(axis=2)
        answer: Samples = np.rint(np.clip(values, 0.0, 1.0) * LEVELS_8BIT).astype(np.uint8)
        return answer

    def seconds_per_megapixel(self, noisy: Samples) -> float:
        """The second of two runs on the image, of large ones on the middle."""
        height_px, width_px = (min(side, _LARGEST_SIDE_PX) for side in noisy.shape[:2])
        top, left = (noisy.shape[0] - height_px) // 2, (noisy.shape[1] - width_px) // 2
        middle = np.atleast_3d(noisy[top : top + height_px, left : left + width_px])
        units = self._padded(np.broadcast_to(middle, (height_px, width_px, self.contract.channels)))
        self._session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: units})
        began_s = time.perf_counter()
        self._session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: units})
        wall_s = time.perf_counter() - began_s
        return wall_s / float(height_px * width_px) * 1e6

    def _padded(self, planes: Samples) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """(1, C, h, w) float32 with sides that the network takes."""
        multiple_px = self.contract.size_multiple_px
        missing = [(0, -side % multiple_px) for side in planes.shape[:2]]
        padded = np.pad(planes, (*missing, (0, 0)), mode="symmetric")
        levels = np.ascontiguousarray(padded.transpose(2, 0, 1)[np.newaxis]).astype(np.float32)
        return levels / np.float32(LEVELS_8BIT)


def _path_of(model: Model) -> Path:
    precisions: dict[str, Precision] = {"fp32": "fp32", "int8": "int8"}
    return Settings().models_dir / model.name / model.version / MODEL_FILES[precisions[model.precision]]
