"""An overload in simulated time: the real admission in front of lanes that take what they are predicted to, or not."""

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from service.admission import Admission, Demand, Reservation
from service.errors import Overloaded

_LANE_COUNT = 2
# That the lanes could do until arrivals end.
_IMAGE_COUNT = 3000


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What comes, and how it keeps to its predictions.

    Attributes:
        load: offered work divided by what the lanes can do.
        costs_s: predicted seconds of one lane, each equally often.
        deadline_s: what every image may take.
        variation: coefficient of variation of what images really take, log-normal.
        bias: mean of that divided by its prediction.
        is_spread_known: whether admission is told how far batches stray; else it has to learn from its promises.
    """

    load: float
    costs_s: tuple[float, ...]
    deadline_s: float
    variation: float
    bias: float
    is_spread_known: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """Share of the lanes' time that went into answers in time, and share of admitted images that were late."""

    goodput: float
    late_share: float


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    due_s: float
    number: int
    cost_s: float
    room: Reservation


class Overload:
    """Poisson arrivals, earliest deadline first, what is overdue is dropped."""

    def __init__(self, desk: Admission, arrivals: Arrivals) -> None:
        self._desk = desk
        self._arrivals = arrivals
        self._draw = random.Random(20_260_101)
        self._sigma = math.sqrt(math.log(1 + arrivals.variation**2))
        self._spread = arrivals.bias * math.exp(1.645 * self._sigma) if arrivals.is_spread_known else 1.0
        mean_s = sum(arrivals.costs_s) / len(arrivals.costs_s)
        self._interval_s = mean_s / (arrivals.load * _LANE_COUNT)
        self._end_s = mean_s * _IMAGE_COUNT / _LANE_COUNT
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._queue: list[_Waiting] = []
        self._until_s: dict[int, float] = {}
        self._queued_s = self._good_s = 0.0
        self._number = self._admitted_count = self._late_count = 0

    def run(self) -> Result:
        self._later(0.0, self._arrive)
        while self._events:
            now_s, _, happens = heapq.heappop(self._events)
            happens(now_s)
        return Result(self._good_s / (_LANE_COUNT * self._end_s), self._late_count / self._admitted_count)

    def _later(self, at_s: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at_s, self._next_number(), happens))

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _arrive(self, now_s: float) -> None:
        if now_s > self._end_s:
            return
        self._later(now_s + self._draw.expovariate(1 / self._interval_s), self._arrive)
        cost_s = self._draw.choice(self._arrivals.costs_s)
        try:
            room = self._desk.admit(
                Demand(pixel_count=1, encoded_bytes=1, held_bytes=1, cost_s=cost_s),
                backlog_s=self._queued_s + sum(max(0.0, until_s - now_s) for until_s in self._until_s.values()),
                lane_count=_LANE_COUNT,
                remaining_s=self._arrivals.deadline_s,
                spread=self._spread,
            )
        except Overloaded:
            return
        self._admitted_count += 1
        due_s = now_s + self._arrivals.deadline_s
        heapq.heappush(self._queue, _Waiting(due_s, self._next_number(), cost_s, room))
        self._queued_s += cost_s
        self._dispatch(now_s)

    def _dispatch(self, now_s: float) -> None:
        while self._queue and len(self._until_s) < _LANE_COUNT:
            image = heapq.heappop(self._queue)
            self._queued_s -= image.cost_s
            if image.due_s <= now_s:
                self._late_count += 1
                self._end(image, now_s, is_late=True)
            else:
                self._start(image, now_s)

    def _end(self, image: _Waiting, now_s: float, *, is_late: bool) -> None:
        image.room.note_computed(now_s - (image.due_s - self._arrivals.deadline_s), is_late=is_late)
        image.room.release()

    def _start(self, image: _Waiting, now_s: float) -> None:
        self._until_s[image.number] = now_s + image.cost_s
        takes_s = self._arrivals.bias * image.cost_s * math.exp(self._draw.gauss(-(self._sigma**2) / 2, self._sigma))

        def finish(then_s: float) -> None:
            del self._until_s[image.number]
            self._end(image, then_s, is_late=then_s > image.due_s)
            if then_s <= image.due_s:
                self._good_s += takes_s
            else:
                self._late_count += 1
            self._dispatch(then_s)

        self._later(now_s + takes_s, finish)
