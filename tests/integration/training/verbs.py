"""The training program as a user starts it, with one thread and no GPU: in processes of its own, or in this one."""

import io
import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

import numpy as np
import torch
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
        [sys.executable, "-m", *(launcher if torchrun else []), "training", *_words(arguments)],
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
    assert process.returncode == code, f"{' '.join(map(str, arguments))}\n{out}\n{err}"
    return out, err


def called(*arguments: str | Path, codes: Collection[int] = (0,)) -> tuple[str, str]:
    """(stdout, stderr) of a verb that ended with one of the codes.

    It runs in this process, which saves the seconds that torch takes to load; without workers, which would be forks of
    a process that may hold other tests' threads.
    """
    from training.__main__ import main

    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = main([*_words(arguments), *(("--workers", "0") if arguments[0] == "train" else ())])
    finally:
        torch.set_num_threads(thread_count)
    assert code in codes, f"{' '.join(map(str, arguments))}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue(), err.getvalue()


def _words(arguments: tuple[str | Path, ...]) -> list[str]:
    """Sums come out bit for bit the same only at one number of threads of one device."""
    limits = ["--threads", "1", "--device", "cpu"] if arguments[0] == "train" else []
    return [*map(str, arguments), *limits]


def write_pictures(folder: Path, count: int, side_px: int) -> Path:
    """Smooth grey pictures."""
    folder.mkdir()
    rows, columns = np.mgrid[0:side_px, 0:side_px]
    for index in range(count):
        wave = np.sin(0.1 * (index % 5 + 1) * rows + 0.07 * (index % 7 + 1) * columns + index)
        PillowImage.fromarray(np.rint(127.5 + 100 * wave).astype(np.uint8)).save(folder / f"{index:03}.png")
    return folder
