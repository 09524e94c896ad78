"""Evaluations and estimates of a run: found again by name, replaced by later ones, damage and a full disk named."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from training.errors import DataError, RunError
from training.evaluation.estimates import Estimates, NoReference
from training.evaluation.scores import Evaluation, Score
from training.evaluation.store import load_estimates, load_evaluations, save_estimates, save_evaluation
from training.run.directory import RunDir

pytestmark = pytest.mark.training


def evaluation(image_set: str, level_db: float) -> Evaluation:
    return Evaluation(image_set, "PSNR in dB", (Score("network", "a.png", 25.0, level_db),))


def no_reference(image_set: str, removed_fraction: float) -> NoReference:
    found = Estimates("a.png", 12.0, removed_fraction, 0.01, 0.02, 0.0, 31.0, None, None)
    return NoReference(image_set, "estimates", None, (found,))


def test_evaluations_come_back_by_name_and_a_later_one_takes_the_place_of_the_earlier(tmp_path: Path) -> None:
    assert load_evaluations(RunDir(tmp_path)) == []
    for image_set, level_db in (("val", 30.0), ("kodak", 31.0), ("val", 32.0)):
        save_evaluation(RunDir(tmp_path), evaluation(image_set, level_db))
    assert load_evaluations(RunDir(tmp_path)) == [evaluation("kodak", 31.0), evaluation("val", 32.0)]


def test_estimates_lie_apart_from_evaluations_of_a_set_of_the_same_name(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    save_evaluation(run_dir, evaluation("val", 30.0))
    for image_set, removed_fraction in (("val", 0.8), ("frames", 0.7), ("val", 0.9)):
        save_estimates(run_dir, no_reference(image_set, removed_fraction))
    assert load_estimates(run_dir) == [no_reference("frames", 0.7), no_reference("val", 0.9)]
    assert load_evaluations(run_dir) == [evaluation("val", 30.0)]


def test_a_damaged_file_is_a_typed_error_that_names_it(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for folder in (run_dir.evaluations_path, run_dir.estimates_path):
        folder.mkdir()
        (folder / "val.json").write_text("{}")
    with pytest.raises(DataError, match=r"evaluations/val\.json"):
        load_evaluations(run_dir)
    with pytest.raises(DataError, match=r"estimates/val\.json"):
        load_estimates(run_dir)


def test_a_place_that_can_not_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    run_dir = RunDir(tmp_path / "run")
    with pytest.raises(RunError, match="cannot be written"):
        save_evaluation(run_dir, evaluation("val", 30.0))
    with pytest.raises(RunError, match="cannot be written"):
        save_estimates(run_dir, no_reference("val", 0.9))
