"""One model file: loaded, checked against its golden pair, warmed, and run on any lane.

A lane of one thread needs no session of its own. The thread that calls computes, ONNX Runtime allows calls side by
side, and the arena's lock costs nothing that could be measured; so such lanes share one session, its weights and its
load time. Lanes of several threads have a pool each, and so a session each. The wide lane is one more session.
"""

import hashlib
import math
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, SIGMA_OUTPUT_NAME, ContractError, GoldenPair, ModelContract
from denoised.seal import check_seal
from service.engine.options import EngineOptions, ModelRefused
from service.engine.sessions import open_session
from service.types import Units

_USUAL_UNIT_PIXELS: Final = 256 * 256


class Engine(Protocol):
    """What the batcher needs of a network.

    Attributes:
        contract: the file's description of itself.
        digest: SHA-256 of the file.
    """

    @property
    def contract(self) -> ModelContract: ...
    @property
    def digest(self) -> str: ...

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        """Computes a batch; blocks, and releases the GIL while it computes.

        The caller promises: one run at a time on a lane, and nothing else running while one runs on ``WIDE_LANE``.
        ``units`` is only read, and no longer once this returns or raises. The answers own their memory, so they stay
        valid for as long as they are kept; kept answers keep a part of the arena.

        Args:
            units: (N, C, h, w), C-contiguous, h and w of the contract's edges.
            lane: 0 .. lane count - 1, or ``WIDE_LANE``.

        Returns:
            The denoised units (N, C, h, w), and the sigma map (N, 1, h', w') or None of a network without one.

        Raises:
            Exception: whatever ONNX Runtime raises; its classes have no common public base.
        """
        ...


@dataclass(frozen=True, slots=True)
class TimedBatch:
    """How long a batch of ``count`` units of one shape took on one lane, while the other lanes were as busy."""

    height_px: int
    width_px: int
    count: int
    seconds: float


class OnnxEngine:
    """One model file on all lanes."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Reads the file and its contract; does not run it yet.

        Raises:
            ModelRefused: no file, one that is too large or was changed since its export, operators or weights that
                are not served, no contract, outputs other than its contract's, a provider that isn't there, or ONNX
                Runtime can't load it.
        """
        try:
            model_bytes = read_file(path, options)
        except OSError as error:
            raise ModelRefused(f"cannot read {path}: {error.strerror}") from error
        self.digest = hashlib.sha256(model_bytes).hexdigest()
        self._options = options
        shared = options.threads_per_lane == 1
        has_wide_lane = options.wide_thread_count > options.threads_per_lane and options.provider == "cpu"
        thread_counts = [options.threads_per_lane] * (1 if shared else options.lane_count)
        thread_counts += [options.wide_thread_count] * has_wide_lane
        try:
            check_seal(model_bytes)
            self._sessions = [open_session(path, model_bytes, options, thread_count=count) for count in thread_counts]
            self.contract = ModelContract.from_metadata(self._sessions[0].get_modelmeta().custom_metadata_map)
        except ContractError as error:
            raise ModelRefused(f"{path}: {error}") from error
        # By lane; the last one is the wide lane's, so that WIDE_LANE, which is -1, is an index like the others.
        lanes = [self._sessions[0]] * options.lane_count if shared else self._sessions[: options.lane_count]
        self._session_of_lane = (*lanes, self._sessions[-1])
        self._outputs = [IMAGE_OUTPUT_NAME, SIGMA_OUTPUT_NAME][: 2 if self.contract.sigma_map_scale_px else 1]
        missing = set(self._outputs) - {output.name for output in self._sessions[0].get_outputs()}
        if missing:
            raise ModelRefused(f"{path} has no output {', '.join(sorted(missing))}, which its contract promises")

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        """See :class:`Engine`."""
        image, *sigma_map = self._session_of_lane[lane].run(self._outputs, {INPUT_NAME: units})
        return image, sigma_map[0] if sigma_map else None

    def check(self) -> None:
        """Reproduces the golden pair on every session.

        Raises:
            ModelRefused: an answer is further from the file's own than its tolerance.
        """
        golden = self.contract.golden
        units = golden.noisy().astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255)
        for session in self._sessions:
            image = session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: units})[0]
            levels = np.rint(np.clip(image[0], 0, 1) * 255).transpose(1, 2, 0)
            difference = int(np.abs(levels - golden.denoised().astype(np.float32)).max())
            if not difference <= GoldenPair.TOLERANCE_LEVELS:
                raise ModelRefused(
                    f"{self.contract.name} {self.contract.version} differs from its golden pair by {difference} levels "
                    f"on {session.get_providers()[0]}; at most {GoldenPair.TOLERANCE_LEVELS} is right. "
                    "The file or the runtime is broken"
                )

    def unit_shapes(self) -> Iterable[tuple[int, int]]:
        """Every (height, width) that a unit can have, the smallest first and the largest last."""
        edges_px = self.contract.unit_edges_px
        return product(edges_px, edges_px)

    def warm_up(self) -> TimedBatch:
        """Runs what takes the most memory, on all lanes at once, so that the arena has grown before requests come.

        On a CPU nothing is compiled for a shape: after the largest batch, another shape's first run takes as long as
        its later ones. So the largest runs once, and what is timed is a batch that fills the pixel budget, which no
        large unit makes slow. A GPU's libraries choose an algorithm for each shape, so there every shape runs once.

        Returns:
            The fullest batch within the budget, or the smallest unit where none is, and the time that the slowest
            lane took for it.
        """
        if self._options.provider == "cuda":
            for height_px, width_px in self.unit_shapes():
                self._session_of_lane[0].run(self._outputs, {INPUT_NAME: self._zeros(height_px, width_px, 1)})
        batches = [
            (height_px, width_px, self._options.unit_count(height_px, width_px))
            for height_px, width_px in self.unit_shapes()
        ]
        within = [batch for batch in batches if math.prod(batch) <= self._options.batch_pixel_count]
        largest = self._zeros(*max(batches, key=_size))
        timed = max(within, key=_size) if within else min(batches, key=_size)
        units = self._zeros(*timed)
        lanes = range(self._options.lane_count)
        with ThreadPoolExecutor(len(lanes), thread_name_prefix="warm-up") as threads:
            list(threads.map(lambda lane: self._seconds(largest, lane), lanes))
            seconds = max(threads.map(lambda lane: self._seconds(units, lane), lanes))
        if self._sessions[-1] is not self._sessions[0]:
            self.run(units[:1], lane=-1)
        return TimedBatch(*timed, seconds)

    def unit_seconds_per_pixel(self) -> float:
        """How long one unit of usual size takes on one lane, for each of its pixels; measured now, beside what runs."""
        height_px, width_px = min(self.unit_shapes(), key=lambda shape: abs(math.prod(shape) - _USUAL_UNIT_PIXELS))
        return self._seconds(self._zeros(height_px, width_px, 1), 0) / (height_px * width_px)

    def _seconds(self, units: Units, lane: int) -> float:
        start_s = time.perf_counter()
        self.run(units, lane=lane)
        return time.perf_counter() - start_s

    def _zeros(self, height_px: int, width_px: int, count: int) -> Units:
        return np.zeros((count, self.contract.channels, height_px, width_px), np.float32)


def read_file(path: Path, options: EngineOptions) -> bytes:
    """Never more than is allowed, whatever the file becomes meanwhile.

    Raises:
        ModelRefused: it is larger.
        OSError: it can't be read.
    """
    largest_bytes = options.largest_file_bytes
    with path.open("rb") as file:
        model_bytes = file.read(largest_bytes + 1)
    if len(model_bytes) > largest_bytes:
        raise ModelRefused(
            f"{path} has more than {largest_bytes} bytes; raise DENOISED_MODEL_FILE_BYTES if it is meant to"
        )
    return model_bytes


def _size(batch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Pixels of a batch of (height, width, count), then of a unit, then how near that is to a square."""
    height_px, width_px, _ = batch
    return math.prod(batch), height_px * width_px, min(height_px, width_px)
