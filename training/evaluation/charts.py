"""Line charts and scatter plots as inline SVG: no script, no library, colours from the page's style sheet.

A chart knows numbers and names alone. Lines carry their names at their right end, so that nobody has to match colours
with a legend. Every drawing is a whole ``<svg>`` element; names that come from users are escaped here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from markupsafe import Markup

_WIDTH_PX: Final = 620
_HEIGHT_PX: Final = 300
_LEFT_PX: Final = 58
_TOP_PX: Final = 14
_BOTTOM_PX: Final = 46
_LABEL_STEP_PX: Final = 15
_COLOURS: Final = 10


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Attributes:
        name: shown at its end.
        xs, ys: its points, in order of x.
        band: (low, high) at each point, or None where there is none.
        is_main: drawn stronger than the others.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    band: Sequence[tuple[float, float]] | None = None
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values to pixels, linearly or by the logarithm."""

    low: float
    high: float
    start_px: float
    end_px: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start_px + (at - low) / (high - low) * (self.end_px - self.start_px)


def line_chart(
    series: Sequence[Series], *, x_label: str, y_label: str, is_log: bool = False, x_marks: Sequence[float] = ()
) -> Markup:
    """Lines over numbers, with bands for intervals.

    Args:
        series: at least one point in all.
        x_label, y_label: of the axes, with units.
        is_log: whether y is logarithmic; needs positive values.
        x_marks: what to mark on the axis; round numbers when left out.
    """
    xs = [x for line in series for x in line.xs]
    ys = [y for line in series for y in line.ys] + [end for line in series for pair in line.band or () for end in pair]
    names_px = 12 + 6.6 * max(len(line.name) for line in series)
    low, high = (min(ys), max(ys)) if is_log else _widened(min(ys), max(ys))
    margin = 0.0 if is_log else 0.04 * (high - low)
    y_ticks = _log_ticks(low, high) if is_log else _ticks(low - margin, high + margin)
    x_ticks = list(x_marks) or _ticks(min(xs), max(xs))
    x_low, x_high = _widened(min(xs), max(xs))
    x = _Scale(x_low, x_high, _LEFT_PX, _WIDTH_PX - names_px)
    y_low, y_high = min(y_ticks[0], low - margin), max(y_ticks[-1], high + margin)
    y = _Scale(y_low, y_high, _HEIGHT_PX - _BOTTOM_PX, _TOP_PX, is_log)
    parts = _axes(x, y, _marked(x_ticks), _marked(y_ticks))
    parts += [_axis_names(x, y, x_label, y_label)]
    for number, line in enumerate(series):
        parts.append(_line(line, number, x, y))
    parts += _end_names(series, x, y)
    return _svg(_WIDTH_PX, _HEIGHT_PX, f"{y_label} over {x_label}", parts)


def scatter_chart(
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    *,
    x_label: str,
    y_label: str,
    side_px: int = 380,
    reach: float | None = None,
    rings: Sequence[float] = (),
) -> Markup:
    """Points of a plane, coloured by label; a square with one scale on both axes, because distances mean something.

    Args:
        points: with their labels.
        labels: of the points, as many.
        x_label, y_label: of the axes.
        side_px: of the drawing.
        reach: both axes go from minus to plus this, and points outside are left out; so that all of them are inside
            when it is left out.
        rings: radii of circles around 0.
    """
    largest = max(abs(value) for point in points for value in point)
    reach = reach or largest or 1.0
    shown = [(point, label) for point, label in zip(points, labels, strict=True) if max(map(abs, point)) <= reach]
    ticks = [tick for tick in _ticks(-reach, reach) if -reach <= tick <= reach]
    x = _Scale(-reach * 1.05, reach * 1.05, 40, side_px - 8)
    y = _Scale(-reach * 1.05, reach * 1.05, side_px - 8, 40)
    marks = _marked(ticks)
    names = sorted(set(labels))
    # Labels lie above the square, the axes' names inside of it.
    height_px = side_px + _BOTTOM_PX - 14
    parts = _axes(x, y, marks, marks)
    parts.append(_axis_names(x, y, x_label, y_label))
    parts += [
        f'<circle class="ring" cx="{x(0):.1f}" cy="{y(0):.1f}" r="{x(radius) - x(0):.1f}"/>'
        for radius in rings
        if radius <= reach
    ]
    for (px, py), label in shown:
        kind = f"c{names.index(label) % _COLOURS}"
        parts.append(f'<circle class="dot {kind}" cx="{x(px):.1f}" cy="{y(py):.1f}" r="2.2"/>')
    if names != [""]:
        step_px = (side_px - 48) / len(names)
        for number, name in enumerate(names):
            left_px = 40 + number * step_px
            parts.append(
                f'<circle class="dot key c{number % _COLOURS}" cx="{left_px + 5:.1f}" cy="22" r="4.5"/>'
                f'<text class="tick" x="{left_px + 13:.1f}" y="26">{escape(name)}</text>'
            )
    return _svg(side_px, height_px, f"{len(points)} points", parts)


def _axes(
    x: _Scale, y: _Scale, x_marks: Sequence[tuple[float, str]], y_marks: Sequence[tuple[float, str]]
) -> list[str]:
    left, right, bottom = x.start_px, x.end_px, y.start_px
    parts = [
        f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class="tick end" x="{left - 8:.1f}" y="{y(v) + 4:.1f}">{text}</text>'
        for v, text in y_marks
    ]
    parts += [
        f'<line class="axis" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"/>'
        f'<text class="tick middle" x="{x(v):.1f}" y="{bottom + 17:.1f}">{escape(text)}</text>'
        for v, text in x_marks
    ]
    return [*parts, f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>']


def _axis_names(x: _Scale, y: _Scale, x_label: str, y_label: str) -> str:
    middle_x, middle_y = (x.start_px + x.end_px) / 2, (y.start_px + y.end_px) / 2
    return (
        f'<text class="name middle" x="{middle_x:.1f}" y="{y.start_px + 37:.1f}">{escape(x_label)}</text>'
        f'<text class="name middle" transform="translate(13 {middle_y:.1f}) rotate(-90)">{escape(y_label)}</text>'
    )


def _line(line: Series, number: int, x: _Scale, y: _Scale) -> str:
    kind = _kind(line, number)
    at = [(x(px), y(py)) for px, py in zip(line.xs, line.ys, strict=True)]
    parts = []
    if line.band:
        upper = [(x(px), y(high)) for px, (_, high) in zip(line.xs, line.band, strict=True)]
        lower = [(x(px), y(low)) for px, (low, _) in zip(line.xs, line.band, strict=True)]
        parts.append(f'<polygon class="band {kind}" points="{_points(upper + lower[::-1])}"/>')
    parts.append(f'<polyline class="line {kind}" points="{_points(at)}"/>')
    if len(at) <= 40:
        parts += [
            f'<circle class="dot {kind}" cx="{px:.1f}" cy="{py:.1f}" r="{3.2 if line.is_main else 2.4}">'
            f"<title>{escape(line.name)}: {value:.4g}</title></circle>"
            for (px, py), value in zip(at, line.ys, strict=True)
        ]
    return "".join(parts)


def _end_names(series: Sequence[Series], x: _Scale, y: _Scale) -> list[str]:
    """The lines' names at their ends, moved apart where they would overlap."""
    order = sorted((y(line.ys[-1]), number) for number, line in enumerate(series))
    places: list[float] = []
    for wanted, _ in order:
        places.append(max(wanted, places[-1] + _LABEL_STEP_PX) if places else wanted)
    overflow = max(0.0, places[-1] - y.start_px)
    # Pushed back up from the bottom, again without overlap.
    ceiling = math.inf
    for index in reversed(range(len(places))):
        places[index] = min(places[index] - (overflow if index == len(places) - 1 else 0), ceiling)
        ceiling = places[index] - _LABEL_STEP_PX
    return [
        f'<text class="label {_kind(series[number], number)}" '
        f'x="{x.end_px + 9:.1f}" y="{place + 4:.1f}">{escape(series[number].name)}</text>'
        for place, (_, number) in zip(places, order, strict=True)
    ]


def _kind(line: Series, number: int) -> str:
    """The class that colours it."""
    return "main" if line.is_main else f"c{number % _COLOURS}"


def _svg(width_px: int, height_px: int, description: str, parts: Sequence[str]) -> Markup:
    return Markup(  # noqa: S704 -- numbers and escaped names alone, made above
        f'<svg class="chart" viewBox="0 0 {width_px} {height_px}" role="img" aria-label="{escape(description)}" '
        f'style="max-width: {width_px * 1.25:.0f}px">{"".join(parts)}</svg>'
    )


def _points(at: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in at)


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers inside a range."""
    low, high = _widened(low, high)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where the range is short."""
    low, high = (low, high) if high > low else (low / 2, high * 2)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first > 3 else (1, 2, 5)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    below = [tick for tick in ticks if tick <= low][-1:]
    above = [tick for tick in ticks if tick >= high][:1]
    return sorted({*below, *(tick for tick in ticks if low < tick < high), *above})


def _marked(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Each with its text, thousands apart."""
    return [(tick, f"{round(tick, 10) + 0.0:,.6g}".replace(",", "\u202f")) for tick in ticks]
