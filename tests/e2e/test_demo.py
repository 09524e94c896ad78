"""``make demo`` from outside: a real service, real photographs, and what is left afterwards."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import SHIPPED_MODELS_DIR

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def demo(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.demo", *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([".", "proto"])} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.skipif(not any(SHIPPED_MODELS_DIR.glob("*/*/model.onnx")), reason="no network is shipped in this checkout")
def test_the_demo_gains_on_every_photograph_and_writes_its_page(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image")
    finished = demo("--rounds", 1, "--output", tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    gains = [float(gain) for gain in re.findall(r"\(([+-]\d+\.\d\d)\)", finished.stdout)]
    assert len(gains) == 8
    assert min(gains) > 1.0
    assert "exited with 0" in finished.stdout
    assert " 0.0\n" not in finished.stdout, "what did not happen is left out"
    counts = dict(re.findall(r'denoised_requests_total\{code="OK",method="([\w.]+)"\} ([\d.]+)', finished.stdout))
    # Five photographs once, three details by each of four clients; a large one of a stream goes in a call of its own.
    assert float(counts["Denoise"]) + float(counts["DenoiseStream.item"]) == 5 + 12
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count('<article class="card"') == 8


def test_a_service_that_can_not_start_is_quoted(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image")
    finished = demo("--output", tmp_path, DENOISED_MODELS_DIR=str(tmp_path / "no-models"))
    assert finished.returncode == 1
    assert "could not start" in finished.stderr
    assert "no-models" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_images_starts_nothing(tmp_path: Path) -> None:
    finished = demo("--images", tmp_path)
    assert finished.returncode == 1
    assert str(tmp_path) in finished.stderr
    assert "Starting" not in finished.stdout
