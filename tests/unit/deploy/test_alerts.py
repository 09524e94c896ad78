"""The alert rules: Prometheus' own tools run them, and whoever is paged by one finds what to do."""

import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.metrics import Metrics
from tests.monitoring.dashboard import MONITORING
from tests.monitoring.names import metric_names, names_in

_ROOT = Path(__file__).parents[3]
_CASES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
_RULE_FILES = sorted((MONITORING / "rules").glob("*.yaml"))
_RULES = [
    rule
    for path in _RULE_FILES
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
_ALERTS = {rule["alert"]: rule for rule in _RULES if "alert" in rule}


def promtool(*arguments: str | Path) -> None:
    """Fails with what promtool says unless it is content."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it is part of Debian's package prometheus")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_rules() -> None:
    promtool("check", "rules", *_RULE_FILES)


@pytest.mark.parametrize("path", _CASES, ids=lambda path: path.stem)
def test_each_alert_fires_when_it_should_and_is_silent_when_it_should(path: Path) -> None:
    promtool("test", "rules", path)


def _expectations(alert: str) -> list[Any]:
    return [
        case.get("exp_alerts", [])
        for path in _CASES
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert
    ]


@pytest.mark.parametrize("alert", _ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    assert {bool(expected) for expected in _expectations(alert)} == {True, False}


@pytest.mark.parametrize("alert", _ALERTS)
def test_an_alert_says_how_urgent_it_is_and_has_a_section_in_the_runbook(alert: str) -> None:
    rule = _ALERTS[alert]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = [
        line.removeprefix("## ").strip().lower()
        for line in (_ROOT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("## ")
    ]

    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert anchor == alert.lower()
    assert headings.count(anchor) == 1


def test_rules_name_metrics_that_exist() -> None:
    known = metric_names(Metrics(CollectorRegistry())) | {rule["record"] for rule in _RULES if "record" in rule}

    assert {name for rule in _RULES for name in names_in(rule["expr"])} <= known


def test_the_object_of_the_operator_is_made_of_the_rule_files() -> None:
    rendered = runpy.run_path(str(MONITORING / "render.py"))["rendered"]()

    assert (MONITORING / "prometheus-rule.yaml").read_text(encoding="utf-8") == rendered, (
        "run: python deploy/monitoring/render.py"
    )
