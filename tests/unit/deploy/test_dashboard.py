"""The dashboard: every query is one that Prometheus understands, about metrics that there are."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.metrics import Metrics
from tests.monitoring.dashboard import queries, read_dashboard
from tests.monitoring.names import metric_names, names_in

_QUERIES = list(queries(interval="1m"))


def test_every_query_parses(tmp_path: Path) -> None:
    """As a rule of its own, because that is what promtool checks."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it is part of Debian's package prometheus")
    rules = [{"record": f"panel:{number}", "expr": query.expr} for number, query in enumerate(_QUERIES)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_queries_name_metrics_that_exist() -> None:
    named = {name for query in _QUERIES for name in names_in(query.expr)}

    assert named <= metric_names(Metrics(CollectorRegistry()))


def test_every_metric_that_is_no_limit_is_on_the_dashboard() -> None:
    shown = {name for query in _QUERIES for name in names_in(query.expr)}
    missing = [
        each.name
        for each in Metrics(CollectorRegistry()).descriptions
        if not {each.name, f"{each.name}_bucket", f"{each.name}_sum"} & shown and not each.name.endswith("_limit")
    ]

    # What is pending in tiles and pixels says no more than what is pending in seconds.
    assert missing == ["denoised_queued_pixels", "denoised_queued_units"]


def test_no_variable_is_left_and_every_query_asks_for_one_job() -> None:
    assert not [query.title for query in _QUERIES if "$" in query.expr]
    assert not [query.title for query in _QUERIES if query.expr.count('{job="denoised"') == 0]


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = read_dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_panel_says_what_to_read_from_it() -> None:
    assert not [
        panel["title"] for panel in read_dashboard()["panels"] if panel["type"] != "row" and not panel["description"]
    ]


def test_no_two_panels_of_a_row_have_one_title() -> None:
    titles = [(query.row, query.panel) for query in _QUERIES]
    panels = [panel for panel in read_dashboard()["panels"] if panel["type"] != "row"]

    assert len(set(titles)) == len(panels)
