"""The retry policy, by numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised import InternalError, OverloadedError, RetryPolicy, ServerUnavailableError
from denoised.retry import Attempts, RetryBudget

DOWN = ServerUnavailableError("down", reason="UNAVAILABLE", target="t:1")


def busy(retry_after_s: float | None) -> OverloadedError:
    return OverloadedError("busy", reason="QUEUE_FULL", retry_after_s=retry_after_s)


@pytest.mark.parametrize(("draw", "pauses_s"), [(0.0, [0.25, 0.5, 1.0]), (1.0, [0.125, 0.25, 0.5])])
def test_pauses_double_and_are_shortened_by_up_to_a_half(draw: float, pauses_s: list[float]) -> None:
    policy = RetryPolicy()
    assert [
        policy.pause_s(DOWN, tries_made=tries, remaining_s=60, draw=lambda: draw) for tries in (1, 2, 3)
    ] == pauses_s
    assert policy.pause_s(DOWN, tries_made=4, remaining_s=60, draw=lambda: draw) is None


@given(
    tries=st.integers(1, 40),
    remaining_s=st.floats(0, 1000),
    draw=st.floats(0, 1),
    retry_after_s=st.none() | st.floats(0, 1000),
)
def test_a_pause_fits_the_deadline_and_honours_the_server(
    tries: int, remaining_s: float, draw: float, retry_after_s: float | None
) -> None:
    policy = RetryPolicy(try_count=30, longest_pause_s=4)
    pause_s = policy.pause_s(busy(retry_after_s), tries_made=tries, remaining_s=remaining_s, draw=lambda: draw)
    if retry_after_s is None or tries >= 30:
        assert pause_s is None
    elif pause_s is None:
        assert max(4.0, retry_after_s * 1.25) >= remaining_s
    else:
        assert retry_after_s <= pause_s < remaining_s
        assert pause_s <= max(4.0, retry_after_s * 1.25)


def test_failures_of_the_server_are_not_repeated() -> None:
    broken = InternalError("broken", reason="MODEL_FAILED")
    assert RetryPolicy().pause_s(broken, tries_made=1, remaining_s=60, draw=lambda: 0.5) is None


def test_all_tries_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    attempts = Attempts(RetryPolicy(), RetryBudget(RetryPolicy()), timeout_s=10)
    assert attempts.remaining_s == 10
    now_s = 109.0
    assert attempts.remaining_s == 1
    with pytest.raises(OverloadedError):
        attempts.pause_after(busy(retry_after_s=1.0))
    now_s = 120.0
    assert attempts.remaining_s == 0


def test_a_budget_is_used_up_by_retries_and_earned_by_traffic() -> None:
    budget = RetryBudget(RetryPolicy(budget_share=0.25, budget_reserve=2))
    assert [budget.allows(DOWN) for _ in range(3)] == [True, True, False]
    for _ in range(4):
        budget.earn()
    assert [budget.allows(DOWN) for _ in range(2)] == [True, False]
    for _ in range(100):
        budget.earn()
    assert [budget.allows(DOWN) for _ in range(3)] == [True, True, False], "no more than the reserve is saved"


def test_a_retry_that_the_server_asks_for_costs_nothing() -> None:
    budget = RetryBudget(RetryPolicy(budget_share=0, budget_reserve=1))
    assert all(budget.allows(busy(retry_after_s=1.0)) for _ in range(9))
    assert [budget.allows(DOWN) for _ in range(2)] == [True, False]


def test_a_call_without_a_budget_raises_what_it_met() -> None:
    policy = RetryPolicy(budget_share=0, budget_reserve=0)
    with pytest.raises(ServerUnavailableError) as caught:
        Attempts(policy, RetryBudget(policy), timeout_s=10).pause_after(DOWN)
    assert caught.value is DOWN


@pytest.mark.parametrize(
    "values",
    [
        {"try_count": 0},
        {"budget_share": -0.1},
        {"budget_reserve": -1.0},
        {"first_pause_s": -1.0},
        {"first_pause_s": 5.0, "longest_pause_s": 4.0},
    ],
)
def test_impossible_policies_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**values)  # type: ignore[arg-type]
