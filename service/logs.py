"""Structured logs: one JSON object a line, with the request's id. Pixels and file names are never logged."""

import logging
import sys
from typing import Final

import structlog

from service.settings import Settings

_log = structlog.get_logger()

LONGEST_VALUE: Final = 2000
_GRPC_LOGGER: Final = "grpc._cython.cygrpc"
# What grpc.aio logs, with a traceback, when a client hangs up while its answer is being written. The answer had been
# handed over, so that no code of ours is told.
_NOBODY_TO_ANSWER: Final = "ExecuteBatchError raised in core by servicer method"


def configure_logs(settings: Settings) -> None:
    """Sends structlog and the standard library's loggers to stderr in the chosen format."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _cut,
    ]
    if settings.log_format == "json":
        render: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        render = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    grpc_logger = logging.getLogger(_GRPC_LOGGER)
    grpc_logger.addFilter(_tell_of_clients_that_left)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())


def _cut(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor: what a client can make long does not fill the log. Tracebacks, which it can't, are made later."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            event[key] = f"{value[:LONGEST_VALUE]}... ({len(value)} characters)"
    return event


def _tell_of_clients_that_left(record: logging.LogRecord) -> bool:
    """A filter: what clients do is no error of the service's, and is told as the service tells it elsewhere."""
    if not record.getMessage().startswith(_NOBODY_TO_ANSWER):
        return True
    _log.info("nobody is there to be answered", detail=record.getMessage())
    return False
