"""The run directory: what it keeps, and what it says about a directory that is none."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.unit.training.run.tiny import tiny_config
from training.errors import DataError, RunError
from training.evaluation.scores import Evaluation, Score
from training.run.directory import RunDir

pytestmark = pytest.mark.training


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path / "runs" / "tiny")
    run_dir.create(tiny_config())
    return run_dir


def test_a_new_run_keeps_its_config(run_dir: RunDir) -> None:
    assert RunDir(run_dir.path).load_config() == tiny_config()
    assert [path.name for path in run_dir.path.iterdir()] == ["config.json"]


def test_creating_over_an_existing_run_is_refused_and_changes_nothing(run_dir: RunDir) -> None:
    before = run_dir.config_path.read_bytes()
    with pytest.raises(RunError, match=r"already holds a run; it came to no checkpoint: delete it"):
        RunDir(run_dir.path).create(tiny_config(seed=5))
    run_dir.checkpoints.previous_path.touch()
    with pytest.raises(RunError, match=r"already holds a run; continue it with --resume"):
        RunDir(run_dir.path).create(tiny_config(seed=5))
    assert run_dir.config_path.read_bytes() == before


def test_a_directory_that_can_not_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="cannot be written"):
        RunDir(tmp_path / "file" / "run").create(tiny_config())


def test_a_directory_without_a_config_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        RunDir(tmp_path).load_config()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "tiny"}'])
def test_a_damaged_config_is_a_typed_error_that_names_the_file(run_dir: RunDir, text: str) -> None:
    run_dir.config_path.write_text(text)
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        run_dir.load_config()


def test_a_config_with_an_unknown_key_is_refused_by_name(run_dir: RunDir) -> None:
    text = run_dir.config_path.read_text().replace('"seed"', '"sead"')
    run_dir.config_path.write_text(text)
    with pytest.raises(RunError, match="sead"):
        run_dir.load_config()


def test_the_parents_config_is_kept_and_its_damage_is_a_typed_error(run_dir: RunDir, tmp_path: Path) -> None:
    child = RunDir(tmp_path / "child")
    child.create(tiny_config(seed=12))
    assert child.load_parent_config() is None
    child.save_parent(run_dir)
    assert child.load_parent_config() == tiny_config()
    child.parent_config_path.write_text("{")
    with pytest.raises(RunError, match=r"parent-config\.json is damaged"):
        child.load_parent_config()


def test_evaluations_come_back_by_name_and_a_later_one_takes_the_place_of_the_earlier(run_dir: RunDir) -> None:
    def evaluation(image_set: str, level_db: float) -> Evaluation:
        return Evaluation(image_set, "PSNR in dB", (Score("network", "a.png", 25.0, level_db),))

    assert run_dir.load_evaluations() == []
    for image_set, level_db in (("val", 30.0), ("kodak", 31.0), ("val", 32.0)):
        run_dir.save_evaluation(evaluation(image_set, level_db))
    assert RunDir(run_dir.path).load_evaluations() == [evaluation("kodak", 31.0), evaluation("val", 32.0)]


def test_a_damaged_evaluation_is_a_typed_error(run_dir: RunDir) -> None:
    run_dir.evaluations_path.mkdir()
    (run_dir.evaluations_path / "val.json").write_text("{}")
    with pytest.raises(DataError, match=r"val\.json"):
        run_dir.load_evaluations()
