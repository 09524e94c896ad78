"""Keeps the one lane of a narrow service busy, so that what a test sends meanwhile waits in the queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from denoised.v1 import denoised_pb2 as pb
from tests.integration.harness import RunningService, connected, until


@dataclass(frozen=True, slots=True)
class Plug:
    """An image whose tiles make one long batch, and its answer when it is alone."""

    service: RunningService
    request: pb.DenoiseRequest
    answer: pb.Image

    @contextmanager
    def in_the_lane(self) -> Iterator[None]:
        """The lane is busy and the queue is empty when the block begins; the plug must get its right answer."""
        with connected(self.service.grpc_target) as stub:
            call = stub.Denoise.future(self.request)
            until(self._is_running, "the plug was running")
            yield
            assert call.result().image == self.answer

    def wait_queued(self, unit_count: int) -> None:
        """Until so many units wait behind the plug."""
        until(lambda: self.service.metric("denoised_queued_units") == unit_count, f"{unit_count} units were queued")

    def _is_running(self) -> bool:
        metrics = self.service.metrics()
        return metrics.value("denoised_busy_lanes") == 1 and metrics.value("denoised_queued_units") == 0
