"""Admission: who is refused with which numbers, that the ledgers return to nothing, and what an overload comes to."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.admission import Admission, Demand, Limits, Reservation, held_bytes
from service.errors import (
    DeadlineUnreachable,
    ImageTooLarge,
    MemoryBudgetExceeded,
    Overloaded,
    QueueFull,
    ServiceError,
)
from service.metrics import Metrics
from service.types import Container, ImageHeader
from tests.unit.service.overload import Arrivals, Overload

_MANY = 10**12


def limits(
    *,
    image_pixels: int = _MANY,
    chunked_image_pixels: int = _MANY,
    requests: int = _MANY,
    size_bytes: int = _MANY,
    pixels: int = _MANY,
    memory_bytes: int = _MANY,
) -> Limits:
    return Limits(image_pixels, chunked_image_pixels, requests, size_bytes, pixels, memory_bytes)


def demand(
    *,
    pixels: int = 100,
    encoded_bytes: int = 10,
    held: int = 1000,
    cost_s: float = 0.0,
    unit_count: int = 1,
    codec_s: float = 0.0,
) -> Demand:
    return Demand(pixels, encoded_bytes, held, cost_s, unit_count, codec_s)


def admission(of: Limits | None = None, registry: CollectorRegistry | None = None) -> Admission:
    return Admission(of or limits(), Metrics(registry or CollectorRegistry()))


def admit(
    to: Admission,
    image: Demand | None = None,
    *,
    backlog_s: float = 0.0,
    lane_count: int = 1,
    remaining_s: float = 30.0,
    spread: float = 1.0,
) -> Reservation:
    return to.admit(
        image or demand(), backlog_s=backlog_s, lane_count=lane_count, remaining_s=remaining_s, spread=spread
    )


def pending(of: Admission) -> tuple[int, int, int, int]:
    return of.pending_count, of.pending_unit_count, of.pending_bytes, of.pending_pixel_count


def is_empty(desk: Admission) -> bool:
    return (*pending(desk), desk.request_count, desk.reserved_bytes) == (0, 0, 0, 0, 0, 0)


def test_an_image_of_the_largest_size_passes_and_one_pixel_more_is_refused_with_both_numbers() -> None:
    desk = admission(limits(image_pixels=200))
    desk.check_size(ImageHeader(Container.PNG, 10, 20, 3, 8))
    with pytest.raises(ImageTooLarge, match=r"67 x 3 px are 201 pixels, the limit is 200"):
        desk.check_size(ImageHeader(Container.PNG, 3, 67, 3, 8))


def test_an_image_in_chunks_has_a_limit_of_its_own() -> None:
    desk = admission(limits(image_pixels=200, chunked_image_pixels=300))
    desk.check_size(ImageHeader(Container.RAW, 10, 30, 3, 8), in_chunks=True)
    with pytest.raises(ImageTooLarge, match=r"7 x 43 px are 301 pixels, the limit is 300"):
        desk.check_size(ImageHeader(Container.RAW, 43, 7, 3, 8), in_chunks=True)
    with pytest.raises(ImageTooLarge, match=r"the limit is 200"):
        desk.check_size(ImageHeader(Container.RAW, 10, 30, 3, 8))


def test_an_image_holds_file_samples_answer_and_answers_file_and_a_raw_one_is_its_own_samples() -> None:
    header = ImageHeader(Container.PNG, 10, 20, 4, 16)
    assert held_bytes(header, encoded_bytes=500, is_raw=False) == 500 + 3 * 10 * 20 * 4 * 2
    assert held_bytes(header, encoded_bytes=1600, is_raw=True) == 3 * 1600


def test_decoded_samples_without_alpha_are_gone_before_the_answers_file_is_made() -> None:
    header = ImageHeader(Container.JPEG, 10, 20, 3, 8)
    assert held_bytes(header, encoded_bytes=500, is_raw=False) == 500 + 2 * 10 * 20 * 3


@pytest.mark.parametrize(
    ("of", "cap", "value", "more", "limit"),
    [
        (limits(requests=2), "requests", 2, 1, 2),
        (limits(size_bytes=29), "bytes", 20, 10, 29),
        (limits(pixels=299), "pixels", 200, 100, 299),
    ],
)
def test_the_cap_that_is_reached_is_named_with_its_numbers(
    of: Limits, cap: str, value: int, more: int, limit: int
) -> None:
    desk = admission(of)
    first, _ = admit(desk), admit(desk)
    with pytest.raises(QueueFull) as raised:
        admit(desk)
    assert raised.value.metadata == {"cap": cap, "value": str(value), "offered": str(more), "limit": str(limit)}
    assert f"{value} {cap} are pending and {more} more were offered; the limit is {limit}; " in str(raised.value)
    first.leave_queue()
    admit(desk)
    assert desk.request_count == 3, "what has run still holds its memory"


@pytest.mark.parametrize("of", [limits(size_bytes=20), limits(pixels=200), limits(requests=2)])
def test_exactly_full_is_not_too_full(of: Limits) -> None:
    desk = admission(of)
    admit(desk)
    admit(desk)
    with pytest.raises(QueueFull):
        admit(desk)


@pytest.mark.parametrize("of", [limits(size_bytes=1), limits(pixels=1), limits(requests=1)])
def test_the_first_comer_passes_every_cap_and_whoever_comes_next_does_not(of: Limits) -> None:
    desk = admission(of)
    first = admit(desk)
    with pytest.raises(QueueFull):
        admit(desk)
    first.leave_queue()
    admit(desk)


def test_memory_is_refused_with_need_taken_and_limit_until_calls_end() -> None:
    desk = admission(limits(memory_bytes=2000))
    first, _ = admit(desk), admit(desk)
    assert desk.reserved_bytes == 2000, "exactly full is not too full"
    first.leave_queue()
    with pytest.raises(MemoryBudgetExceeded, match=r"needs 1 bytes and 2000 of 2000 are taken"):
        admit(desk, demand(held=1))
    first.release()
    admit(desk, demand(held=1))


def test_an_image_that_never_fits_in_memory_is_told_so_and_not_to_come_back() -> None:
    desk = admission(limits(memory_bytes=2000))
    with pytest.raises(ImageTooLarge, match=r"takes up to 2001 bytes .* may take 2000; scale it down") as raised:
        admit(desk, demand(held=2001))
    assert raised.value.retry_after_s is None
    assert is_empty(desk)
    admit(desk, demand(held=2000))


def test_what_can_not_be_done_in_time_is_refused_with_both_times() -> None:
    desk = admission()
    admit(desk, demand(unit_count=2))
    with pytest.raises(DeadlineUnreachable, match=r"in about 21 s and its deadline is in 10 s; allow more") as raised:
        admit(desk, demand(cost_s=2.0), backlog_s=38.0, lane_count=2, remaining_s=10.0)
    assert raised.value.metadata == {"value": "21.000", "limit": "10.000"}
    admit(desk, demand(cost_s=2.0), backlog_s=38.0, lane_count=2, remaining_s=21.0)


def test_the_margin_is_for_the_wait_or_the_image_but_not_for_both_at_their_worst() -> None:
    desk = admission()
    admit(desk)
    image = demand(cost_s=4.0)
    with pytest.raises(DeadlineUnreachable, match=r"about 9\.5 s"):  # 3 + 4 + (1.5 - 1) * 5
        admit(desk, image, backlog_s=3.0, remaining_s=9.4, spread=1.5)
    admit(desk, image, backlog_s=3.0, remaining_s=9.6, spread=1.5)


def test_units_run_in_rounds_and_the_codecs_time_counts() -> None:
    desk = admission()
    admit(desk, demand(unit_count=2))
    image = demand(cost_s=3.0, unit_count=3, codec_s=0.25)  # two rounds of 1 s
    with pytest.raises(DeadlineUnreachable, match=r"about 2\.25 s"):
        admit(desk, image, lane_count=2, remaining_s=2.2)
    admit(desk, image, lane_count=2, remaining_s=2.3)


def test_while_nothing_is_pending_no_prediction_refuses_anybody() -> None:
    """A prediction that is far too high would else never be corrected."""
    desk = admission()
    admit(desk, demand(cost_s=1e6), backlog_s=1e6, remaining_s=0.01, spread=9.0).leave_queue()
    admit(desk, demand(cost_s=1e6), remaining_s=0.01)


def test_an_idle_lane_takes_what_it_is_expected_to_finish_without_a_margin() -> None:
    desk = admission()
    admit(desk, demand(cost_s=1.0))
    for backlog_s in (0.5, 100.0):
        admit(desk, demand(cost_s=1.0), backlog_s=backlog_s, lane_count=2, remaining_s=1.2, spread=2.0).release()
    with pytest.raises(DeadlineUnreachable):
        admit(desk, demand(cost_s=1.0), backlog_s=0.5, lane_count=2, remaining_s=0.9)
    admit(desk, demand(cost_s=1.0), lane_count=2)
    with pytest.raises(DeadlineUnreachable):
        admit(desk, demand(cost_s=1.0), backlog_s=0.5, lane_count=2, remaining_s=1.2, spread=2.0)


def test_limits_are_looked_at_in_the_order_that_is_promised() -> None:
    late = demand(cost_s=1e9, held=1500)
    desk = admission(limits(requests=1, memory_bytes=2000))
    admit(desk)
    with pytest.raises(ImageTooLarge):
        admit(desk, demand(held=2001))
    with pytest.raises(QueueFull):
        admit(desk, late)
    desk = admission(limits(requests=2, memory_bytes=2000))
    admit(desk)
    with pytest.raises(MemoryBudgetExceeded):
        admit(desk, late)


@pytest.mark.parametrize(
    ("backlog_s", "retry_after_s"),
    [(0.0, 0.05), (0.16, 0.05), (16.0, 4.0)],  # two lanes: gone in 8 s, half of it in 4 s
)
def test_a_full_queue_says_when_half_of_it_will_be_gone(backlog_s: float, retry_after_s: float) -> None:
    desk = admission(limits(requests=2))
    admit(desk)
    admit(desk)
    with pytest.raises(QueueFull) as raised:
        admit(desk, backlog_s=backlog_s, lane_count=2)
    assert raised.value.retry_after_s == pytest.approx(retry_after_s)


def test_who_is_refused_for_a_large_image_in_a_queue_half_full_may_come_back_at_once() -> None:
    desk = admission(limits(pixels=300))
    admit(desk)
    with pytest.raises(QueueFull) as raised:
        admit(desk, demand(pixels=201), backlog_s=16.0)
    assert raised.value.retry_after_s == 0.05


def test_who_would_be_late_is_told_when_half_of_the_wait_that_it_could_afford_is_left() -> None:
    desk = admission()
    admit(desk)
    with pytest.raises(DeadlineUnreachable) as raised:
        admit(desk, demand(cost_s=1.0), backlog_s=30.0, remaining_s=21.0)
    assert raised.value.retry_after_s == pytest.approx(20.0)


def test_a_place_is_given_back_once_however_often_it_is_asked() -> None:
    desk = admission()
    other = admit(desk)
    room = admit(desk, demand(pixels=7, encoded_bytes=5, held=300, unit_count=3))
    assert pending(desk) == (2, 4, 15, 107)
    room.leave_queue()
    room.leave_queue()
    assert (pending(desk), desk.reserved_bytes) == ((1, 1, 10, 100), 1300)
    room.release()
    room.release()
    room.leave_queue()
    assert (pending(desk), desk.request_count, desk.reserved_bytes) == ((1, 1, 10, 100), 1, 1000)
    other.release()
    assert is_empty(desk)


def test_bytes_that_are_no_image_yet_hold_memory_and_wait_for_no_lane() -> None:
    desk = admission(limits(requests=1, memory_bytes=2000))
    first, second = desk.reserve(800), desk.reserve(900)
    assert (pending(desk), desk.request_count, desk.reserved_bytes) == ((0, 0, 0, 0), 2, 1700)
    with pytest.raises(MemoryBudgetExceeded, match=r"needs 301 bytes and 1700 of 2000 are taken"):
        desk.reserve(301)
    with pytest.raises(ImageTooLarge, match=r"takes up to 2001 bytes"):
        desk.reserve(2001)
    image = admit(desk, demand(held=300))
    with pytest.raises(QueueFull, match="1 requests are pending"):
        desk.reserve(0)
    first.release()
    first.release()
    assert desk.reserved_bytes == 1200
    for room in (second, image):
        room.release()
    assert is_empty(desk)


def test_a_reservation_shrinks_and_never_grows() -> None:
    desk = admission()
    room = admit(desk)
    room.resize(400)
    assert desk.reserved_bytes == 400
    for wrong in (401, -1):
        with pytest.raises(ValueError, match=f"of 400 bytes can't become one of {wrong}"):
            room.resize(wrong)
    room.release()
    room.resize(100)
    assert is_empty(desk)


def test_the_gauges_follow_the_ledgers_and_show_their_limits() -> None:
    registry = CollectorRegistry()
    desk = admission(limits(requests=5, size_bytes=6000, pixels=7000, memory_bytes=8000), registry)

    def gauges(suffix: str = "") -> list[float | None]:
        names = ("pending_images", "pending_bytes", "pending_pixels", "reserved_bytes")
        return [registry.get_sample_value(f"denoised_{name}{suffix}") for name in names]

    assert gauges("_limit") == [5, 6000, 7000, 8000]
    room = admit(desk)
    assert (gauges(), registry.get_sample_value("denoised_admitted_images")) == ([1, 10, 100, 1000], 1)
    room.leave_queue()
    assert (gauges(), registry.get_sample_value("denoised_admitted_images")) == ([0, 0, 0, 1000], 1)
    room.release()
    assert (gauges(), registry.get_sample_value("denoised_admitted_images")) == ([0, 0, 0, 0], 0)


def test_offered_work_counts_what_was_refused_too() -> None:
    registry = CollectorRegistry()
    desk = admission(limits(requests=1, memory_bytes=5000), registry)
    admit(desk, demand(cost_s=0.5))
    for refused in (demand(cost_s=2.0), demand(cost_s=4.0, held=5001)):
        with pytest.raises(ServiceError):
            admit(desk, refused)
    assert [
        registry.get_sample_value("denoised_offered_work_seconds_total", {"verdict": verdict})
        for verdict in ("admitted", "refused")
    ] == [0.5, 6.0]


_demands = st.builds(
    demand,
    pixels=st.integers(1, 700),
    encoded_bytes=st.integers(0, 700),
    held=st.integers(0, 2100),
    cost_s=st.floats(0, 10),
    unit_count=st.integers(1, 5),
)
_arrivals = st.tuples(_demands, st.floats(0, 50), st.floats(0, 20))
_departures = st.tuples(st.sampled_from(["leave", "shrink", "release"]), st.integers(0, 10**6))


@given(st.lists(st.one_of(_arrivals, _departures), max_size=60))
def test_whatever_happens_no_cap_is_passed_and_the_ledgers_return_to_nothing(
    events: list[tuple[Demand, float, float] | tuple[str, int]],
) -> None:
    of = limits(requests=4, size_bytes=1000, pixels=1000, memory_bytes=2000)
    desk, rooms = admission(of), list[Reservation]()
    for event in events:
        if len(event) == 3:
            image, backlog_s, remaining_s = event
            before = pending(desk), desk.reserved_bytes
            outcome = _outcome(desk, image, backlog_s=backlog_s, remaining_s=remaining_s)
            if isinstance(outcome, Reservation):
                rooms.append(outcome)
                first_comer = before[0][0] == 0
                assert desk.pending_count <= of.queue_requests
                assert desk.pending_bytes <= of.queue_bytes or first_comer
                assert desk.pending_pixel_count <= of.queue_pixels or first_comer
            else:
                assert (pending(desk), desk.reserved_bytes) == before
                assert re.search(r"\d.*; .*(send|scale)", str(outcome)), "value, limit and remedy"
                if isinstance(outcome, Overloaded):
                    assert outcome.retry_after_s >= 0.05
                    assert before[0][0] or before[1], "an empty service refuses nobody for now"
                else:
                    assert image.held_bytes > of.memory_bytes
        elif rooms:
            _give_back(rooms[event[1] % len(rooms)], event[0])
        assert 0 <= desk.reserved_bytes <= of.memory_bytes
        assert min(pending(desk)) >= 0
        assert desk.pending_count <= desk.request_count
    for room in rooms:
        room.release()
    assert is_empty(desk)


def _outcome(desk: Admission, image: Demand, *, backlog_s: float, remaining_s: float) -> Reservation | ServiceError:
    try:
        return admit(desk, image, backlog_s=backlog_s, lane_count=2, remaining_s=remaining_s, spread=1.5)
    except ServiceError as refusal:
        return refusal


def _give_back(room: Reservation, how: str) -> None:
    if how == "leave":
        room.leave_queue()
    elif how == "shrink":
        room.resize(0)
    else:
        room.release()


@pytest.mark.parametrize("load", [2.0, 10.0])
@pytest.mark.parametrize("deadline_s", [0.25, 1.0, 10.0])
@pytest.mark.parametrize("costs_s", [(0.05,), (0.01, 0.025, 0.05, 0.115)])
@pytest.mark.parametrize(("variation", "bias"), [(0.1, 1.0), (0.3, 1.0), (0.2, 1.15)])
def test_an_overload_keeps_the_lanes_busy_with_what_is_in_time(
    load: float, deadline_s: float, costs_s: tuple[float, ...], variation: float, bias: float
) -> None:
    desk = admission()
    result = Overload(desk, Arrivals(load, costs_s, deadline_s, variation, bias)).run()
    assert result.goodput >= 0.95
    assert result.late_share <= 0.01
    assert is_empty(desk)


def test_a_deadline_of_twice_the_work_leaves_an_overload_in_time() -> None:
    result = Overload(admission(), Arrivals(10.0, (0.05,), deadline_s=0.1, variation=0.1, bias=1.0)).run()
    assert result.goodput >= 0.95
    assert result.late_share <= 0.01


@pytest.mark.parametrize("load", [2.0, 10.0])
@pytest.mark.parametrize(("variation", "bias"), [(0.1, 1.0), (0.1, 1.2), (0.2, 1.4)])
def test_promises_that_were_not_kept_make_the_next_ones_more_careful(
    load: float, variation: float, bias: float
) -> None:
    """The pace changes between an image's arrival and its run, so no batch's own error shows it.

    Without learning 11 to 97 % are late here. What is left includes the first few, from which it is learnt.
    """
    desk = admission()
    result = Overload(desk, Arrivals(load, (0.05,), 1.0, variation, bias, is_spread_known=False)).run()
    assert result.goodput >= 0.95
    assert result.late_share <= 0.015
    assert is_empty(desk)
