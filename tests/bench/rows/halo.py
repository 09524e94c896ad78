"""Row of what tiles cost: pixels that the network computes for each of an image's own, by the service's counters."""

from typing import Final

from tests.bench.bench import Bench, service_job
from tests.bench.figures import Figure, Row
from tests.bench.jobs import ClosedLoop
from tests.bench.payload import samples, unary

_SIDES_PX: Final = (256, 1024, 2048)
_SHORT_SIDES_PX: Final = (256, 700)
# The row's target holds from here on; smaller images are whole units, or few.
_JUDGED_SIDE_PX: Final = 2048
_TARGET: Final = 1.2


def measure(bench: Bench) -> Row:
    """One image of each size, on the shipped base."""
    row = Row("halo", "shipped base, halo's extra work")
    for side_px in _SHORT_SIDES_PX if bench.options.is_short else _SIDES_PX:
        messages = unary(samples(bench.networks.base, side_px, side_px, count=1))
        before = bench.service.metrics()
        job = service_job(bench.service, messages, client_count=1)
        row.wrong += bench.clients.run(ClosedLoop(job, total=1)).problems()
        after = bench.service.metrics()
        computed, own = (
            after.value(name) - before.value(name)
            for name in ("denoised_computed_pixels_total", "denoised_pixels_total")
        )
        if own != side_px**2:
            row.wrong.append(f"the service counted {own:.0f} pixels of an image that has {side_px**2}")
        row.figures.append(
            Figure(
                f"computed / own pixels, {side_px}x{side_px}",
                computed / own,
                target=_TARGET if side_px >= _JUDGED_SIDE_PX else None,
            )
        )
    return row
