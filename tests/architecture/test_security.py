"""SECURITY.md names a test for each mitigation, and each test that it names is there."""

import re
from pathlib import Path

from tests.architecture.sources import sources_of

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "SECURITY.md").read_text(encoding="utf-8")
_NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", _TEXT)
_ROWS = [
    line for line in _TEXT.partition("## Threats")[2].partition("\n## ")[0].splitlines() if re.match(r"\| T\d+ ", line)
]


def test_every_test_that_it_names_is_there() -> None:
    assert len(_NAMED) >= len(_ROWS)
    missing = [
        f"{file}::{name}"
        for file, name in _NAMED
        if not (_ROOT / file).is_file() or (name and name not in sources_of(_ROOT / file))
    ]
    assert missing == []


def test_every_threat_names_what_is_done_and_a_test_of_it() -> None:
    assert len(_ROWS) >= 15
    for row in _ROWS:
        _, number, threat, mitigation, test, _ = (cell.strip() for cell in row.split("|"))
        assert threat, number
        assert mitigation, number
        assert re.search(r"`tests/\w", test), number


def test_threats_are_numbered_without_a_gap() -> None:
    numbers = [int(re.match(r"\| T(\d+) ", row)[1]) for row in _ROWS]  # type: ignore[index]  # chosen by that form
    assert numbers == list(range(1, len(_ROWS) + 1))
