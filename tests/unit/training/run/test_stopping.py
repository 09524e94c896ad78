"""Which checkpoint is the best, and when waiting ends: pure."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.run.stopping import Progress

pytestmark = pytest.mark.training

Metric = Literal["psnr_db", "loss"]
values = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


def followed(
    figures: list[float], metric: Metric = "psnr_db", min_improvement: float = 0.0, patience: int | None = None
) -> tuple[Progress, int]:
    """The state in the end, and after how many measurements the run was over."""
    progress = Progress()
    for step, value in enumerate(figures, start=1):
        progress = progress.after(step, value, metric=metric, min_improvement=min_improvement)
        if progress.is_over(patience):
            return progress, step
    return progress, len(figures)


@given(values)
def test_the_best_checkpoint_is_the_first_of_the_highest_psnr_or_of_the_lowest_loss(figures: list[float]) -> None:
    highest, _ = followed(figures)
    assert (highest.best_value, highest.best_step) == (max(figures), figures.index(max(figures)) + 1)
    lowest, _ = followed(figures, "loss")
    assert (lowest.best_value, lowest.best_step) == (min(figures), figures.index(min(figures)) + 1)


@given(values)
def test_without_patience_no_run_is_over(figures: list[float]) -> None:
    assert followed(figures)[1] == len(figures)


def test_a_run_is_over_after_as_many_measurements_without_gain_as_its_patience() -> None:
    assert followed([30, 31, 31, 30.5, 31], patience=3) == (Progress(2, 31, 3, 31), 5)
    assert followed([30, 31, 31, 30.5, 32], patience=3)[0].waited == 0


def test_a_run_that_creeps_is_over_all_the_same_and_its_last_gain_still_counts_as_the_best() -> None:
    progress, ended_after = followed([30.0, 30.01, 30.02, 30.03], min_improvement=0.1, patience=3)
    assert ended_after == 4
    assert (progress.best_step, progress.best_value) == (4, 30.03)


def test_small_gains_add_up_to_one_that_ends_the_waiting() -> None:
    assert followed([30.0, 30.06, 30.12], min_improvement=0.1, patience=2)[0].waited == 0


@given(values)
def test_the_state_survives_its_trip_through_a_checkpoint(figures: list[float]) -> None:
    progress, _ = followed(figures)
    assert Progress.from_tree(progress.to_tree()) == progress
