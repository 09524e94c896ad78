"""The page that lists every limit: what it bounds, its value, and what a client sees when it is reached.

Made from the settings, the errors and their codes alone, so that it can't say anything else than they do:
``python -m service --print-limits > docs/limits.md``.
"""

from collections.abc import Iterator

from google.rpc.code_pb2 import Code

from service.errors import Overloaded, ServiceError, error_of
from service.settings import ENV_PREFIX, Limit, Settings
from service.status import CODES

_HEAD = """\
# Limits

Made by `python -m service --print-limits` from the settings; with other settings it prints theirs.

Each limit is a variable. A refusal carries its reason in `google.rpc.ErrorInfo` (domain `denoised.v1`); what is worth
sending again carries `google.rpc.RetryInfo`, and nothing else is. `QUEUE_FULL` says in the metadata of its ErrorInfo
which of the three caps was reached (`cap`: `requests`, `bytes` or `pixels`), and like `MEMORY_BUDGET` how much was
taken (`value`), how much was asked for (`offered`) and the `limit`.

| setting | value | what it bounds | what a client sees |
|---|---|---|---|
"""
_BINARY_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def limits_page(settings: Settings) -> str:
    """The page in Markdown, with the values of these settings."""
    return _HEAD + "".join(
        f"| `{ENV_PREFIX}{name.upper()}` | {_value(name, getattr(settings, name))} | {field.description} "
        f"| {_seen(limit)} |\n"
        for name, field in Settings.model_fields.items()
        for limit in field.metadata
        if isinstance(limit, Limit)
    )


def _value(name: str, value: float) -> str:
    """For people, and exactly."""
    exact = f"{value:,}"
    if name.endswith("_s"):
        return f"{value:g} s"
    if name.endswith("_pixels"):
        return f"{value / 1e6:.3g} megapixels ({exact})"
    if name.endswith("_bytes"):
        for unit, size_bytes in _BINARY_UNITS:
            if value >= size_bytes:
                return f"{value / size_bytes:.4g} {unit} ({exact})"
    return exact


def _seen(limit: Limit) -> str:
    return "; ".join([*(_refusal(error_of(reason)) for reason in limit.reasons), *_effect(limit)])


def _effect(limit: Limit) -> Iterator[str]:
    if limit.effect:
        yield limit.effect


def _refusal(error: type[ServiceError]) -> str:
    code = next(CODES[ancestor] for ancestor in error.__mro__ if ancestor in CODES)
    is_retryable = issubclass(error, Overloaded) or error.retry_after_s is not None
    return f"{Code.Name(code)}, `{error.reason}`, {'with RetryInfo' if is_retryable else 'no RetryInfo'}"
