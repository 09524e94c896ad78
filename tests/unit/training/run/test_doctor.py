"""The doctor: what is whole is OK, what is not has a remedy, and one changed byte is a problem."""

import importlib.metadata
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.unit.training.run.tiny import packed, tiny_config
from training.data.pack import Pack
from training.run import doctor
from training.run.directory import RunDir
from training.run.loop import train

pytestmark = pytest.mark.training


def levels(findings: list[doctor.Finding]) -> set[str]:
    return {finding.level for finding in findings}


@pytest.fixture
def own_pack(pack_path: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pack_path, tmp_path / "pack"))


@pytest.fixture
def run_dir(pack: Pack, tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path / "run")
    config = tiny_config(optimiser={"steps": 6}, checkpoint_every_steps=2)
    run_dir.create(config)
    train(config, pack, run_dir, resume=False, workers=0, show_progress=False)
    return run_dir


def test_a_whole_pack_and_a_whole_run_have_no_problem(own_pack: Path, run_dir: RunDir, tmp_path: Path) -> None:
    findings = list(doctor.examine([own_pack, run_dir.path], tmp_path))
    assert "PROBLEM" not in levels(findings)
    lines = "\n".join(finding.line() for finding in findings)
    assert "all digests right" in lines
    assert "checkpoint.ckpt: step 6 of 6, whole" in lines
    assert "torch" in lines


def test_every_finding_that_is_not_ok_has_a_remedy(own_pack: Path, run_dir: RunDir, tmp_path: Path) -> None:
    for finding in doctor.examine([own_pack, run_dir.path], tmp_path):
        assert finding.level == "OK" or finding.remedy


def test_one_changed_byte_of_a_pack_is_a_problem(own_pack: Path) -> None:
    samples = own_pack / "samples.u8"
    content = bytearray(samples.read_bytes())
    content[1000] ^= 1
    samples.write_bytes(content)
    (finding,) = doctor.examine_pack(own_pack)
    assert finding.level == "PROBLEM"
    assert "changed since they were packed" in finding.text


def test_a_pack_without_held_out_images_is_a_warning(tmp_path: Path) -> None:
    findings = list(doctor.examine_pack(packed(tmp_path, [24])))
    assert [finding.level for finding in findings] == ["OK", "WARNING"]


@pytest.mark.parametrize("name", ["checkpoint.ckpt", "checkpoint.previous.ckpt", "best.ckpt"])
def test_one_changed_byte_of_a_checkpoint_is_a_problem(run_dir: RunDir, name: str) -> None:
    path = run_dir.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # The best one may be the same file by another name.
    path.write_bytes(content)
    wrong = [finding for finding in doctor.examine_run(run_dir) if finding.level == "PROBLEM"]
    assert len(wrong) == 1
    assert name in wrong[0].text
    assert wrong[0].remedy


def test_a_checkpoint_of_another_network_is_a_problem(run_dir: RunDir) -> None:
    text = run_dir.config_path.read_text().replace('"middle_blocks": 1', '"middle_blocks": 2')
    run_dir.config_path.write_text(text)
    assert any("another network" in f.text for f in doctor.examine_run(run_dir) if f.level == "PROBLEM")


def test_a_folder_that_is_neither_pack_nor_run_is_a_problem(tmp_path: Path) -> None:
    (finding,) = doctor.examine_run(RunDir(tmp_path))
    assert finding.level == "PROBLEM"
    assert "holds no run" in finding.text


def test_a_run_before_its_first_checkpoint_is_a_warning(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.create(tiny_config())
    assert levels(list(doctor.examine_run(run_dir))) == {"OK", "WARNING"}


def test_a_newest_checkpoint_that_is_missing_beside_a_previous_one_is_a_run_to_resume(run_dir: RunDir) -> None:
    run_dir.checkpoints.newest_path.unlink()
    (finding,) = (f for f in doctor.examine_run(run_dir) if f.level == "WARNING")
    assert "checkpoint.ckpt is missing" in finding.text
    assert "--resume" in finding.remedy


def test_a_package_that_is_missing_is_a_problem_unless_one_can_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    found = {finding.subject: finding.level for finding in doctor.examine_packages()}
    assert found["onnx"] == "PROBLEM"
    assert found["tensorboard"] == "WARNING"
    assert found["python"] == "OK"


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu avx2 avx512f avx512_bf16", "OK"),
        ("fpu avx2", "WARNING"),
    ],
)
def test_a_processor_without_bf16_is_a_warning(tmp_path: Path, flags: str, level: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    finding = next(iter(doctor.examine_processor(tmp_path / "cpuinfo")))
    assert (finding.subject, finding.level) == ("processor", level)


def test_a_system_that_lists_no_flags_is_no_problem(tmp_path: Path) -> None:
    assert next(iter(doctor.examine_processor(tmp_path / "none"))).level == "OK"
