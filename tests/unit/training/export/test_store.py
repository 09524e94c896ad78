"""A model appears in a store whole or not at all, and a version is never overwritten."""

from pathlib import Path

import pytest

from training.errors import ExportError
from training.export.store import publish, target_of


def test_the_next_version_is_the_one_after_the_newest(tmp_path: Path) -> None:
    assert target_of(tmp_path, "mine", None) == tmp_path / "mine" / "1"
    for version in ("2", "10", ".11.partial", "notes"):
        (tmp_path / "mine" / version).mkdir(parents=True)
    assert target_of(tmp_path, "mine", None) == tmp_path / "mine" / "11"
    assert target_of(tmp_path, "mine", "7") == tmp_path / "mine" / "7"


@pytest.mark.parametrize("version", ["latest", "1.0", "-1", "²", "../1", ""])
def test_a_version_that_is_no_whole_number_is_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="whole number"):
        target_of(tmp_path, "mine", version)


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine" / "3").mkdir(parents=True)
    with pytest.raises(ExportError, match="never overwritten"):
        target_of(tmp_path, "mine", "3")


def test_files_are_checked_where_they_lie_and_then_appear_at_once(tmp_path: Path) -> None:
    target = tmp_path / "mine" / "1"
    seen: list[dict[str, bytes]] = []

    def check(folder: Path) -> None:
        assert not target.exists()
        seen.append({path.name: path.read_bytes() for path in folder.iterdir()})

    publish(target, {"model.onnx": b"weights", "README.md": b"card"}, check=check)
    assert seen == [{"model.onnx": b"weights", "README.md": b"card"}]
    assert {path.name for path in target.iterdir()} == {"model.onnx", "README.md"}
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["1"]


def test_a_failed_check_leaves_nothing(tmp_path: Path) -> None:
    def check(_: Path) -> None:
        raise ExportError("not as measured")

    with pytest.raises(ExportError, match="not as measured"):
        publish(tmp_path / "mine" / "1", {"model.onnx": b"weights"}, check=check)
    assert not any(tmp_path.iterdir())


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a file in the way")
    with pytest.raises(ExportError, match=r"cannot write to .*mine"):
        publish(tmp_path / "mine" / "1", {"model.onnx": b"weights"}, check=lambda _: None)
