"""``python -m tests.bench.energy.plot FIGURES.json CHART.png``: quantile histograms of several kinds of traffic."""

import json
import sys
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np

# A kind of image, what the picture calls it, and the statistic that shows it.
_KINDS: Final = (
    ("noise 25", "ordinary: white noise, sigma 25"),
    ("blurred, noise 15", "out of focus"),
    ("noise 25, jpeg", "noise that became a JPEG"),
    ("noise 70", "noise beyond the trained range"),
)
_STATISTICS: Final = ("reconstruction_bits_per_pixel", "channel_correlation", "neighbour_correlation", "wavelet_sigma")
_BIN_COUNT: Final = 10


def main() -> None:
    """The command."""
    source, target = map(Path, sys.argv[1:])
    images = json.loads(source.read_text(encoding="utf-8"))["images"]
    figure, grid = plt.subplots(
        len(_STATISTICS), len(_KINDS), figsize=(12, 8), sharex=True, sharey=True, layout="constrained"
    )
    edges = np.linspace(0.0, 1.0, _BIN_COUNT + 1)
    for column, (kind, title) in enumerate(_KINDS):
        for row, statistic in enumerate(_STATISTICS):
            axes = grid[row, column]
            values = [
                image["quantiles"][statistic]
                for image in images
                if image["kind"] == kind and statistic in image["quantiles"]
            ]
            share = np.histogram(values, edges)[0] / max(len(values), 1)
            unusual = float(np.mean([not 0.01 < value <= 0.99 for value in values])) if values else 0.0
            axes.bar(
                edges[:-1], share, width=1 / _BIN_COUNT, align="edge", color="#c0392b" if unusual > 0.1 else "#4c78a8"
            )
            axes.axhline(1 / _BIN_COUNT, color="black", linewidth=0.8, linestyle=":")
            axes.text(0.5, 0.9, f"unusual: {unusual:.0%}", transform=axes.transAxes, ha="center", fontsize=9)
            if row == 0:
                axes.set_title(title, fontsize=10)
            if column == 0:
                axes.set_ylabel(statistic.replace("_", " "), fontsize=9)
            if row == len(_STATISTICS) - 1:
                axes.set_xlabel("quantile")
    figure.suptitle("Where images lie among the model's calibration: flat for images like those (dotted), else drift")
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
