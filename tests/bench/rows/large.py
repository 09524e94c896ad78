"""Row of an enormous image in chunks: memory of the service beyond what it has idle."""

from typing import Final

from denoised.v1 import denoised_pb2 as pb
from tests.bench.bench import Bench, service_job
from tests.bench.figures import Figure, Row
from tests.bench.jobs import Chunked, Message
from tests.bench.machine import memory_of, reset_peak_memory
from tests.bench.networks import BASE_FOLDER
from tests.bench.payload import picture

_SIZE_PX: Final = (10_000, 10_000)
_SHORT_SIZE_PX: Final = (700, 1200)
_CHUNK_BYTES: Final = 256 * 1024
_TARGET_MB: Final = 1000.0
_MB: Final = 1_000_000


def measure(bench: Bench) -> Row:
    """100 megapixels of raw 8-bit colour through a stream, every pixel of the answer compared."""
    options = bench.options
    network = bench.networks.base
    height_px, width_px = _SHORT_SIZE_PX if options.is_short else _SIZE_PX
    row = Row("chunked100", f"{height_px * width_px / 1e6:.3g} megapixels, raw u8 colour, chunked, shipped base")
    noisy = picture(height_px, width_px, 3, 0)
    data = noisy.tobytes()
    expected = network.answer(noisy).tobytes()
    header = pb.ImageHeader(
        options=pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=network.name),
        size_bytes=len(data),
        image=pb.Image(
            raw=pb.RawImage(sample_type=pb.SAMPLE_TYPE_U8, height_px=height_px, width_px=width_px, channel_count=3)
        ),
    )
    with bench.fresh_service(BASE_FOLDER) as service:
        pid = service.process.pid
        idle = memory_of(pid)
        reset_peak_memory(pid)
        job = service_job(service, (Message(data, (expected,)),), client_count=1, answer="stream")
        outcome = bench.clients.run(Chunked(job, header.SerializeToString(), _CHUNK_BYTES))
        loaded = memory_of(pid)
    row.wrong += outcome.problems()
    row.figures += [
        Figure("most RSS - RSS idle", (loaded.peak_bytes - idle.rss_bytes) / _MB, target=_TARGET_MB, unit="MB"),
        Figure("RSS idle", idle.rss_bytes / _MB, unit="MB"),
        Figure("time", outcome.wall_s, unit="s"),
        Figure("service CPU", outcome.cpu_s, unit="s"),
    ]
    row.raw = {"idle_bytes": idle.rss_bytes, "peak_bytes": loaded.peak_bytes, "wall_s": outcome.wall_s}
    return row
