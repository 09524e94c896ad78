"""The profile for people."""

from service.profile.file import ModelProfile, Profile, ShapeProfile
from service.profile.fit import best_count

_HEADINGS = ("unit", "best batch", "ms a unit", "ms fixed", "images/s", "at batch 1", "GMAC/s", "alone, ms", "wide, ms")


def profile_table(profile: Profile) -> str:
    """A block for each model: what all lanes together do when busy, and what one unit alone gets.

    ``images/s`` and ``GMAC/s`` are at the best batch, ``at batch 1`` is images/s too; ``alone`` is one unit on one
    busy lane, ``wide`` the same unit on all cores.
    """
    head = (
        f"onnxruntime {profile.onnxruntime} on {profile.provider}: {profile.lane_count} lanes of "
        f"{profile.threads_per_lane} threads at once; the wide lane has {profile.wide_thread_count}"
    )
    return "\n\n".join([head, *(_block(model, profile.lane_count) for model in profile.models)])


def _block(model: ModelProfile, lane_count: int) -> str:
    rows = [_HEADINGS, *(_row(shape, model.gmac_per_megapixel, lane_count) for shape in model.shapes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    title = f"{model.name}/{model.version}: a slow batch takes {model.spread:.2f} times the median (95th percentile)"
    return "\n".join([title, *lines])


def _row(shape: ShapeProfile, gmac_per_megapixel: float, lane_count: int) -> tuple[str, ...]:
    best = best_count(shape.seconds_by_count)
    alone_s = shape.seconds_by_count[1]
    images_per_s = lane_count * best / shape.seconds_by_count[best]
    gmac = gmac_per_megapixel * shape.height_px * shape.width_px / 1e6
    return (
        f"{shape.height_px} x {shape.width_px}",
        str(best),
        f"{shape.per_unit_s * 1e3:.3f}",
        f"{shape.fixed_s * 1e3:.3f}",
        f"{images_per_s:.1f}",
        f"{lane_count / alone_s:.1f}",
        f"{gmac * images_per_s:.1f}",
        f"{alone_s * 1e3:.2f}",
        f"{shape.wide_s * 1e3:.2f}",
    )
