"""Which metrics there are, and which ones a query names."""

import re
from typing import Final

from service.metrics import Metrics

_NAME: Final = re.compile(r"\bdenoised[_:][a-z0-9_:]+")
_STRING: Final = re.compile(r'"[^"]*"')


def metric_names(metrics: Metrics) -> set[str]:
    """The names of all series that the service shows of its own."""
    names = set()
    for each in metrics.descriptions:
        if each.kind == "histogram":
            names |= {f"{each.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            names.add(each.name)
    return names


def names_in(expr: str) -> set[str]:
    """Names of our metrics and recorded series in a query; what stands in quotes is no name."""
    return set(_NAME.findall(_STRING.sub('""', expr)))
