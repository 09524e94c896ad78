"""Puts the rule files into the one object that Prometheus' operator reads: ``python deploy/monitoring/render.py``.

The files in ``rules/`` are what is edited and what ``promtool`` tests; prometheus-rule.yaml is made from them, because
kustomize can't put a file's content into a field. A test compares.
"""

from pathlib import Path

import yaml

_HERE = Path(__file__).parent
_TO = _HERE / "prometheus-rule.yaml"
_HEAD = (
    "# Made by deploy/monitoring/render.py from the files in rules/; edit those.\n# yamllint disable rule:line-length\n"
)


def rendered() -> str:
    """The PrometheusRule, in YAML."""
    groups = [
        group
        for path in sorted((_HERE / "rules").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "denoised",
            "labels": {"app.kubernetes.io/name": "denoised", "app.kubernetes.io/component": "service"},
        },
        "spec": {"groups": groups},
    }
    return _HEAD + yaml.safe_dump(rule, sort_keys=False, width=90)


if __name__ == "__main__":
    _TO.write_text(rendered(), encoding="utf-8")
