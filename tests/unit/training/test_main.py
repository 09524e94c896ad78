"""The command line as a whole: whatever ends a verb is told in one line, with an exit code."""

import errno
from pathlib import Path

import pytest

from training.__main__ import main
from training.errors import DataError
from training.verbs import report

pytestmark = pytest.mark.training


def outcome(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and what stderr says when a verb raises that."""

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(report, "_run", fail)
    code = main(["report", "RUN"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (DataError("a.png is empty; delete it"), 1, "report failed: a.png is empty; delete it\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a/report.html"),
            1,
            (
                "report failed: runs/a/report.html cannot be read or written: No space left on device; free space "
                "there, look at its permissions, or name another place\n"
            ),
        ),
        (KeyboardInterrupt(), 130, "report was interrupted\n"),
    ],
)
def test_whatever_ends_a_verb_is_one_line_and_an_exit_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(error, monkeypatch, capsys) == (code, told)


def test_a_disk_that_is_full_without_a_name_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = outcome(OSError(errno.ENOSPC, "No space left on device"), monkeypatch, capsys)
    assert (code, len(told.splitlines())) == (1, 1)
    assert "a file cannot be read or written: No space left on device" in told


@pytest.mark.parametrize(
    "words",
    [
        ["find-lr", "config.toml", "--data", "pack", "--plot", "curve.xyz"],
        ["fit-noise", "frames", "--plot", "curve.xyz"],
    ],
)
def test_a_plot_that_can_not_be_drawn_is_refused_before_anything_is_measured(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert "--plot is curve.xyz; its suffix must be one of: .png, .svg" in capsys.readouterr().err


def test_a_programming_error_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(ZeroDivisionError(), monkeypatch, capsys)


def test_every_verb_explains_itself_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = capsys.readouterr().out
    for path in (Path(report.__file__).parent).glob("[a-z]*.py"):
        if path.stem == "common":
            continue
        verb = path.stem.replace("_", "-")
        assert verb in listed
        with pytest.raises(SystemExit, match="0"):
            main([verb, "--help"])
        assert len(capsys.readouterr().out.split()) > 40
