"""Which method is measured under which condition, and that every answer is scored against its own clean form."""

from dataclasses import dataclass

import numpy as np
import pytest

from denoised.quality import PSNR_CEILING_DB
from tests.bench.quality.images import CleanImage, Samples
from tests.bench.quality.measure import Task, headline_sigma, row_of, score_task, tasks
from tests.bench.quality.methods import OPENCV_NLM, Answer, Classical, Unchanged
from tests.bench.quality.protocols import Condition

_SIGMAS = (15, 25)


@dataclass
class Knowing:
    """Answers with the clean picture of the shape that it is asked about, and remembers what it was told."""

    clean: dict[tuple[int, ...], Samples]
    told: list[float]
    name: str = "knowing"

    def answer(self, noisy: Samples, sigma: float) -> Answer:
        self.told.append(sigma)
        return Answer(self.clean[noisy.shape], 0.032, 12.345)


def images(count: int) -> tuple[CleanImage, ...]:
    rng = np.random.default_rng(0)
    return tuple(CleanImage(f"{i}.png", i, rng.integers(0, 256, (20 + i, 20, 3), np.uint8)) for i in range(count))


@pytest.mark.parametrize(("sigmas", "expected"), [((15, 25, 50), 25), ((50,), 50), ((20, 30), 20), ((26, 5), 26)])
def test_the_headline_is_25_or_what_is_nearest(sigmas: tuple[int, ...], expected: int) -> None:
    assert headline_sigma(sigmas) == expected


def test_only_opencv_is_measured_behind_jpeg_and_the_input_first() -> None:
    opencv, other = Classical(OPENCV_NLM, lambda noisy, _: noisy), Classical("other", lambda noisy, _: noisy)

    found = tasks([], [opencv, other], _SIGMAS)

    assert [task.method.name for task in found] == ["noisy", OPENCV_NLM, "other"]
    behind_jpeg = [task.method.name for task in found if Condition("photo") in task.conditions]
    assert behind_jpeg == ["noisy", OPENCV_NLM]
    assert all(Condition("gaussian", sigma) in task.conditions for task in found for sigma in _SIGMAS)


def test_every_answer_is_scored_against_its_own_image_more_than_a_batch_of_them() -> None:
    shown = images(11)
    method = Knowing(
        {i.samples.shape: i.samples for i in shown} | {i.grey().samples.shape: i.grey().samples for i in shown}, []
    )
    task = Task(method, "classical", (Condition("gaussian", 15), Condition("gaussian", 25, is_grey=True)))
    answered: list[None] = []

    scores = list(score_task(task, shown, lambda: answered.append(None)))

    assert [score.file for score in scores] == [image.name for image in shown] * 2
    assert {score.psnr_db for score in scores} == {PSNR_CEILING_DB}
    assert [(score.sigma, score.is_grey) for score in scores] == [(15, False)] * 11 + [(25, True)] * 11
    assert len(answered) == 22
    # Once more for the first image of each shape, which nobody times.
    assert method.told == [15.0] * 22 + [25.0] * 22
    assert scores[0].sigma_found == 12.35
    assert scores[0].ms_per_megapixel == pytest.approx(32 / (20 * 20 / 1e6))


def test_a_rows_cost_is_the_median_and_the_input_has_none() -> None:
    shown = images(3)
    method = Knowing({image.samples.shape: image.samples for image in shown}, [])
    task = Task(method, "classical", (Condition("gaussian", 15),))

    row = row_of(task, list(score_task(task, shown, lambda: None)), shown, None)

    assert row.ms_per_megapixel == pytest.approx(32 / (20 * 21 / 1e6), rel=1e-5)
    assert row.raw_ms_per_megapixel is None
    assert row_of(Task(Unchanged(), "input", ()), [], shown, None).ms_per_megapixel is None
