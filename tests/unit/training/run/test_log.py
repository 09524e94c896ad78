"""The log: whole records, cut where a run goes on, without anything that is no JSON."""

import errno
import io
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from training.errors import RunError
from training.run.log import RunLog, read_log, watching

pytestmark = pytest.mark.training


def opened(path: Path, *, start: int = 0) -> RunLog:
    return RunLog(path / "log.jsonl", path / "tensorboard", start=start)


def steps(path: Path) -> list[int]:
    return [record["step"] for record in read_log(path / "log.jsonl")]


def test_records_come_back_as_they_were_written_with_the_time_beside_them(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.write({"step": 1, "loss": 0.5})
        log.write({"step": 2, "loss": 0.25, "held_out_psnr_db": 30.0})
    records = read_log(tmp_path / "log.jsonl")
    assert [{k: v for k, v in record.items() if k != "elapsed_s"} for record in records] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.25, "held_out_psnr_db": 30.0},
    ]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_run_that_goes_on_drops_what_it_makes_again_and_a_line_cut_off_by_a_kill(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for step in (1, 2, 3):
            log.write({"step": step})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert steps(tmp_path) == [1, 2, 3]
    with opened(tmp_path, start=2) as log:
        log.write({"step": 3})
    assert steps(tmp_path) == [1, 2, 3]


def test_time_goes_on_from_the_last_record_that_is_kept(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "elapsed_s": 500.0}) + "\n")
    with opened(tmp_path, start=1) as log:
        log.write({"step": 2})
    assert 500.0 <= read_log(tmp_path / "log.jsonl")[-1]["elapsed_s"] < 560.0


@pytest.mark.parametrize(
    "line",
    ["", "[]", "{}", '{"step": "one"}', "\x00\xff", "null", '{"step": 2, "loss": NaN}', '{"step": 2, "loss": null}'],
)
def test_a_damaged_line_costs_no_other_and_raises_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    assert steps(tmp_path) == [1, 3]
    with opened(tmp_path, start=3):
        pass
    assert steps(tmp_path) == [1, 3]


def test_a_missing_log_has_no_records(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []


def test_what_is_no_number_is_no_json_and_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as log, pytest.raises(ValueError, match="JSON"):
        log.write({"step": 1, "loss": float("nan")})


def test_a_full_disk_is_a_typed_error(tmp_path: Path) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as log:
        log._file.close()
        log._file = Full()  # type: ignore[assignment]  # any text file will do
        with pytest.raises(RunError, match=r"log\.jsonl cannot be written: No space.*--resume"):
            log.write({"step": 1})
        log._file = io.StringIO()  # type: ignore[assignment]  # as above


def test_without_a_terminal_figures_are_lines_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(10, 4, is_silent=False) as watcher:
        watcher.advance()
        watcher.show(5, "loss 0.5")
        watcher.note("mind the gap")
    told = capsys.readouterr()
    assert told.out.startswith("step 5/10, loss 0.5, 00:0")
    assert told.err == "note: mind the gap\n"


def test_a_silent_watcher_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(10, 0, is_silent=True) as watcher:
        watcher.advance()
        watcher.show(1, "loss 0.5")
        watcher.note("mind the gap")
    assert capsys.readouterr() == ("", "")


def test_a_log_that_can_not_be_opened_is_a_typed_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").touch()
    with pytest.raises(RunError, match=r"tensorboard cannot be written.*--resume"):
        opened(tmp_path / "run")
