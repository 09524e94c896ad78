"""Work that is not offered yet: what is added is there, what is taken is gone, and nothing is left of nothing."""

from hypothesis import given
from hypothesis import strategies as st

from service.unoffered import Unoffered

costs = st.floats(1e-6, 1e3)


@given(st.lists(st.tuples(st.sampled_from("abc"), costs), max_size=30))
def test_nothing_is_left_when_all_that_was_added_is_taken(entries: list[tuple[str, float]]) -> None:
    work = Unoffered()
    for share, seconds in entries:
        work.add(share, seconds)
    assert abs(work.total_s - sum(seconds for _, seconds in entries)) <= 1e-9 * (1 + work.total_s)
    for share, seconds in entries:
        work.add(share, -seconds)
    assert work.total_s == 0.0
    assert work.before_s("a", 0.0) == 0.0


def test_others_work_goes_before_a_client_only_as_far_as_its_own() -> None:
    work = Unoffered()
    work.add("mine", 2.0)
    work.add("theirs", 100.0)
    assert work.before_s("mine", queued_s=3.0) == 2.0 + 5.0
    assert work.before_s("theirs", queued_s=0.0) == 100.0 + 2.0
    assert work.before_s("nobody", queued_s=0.0) == 0.0


def test_a_client_that_has_nothing_is_forgotten() -> None:
    work = Unoffered()
    work.add("mine", 0.0)
    assert work.total_s == 0.0
    work.add("mine", 0.3)
    work.add("mine", -0.1)
    work.add("mine", -0.2)
    assert work.total_s == 0.0
