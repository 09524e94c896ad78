"""Every reply has one outcome, and counts add up; gates and rates as written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.load.gates import FIGURES, Gate, parse_gate
from denoised.load.histogram import Histogram
from denoised.load.plan import Rate, parse_rates
from denoised.load.server_use import MetricsUnreadableError, ServerUse, parse
from denoised.load.tally import StageTally
from denoised.load.verdicts import Outcome, Reply, Verdict, judge


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (Reply("OK"), Verdict(Outcome.OK)),
        (Reply("DEADLINE_EXCEEDED"), Verdict(Outcome.LATE, "NO_ANSWER_IN_TIME")),
        (Reply("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"), Verdict(Outcome.LATE, "DEADLINE_EXCEEDED")),
        (Reply("RESOURCE_EXHAUSTED", "QUEUE_FULL"), Verdict(Outcome.REFUSED, "QUEUE_FULL")),
        (Reply("UNAVAILABLE", "DRAINING"), Verdict(Outcome.REFUSED, "DRAINING")),
        (Reply("RESOURCE_EXHAUSTED"), Verdict(Outcome.FAILED, "RESOURCE_EXHAUSTED")),
        (Reply("UNAVAILABLE"), Verdict(Outcome.LOST, "UNAVAILABLE")),
        (Reply(""), Verdict(Outcome.LOST, "NO_ANSWER")),
        (Reply("", "STREAM_ENDED"), Verdict(Outcome.LOST, "STREAM_ENDED")),
        (Reply("CANCELLED"), Verdict(Outcome.LOST, "CANCELLED")),
        (Reply("CANCELLED", "CANCELLED"), Verdict(Outcome.FAILED, "CANCELLED")),
        (Reply("INVALID_ARGUMENT", "IMAGE_TOO_LARGE"), Verdict(Outcome.FAILED, "IMAGE_TOO_LARGE")),
        (Reply("INTERNAL"), Verdict(Outcome.LOST, "INTERNAL")),
        (Reply("INTERNAL", "MODEL_FAILED"), Verdict(Outcome.FAILED, "MODEL_FAILED")),
        (Reply("UNIMPLEMENTED"), Verdict(Outcome.FAILED, "UNIMPLEMENTED")),
    ],
)
def test_a_reply_has_its_outcome_and_its_reason(reply: Reply, verdict: Verdict) -> None:
    assert judge(reply, is_in_time=True, is_right=True, was_taken_back=False) == verdict


def test_an_answer_after_the_deadline_is_late() -> None:
    verdict = judge(Reply("OK"), is_in_time=False, is_right=True, was_taken_back=False)
    assert verdict == Verdict(Outcome.LATE, "ANSWERED_LATE")


@pytest.mark.parametrize("is_in_time", [True, False])
def test_a_wrong_answer_is_wrong_whenever_it_comes(is_in_time: bool) -> None:  # noqa: FBT001 -- a parameter
    verdict = judge(Reply("OK"), is_in_time=is_in_time, is_right=False, was_taken_back=True)
    assert verdict.outcome is Outcome.WRONG


def test_what_was_taken_back_is_cancelled_unless_its_answer_came_first() -> None:
    cancelled = judge(Reply("CANCELLED"), is_in_time=True, is_right=True, was_taken_back=True)
    answered = judge(Reply("OK"), is_in_time=True, is_right=True, was_taken_back=True)
    assert (cancelled.outcome, answered.outcome) == (Outcome.CANCELLED, Outcome.OK)


SETTLED = st.tuples(
    st.builds(Verdict, st.sampled_from(Outcome), st.sampled_from(("", "A", "B"))),
    st.floats(0.0, 9.99),
    st.floats(0.0, 5.0),
    st.booleans(),
)


@given(st.lists(SETTLED))
def test_a_stage_adds_up_whatever_becomes_of_its_images(
    settled: list[tuple[Verdict, float, float, bool]],
) -> None:
    tally = StageTally(10.0)
    for verdict, due_s, latency_s, is_slow in settled:
        tally.offer(1)
        tally.add(verdict, due_s=due_s, settled_s=due_s + latency_s, is_slow=is_slow)
    assert tally.adds_up
    assert sum(tally.all.count(outcome) for outcome in Outcome) == tally.offered_count == len(settled)
    assert sum(slot.counts.total() for slot in tally.slots) == len(settled)
    assert tally.prompt.count() + tally.slow.count() == len(settled)
    in_time = [due_s + s for v, due_s, s, _ in settled if v.outcome is Outcome.OK and due_s + s <= 10.0]
    assert tally.goodput_per_s == len(in_time) / 10.0


def test_an_image_without_an_outcome_is_noticed() -> None:
    tally = StageTally(1.0)
    tally.offer(2)
    tally.add(Verdict(Outcome.OK), due_s=0.0, settled_s=0.1, is_slow=False)
    assert not tally.adds_up


def test_slow_readers_stay_out_of_the_latencies() -> None:
    tally = StageTally(1.0)
    tally.add(Verdict(Outcome.OK), due_s=0.0, settled_s=0.1, is_slow=False)
    tally.add(Verdict(Outcome.OK), due_s=0.0, settled_s=0.9, is_slow=True)
    assert tally.prompt.latencies(Outcome.OK).most_s == 0.1
    assert tally.slots[0].admitted.most_s == 0.1
    assert tally.all.latencies(Outcome.OK).count == 2


def test_refusals_have_latencies_by_reason() -> None:
    tally = StageTally(1.0)
    for reason, latency_s in (("QUEUE_FULL", 0.01), ("MEMORY_BUDGET", 0.02), ("QUEUE_FULL", 0.03)):
        tally.add(Verdict(Outcome.REFUSED, reason), due_s=0.0, settled_s=latency_s, is_slow=False)
    found = [(verdict.reason, histogram.count, histogram.most_s) for verdict, histogram in tally.all.by_reason()]
    assert found == [("MEMORY_BUDGET", 1, 0.02), ("QUEUE_FULL", 2, 0.03)]


def test_an_empty_histogram_of_refusals_is_empty() -> None:
    assert StageTally(1.0).prompt.latencies(Outcome.REFUSED) == Histogram()


def test_rates_are_numbers_or_multiples() -> None:
    assert parse_rates(("50,x0.5", "x10")) == (
        Rate(50.0, is_multiple=False),
        Rate(0.5, is_multiple=True),
        Rate(10.0, is_multiple=True),
    )
    assert [str(rate) for rate in parse_rates(("50", "x2"))] == ["50/s", "x2"]
    assert Rate(2.0, is_multiple=True).images_per_s(30.0) == 60.0
    assert Rate(50.0, is_multiple=False).images_per_s(None) == 50.0


@pytest.mark.parametrize("text", ["", "x", "fast", "-1", "0", "x0", "inf", "nan", "xx2"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write images a second"):
        parse_rates((text,))


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("lost = 0", 0.0, True),
        ("lost == 0", 1.0, False),
        ("late_share <= 0.01", 0.01, True),
        ("late_share < 0.01", 0.01, False),
        ("goodput_share>=0.8", 0.79, False),
        ("p99_ms > 1e1", 11.0, True),
        ("p99_ms < 200", None, True),
    ],
)
def test_a_gate_compares(text: str, value: float | None, holds: bool) -> None:  # noqa: FBT001 -- a parameter
    gate = parse_gate(text)
    assert gate.holds({gate.figure: value}) is holds


def test_a_gate_says_what_it_is() -> None:
    assert str(parse_gate(" p999_ms<=250 ")) == "p999_ms <= 250"
    assert parse_gate("wrong = 0") == Gate("wrong", "=", 0.0)


@pytest.mark.parametrize("text", ["", "lost", "lost 0", "lost ! 0", "lots = 0", "lost = many", "lost = 1.2.3"])
def test_a_gate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"gate .*: "):
        parse_gate(text)


def test_every_outcome_has_a_figure_of_its_name() -> None:
    assert {outcome.value.replace(" ", "_") for outcome in Outcome} <= set(FIGURES)


def test_metrics_are_read_from_prometheus_text() -> None:
    text = "# HELP x y\nprocess_cpu_seconds_total 12.5\nprocess_resident_memory_bytes 2.0e+08\nother 1\n"
    assert parse(text, url="u") == ServerUse(12.5, 2e8)


def test_a_page_without_the_metrics_says_which_are_missing() -> None:
    with pytest.raises(MetricsUnreadableError, match="has no process_resident_memory_bytes"):
        parse("process_cpu_seconds_total 12.5\n", url="http://localhost/metrics")
