"""The commands of docs/training.md, one after the other, as they stand there; only the runs are shorter."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tifffile")
pytest.importorskip("sklearn")

from denoised.noise import keyed_rng
from service.demo.process import running_service
from tests.e2e.training.cli import write_pictures
from tests.integration.training.verbs import ENVIRONMENT, REPOSITORY, called

pytestmark = [pytest.mark.training, pytest.mark.slow]

_GUIDE = REPOSITORY / "docs" / "training.md"
# A handful of careful steps: what is tested is that the commands fit each other, not what the networks learn.
_SHORT = (
    "--set optimiser.steps=4 --set checkpoint_every_steps=2 --set optimiser.warmup_steps=1 "
    "--set optimiser.learning_rate=1e-6 --set data.batch_size=4"
)
_FEW_CROPS = "--calibration-crops 32"


def commands() -> Iterator[str]:
    """Every command line in the guide's shell blocks."""
    is_shell = False
    for line in _GUIDE.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            is_shell = line == "```sh"
        elif is_shell and line:
            yield line


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with what the guide takes for granted."""
    import tifffile

    (tmp_path / "training").symlink_to(REPOSITORY / "training")
    write_pictures(tmp_path / "photos", count=6, side_px=256)
    write_pictures(tmp_path / "validation", count=2, side_px=256, first=100)
    (tmp_path / "frames").mkdir()
    for number in range(3):
        rng = keyed_rng(number)
        signal = np.linspace(200, 2000, 256)[:, np.newaxis] * np.ones(256)
        frames = rng.poisson(signal, (2, 256, 256)) + rng.normal(100, 20, (2, 256, 256))
        tifffile.imwrite(tmp_path / "frames" / f"{number}.tif", frames.clip(0, 4095).astype(np.uint16))
    return tmp_path


def _run(command: str, folder: Path, **variables: str) -> None:
    """A command of the guide; the training program's own in this process, where torch is loaded already."""
    program, *words = shlex.split(_shortened(command))
    if (program, words[:2]) == ("python", ["-m", "training"]):
        # May be refused after four steps with every right: such a file is hardly faster, or loses too much.
        called(*words[2:], codes=(0, 1) if words[2] == "quantize" else (0,))
        return
    environment = ENVIRONMENT | variables
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # The client's command line is the package's own module wherever the package is not installed.
    start = [sys.executable, "-m", "denoised.cli"] if program == "denoised" else [program]
    done = subprocess.run([*start, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def _shortened(command: str) -> str:
    if " train " in command and "--resume" not in command:
        return f"{command} {_SHORT}"
    return f"{command} {_FEW_CROPS}" if re.search(r"training (export|quantize) ", command) else command


def test_the_guide_works_from_its_first_command_to_its_last(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_MODELS_DIR", str(workplace / "runs" / "models"))
    monkeypatch.setenv("DENOISED_DEFAULT_MODEL", "quick")
    monkeypatch.chdir(workplace)
    count = 0
    pending: list[str] = []
    for command in commands():
        count += 1
        if command.startswith("make serve"):
            assert command == "make serve MODELS=runs/models"
            pending = [command]
        elif pending:
            pending = []
            with running_service() as service:
                _run(command, workplace, DENOISED_SERVER=service.grpc_target)
        else:
            _run(command, workplace)
    assert count > 15
    assert not pending
    assert len(list((workplace / "cleaned").glob("*.png"))) == 2
