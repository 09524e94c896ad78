"""Runs a network: the only module that knows ONNX Runtime.

One session for each lane, so that a lane never waits for another's locks or arena. Session options follow from
measurements: spinning off (8 threads on 2 cores: 262 ms spinning, 61 ms not), thread counts always explicit
(ONNX Runtime's own default sees the host's cores, not the container's quota), no memory patterns (shapes vary).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, SIGMA_OUTPUT_NAME, ContractError, GoldenPair, ModelContract
from denoised.seal import check_seal
from service.types import Units

# Its Linux builds report to their maker by default; a service sends nothing that it was not asked to send.
ort.disable_telemetry_events()


class ModelRefused(Exception):
    """A model file can't be served; the message says which file and why."""


class Engine(Protocol):
    """What the batcher needs of a network. ``run`` blocks; each lane is used by one thread at a time."""

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        """(N, C, h, w) to (denoised (N, C, h, w), sigma map (N, 1, h', w')); None of a network without a map."""
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How many lanes run side by side, and how many threads each has."""

    lane_count: int
    threads_per_lane: int


class OnnxEngine:
    """One model file, loaded once for each lane."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Reads the file and its contract; does not run it yet.

        Raises:
            ModelRefused: no file, one that was changed since its export, no contract, outputs other than its
                contract's, or ONNX Runtime can't load it.
        """
        try:
            model_bytes = path.read_bytes()
        except OSError as error:
            raise ModelRefused(f"cannot read {path}: {error.strerror}") from error
        self.digest = hashlib.sha256(model_bytes).hexdigest()
        try:
            check_seal(model_bytes)
            self._sessions = [_session(model_bytes, options) for _ in range(options.lane_count)]
            self.contract = ModelContract.from_metadata(self._sessions[0].get_modelmeta().custom_metadata_map)
        except ContractError as error:
            raise ModelRefused(f"{path}: {error}") from error
        except Exception as error:  # ONNX Runtime has its own exception classes, none of them public
            raise ModelRefused(f"{path} is no model that ONNX Runtime can load: {error}") from error
        self._outputs = [IMAGE_OUTPUT_NAME, SIGMA_OUTPUT_NAME][: 2 if self.contract.sigma_map_scale_px else 1]
        missing = set(self._outputs) - {output.name for output in self._sessions[0].get_outputs()}
        if missing:
            raise ModelRefused(f"{path} has no output {', '.join(sorted(missing))}, which its contract promises")

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        """See :class:`Engine`."""
        image, *sigma_map = self._sessions[lane].run(self._outputs, {INPUT_NAME: units})
        return image, sigma_map[0] if sigma_map else None

    def check(self) -> None:
        """Reproduces the golden pair on every lane.

        Raises:
            ModelRefused: a lane's answer is further from the file's own than its tolerance.
        """
        golden = self.contract.golden
        units = golden.noisy().astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255)
        for lane in range(len(self._sessions)):
            image, _ = self.run(units, lane=lane)
            levels = np.rint(np.clip(image[0], 0, 1) * 255).transpose(1, 2, 0)
            difference = int(np.abs(levels - golden.denoised().astype(np.float32)).max())
            if not difference <= GoldenPair.TOLERANCE_LEVELS:
                raise ModelRefused(
                    f"{self.contract.name} {self.contract.version} differs from its golden pair by {difference} levels "
                    f"on lane {lane}; at most {GoldenPair.TOLERANCE_LEVELS} is right. The file or the runtime is broken"
                )

    def unit_shapes(self) -> Iterable[tuple[int, int]]:
        """Every (height, width) that a unit can have."""
        edges_px = self.contract.unit_edges_px
        return product(edges_px, edges_px)


def _session(model_bytes: bytes, options: EngineOptions) -> ort.InferenceSession:
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = options.threads_per_lane
    session_options.inter_op_num_threads = 1
    session_options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    session_options.enable_mem_pattern = False
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session_options.log_severity_level = 3
    return ort.InferenceSession(model_bytes, session_options, providers=["CPUExecutionProvider"])
