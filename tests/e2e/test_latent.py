"""``make demo-latent`` and the guide to latent codes from outside: real services, and what is left afterwards."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.demo.latent.__main__ import MODELS_DIR
from service.demo.latent.scenes import GENERATOR, SAMPLE_COUNT, STEP_COUNT
from service.demo.process import running_service

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = REPOSITORY / "docs" / "latent.md"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "proto")))}

pytestmark = pytest.mark.slow


def test_the_demo_flags_what_is_no_digit_and_writes_its_page(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "service.demo.latent", "--output", tmp_path],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "exited with 0" in finished.stdout
    rows = [line for line in finished.stdout.splitlines() if line.startswith("a ")]
    assert len(rows) == 2 * 12
    strange = [row for row in rows if row.startswith(("a face", "a negative"))]
    assert all(row.endswith("flagged") for row in strange)
    assert sum(row.endswith("flagged") for row in rows) < len(rows) / 2
    page = (tmp_path / "latent.html").read_text(encoding="utf-8")
    # Two grids, four ways, twelve pictures with two reconstructions each.
    assert page.count("<img ") == 2 * SAMPLE_COUNT + 4 * STEP_COUNT + 12 * 3
    assert page.count("again the same bytes") == 2
    assert "NOT the same" not in page
    # All is in the one file.
    assert not re.findall(r"(?:src|href)='?\"?https?:", page)


def test_the_guide_works_from_its_first_command_to_its_last(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    commands = [line for block in blocks for line in block.splitlines() if line]
    assert len(commands) == 5
    with running_service(models_dir=MODELS_DIR, default_model=GENERATOR) as service:
        for command in commands:
            program, *words = shlex.split(command)
            assert program == "denoised"
            done = subprocess.run(
                [sys.executable, "-m", "denoised.cli", *words],
                cwd=tmp_path,
                env=ENVIRONMENT | {"DENOISED_SERVER": service.grpc_target},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert len(list((tmp_path / "samples").glob("*.png"))) == 16
    assert len(list((tmp_path / "way").glob("*.png"))) == 12
    assert (np.load(tmp_path / "first.npy").dtype, np.load(tmp_path / "second.npy").dtype) == (np.float32, np.float16)
    assert (tmp_path / "first.png").is_file()
