"""Quotas: what a caller gets over any time is bounded, however it asks, and a refusal says when to come back."""

from dataclasses import dataclass, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import QuotaExceeded
from service.quota import Allowance, Quota


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refusal(allowance: Allowance, size_bytes: int = 1) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as caught:
        allowance.enter(size_bytes)
    return caught.value


def test_who_has_no_quota_is_never_refused(clock: Clock) -> None:
    allowance = Allowance(Quota(), clock)
    for _ in range(10_000):
        allowance.enter(10**9)
        allowance.take_pixels(10**9)


def test_requests_beyond_a_second_s_worth_wait_for_the_rate(clock: Clock) -> None:
    allowance = Allowance(Quota(requests_per_s=4), clock)
    for _ in range(4):
        allowance.enter(1)
    error = refusal(allowance)
    assert error.metadata == {"cap": "requests", "limit": "4"}
    assert "4 requests per second" in str(error)
    clock.now_s += 0.25
    allowance.enter(1)


@pytest.mark.parametrize("cap", ["pixels", "bytes"])
def test_something_larger_than_the_quota_passes_and_is_paid_for_afterwards(cap: str, clock: Clock) -> None:
    allowance = Allowance(Quota(pixels_per_s=100, bytes_per_s=100), clock)
    allowance.enter(600 if cap == "bytes" else 0)
    allowance.take_pixels(600 if cap == "pixels" else 0)
    error = refusal(allowance)
    assert error.metadata["cap"] == cap
    assert error.retry_after_s == pytest.approx(5.0)
    clock.now_s += error.retry_after_s + 1e-6
    allowance.enter(0)


def test_what_comes_in_chunks_is_charged_as_it_comes(clock: Clock) -> None:
    allowance = Allowance(Quota(bytes_per_s=100), clock)
    allowance.enter(0)
    for _ in range(3):
        allowance.take_bytes(100)
    assert refusal(allowance).retry_after_s == pytest.approx(2.0)


def test_so_many_are_under_way_and_no_more(clock: Clock) -> None:
    allowance = Allowance(Quota(concurrency=2), clock)
    allowance.enter(1)
    allowance.enter(1)
    assert refusal(allowance).metadata == {"cap": "concurrency", "limit": "2"}
    allowance.leave()
    allowance.enter(1)


def test_what_is_refused_costs_nothing(clock: Clock) -> None:
    allowance = Allowance(Quota(requests_per_s=1, bytes_per_s=1000), clock)
    allowance.enter(1)
    for _ in range(100):
        refusal(allowance, 1000)
    clock.now_s += 1.0
    allowance.enter(1)


def test_a_pause_saves_up_no_more_than_a_second(clock: Clock) -> None:
    allowance = Allowance(Quota(requests_per_s=3), clock)
    clock.now_s += 3600
    for _ in range(3):
        allowance.enter(1)
    refusal(allowance)


def test_a_new_quota_holds_at_once_and_forgives_no_debt(clock: Clock) -> None:
    quota = Quota(pixels_per_s=100)
    allowance = Allowance(quota, clock)
    allowance.take_pixels(1100)
    allowance.change(replace(quota, pixels_per_s=500))
    assert refusal(allowance).retry_after_s == pytest.approx(2.0)
    allowance.change(replace(quota, pixels_per_s=inf))
    allowance.enter(1)


def test_a_greedy_caller_gets_its_quota_and_no_more(clock: Clock) -> None:
    """At ten times its quota for a minute: its rate, and one second's worth to begin with."""
    allowance = Allowance(Quota(requests_per_s=10), clock)
    passed_count = 0
    for _ in range(60 * 100):
        clock.now_s += 0.01
        try:
            allowance.enter(1)
        except QuotaExceeded:
            continue
        allowance.leave()
        passed_count += 1
    assert 600 <= passed_count <= 610


@given(
    rate=st.floats(0.5, 50.0),
    steps=st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(0, 500)), min_size=1, max_size=60),
)
def test_over_any_time_nobody_gets_more_than_rate_burst_and_one_last_thing(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    allowance = Allowance(Quota(pixels_per_s=rate), clock)
    begun_s, got, largest = clock.now_s, 0, 0
    for pause_s, pixel_count in steps:
        clock.now_s += pause_s
        try:
            allowance.enter(0)
        except QuotaExceeded:
            continue
        allowance.take_pixels(pixel_count)
        got, largest = got + pixel_count, max(largest, pixel_count)
    assert got <= rate * (clock.now_s - begun_s) + rate + largest + 1e-6


@given(
    rates=st.tuples(st.floats(1.0, 9.0), st.floats(1.0, 900.0)),
    sizes=st.lists(st.integers(0, 2000), min_size=1, max_size=40),
)
def test_who_waits_as_long_as_it_was_told_is_let_in(rates: tuple[float, float], sizes: list[int]) -> None:
    clock = Clock()
    allowance = Allowance(Quota(requests_per_s=rates[0], bytes_per_s=rates[1]), clock)
    for size_bytes in sizes:
        try:
            allowance.enter(size_bytes)
        except QuotaExceeded as error:
            clock.now_s += error.retry_after_s + 1e-6
            allowance.enter(size_bytes)
