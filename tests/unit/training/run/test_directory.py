"""The run directory: what it keeps, and what it says about a directory that is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.unit.training.run.tiny import tiny_config
from training.errors import RunError
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


def test_a_run_that_never_came_to_its_first_step_is_replaced(run_dir: RunDir) -> None:
    run_dir.save_parent(run_dir.load_config())
    run_dir.create(tiny_config(seed=5))
    assert run_dir.load_config() == tiny_config(seed=5)
    assert run_dir.load_parent() is None


def test_creating_over_an_existing_run_is_refused_and_changes_nothing(run_dir: RunDir) -> None:
    before = run_dir.config_path.read_bytes()
    run_dir.log_path.touch()
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


@pytest.mark.skipif(os.name != "posix", reason="the system has no locks by process")
def test_a_directory_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "runs" / "tiny")
    program = f"""
from pathlib import Path
from training.errors import RunError
from training.run.directory import RunDir
try:
    with RunDir(Path({str(run_dir.path)!r})).held():
        print("held")
except RunError as error:
    print(error)
"""

    def another() -> str:
        return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    with run_dir.held():
        assert "another process is training in" in another()
    assert another() == "held\n"


def test_holding_a_directory_that_can_not_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="cannot be written"), RunDir(tmp_path / "file" / "run").held():
        pass


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
    with pytest.raises(RunError, match="sead") as told:
        run_dir.load_config()
    assert len(str(told.value).splitlines()) == 1


def test_the_parents_config_is_kept_and_its_damage_is_a_typed_error(run_dir: RunDir, tmp_path: Path) -> None:
    child = RunDir(tmp_path / "child")
    child.create(tiny_config(seed=12))
    assert child.load_parent() is None
    child.save_parent(run_dir.load_config())
    assert child.load_parent() == tiny_config()
    child.parent_config_path.write_text("{")
    with pytest.raises(RunError, match=r"parent-config\.json is damaged"):
        child.load_parent()
