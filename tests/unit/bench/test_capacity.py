"""Sizing by arithmetic: pods for a load, and the autoscaler's rule by what it must do."""

import json

import pytest

from tests.bench.capacity import CORES_PER_POD, PAGE, RESULTS, TARGET_USE, Work, bursty_day, figure, follow, page


def test_pods_are_what_the_work_takes_at_the_use_that_is_kept() -> None:
    work = Work("of half a core second", 1.0, 0.5)

    assert work.images_per_core_s == 2.0
    assert work.pods(0.1) == 2, "the loss of one interrupts nobody"
    # 28 cores of work on pods that give 1.4 each.
    assert work.pods(56) == 20
    assert work.core_hours_per_million_megapixels() == pytest.approx(0.5e6 / 3600 / TARGET_USE)


def test_a_figure_that_is_not_there_is_not_made_up() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))

    with pytest.raises(KeyError, match="base256: no such"):
        figure(results, "base256", "no such")


@pytest.mark.parametrize("sees_refused", [True, False])
def test_steady_work_ends_at_the_pods_that_it_takes(*, sees_refused: bool) -> None:
    cores = 28.0
    went = follow(lambda _: cores, sees_refused=sees_refused)
    needed = cores / CORES_PER_POD / TARGET_USE

    assert needed * 0.9 <= went.most_pods <= needed * 1.1 + 1
    assert 24 * needed * 0.85 <= went.pod_hours <= 24 * needed * 1.15


def test_no_work_keeps_the_least_pods() -> None:
    went = follow(lambda _: 1e-6, sees_refused=True)

    assert (went.pod_hours, went.most_pods, went.refused_share) == (48.0, 2, 0.0)


def test_who_sees_what_is_refused_refuses_less_of_a_burst() -> None:
    offered = bursty_day(base=4.0, peak=4.0, burst=40.0)
    by_cpu, by_offered = (follow(offered, sees_refused=sees) for sees in (False, True))

    assert by_offered.refused_share < by_cpu.refused_share


def test_the_committed_page_is_what_the_results_say() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))

    assert PAGE.read_text(encoding="utf-8") == page(results), "run: make capacity"
