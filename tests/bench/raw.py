"""ONNX Runtime without a service: what the units of an image cost when nothing else is done. The best of several ways.

The units are those that the service cuts the image into, halo included; inputs and outputs stay in place, so that
nothing is paid for but the network.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime as ort

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME
from denoised.noise import keyed_rng
from service.cpu import usable_core_count
from tests.bench.figures import Rate
from tests.bench.networks import Network, session

_KEY: Final = 2**34 + 2


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a network: how many sessions side by side, threads of each, images' units in one batch."""

    session_count: int
    thread_count: int
    batch: int
    spinning: bool = True

    def __str__(self) -> str:
        idle = "" if self.thread_count == 1 or self.spinning else ", not spinning"
        return f"{self.session_count} x {self.thread_count} threads{idle}, batch {self.batch}"


def ways(batches: tuple[int, ...]) -> tuple[Way, ...]:
    """One-thread sessions side by side at each batch size, and one session with all cores."""
    cores = usable_core_count()
    together = (Way(1, cores, max(batches), spinning=False),) if cores > 1 else ()
    return (*(Way(cores, 1, batch) for batch in batches), *together)


class Runner:
    """One way, ready to be measured again and again."""

    def __init__(self, network: Network, way: Way, *, height_px: int, width_px: int) -> None:
        """Loads the sessions and runs each once; an image is (height, width) in all units that its plan has."""
        tile_plan = network.plan(height_px, width_px)
        self._unit_count = tile_plan.tile_count
        self._way = way
        shape = (way.batch, network.contract.channels, tile_plan.rows.edge_px, tile_plan.columns.edge_px)
        units = keyed_rng(_KEY, *shape).random(shape, dtype=np.float32)
        self._bound = []
        for _ in range(way.session_count):
            ort_session = session(network.path, thread_count=way.thread_count, spinning=way.spinning)
            binding = ort_session.io_binding()
            binding.bind_cpu_input(INPUT_NAME, units)
            output = ort.OrtValue.ortvalue_from_numpy(np.empty(shape, np.float32))
            binding.bind_ortvalue_output(IMAGE_OUTPUT_NAME, output)
            ort_session.run_with_iobinding(binding)
            self._bound.append((ort_session, binding))

    def measure(self, seconds: float) -> Rate:
        """Images a second and CPU milliseconds an image."""
        counts = [0] * len(self._bound)
        stop_at_s = time.monotonic() + seconds

        def work(index: int) -> None:
            ort_session, binding = self._bound[index]
            while time.monotonic() < stop_at_s:
                ort_session.run_with_iobinding(binding)
                counts[index] += self._way.batch

        began_s, began_cpu_s = time.monotonic(), time.process_time()
        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(counts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        image_count = sum(counts) / self._unit_count
        return Rate(image_count / wall_s, 1000 * cpu_s / image_count)

    def latencies_s(self, count: int) -> list[float]:
        """Seconds of images one behind the other on the first session."""
        ort_session, binding = self._bound[0]
        taken = []
        for _ in range(count):
            began_s = time.perf_counter()
            for _ in range(self._unit_count):
                ort_session.run_with_iobinding(binding)
            taken.append(time.perf_counter() - began_s)
        return taken
