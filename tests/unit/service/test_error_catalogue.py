"""The page of errors: complete, fresh, and true to the codes and exceptions that clients get."""

import ast
from pathlib import Path

from denoised import errors as client_errors
from denoised._connecting import CAUSES
from service.error_catalogue import error_page
from service.errors import all_reasons

_ROOT = Path(__file__).parents[3]
_PAGE = _ROOT / "docs" / "errors.md"


def cells(page: str) -> list[list[str]]:
    return [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"
    ]


def test_the_committed_page_is_what_the_generator_writes() -> None:
    assert _PAGE.read_text(encoding="utf-8") == error_page(), "run: python -m service --print-errors > docs/errors.md"


def test_every_reason_of_the_service_has_a_row_with_a_cause_and_a_remedy() -> None:
    rows = {row[0]: row for row in cells(error_page()) if len(row) == 6}
    assert tuple(sorted(rows)) == all_reasons()
    for reason, row in rows.items():
        assert all(row), reason
        assert issubclass(getattr(client_errors, row[5]), client_errors.DenoisedError)


def test_what_is_worth_sending_again_is_marked() -> None:
    again = {row[0]: row[2] for row in cells(error_page()) if len(row) == 6}
    assert [reason for reason in ("QUEUE_FULL", "DRAINING", "MEMORY_BUDGET") if again[reason] != "yes"] == []
    assert [reason for reason in ("IMAGE_UNDECODABLE", "OPTION_INVALID", "NETWORK_HUNG") if again[reason] != "no"] == []


def test_every_reason_that_the_client_gives_itself_is_listed() -> None:
    """Read off its source: each keyword ``reason`` that is a text."""
    given = {cause.reason for cause in CAUSES}
    for path in (_ROOT / "proto" / "denoised").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "reason" and isinstance(node.value, ast.Constant):
                given.add(str(node.value.value))
    listed = {row[0] for row in cells(error_page())}
    assert given - listed == set()
