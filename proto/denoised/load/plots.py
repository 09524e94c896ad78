"""Plots as inline SVG: axes, lines, stacked bars. Knows numbers and words; what they are about is ``page``'s."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 14, 46
_ROW: Final = 34
_BAR: Final = 22

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to 0..1; ``ticks`` are (value, words)."""

    label: str
    place: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """Points in order, x ascending; ``style`` is a CSS class. ``hints`` are shown when the pointer rests on a point."""

    name: str
    points: Sequence[Point]
    style: str
    hints: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """Parts of a whole, stacked; each part is (CSS class, size, words for the pointer)."""

    name: str
    parts: Sequence[tuple[str, float, str]]


def linear(label: str, highest: float, *, unit: str = "") -> Axis:
    """From 0 to a little above the highest value, with round ticks."""
    step = _round_step(max(highest, 1e-9) / 5)
    count = max(1, math.ceil(highest / step - 1e-9))
    ticks = tuple((step * index, f"{step * index:g}{unit}") for index in range(count + 1))
    return Axis(label, lambda value: value / (step * count), ticks)


def exact(label: str, highest: float) -> Axis:
    """From 0 to the highest value itself, for time."""
    step = _round_step(max(highest, 1e-9) / 6)
    ticks = tuple((step * index, f"{step * index:g}") for index in range(math.floor(highest / step + 1e-9) + 1))
    return Axis(label, lambda value: value / highest, ticks)


def logarithmic(label: str, lowest: float, highest: float) -> Axis:
    """Around positive values, from a power of ten to 1, 2 or 5 times one, with ticks at all of these where they fit."""
    first = math.floor(math.log10(max(lowest, 1e-6)))
    rungs = [10.0**decade * step for decade in range(first, first + 20) for step in (1, 2, 5)]
    top = next(rung for rung in rungs[1:] if rung >= highest * (1 - 1e-9))
    height = math.log10(top) - first
    values = [rung for rung in rungs if rung <= top and (height <= 2.5 or math.log10(rung) % 1 < 1e-6)]
    return Axis(
        label,
        lambda value: min(1.0, max(0.0, (math.log10(max(value, 1e-9)) - first) / height)),
        tuple((value, f"{value:g}") for value in values),
    )


def percentiles(label: str, highest: float) -> Axis:
    """Shares 0..highest (below 1) so that each further nine takes as much room as the one before."""

    def nines(share: float) -> float:
        return -math.log10(max(1e-9, 1.0 - share))

    shown = [share for share in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999) if share <= highest + 1e-12]
    return Axis(
        label,
        lambda share: min(1.0, nines(share) / max(nines(highest), 1e-9)),
        tuple((share, f"{100 * share:.6g} %") for share in shown),
    )


def line_plot(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """Lines over two axes; ``title`` is for those who can't see it."""
    drawn = "".join(_line(line, x, y) for line in lines)
    return _figure(title, HEIGHT, _grid(x, y, HEIGHT) + drawn)


def columns_plot(title: str, x: Axis, y: Axis, columns: Sequence[tuple[float, float, Bar]]) -> str:
    """Stacked columns; each is (from, to) along ``x`` and the parts that stand on each other."""
    marks = []
    for begin, end, bar in columns:
        left, right, below = _x(x, begin), _x(x, end), 0.0
        for style, size, words in bar.parts:
            top, bottom = _y(y, below + size, HEIGHT), _y(y, below, HEIGHT)
            below += size
            marks.append(
                f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{max(0.5, right - left - 0.6):.1f}" '
                f'height="{max(0.0, bottom - top):.1f}"><title>{escape(words)}</title></rect>'
            )
    return _figure(title, HEIGHT, _grid(x, y, HEIGHT) + "".join(marks))


def bars_plot(title: str, bars: Sequence[Bar]) -> str:
    """A stacked row for each bar, all of one length, its parts as shares."""
    height = _ROW * len(bars) + _TOP + 30
    width = WIDTH - _LEFT - _RIGHT
    marks = [
        f'<text class="tick" x="{_LEFT + width * share:.1f}" y="{height - 8}" text-anchor="middle">{share:.0%}</text>'
        f'<line class="grid" x1="{_LEFT + width * share:.1f}" x2="{_LEFT + width * share:.1f}" y1="{_TOP - 6}" '
        f'y2="{height - 24}"/>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    for row, bar in enumerate(bars):
        top, left = _TOP + _ROW * row, float(_LEFT)
        total = sum(size for _, size, _ in bar.parts) or 1.0
        marks.append(f'<text class="row" x="{_LEFT - 10}" y="{top + 16}" text-anchor="end">{escape(bar.name)}</text>')
        for style, size, words in bar.parts:
            length = width * size / total
            marks.append(
                f'<rect class="{style}" x="{left:.1f}" y="{top}" width="{length:.1f}" height="{_BAR}">'
                f"<title>{escape(words)}</title></rect>"
            )
            left += length
    return _figure(title, height, "".join(marks))


def _line(line: Line, x: Axis, y: Axis) -> str:
    places = [(_x(x, across), _y(y, up, HEIGHT)) for across, up in line.points]
    path = " ".join(f"{across:.1f},{up:.1f}" for across, up in places)
    dots = "".join(
        f'<circle class="{line.style}" cx="{across:.1f}" cy="{up:.1f}" r="4"><title>{escape(hint)}</title></circle>'
        for (across, up), hint in zip(places, line.hints, strict=False)
    )
    return f'<polyline class="{line.style}" points="{path}"><title>{escape(line.name)}</title></polyline>{dots}'


def _grid(x: Axis, y: Axis, height: int) -> str:
    right, bottom = WIDTH - _RIGHT, height - _BOTTOM
    across = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{level + 4:.1f}" text-anchor="end">{words}</text>'
        for level, words in ((_y(y, value, height), words) for value, words in y.ticks)
    )
    along = "".join(
        f'<text class="tick" x="{_x(x, value):.1f}" y="{bottom + 18}" text-anchor="middle">{words}</text>'
        for value, words in x.ticks
    )
    middle, centre = (_LEFT + right) / 2, (_TOP + bottom) / 2
    return (
        f'{across}{along}<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
        f'<text class="label" x="{middle:.0f}" y="{height - 6}" text-anchor="middle">{escape(x.label)}</text>'
        f'<text class="label" transform="translate(13 {centre:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )


def _figure(title: str, height: int, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float, height: int) -> float:
    return height - _BOTTOM - axis.place(value) * (height - _TOP - _BOTTOM)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= least * (1 - 1e-9))
