"""The engine's options from the settings: one rule for the service and for what measures it."""

from service.cpu import usable_core_count
from service.engine import EngineOptions, engine_options
from service.settings import Settings


def engine_options_of(settings: Settings) -> EngineOptions:
    """Lanes, threads, batch and provider on the cores that this process may use."""
    return engine_options(
        usable_core_count(),
        lane_count=settings.lane_count,
        threads_per_lane=settings.threads_per_lane,
        batch_pixel_count=settings.batch_pixels,
        provider=settings.provider,
        gpu_memory_bytes=settings.gpu_memory_bytes,
        largest_file_bytes=settings.model_file_bytes,
    )
