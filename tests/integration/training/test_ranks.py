"""Two ranks under torchrun train like one: the same samples in the same steps, the same loss within rounding."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import distributed

from tests.integration.training.verbs import ENVIRONMENT, called, done, started
from tests.unit.training.run.tiny import final_state
from training.run.directory import RunDir
from training.run.log import read_log

pytestmark = [
    pytest.mark.training,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (distributed.is_available() and distributed.is_gloo_available()), reason="this torch has no gloo"
    ),
]

# The mean of two means is the mean but for its rounding, which 24 steps of AdamW enlarge.
LOSS_TOLERANCE = 1e-3
# Of all weights together: where a gradient is nearly 0, AdamW takes the sign of its rounding for a direction.
WEIGHT_TOLERANCE = 1e-3


def losses(run: Path) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([record["loss"] for record in read_log(RunDir(run).log_path)])


def test_two_ranks_give_the_loss_curve_of_one_rank_with_the_same_samples(
    pack_path: Path, config_path: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # Each of the two takes two of the four samples of a batch: one rank with the doubled batch is one rank.
    called("train", config_path, "--data", pack_path, "--run", one)
    out, _ = done("train", config_path, "--data", pack_path, "--run", two, "--workers", "1", torchrun=2)
    assert out.count("24 steps done") == 1
    np.testing.assert_allclose(losses(two), losses(one), rtol=LOSS_TOLERANCE)
    assert not np.allclose(losses(one), losses(one)[::-1], rtol=LOSS_TOLERANCE)
    ours, theirs = (torch.cat([*map(torch.ravel, final_state(path)["average"].values())]) for path in (one, two))
    assert torch.linalg.vector_norm(theirs - ours) <= WEIGHT_TOLERANCE * torch.linalg.vector_norm(ours)


def test_two_ranks_end_together_at_a_signal_and_one_goes_on(pack_path: Path, config_path: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("train", config_path, "--data", pack_path, "--run", run)
    with started(*arguments, "--set", "optimiser.steps=5000", torchrun=2) as process:
        assert process.stdout is not None
        assert any(line.startswith("step 7/") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert "is saved" in out, err
    step = final_state(run)["step"]
    assert 7 <= step < 5000
    assert final_state(run)["machine"]["ranks"] == 2


# What a rank does, and the names of the threads that it has left then.
_RANK = """
import os, pathlib, sys
from training.__main__ import main
assert main(sys.argv[1:]) == 0
names = [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
print(f"rank {os.environ['RANK']} has {sorted(names)}", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux alone")
def test_no_thread_of_the_ranks_is_left_to_meet_the_interpreters_end(
    pack_path: Path, config_path: Path, tmp_path: Path
) -> None:
    script = tmp_path / "rank.py"
    script.write_text(_RANK)
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--",
        str(script),
    ]
    words = ["train", str(config_path), "--data", str(pack_path), "--run", str(tmp_path / "run")]
    ended = subprocess.run([*launcher, *words], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count(" has ") == 2
    assert "gloo" not in ended.stdout
