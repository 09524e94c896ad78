"""The training program as a user starts it: processes of its own, with one thread and no GPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as PillowImage

REPOSITORY: Final = Path(__file__).resolve().parents[3]
ENVIRONMENT: Final = os.environ | {
    "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'proto'}",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
CONFIG: Final = """
name = "tiny"
seed = 3
log_every_steps = 1
checkpoint_every_steps = 5
[network]
kind = "conv_dae"
channels = 1
widths = [16, 16]
encoder_blocks = [0]
middle_blocks = 1
decoder_blocks = [0]
estimator_width = 16
[noise]
[[noise.stages]]
kind = "gaussian"
sigma_min = 5
sigma_max = 50
[data]
crop_px = 16
batch_size = 4
# Batches of four, epochs of ten: every kill falls into the middle of an epoch.
samples_per_epoch = 10
[optimiser]
steps = 24
learning_rate = 3e-3
warmup_steps = 3
precision = "fp32"
"""


def started(*arguments: str | Path, torchrun: int = 0) -> "subprocess.Popen[str]":
    """A verb that runs beside the test; under torchrun with that many ranks."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(torchrun), "-m", "--"]
    return subprocess.Popen(
        [sys.executable, "-m", *(launcher if torchrun else []), "training", *map(str, arguments)],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(*arguments: str | Path, code: int = 0, torchrun: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of a verb that ended with that code."""
    with started(*arguments, torchrun=torchrun) as process:
        out, err = process.communicate()
    assert process.returncode == code, err
    return out, err


def write_pictures(folder: Path, count: int, side_px: int) -> Path:
    """Smooth grey pictures."""
    folder.mkdir()
    rows, columns = np.mgrid[0:side_px, 0:side_px]
    for index in range(count):
        wave = np.sin(0.1 * (index % 5 + 1) * rows + 0.07 * (index % 7 + 1) * columns + index)
        PillowImage.fromarray(np.rint(127.5 + 100 * wave).astype(np.uint8)).save(folder / f"{index:03}.png")
    return folder
