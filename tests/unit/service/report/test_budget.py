"""The budget of reports that nobody asked for: a share of one core at most, and one image in k beyond it."""

from hypothesis import given
from hypothesis import strategies as st

from denoised.statistics import SAMPLE_LIMIT
from service.report.budget import ReportBudget, report_cost_s


def test_after_a_quiet_time_every_image_gets_one_and_says_so() -> None:
    budget = ReportBudget(share=0.1, one_in=4)
    assert budget.take(0.003, 100.0) == (True, False)
    assert budget.take(0.003, 100.0) == (True, False)


def test_when_it_is_used_up_one_image_in_k_gets_one_and_all_say_so() -> None:
    budget = ReportBudget(share=0.0, one_in=4)
    assert [budget.take(0.001, 1.0) for _ in range(8)] == ([(False, True)] * 3 + [(True, True)]) * 2


def test_it_fills_with_time_to_a_limit() -> None:
    budget = ReportBudget(share=0.1, one_in=100)
    while budget.take(0.01, 0.0)[0]:
        pass
    # 0.1 s at a tenth of a core are one report of 0.01 s; a day makes no more than the burst.
    assert budget.take(0.01, 0.11) == (True, False)
    assert budget.take(0.01, 0.11)[0] is False
    day_s = 86_400.0
    taken = 0
    while budget.take(0.01, day_s)[0]:
        taken += 1
    assert taken == 10


@given(
    steps=st.lists(st.tuples(st.floats(0.0, 0.05), st.floats(1e-4, 0.01)), min_size=1, max_size=200),
    one_in=st.integers(1, 50),
    share=st.floats(0.0, 1.0),
)
def test_reports_take_no_more_than_their_share_and_the_sample(
    steps: list[tuple[float, float]], one_in: int, share: float
) -> None:
    budget, now_s, spent_s, drawn, skipped = ReportBudget(share=share, one_in=one_in), 0.0, 0.0, 0, 0
    for pause_s, cost_s in steps:
        now_s += pause_s
        has_one, is_drawn = budget.take(cost_s, now_s)
        if has_one and not is_drawn:
            spent_s += cost_s
        drawn += has_one and is_drawn
        skipped += is_drawn
    assert spent_s <= 0.1 + share * now_s + 1e-9
    assert drawn == skipped // one_in


def test_a_report_costs_more_for_more_samples_and_three_milliseconds_at_most() -> None:
    assert 0 < report_cost_s(1) < report_cost_s(SAMPLE_LIMIT) < 0.0031
