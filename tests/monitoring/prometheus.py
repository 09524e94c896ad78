"""A Prometheus of its own: Debian's binary with the shipped rules, sped up, scraping services on this machine."""

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.monitoring.dashboard import MONITORING

_TIME: Final = re.compile(r"(?<=\[)(\d+)([smh])(?=\])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_READY_S: Final = 60.0


def sped_up(factor: float, *, least_s: int) -> dict[str, Any]:
    """The shipped rules with every duration divided by ``factor``, and no window shorter than ``least_s``.

    What fires, and in which order, stays the same; nobody waits for hours.
    """

    def shorter(number: int, unit: str, least: int) -> str:
        return f"{max(least, round(number * _SECONDS[unit] / factor))}s"

    groups = []
    for path in sorted((MONITORING / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                rule["expr"] = _TIME.sub(lambda found: shorter(int(found[1]), found[2], least_s), rule["expr"])
                if "for" in rule:
                    rule["for"] = shorter(int(rule["for"][:-1]), rule["for"][-1], 1)
            groups.append(group)
    return {"groups": groups}


class Prometheus:
    """A running one; all answers are of its HTTP API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expr: str) -> list[dict[str, Any]]:
        """An instant vector."""
        found: list[dict[str, Any]] = self._get("query", query=expr)["result"]
        return found

    def query_range(self, expr: str, *, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """A matrix."""
        found: list[dict[str, Any]] = self._get("query_range", query=expr, start=start_s, end=end_s, step=step_s)[
            "result"
        ]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, what: str, **parameters: object) -> dict[str, Any]:
        url = f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data


@contextmanager
def running_prometheus(
    folder: Path, targets: Sequence[str], *, port: int, factor: float, interval_s: int = 1
) -> Iterator[Prometheus]:
    """One that scrapes ``targets`` (host:port) as job ``denoised`` every second, until the block ends.

    Raises:
        FileNotFoundError: there is no ``prometheus`` on this machine.
        TimeoutError: it did not become ready.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise FileNotFoundError("prometheus is not installed; it is Debian's package of that name")
    (folder / "rules.yaml").write_text(yaml.safe_dump(sped_up(factor, least_s=5 * interval_s)), encoding="utf-8")
    (folder / "prometheus.yaml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{interval_s}s"},
                "rule_files": [str(folder / "rules.yaml")],
                "scrape_configs": [{"job_name": "denoised", "static_configs": [{"targets": list(targets)}]}],
            }
        ),
        encoding="utf-8",
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        limit_s = time.monotonic() + _READY_S
        while not prometheus.is_ready():
            if process.poll() is not None or time.monotonic() > limit_s:
                raise TimeoutError((folder / "prometheus.log").read_text(encoding="utf-8", errors="replace")[-2000:])
            time.sleep(0.2)
        yield prometheus
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
