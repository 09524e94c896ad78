"""What the engine is told: its lanes, its threads, its largest batch, its provider. Pure data and one rule."""

from dataclasses import dataclass
from typing import Final, Literal

Provider = Literal["cpu", "cuda"]

# The lane that has all cores. A unit that is alone on an idle service runs there.
WIDE_LANE: Final = -1
_GIB: Final = 1024**3
LARGEST_FILE_BYTES: Final = _GIB // 4


class ModelRefused(Exception):
    """A model file can't be served as it was asked for; the message says which file, why, and what to do."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How batches run side by side.

    Attributes:
        lane_count: batches that run at once, at least 1.
        threads_per_lane: threads of one lane, at least 1.
        wide_thread_count: threads of the wide lane, at least ``threads_per_lane``; all cores.
        batch_pixel_count: a batch holds at most this many pixels, halos included, or one unit. Memory follows it.
        provider: where networks run.
        gpu_memory_bytes: limit of ONNX Runtime's arena on a GPU; its libraries take more beside it.
        largest_file_bytes: of a model file; a larger one is not even read.
    """

    lane_count: int
    threads_per_lane: int = 1
    wide_thread_count: int = 1
    batch_pixel_count: int = 256 * 256
    provider: Provider = "cpu"
    gpu_memory_bytes: int = 2 * _GIB
    largest_file_bytes: int = LARGEST_FILE_BYTES

    def __post_init__(self) -> None:
        for name in (
            "lane_count",
            "threads_per_lane",
            "wide_thread_count",
            "batch_pixel_count",
            "gpu_memory_bytes",
            "largest_file_bytes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.provider == "cuda" and self.lane_count != 1:
            raise ValueError(
                f"{self.lane_count} lanes on a GPU would run its one session at the same time; set lane_count to 1"
            )

    def unit_count(self, height_px: int, width_px: int) -> int:
        """Most units of a shape in one batch; one unit always runs, however large."""
        return max(1, self.batch_pixel_count // (height_px * width_px))


def engine_options(
    core_count: int,
    *,
    lane_count: int | None,
    threads_per_lane: int,
    batch_pixel_count: int,
    provider: Provider = "cpu",
    gpu_memory_bytes: int = 2 * _GIB,
    largest_file_bytes: int = LARGEST_FILE_BYTES,
) -> EngineOptions:
    """The lanes by rule: on a CPU as many as the cores hold, on a GPU one; the wide lane takes all cores.

    Raises:
        ValueError: a count is below 1, or a GPU was given several lanes.
    """
    if lane_count is None:
        lane_count = 1 if provider == "cuda" else max(1, core_count // threads_per_lane)
    return EngineOptions(
        lane_count=lane_count,
        threads_per_lane=threads_per_lane,
        wide_thread_count=max(core_count, threads_per_lane),
        batch_pixel_count=batch_pixel_count,
        provider=provider,
        gpu_memory_bytes=gpu_memory_bytes,
        largest_file_bytes=largest_file_bytes,
    )
