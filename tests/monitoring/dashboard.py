"""The dashboard's queries, as Grafana would send them to Prometheus."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MONITORING: Final = Path(__file__).parents[2] / "deploy" / "monitoring"
DASHBOARD: Final = MONITORING / "dashboard.json"


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or all buckets of one heat map, of a panel.

    Attributes:
        row, panel: titles.
        kind: Grafana's type of the panel.
        unit: Grafana's name of the values' unit.
        legend: how its series are called, with labels in double braces.
    """

    row: str
    panel: str
    kind: str
    unit: str
    expr: str
    legend: str

    @property
    def title(self) -> str:
        return f"{self.row}: {self.panel}"


def read_dashboard() -> Any:
    """The dashboard in Grafana's format."""
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def queries(*, interval: str) -> Iterator[Query]:
    """All of them, from top to bottom, for all replicas; ``interval`` is what rates are taken over, such as 5m."""
    row = ""
    for panel in read_dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        unit = panel.get("options", {}).get("yAxis", {}).get("unit") or defaults.get("unit", "short")
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", interval).replace("$instance", ".*")
            yield Query(row, panel["title"], panel["type"], unit, expr, target.get("legendFormat", ""))
