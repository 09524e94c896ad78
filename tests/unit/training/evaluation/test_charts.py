"""Charts as text: well-formed, escaped, inside of their frame."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.charts import Series, line_chart, scatter_chart

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def coordinates(svg: str) -> tuple[list[float], list[float]]:
    """All points of lines and bands."""
    texts = [pair for points in re.findall(r'points="([^"]*)"', svg) for pair in points.split()]
    xs, ys = zip(*((float(part) for part in text.split(",")) for text in texts), strict=True)
    return list(xs), list(ys)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20, unique_by=lambda point: point[0]))
def test_every_point_lies_inside_the_frame(points: list[tuple[float, float]]) -> None:
    points.sort()
    xs, ys = zip(*points, strict=True)
    band = [(y - abs(y) / 10, y + abs(y) / 10) for y in ys]
    svg = line_chart([Series("a", xs, ys, band, is_main=True)], x_label="x", y_label="y")
    width, height = (float(part) for part in ET.fromstring(svg).attrib["viewBox"].split()[2:])
    shown_xs, shown_ys = coordinates(svg)
    assert 0 <= min(shown_xs) <= max(shown_xs) <= width
    assert 0 <= min(shown_ys) <= max(shown_ys) <= height


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9))
def test_logarithmic_charts_take_any_positive_values(ys: list[float]) -> None:
    svg = line_chart([Series("a", range(len(ys)), ys)], x_label="x", y_label="y", is_log=True)
    _, shown = coordinates(svg)
    assert 0 <= min(shown) <= max(shown) <= 300


def test_larger_values_lie_higher() -> None:
    _, shown = coordinates(line_chart([Series("a", [1, 2, 3], [5.0, 7.0, 9.0])], x_label="x", y_label="y"))
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) == 3


def test_names_are_text_not_markup() -> None:
    nasty = "<script>&\"'"
    svg = line_chart([Series(nasty, [1, 2], [1.0, 2.0])], x_label=nasty, y_label=nasty)
    texts = [element.text for element in ET.fromstring(svg).iter() if element.tag == "text"]
    assert texts.count(nasty) == 3
    assert "<script>" not in scatter_chart([(0.0, 1.0)], [nasty], x_label="x", y_label="y")


def test_names_at_the_ends_of_lines_never_overlap() -> None:
    series = [Series(f"line {n}", [0, 1], [1.0, 1.0 + n / 1000]) for n in range(8)]
    root = ET.fromstring(line_chart(series, x_label="x", y_label="y"))
    heights = sorted(float(e.attrib["y"]) for e in root.iter("text") if "label" in e.attrib["class"])
    assert len(heights) == 8
    assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) >= 14.9
    assert heights[-1] <= 300


def test_points_are_coloured_by_label() -> None:
    svg = scatter_chart([(0.0, 1.0), (1.0, 0.0), (2.0, 2.0)], ["7", "3", "7"], x_label="x", y_label="y")
    kinds = re.findall(r'class="dot (c\d)" cx', svg)
    assert kinds == ["c1", "c0", "c1"]


@pytest.mark.parametrize("labels", [[""], ["a"]])
def test_a_single_label_needs_no_key_unless_it_has_a_name(labels: list[str]) -> None:
    svg = scatter_chart([(0.0, 0.0)], labels, x_label="x", y_label="y")
    assert ("key" in svg) == (labels != [""])


def test_points_outside_of_the_reach_are_left_out_and_rings_lie_inside() -> None:
    svg = scatter_chart([(0.0, 1.0), (0.0, 9.0)], ["a", "a"], x_label="x", y_label="y", reach=2.0, rings=(1.0, 3.0))
    assert len(re.findall(r'class="dot c0" cx', svg)) == 1
    rings = [element for element in ET.fromstring(svg).iter("circle") if element.attrib["class"] == "ring"]
    dot = next(e for e in ET.fromstring(svg).iter("circle") if e.attrib["class"] == "dot c0")
    assert len(rings) == 1
    # The point at 1 lies on the ring of radius 1.
    assert float(rings[0].attrib["cy"]) - float(dot.attrib["cy"]) == pytest.approx(float(rings[0].attrib["r"]), abs=0.2)
