"""Conditions that a run must hold, such as ``lost = 0`` or ``late_share <= 0.01``; each is put to every stage."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM: Final = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|==|=|<|>)\s*([0-9.eE+-]+)\s*", re.ASCII)

FIGURES: Final = {
    "ok": "images answered rightly and in time",
    "late": "images answered after the deadline, or not by then",
    "refused": "images that the service was too busy for",
    "cancelled": "images that were taken back",
    "wrong": "answers that differ from what the image got alone",
    "failed": "images with any other error",
    "lost": "images of which nothing was heard",
    "not_sent": "images that the generator itself did not send",
    "ok_share": "ok, as a share of what was offered",
    "late_share": "late, as a share of what was admitted (ok, late and wrong)",
    "refused_share": "refused, as a share of what was offered",
    "goodput_per_s": "right answers in time, a second",
    "goodput_share": "goodput, as a share of the offered rate or of the capacity, whichever is less",
    "p50_ms": "median latency of what was admitted",
    "p90_ms": "90th percentile of it",
    "p99_ms": "99th percentile of it",
    "p999_ms": "99.9th percentile of it",
    "max_ms": "the longest of it",
    "refused_p99_ms": "99th percentile of the time until a refusal",
    "send_lag_p99_ms": "99th percentile of how late the generator itself sent",
}
"""Names that a gate may use. Latencies run from when an image was due to be sent; one that did not occur passes."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition."""

    figure: str
    comparison: str
    limit: float

    def holds(self, figures: Mapping[str, float | None]) -> bool:
        """Whether a stage's figures meet it; a figure that there is none of does."""
        value = figures[self.figure]
        return value is None or _COMPARISONS[self.comparison](value, self.limit)

    def __str__(self) -> str:
        return f"{self.figure} {self.comparison} {self.limit:g}"


def parse_gate(text: str) -> Gate:
    """A gate such as ``late_share <= 0.01``.

    Raises:
        ValueError: it has another form, or names a figure that there is not.
    """
    matched = _FORM.fullmatch(text)
    if matched is None:
        raise ValueError(f"gate {text!r}: write FIGURE COMPARISON NUMBER, such as 'late_share <= 0.01'")
    figure, comparison, number = matched.groups()
    if figure not in FIGURES:
        raise ValueError(f"gate {text!r}: no figure is called {figure!r}; there are {', '.join(FIGURES)}")
    try:
        return Gate(figure, comparison, float(number))
    except ValueError as error:
        raise ValueError(f"gate {text!r}: {number!r} is no number") from error
