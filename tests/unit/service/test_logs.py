"""Logs: one JSON object a line on stderr, whoever logs."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service.logs import LONGEST_VALUE, configure_logs
from service.settings import Settings


@pytest.fixture(autouse=True)
def _logging_as_it_was(logs: object) -> Iterator[None]:
    """Both libraries keep their configuration for the whole process; other tests get it back as it was.

    ``logs``, which listens in for other tests, is asked for first so that it is put back last.
    """
    del logs
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def configure() -> Any:
    def with_settings(**settings: Any) -> None:
        configure_logs(Settings(**settings))

    return with_settings


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == "", "stdout belongs to --print-config"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_json_object_with_level_and_time(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("serving", grpc_port=50051)
    (entry,) = logged(capsys)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "serving", "level": "info", "grpc_port": 50051}


def test_libraries_that_use_the_standard_logging_come_out_alike(
    configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    logging.getLogger("grpc._cython").warning("connection %s lost", "x")
    (entry,) = logged(capsys)
    assert (entry["event"], entry["level"]) == ("connection x lost", "warning")
    assert "timestamp" in entry


@pytest.mark.parametrize("from_library", [False, True], ids=["ours", "library"])
def test_a_traceback_stays_on_its_line(
    configure: Any, capsys: pytest.CaptureFixture[str], *, from_library: bool
) -> None:
    configure()
    error = ValueError("two\nlines")
    if from_library:
        logging.getLogger("asyncio").error("failed", exc_info=error)
    else:
        structlog.get_logger().error("failed", exc_info=error)
    (entry,) = logged(capsys)
    assert "ValueError: two\nlines" in entry["exception"]


def test_the_request_id_is_on_every_line_of_its_request(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.contextvars.bind_contextvars(request_id="7f", method="Denoise")
    structlog.get_logger().info("refused")
    logging.getLogger("library").warning("odd")
    assert [(entry["request_id"], entry["method"]) for entry in logged(capsys)] == [("7f", "Denoise")] * 2


def test_a_client_that_left_while_its_answer_was_written_is_no_error(
    configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    configure()
    grpc_logger = logging.getLogger("grpc._cython.cygrpc")
    grpc_logger.error("ExecuteBatchError raised in core by servicer method [%s]", "/x/Denoise", exc_info=ValueError())
    grpc_logger.error("Unexpected [%s] raised by servicer method [%s]", "ValueError", "/x/Denoise")
    left, failed = logged(capsys)
    assert (left["event"], left["level"]) == ("nobody is there to be answered", "info")
    assert left["detail"].endswith("[/x/Denoise]")
    assert "exception" not in left
    assert failed["level"] == "error"


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_what_is_below_the_level_is_left_out(
    configure: Any, capsys: pytest.CaptureFixture[str], level: str, count: int
) -> None:
    configure(log_level=level)
    for logger in (structlog.get_logger(), logging.getLogger("library")):
        for name in ("debug", "info", "warning", "error"):
            getattr(logger, name)("x")
    assert len(logged(capsys)) == 2 * count


def test_text_of_any_kind_is_logged_without_a_second_line(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("refused", detail='line\nbreak "quote" \x00 \u2028 é', value=object())
    (entry,) = logged(capsys)
    assert entry["detail"] == 'line\nbreak "quote" \x00 \u2028 é'


def test_people_get_text(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format="console")
    structlog.get_logger().info("serving", grpc_port=50051)
    text = capsys.readouterr().err
    assert "serving" in text
    assert "grpc_port=50051" in text
    assert "\x1b[" not in text, "no colours where no terminal is"


def test_configuring_again_replaces_what_was_there(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    configure()
    structlog.get_logger().info("once")
    assert len(logged(capsys)) == 1


def test_long_values_are_cut(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("refused", detail="x" * 1_000_000, count=3)
    (entry,) = logged(capsys)
    assert entry["detail"] == "x" * LONGEST_VALUE + "... (1000000 characters)"
    assert entry["count"] == 3
