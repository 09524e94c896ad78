"""The page of limits: it is what the settings say, complete, and true to the codes that clients get."""

from pathlib import Path

import pytest

from service.errors import (
    DeadlineUnreachable,
    ImageTooLarge,
    LaneStuck,
    MemoryBudgetExceeded,
    QueueFull,
    ServiceError,
    all_reasons,
    error_of,
)
from service.limits import limits_page
from service.settings import ENV_PREFIX, Limit, Settings

_PAGE = Path(__file__).parents[3] / "docs" / "limits.md"
_LIMITS = {
    name: limit for name, field in Settings.model_fields.items() for limit in field.metadata if isinstance(limit, Limit)
}


def rows(page: str) -> dict[str, list[str]]:
    """Cells by setting."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    return {row[0].strip("`"): row for row in cells[2:]}


def test_the_committed_page_is_what_the_generator_writes() -> None:
    assert _PAGE.read_text(encoding="utf-8") == limits_page(Settings()), (
        "run: python -m service --print-limits > docs/limits.md"
    )


def test_every_limit_has_a_row_and_every_row_four_cells() -> None:
    found = rows(limits_page(Settings()))
    assert list(found) == [ENV_PREFIX + name.upper() for name in _LIMITS]
    assert {len(row) for row in found.values()} == {4}
    assert all(all(row) for row in found.values())


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.startswith(("queue_", "memory_"))])
def test_what_admission_keeps_is_marked_as_a_limit(name: str) -> None:
    assert _LIMITS[name].reasons


@pytest.mark.parametrize("name", list(_LIMITS))
def test_a_limit_names_reasons_that_exist_or_what_happens_instead(name: str) -> None:
    limit = _LIMITS[name]
    assert set(limit.reasons) <= set(all_reasons())
    assert limit.reasons or limit.effect


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("queue_bytes", 3 * 2**20, "3 MiB (3,145,728)"),
        ("memory_bytes", 2**30 + 2**29, "1.5 GiB (1,610,612,736)"),
        ("chunk_bytes", 1025, "1.001 KiB (1,025)"),
        ("queue_bytes", 12, "12"),
        ("image_pixels", 1_500_000, "1.5 megapixels (1,500,000)"),
        ("queue_requests", 1234, "1,234"),
        ("default_timeout_s", 0.25, "0.25 s"),
    ],
)
def test_values_are_shown_for_people_and_exactly(name: str, value: float, shown: str) -> None:
    page = limits_page(Settings.model_validate({name: value}))
    assert rows(page)[ENV_PREFIX + name.upper()][1] == shown


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("queue_pixels", "RESOURCE_EXHAUSTED, `QUEUE_FULL`, with RetryInfo"),
        ("image_pixels", "INVALID_ARGUMENT, `IMAGE_TOO_LARGE`, no RetryInfo"),
        (
            "stuck_after_s",
            (
                "INTERNAL, `NETWORK_HUNG`, no RetryInfo; UNAVAILABLE, `ENGINE_STUCK`, with RetryInfo; "
                "ENGINE_STUCK once no lane is left"
            ),
        ),
        ("stream_items_in_flight", "the server begins no further ones until answers are read"),
    ],
)
def test_a_row_says_what_a_client_sees(name: str, seen: str) -> None:
    assert rows(limits_page(Settings()))[ENV_PREFIX + name.upper()][3] == seen


@pytest.mark.parametrize(
    "error", [QueueFull, MemoryBudgetExceeded, DeadlineUnreachable, ImageTooLarge, LaneStuck, ServiceError]
)
def test_an_error_is_found_by_its_reason(error: type[ServiceError]) -> None:
    assert error_of(error.reason) is error
    assert error.reason in all_reasons()


def test_reasons_of_errors_that_are_never_raised_are_not_listed() -> None:
    assert not {"OVERLOADED", "INVALID_ARGUMENT"} & set(all_reasons())
