"""A run whose process ends, by kill -9 or by a signal that asks, goes on as if nothing had been: no bit is lost."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.integration.training.verbs import ENVIRONMENT, REPOSITORY, called, done, started
from tests.unit.training.run.tiny import assert_same_bits, final_state
from training.run.checkpoint import read_checkpoint
from training.run.directory import RunDir
from training.run.log import read_log

pytestmark = [
    pytest.mark.training,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL"),
]

STEPS = 24
# The training program, ended by SIGKILL when its fourth checkpoint is about to take the newest one's name.
_KILLED_AT_ITS_FOURTH_SWAP = """
import os, pathlib, signal, sys
from training.__main__ import main

swap, left = pathlib.Path.replace, 4

def replace(self, target):
    global left
    left -= self.name == "checkpoint.partial"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return swap(self, target)

pathlib.Path.replace = replace
sys.exit(main())
"""


@pytest.fixture(scope="module")
def whole(pack_path: Path, config_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    out, _ = called("train", config_path, "--data", pack_path, "--run", path)
    assert f"{STEPS} steps done" in out
    return path


def signalled_after(process: "subprocess.Popen[str]", line: str, number: signal.Signals) -> tuple[str, str]:
    """Sends the signal when the process has printed a line that begins so; (stdout, stderr) of the rest."""
    assert process.stdout is not None
    for told in process.stdout:
        if told.startswith(line):
            process.send_signal(number)
            break
    else:
        pytest.fail(f"the run ended before {line!r}: {process.communicate()[1]}")
    return process.communicate()


def resumed(run: Path, pack_path: Path) -> None:
    """Goes on to the end."""
    called("train", "--resume", "--data", pack_path, "--run", run)


@pytest.fixture(scope="module")
def killed(pack_path: Path, config_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one worker that ended in mid-epoch without a chance to save anything."""
    run = tmp_path_factory.mktemp("killed") / "run"
    with started("train", config_path, "--data", pack_path, "--run", run, "--workers", "1") as process:
        signalled_after(process, "step 12/", signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return run


@pytest.fixture
def run(killed: Path, tmp_path: Path) -> Path:
    """A copy of the killed run."""
    return shutil.copytree(killed, tmp_path / "run")


def test_kill_9_in_mid_epoch_and_resume_gives_the_same_bits(run: Path, pack_path: Path, whole: Path) -> None:
    assert 10 <= final_state(run)["step"] < STEPS
    resumed(run, pack_path)
    assert_same_bits(final_state(run), final_state(whole))
    assert [r["step"] for r in read_log(RunDir(run).log_path)] == list(range(1, STEPS + 1))


def test_kill_9_between_the_two_swaps_of_a_checkpoint_loses_neither_the_run_nor_its_best_checkpoint(
    pack_path: Path, config_path: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("train", config_path, "--data", pack_path, "--run", run, "--threads", "1", "--device", "cpu")
    process = subprocess.run(
        [sys.executable, "-c", _KILLED_AT_ITS_FOURTH_SWAP, *map(str, words), "--workers", "0"],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    files = RunDir(run).checkpoints
    assert not files.newest_path.exists()
    # Of such a state alone the mark could go wrong: the previous checkpoint is the best one.
    assert read_checkpoint(files.previous_path).step == read_checkpoint(files.best_path).step == 15
    resumed(run, pack_path)
    assert_same_bits(final_state(run), final_state(whole))
    best, expected = (read_checkpoint(RunDir(path).checkpoints.best_path).step for path in (run, whole))
    assert best == expected


def test_another_number_of_workers_before_and_after_the_kill_gives_the_same_bits(
    pack_path: Path, config_path: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started("train", config_path, "--data", pack_path, "--run", run, "--workers", "2") as process:
        signalled_after(process, "step 8/", signal.SIGKILL)
    assert final_state(run)["step"] < STEPS
    # In a process of its own: workers are forks, and this process may hold threads of other tests.
    done("train", "--resume", "--data", pack_path, "--run", run, "--workers", "1")
    assert_same_bits(final_state(run), final_state(whole))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_asks_saves_the_step_says_how_to_go_on_and_loses_no_bit(
    pack_path: Path, config_path: Path, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    with started("train", config_path, "--data", pack_path, "--run", run, "--workers", "1") as process:
        out, err = signalled_after(process, "step 7/", number)
    assert process.returncode == 128 + number, err
    step = final_state(run)["step"]
    assert step >= 7
    assert f"the checkpoint of step {step} is saved" in out
    assert f"python -m training train --resume --data {pack_path} --run {run}" in out
    assert "Traceback" not in err
    resumed(run, pack_path)
    assert_same_bits(final_state(run), final_state(whole))


def test_one_changed_byte_in_the_newest_checkpoint_costs_one_warning_and_no_bit(
    run: Path, pack_path: Path, whole: Path
) -> None:
    newest = RunDir(run).checkpoints.newest_path
    content = bytearray(newest.read_bytes())
    content[len(content) // 3] ^= 4
    newest.unlink()  # The best one may be the same file by another name.
    newest.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        read_checkpoint(newest)
    with pytest.warns(RuntimeWarning, match=r"checkpoint\.ckpt is damaged.*; going on from") as warned:
        resumed(run, pack_path)
    assert len(warned) == 1
    assert_same_bits(final_state(run), final_state(whole))


def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_where_it_was(
    run: Path, pack_path: Path, whole: Path
) -> None:
    resource = pytest.importorskip("resource", reason="file sizes can be limited on POSIX alone")
    before = final_state(run)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for the log and TensorBoard, too little for a checkpoint; the process inherits it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (RunDir(run).checkpoints.newest_path.stat().st_size - 1000, limits[1]))
    try:
        _, err = done("train", "--resume", "--data", pack_path, "--run", run, "--workers", "0", code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert_same_bits(final_state(run), before)
    resumed(run, pack_path)
    assert_same_bits(final_state(run), final_state(whole))
