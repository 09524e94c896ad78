"""Compares a run with an earlier one: the change of every figure that has a target, and which changes are no noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.figures import Figure, Row
from tests.bench.table import number

# A change must exceed the two runs' own spreads together so many times, and this share, to be called one.
_SPREADS: Final = 2.0
_LEAST_SHARE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Change:
    """One figure then and now.

    Attributes:
        share: relative change of the value; positive is more.
        noise: relative change that is explained by the spread of both runs; None where there was one round alone.
    """

    case: str
    then: Figure
    now: Figure
    share: float
    noise: float | None

    @property
    def is_regression(self) -> bool:
        """Worse by more than noise explains."""
        worse = self.share if self.now.want == "at most" else -self.share
        return self.noise is not None and worse > max(self.noise, _LEAST_SHARE)


def changes(document: Mapping[str, Any], rows: Sequence[Row]) -> list[Change]:
    """Of all figures with a target that both runs have.

    Args:
        document: what an earlier run wrote with ``--json``.
        rows: of this run.
    """
    before = {(row["key"], figure["name"]): _figure(figure) for row in document["rows"] for figure in row["figures"]}
    found = []
    for row in rows:
        for now in row.figures:
            then = before.get((row.key, now.name))
            if then is None or now.target is None or then.value == 0:
                continue
            spread = then.spread + now.spread
            noise = _SPREADS * spread / abs(then.value) if then.spread and now.spread else None
            found.append(Change(row.case, then, now, now.value / then.value - 1, noise))
    return found


def markdown(found: Sequence[Change]) -> str:
    """A line for each change."""
    lines = ["| case | figure | then | now | change | noise | |", "|---|---|---|---|---|---|---|"]
    for change in found:
        noise = "one round" if change.noise is None else f"{change.noise:.1%}"
        mark = "**worse**" if change.is_regression else ""
        lines.append(
            f"| {change.case} | {change.now.name} | {number(change.then.value)} | {number(change.now.value)} "
            f"| {change.share:+.1%} | {noise} | {mark} |"
        )
    return "\n".join(lines)


def _figure(values: Mapping[str, Any]) -> Figure:
    return Figure(**{name: value for name, value in values.items() if name != "is_reached"})
