"""PSNR against cost as a picture, from a set's JSON and nothing else."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.bench.quality.document import Document
from tests.bench.quality.measure import headline_sigma
from tests.bench.quality.scores import at

_MARKS: Final = {"network": ("o", "tab:blue"), "classical": ("s", "tab:orange"), "anchor": ("^", "0.45")}


def draw(tree: Document, path: Path) -> None:
    """Two panels: milliseconds and multiply-accumulates a megapixel, each on a logarithmic scale.

    Args:
        tree: the set's measurement.
        path: of the PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    sigma = headline_sigma(tree["sigmas"])
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    by_time, by_work = figure.subplots(1, 2, sharey=True)
    times, works = points(tree, sigma)
    panels = ((by_time, times, "ms per megapixel, all cores"), (by_work, works, "GMAC per megapixel"))
    for axes, found, label in panels:
        for name, kind, cost, psnr_db in found:
            marker, colour = _MARKS[kind]
            axes.plot(cost, psnr_db, marker, color=colour, markersize=8)
            # Anchors stand above each other: their names go beside them.
            at_px, side = ((-8, -3), "right") if kind == "anchor" else ((0, 9), "center")
            axes.annotate(name, (cost, psnr_db), xytext=at_px, textcoords="offset points", ha=side, fontsize=8)
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.3, y=0.15)
        axes.grid(visible=True, which="major", color="0.9")
    by_time.set_ylabel(f"PSNR, dB, at sigma {sigma}")
    figure.suptitle(
        f"{tree['image_set']}, {len(tree['images'])} images: networks through the service and classical methods; "
        "grey triangles: published, not measured here"
        if tree["anchors"]
        else tree["image_set"],
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


Point = tuple[str, str, float, float]


def points(tree: Document, sigma: int) -> tuple[list[Point], list[Point]]:
    """(name, kind, cost, PSNR) by milliseconds and by multiply-accumulates; what has no such cost is left out."""
    times: list[Point] = []
    works: list[Point] = []
    for row in tree["rows"]:
        # A grey picture's PSNR is another quantity than a colour picture's.
        found: list[dict[str, Any]] = at(tree["scores"], row["method"], "gaussian", sigma=sigma)
        if not found or row["kind"] == "input":
            continue
        psnr_db = float(np.mean([score["psnr_db"] for score in found]))
        for cost, panel in ((row["ms_per_megapixel"], times), (row["gmac_per_megapixel"], works)):
            if cost:
                panel += [(row["method"], row["kind"], cost, psnr_db)]
    works += [
        (anchor["method"], "anchor", anchor["gmac_per_megapixel"], anchor["psnr_db"][str(sigma)])
        for anchor in tree["anchors"]
        if str(sigma) in anchor["psnr_db"]
    ]
    return times, works
