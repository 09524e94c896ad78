"""The verb ``digits``, as a user types it."""

import sys
from pathlib import Path

import pytest

from training.__main__ import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["training", "digits", *arguments])
    return main()


def test_the_bundled_digits_become_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn brings these digits; install the training extra")
    assert run(monkeypatch, "--from", "sklearn", "--to", str(tmp_path / "digits")) == 0
    assert "1618 digits of 8 x 8 pixels to train on and 179 to test on" in capsys.readouterr().out
    assert len(list((tmp_path / "digits" / "test").rglob("*.png"))) == 179


def test_a_folder_without_idx_files_is_a_typed_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--from", str(tmp_path), "--to", str(tmp_path / "digits")) == 1
    assert "0 complete sets of IDX files" in capsys.readouterr().err
    assert not (tmp_path / "digits").exists()
