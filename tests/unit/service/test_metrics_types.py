"""Light metrics: they count what they are told, and show it as prometheus-client's own types would."""

from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import DuplicateTimeseries

from service.metrics_types import Gauge, Histogram, Instruments, Labelled

BOUNDS = (0.001, 0.5, 1, 250_000, 4.0**14)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def exposed(make: Instruments) -> str:
    registry = CollectorRegistry()
    registry.register(make)
    return generate_latest(registry).decode()


def samples(make: Instruments) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposed(make))
        for sample in family.samples
    }


def test_a_counter_grows_and_is_called_total() -> None:
    make = Instruments()
    counter = make.counter("c", "Text.")
    counter.inc()
    counter.inc(2.5)
    assert samples(make) == {("c_total", ()): 3.5}


def test_a_gauge_is_set_or_follows_its_owner() -> None:
    make = Instruments()
    gauge = make.gauge("g", "Text.")
    gauge.set(3)
    assert samples(make) == {("g", ()): 3}
    values = [1, 2]
    gauge.follow(lambda: len(values))
    values.append(3)
    values.append(4)
    assert samples(make) == {("g", ()): 4}


def test_children_have_the_values_of_their_labels_and_known_ones_are_there_from_the_start() -> None:
    make = Instruments()
    colours = make.counters("colours", "Text.", ("colour",), Colour)
    pairs: Labelled[tuple[str, Colour], Gauge] = make.gauges("pairs", "Text.", ("artist", "colour"))
    colours[Colour.BLUE].inc(2)
    assert pairs["a", Colour.RED] is pairs["a", Colour.RED], "a child is made once"
    assert samples(make) == {
        ("colours_total", ("red",)): 0,
        ("colours_total", ("blue",)): 2,
        ("pairs", ("a", "red")): 0,
    }


def test_a_family_without_children_is_still_described() -> None:
    make = Instruments()
    make.gauges("g", "Text.", ("name",))
    assert exposed(make) == "# HELP g Text.\n# TYPE g gauge\n"


def test_label_values_are_escaped() -> None:
    make = Instruments()
    awkward = 'a"b\\c\nd'
    make.counters("c", "Text.", ("name",), [awkward])
    assert samples(make) == {("c_total", (awkward,)): 0}


def test_one_registry_takes_the_same_names_once() -> None:
    registry = CollectorRegistry()
    first, second = Instruments(), Instruments()
    for make in (first, second):
        make.histogram("h", "Text.", BOUNDS)
    registry.register(first)
    with pytest.raises(DuplicateTimeseries):
        registry.register(second)


@given(st.lists(st.tuples(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 1e10)), st.integers(1, 5)), max_size=30))
def test_a_histogram_is_exposed_as_their_own_would_be(observations: list[tuple[float, int]]) -> None:
    registry = CollectorRegistry()
    theirs = TheirHistogram("h", "Text.", buckets=BOUNDS, registry=registry)
    mine = Instruments()
    histogram = mine.histogram("h", "Text.", BOUNDS)
    many = Histogram(BOUNDS)
    for value, count in observations:
        many.observe_many(value, count)
        for _ in range(count):
            histogram.observe(value)
            theirs.observe(value)
    expected = [
        line
        for line in generate_latest(registry).decode().splitlines()
        if "_created" not in line and not line.startswith("h_sum")
    ]
    assert [line for line in exposed(mine).splitlines() if not line.startswith("h_sum")] == expected
    assert many.cumulative() == histogram.cumulative()
    assert histogram.total == pytest.approx(many.total)
    assert samples(mine)["h_sum", ()] == pytest.approx(registry.get_sample_value("h_sum"))
