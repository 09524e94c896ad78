"""The drift rule: Prometheus' own tools run it, and whoever gets its ticket finds what to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.metrics import Metrics

_ROOT: Final = Path(__file__).parents[3]
_RULES: Final = _ROOT / "deploy" / "monitoring" / "rules" / "drift.yaml"
_ROW: Final = _ROOT / "deploy" / "monitoring" / "rows" / "drift.json"
_CASES: Final = Path(__file__).parent / "alerts" / "drift.yaml"


def promtool(*arguments: str | Path) -> None:
    """Fails with what promtool says unless it is content."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it is part of Debian's package prometheus")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rule_is_a_rule() -> None:
    promtool("check", "rules", _RULES)


def test_it_fires_for_each_kind_of_drift_and_for_no_ordinary_traffic() -> None:
    promtool("test", "rules", _CASES)


@pytest.mark.parametrize("path", [_RULES, _ROW], ids=lambda path: path.name)
def test_rule_and_dashboard_name_metrics_that_exist(path: Path) -> None:
    known = {description.name for description in Metrics(CollectorRegistry()).descriptions}
    named = set(re.findall(r"denoised_[a-z_]+", path.read_text(encoding="utf-8")))
    assert named
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in named} <= known


def test_the_dashboards_queries_are_such(tmp_path: Path) -> None:
    panels = [panel for panel in json.loads(_ROW.read_text(encoding="utf-8")) if panel["type"] != "row"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"query:number_{number}", "expr": query.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, query in enumerate(queries)
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", path)


def test_its_runbook_section_exists() -> None:
    (alert,) = [
        rule
        for group in yaml.safe_load(_RULES.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = [
        line.removeprefix("## ").lower()
        for line in (_ROOT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("## ")
    ]
    assert anchor in headings
