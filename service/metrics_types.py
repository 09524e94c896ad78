"""Counters, gauges and histograms that cost next to nothing to change, and the collector that shows them.

An image makes about a dozen observations beside an inference of some 160 microseconds; prometheus-client's own types
take a lock and look up their labels each time. These take neither: the event loop's thread alone changes them, and a
scrape is answered on that thread too. Never touch one from a lane's or a codec's thread.

A child of a labelled family is bound once, where it is used, and then changed without a look-up.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")


class Counter:
    """Only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """``amount`` is 0 or more; that is the caller's word, not checked here."""
        self.value += amount


class Gauge:
    """Goes up and down; either set by its owner, or read from its owner at each scrape."""

    __slots__ = ("_read", "_value")

    def __init__(self) -> None:
        self._value: float = 0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        self._value = value

    def follow(self, read: Callable[[], float]) -> None:
        """From now on the value is what ``read`` returns when somebody looks: changes then cost nothing at all."""
        self._read = read

    @property
    def value(self) -> float:
        return self._value if self._read is None else self._read()


class Histogram:
    """Counts of finite values by bucket, and their sum. A bucket holds what is at most its bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds`` ascend; the bucket of everything above the last one is added here."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum: float = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_many(self, value: float, count: int) -> None:
        """The same as observing ``value`` ``count`` times."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self._sum

    def cumulative(self) -> list[tuple[float, int]]:
        """(bound, number of values at most that), the last bound infinite."""
        return list(zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True))


class Labelled(dict[K, M], Generic[K, M]):
    """The children of a family by their label values: an Enum's member, a string, or a tuple of these.

    A child appears with its first look-up, and stays. Keys come from closed sets, never from what a client sends.
    """

    def __init__(self, make: Callable[[], M], known: Iterable[K]) -> None:
        """The ``known`` are there from the start: a rate over a series that begins with an event misses that event."""
        super().__init__({key: make() for key in known})
        self._make = make

    def __missing__(self, key: K) -> M:
        child = self[key] = self._make()
        return child

    def rows(self) -> Iterator[tuple[list[str], M]]:
        """Every child with the values of its labels."""
        for key, child in self.items():
            parts = key if isinstance(key, tuple) else (key,)
            yield [str(part.value) if isinstance(part, Enum) else str(part) for part in parts], child


class Description(NamedTuple):
    """What a family of metrics is, whether or not it has samples yet.

    Attributes:
        name: as Prometheus stores it; a histogram's samples add ``_bucket``, ``_sum`` and ``_count``.
        kind: counter, gauge or histogram.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Instruments:
    """Makes metrics, and is the one collector that shows them to a registry.

    Attributes:
        descriptions: of all families, in the order in which they were made.
    """

    def __init__(self) -> None:
        self.descriptions: list[Description] = []
        self._families: list[Callable[[], Metric]] = []
        self._before: list[Callable[[], None]] = []

    def before(self, catch_up: Callable[[], None]) -> None:
        """From now on ``catch_up`` is called before anybody looks: what is counted elsewhere is added then."""
        self._before.append(catch_up)

    def collect(self) -> Iterator[Metric]:
        """All families as they are now."""
        for catch_up in self._before:
            catch_up()
        return (show() for show in self._families)

    # Asked at registration: a registry refuses a second collector with the same names.
    describe = collect

    def counters(self, name: str, text: str, labels: Sequence[str], known: Iterable[K] = ()) -> Labelled[K, Counter]:
        """A family of counters; its samples are called ``name`` with ``_total``."""
        children = Labelled[K, Counter](Counter, known)

        def show() -> Metric:
            family = CounterMetricFamily(name, text, labels=labels)
            for values, child in children.rows():
                family.add_metric(values, child.value)
            return family

        self.descriptions.append(Description(f"{name}_total", "counter", tuple(labels), text))
        self._families.append(show)
        return children

    def gauges(self, name: str, text: str, labels: Sequence[str], known: Iterable[K] = ()) -> Labelled[K, Gauge]:
        """A family of gauges."""
        children = Labelled[K, Gauge](Gauge, known)

        def show() -> Metric:
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, child in children.rows():
                family.add_metric(values, child.value)
            return family

        self.descriptions.append(Description(name, "gauge", tuple(labels), text))
        self._families.append(show)
        return children

    def histograms(
        self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str], known: Iterable[K] = ()
    ) -> Labelled[K, Histogram]:
        """A family of histograms with the same bounds."""
        children = Labelled[K, Histogram](lambda: Histogram(bounds), known)

        def show() -> Metric:
            family = HistogramMetricFamily(name, text, labels=labels)
            for values, child in children.rows():
                buckets = [(_text(bound), count) for bound, count in child.cumulative()]
                family.add_metric(values, buckets, child.total)
            return family

        self.descriptions.append(Description(name, "histogram", tuple(labels), text))
        self._families.append(show)
        return children

    def counter(self, name: str, text: str) -> Counter:
        return self.counters(name, text, (), [()])[()]

    def gauge(self, name: str, text: str) -> Gauge:
        return self.gauges(name, text, (), [()])[()]

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        return self.histograms(name, text, bounds, (), [()])[()]


def _text(bound: float) -> str:
    """As prometheus-client writes the bounds of its own histograms."""
    text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]  # published without types
    return text
