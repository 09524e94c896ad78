"""``make bench ARGS=--short``: every row once, for its answers' sake. Times are nobody's business here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import ROWS

pytestmark = pytest.mark.slow

_LIMIT_S = 600
_REPOSITORY = Path(__file__).resolve().parents[3]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "proto")))}
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=_REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def test_every_row_is_measured_and_every_answer_is_right(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"

    done = _run("--short", "--json", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["key"] for row in rows] == list(ROWS)
    assert not [row["key"] for row in rows if row["wrong"] or not (row["figures"] or row["skipped"])]


def test_an_unknown_row_is_refused_by_name() -> None:
    done = _run("--only", "s28,s99")

    assert done.returncode == 2
    assert "no such row: s99" in done.stderr
