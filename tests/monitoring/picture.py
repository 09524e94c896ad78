"""The dashboard as a picture: the same queries, drawn by Matplotlib in place of Grafana."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from tests.monitoring.dashboard import Query, queries, read_dashboard
from tests.monitoring.prometheus import Prometheus

_STEP_S: Final = 1.0
_WINDOW: Final = "10s"
_LABEL: Final = re.compile(r"\{\{(\w+)\}\}")
_CELL_IN: Final = (0.72, 0.23)
_LEGEND_MOST: Final = 6


def draw(prometheus: Prometheus, path: Path, *, start_s: float, end_s: float) -> None:
    """Every panel where Grafana would put it, over that time."""
    panels = read_dashboard()["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(24 * _CELL_IN[0], height * _CELL_IN[1]), dpi=80)
    by_title: dict[tuple[str, str], list[Query]] = {}
    for query in queries(interval=_WINDOW):
        by_title.setdefault((query.row, query.panel), []).append(query)
    row = ""
    for panel in panels:
        at = panel["gridPos"]
        top = 1.0 - at["y"] / height
        if panel["type"] == "row":
            row = panel["title"]
            figure.text(0.005, top - 0.7 / height, row, fontsize=13, weight="bold")
            continue
        box = (at["x"] / 24 + 0.028, top - (at["h"] - 0.9) / height, at["w"] / 24 - 0.036, (at["h"] - 2.6) / height)
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], fontsize=9, loc="left")
        _draw_panel(axes, by_title[row, panel["title"]], prometheus, start_s=start_s, end_s=end_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _draw_panel(axes: Axes, shown: Sequence[Query], prometheus: Prometheus, *, start_s: float, end_s: float) -> None:
    axes.tick_params(labelsize=7)
    kind = shown[0].kind
    if kind == "table":
        _write_table(axes, prometheus.query(shown[0].expr))
        return
    found = [
        (query, prometheus.query_range(query.expr, start_s=start_s, end_s=end_s, step_s=_STEP_S)) for query in shown
    ]
    if kind == "stat":
        _write_last(axes, *found[0])
        return
    axes.set_xlim(0, end_s - start_s)
    if kind == "heatmap":
        _draw_heat(axes, found[0][0], found[0][1], start_s=start_s, end_s=end_s)
        return
    lines = 0
    for query, series in found:
        for each in series:
            times, values = zip(*((float(t) - start_s, float(v)) for t, v in each["values"]), strict=True)
            axes.plot(times, values, linewidth=1, label=_legend(query, each["metric"]))
            lines += 1
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _text(value, shown[0].unit)))
    if lines:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[:_LEGEND_MOST], labels[:_LEGEND_MOST], fontsize=6, loc="upper left", framealpha=0.6)


def _draw_heat(axes: Axes, query: Query, series: Sequence[dict[str, Any]], *, start_s: float, end_s: float) -> None:
    """Counts by bucket: what Prometheus has cumulated is taken apart."""
    ordered = sorted(series, key=lambda each: float(each["metric"]["le"]))
    steps = int((end_s - start_s) / _STEP_S) + 1
    counts = np.zeros((len(ordered), steps))
    for index, each in enumerate(ordered):
        for at_s, value in each["values"]:
            step = round((float(at_s) - start_s) / _STEP_S)
            if 0 <= step < steps and not math.isnan(float(value)):
                counts[index, step] = float(value)
    heat = np.diff(counts, axis=0, prepend=0.0).clip(min=0.0)
    axes.imshow(
        np.sqrt(heat), origin="lower", aspect="auto", cmap="Oranges", extent=(0, end_s - start_s, 0, len(ordered))
    )
    marks = range(0, len(ordered), max(1, len(ordered) // 5))
    axes.set_yticks(
        [mark + 1 for mark in marks], [_text(float(ordered[mark]["metric"]["le"]), query.unit) for mark in marks]
    )


def _write_last(axes: Axes, query: Query, series: Sequence[dict[str, Any]]) -> None:
    """The last number that is one, as Grafana's lastNotNull."""
    axes.axis("off")
    values = [float(value) for each in series for _, value in each["values"] if not math.isnan(float(value))]
    text = _text(values[-1], query.unit) if values else "no data"
    axes.text(0.5, 0.45, text, fontsize=17, ha="center", va="center")


def _write_table(axes: Axes, found: Sequence[dict[str, Any]]) -> None:
    axes.axis("off")
    rows = [
        "  ".join(f"{k}={v[:24]}" for k, v in each["metric"].items() if k not in {"__name__", "job"}) for each in found
    ]
    axes.text(0, 0.95, "\n".join(rows), fontsize=6, va="top", family="monospace", clip_on=True)


def _legend(query: Query, metric: dict[str, str]) -> str:
    return _LABEL.sub(lambda found: metric.get(found[1], ""), query.legend)


def _text(value: float, unit: str) -> str:
    """As Grafana writes it, roughly."""
    if math.isinf(value):
        return "∞"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
