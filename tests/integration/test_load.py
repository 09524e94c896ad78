"""``denoised load`` against the real service: every method, every kind of image, cancellations, slow readers, refusals.

What is asserted is what must hold on the slowest machine: everything adds up, and nothing is wrong, lost or failed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from denoised.cli import main
from tests.integration.harness import RunningService

_PATIENT = ("--timeout", "120", "--warm-up", "0", "--images", "1")
_MIX = "64x64:3,65x63/png/grey,40x30/png/u16,33x32/u16/grey,50x40/jpeg"


def _load(service: RunningService, tmp_path: Path, *arguments: object) -> dict[str, Any]:
    path = tmp_path / "load.json"
    metrics = f"http://127.0.0.1:{service.http_port}/metrics"
    command = ["load", "--server", service.grpc_target, "--metrics", metrics, "--json", str(path)]
    result = CliRunner().invoke(main, [*command, *map(str, arguments)])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert all(stage["adds_up"] for stage in found["stages"])
    return found


@pytest.mark.parametrize("method", ["unary", "batch", "stream"])
def test_every_answer_under_load_is_the_one_that_the_image_gets_alone(
    served: RunningService, tmp_path: Path, method: str
) -> None:
    found = _load(served, tmp_path, *_PATIENT, "--method", method, "--mix", _MIX, "--rate", 60, "--duration", 1)
    (stage,) = found["stages"]
    assert stage["figures"]["ok"] == stage["offered"] > 0
    assert stage["service"]["cpu_ms_per_image"] > 0
    assert stage["service"]["resident_bytes_after"] > 0


@pytest.mark.parametrize("method", ["unary", "stream"])
def test_callers_that_give_up_harm_nobody(served: RunningService, tmp_path: Path, method: str) -> None:
    found = _load(
        served,
        tmp_path,
        *_PATIENT,
        *("--method", method, "--mix", "200x200", "--rate", 60, "--duration", 1),
        *("--cancel", 0.5, "--cancel-after", 0.01),
    )
    (stage,) = found["stages"]
    assert stage["figures"]["ok"] + stage["figures"]["cancelled"] == stage["offered"] > 0


@pytest.mark.parametrize("method", ["unary", "batch", "stream"])
def test_callers_that_read_slowly_harm_nobody(served: RunningService, tmp_path: Path, method: str) -> None:
    found = _load(
        served,
        tmp_path,
        *_PATIENT,
        *("--method", method, "--mix", "200x200", "--rate", 60, "--duration", 1, "--batch-images", 2),
        *("--slow-readers", 0.25, "--slow-pause", 0.05),
    )
    (stage,) = found["stages"]
    assert stage["figures"]["ok"] == stage["offered"] > 0
    assert stage["slow_readers"]["ok"] > 0


def test_a_service_that_is_too_small_refuses_and_says_why(narrow: RunningService, tmp_path: Path) -> None:
    found = _load(
        narrow, tmp_path, *_PATIENT, "--mix", "64x64", "--rate", 4000, "--duration", 0.2, "--arrivals", "constant"
    )
    (stage,) = found["stages"]
    reasons = {entry["reason"] for entry in stage["outcomes"] if entry["outcome"] == "refused"}
    assert reasons <= {"QUEUE_FULL", "MEMORY_BUDGET", "DEADLINE_UNREACHABLE"}
    assert stage["figures"]["ok"] > 0
    assert stage["figures"]["refused"] > 0
