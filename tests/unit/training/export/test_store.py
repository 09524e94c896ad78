"""A model appears in a store whole or not at all, and a version is never overwritten."""

import os
from pathlib import Path

import pytest

from training.errors import ExportError
from training.export.store import add, publish, require_addable, target_of


def test_the_next_version_is_the_one_after_the_newest(tmp_path: Path) -> None:
    assert target_of(tmp_path, "mine", None) == tmp_path / "mine" / "1"
    for version in ("2", "10", ".11.partial", "notes"):
        (tmp_path / "mine" / version).mkdir(parents=True)
    assert target_of(tmp_path, "mine", None) == tmp_path / "mine" / "11"
    assert target_of(tmp_path, "mine", "7") == tmp_path / "mine" / "7"


@pytest.mark.parametrize("version", ["latest", "1.0", "-1", "0", "01", "²", "../1", ""])
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


def test_of_two_exports_at_a_time_one_is_published_whole_and_the_other_is_told(tmp_path: Path) -> None:
    target = tmp_path / "mine" / "1"

    def another_export_ends_first(_: Path) -> None:
        publish(target, {"model.onnx": b"B", "encoder.onnx": b"B"}, check=lambda _: None)

    with pytest.raises(ExportError, match=r"mine/1 was published by another process meanwhile"):
        publish(target, {"model.onnx": b"A", "README.md": b"A"}, check=another_export_ends_first)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"model.onnx": b"B", "encoder.onnx": b"B"}
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["1"]


def test_an_export_that_fails_beside_another_takes_nothing_from_it(tmp_path: Path) -> None:
    target = tmp_path / "mine" / "1"

    def fails(_: Path) -> None:
        raise ExportError("not as measured")

    def another_export_fails(_: Path) -> None:
        with pytest.raises(ExportError, match="not as measured"):
            publish(target, {"model.onnx": b"B"}, check=fails)

    publish(target, {"model.onnx": b"A", "README.md": b"A"}, check=another_export_fails)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"model.onnx": b"A", "README.md": b"A"}


def test_files_are_added_to_a_version_after_their_check_and_never_twice(tmp_path: Path) -> None:
    publish(tmp_path / "mine" / "1", {"model.onnx": b"weights"}, check=lambda _: None)
    folder = tmp_path / "mine" / "1"
    seen: list[set[str]] = []

    def check(partial: Path) -> None:
        assert {path.name for path in folder.iterdir() if path.is_file()} == {"model.onnx"}
        seen.append({path.name for path in partial.iterdir()})

    add(folder, {"README.int8.md": b"card", "model.int8.onnx": b"8 bit"}, check=check)
    assert seen == [{"README.int8.md", "model.int8.onnx"}]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "model.onnx": b"weights",
        "README.int8.md": b"card",
        "model.int8.onnx": b"8 bit",
    }
    with pytest.raises(ExportError, match=r"model\.int8\.onnx exists, and nothing published is overwritten"):
        add(folder, {"model.int8.onnx": b"other"}, check=check)


def test_a_failed_check_adds_nothing_to_a_version(tmp_path: Path) -> None:
    def check(_: Path) -> None:
        raise ExportError("not as measured")

    with pytest.raises(ExportError, match="not as measured"):
        add(tmp_path, {"model.int8.onnx": b"8 bit"}, check=check)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ExportError, match=r"cannot write to .*nowhere"):
        require_addable(tmp_path / "nowhere", ["model.int8.onnx"])


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_what_is_published_is_as_readable_as_any_folder(tmp_path: Path) -> None:
    publish(tmp_path / "mine" / "1", {"model.onnx": b"weights"}, check=lambda _: None)
    assert (tmp_path / "mine" / "1").stat().st_mode == (tmp_path / "mine").stat().st_mode


@pytest.mark.parametrize("in_the_way", ["store", "store/mine"])
def test_a_store_that_cannot_be_written_is_noticed_before_any_work(in_the_way: str, tmp_path: Path) -> None:
    (tmp_path / in_the_way).parent.mkdir(exist_ok=True)
    (tmp_path / in_the_way).write_text("a file in the way")
    with pytest.raises(ExportError, match=r"cannot write to .*--to"):
        target_of(tmp_path / "store", "mine", None)


def test_looking_for_a_target_leaves_nothing(tmp_path: Path) -> None:
    target_of(tmp_path / "store", "mine", None)
    assert not any(tmp_path.iterdir())


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a file in the way")
    with pytest.raises(ExportError, match=r"cannot write to .*mine"):
        publish(tmp_path / "mine" / "1", {"model.onnx": b"weights"}, check=lambda _: None)
