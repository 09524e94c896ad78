"""What the service itself took: CPU time and memory, from its Prometheus page."""

import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

_TIMEOUT_S: Final = 5.0
_CPU: Final = "process_cpu_seconds_total"
_MEMORY: Final = "process_resident_memory_bytes"


class MetricsUnreadableError(Exception):
    """The page can't be had, or does not have the two metrics."""


@dataclass(frozen=True, slots=True)
class ServerUse:
    """CPU seconds since the service started, and its resident memory now."""

    cpu_s: float
    resident_bytes: float


def scrape(url: str) -> ServerUse:
    """Reads the page; blocks.

    Raises:
        MetricsUnreadableError: it can't be had, or it lacks what is looked for.
    """
    # Straight to the service: metrics are internal to a cluster, and a proxy would not find them.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as page:
            text: str = page.read().decode()
    except (OSError, ValueError, HTTPException) as error:
        raise MetricsUnreadableError(f"no metrics at {url}: {error}") from error
    return parse(text, url=url)


def parse(text: str, *, url: str) -> ServerUse:
    """The two metrics in Prometheus' text format.

    Raises:
        MetricsUnreadableError: one is missing.
    """
    values = dict(line.split()[:2] for line in text.splitlines() if line.startswith((f"{_CPU} ", f"{_MEMORY} ")))
    missing = [name for name in (_CPU, _MEMORY) if name not in values]
    if missing:
        raise MetricsUnreadableError(f"the page at {url} has no {' and no '.join(missing)}")
    return ServerUse(float(values[_CPU]), float(values[_MEMORY]))
