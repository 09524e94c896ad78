"""Rows as a Markdown table for people and as JSON for a later run."""

from collections.abc import Sequence
from dataclasses import asdict

from tests.bench.figures import Figure, Row


def markdown(rows: Sequence[Row], *, is_judged: bool = True) -> str:
    """One line for each figure with a target; a row's other figures share a line.

    Args:
        rows: in their order.
        is_judged: whether to say which targets are reached; of a short run nothing can be said.
    """
    lines = ["| case | figure | to reach | measured | |", "|---|---|---|---|---|"]
    for row in rows:
        if row.skipped:
            lines.append(f"| {row.case} | | | skipped: {row.skipped} | |")
            continue
        judged = [figure for figure in row.figures if figure.target is not None]
        others = "; ".join(f"{figure.name} {in_words(figure)}" for figure in row.figures if figure.target is None)
        for index, figure in enumerate(judged or row.figures[:1]):
            case = row.case if index == 0 else ""
            verdict = _verdict(row, figure, is_judged=is_judged)
            lines.append(f"| {case} | {figure.name} | {_target(figure)} | {in_words(figure)} | {verdict} |")
        if judged and others:
            lines.append(f"| | {others} | | | |")
        remarks = [*row.notes, *(f"**WRONG** ({row.key}): {text}" for text in row.wrong)]
        lines += [f"| | {_in_a_cell(remark)} | | | |" for remark in remarks]
    return "\n".join(lines)


def as_json(row: Row) -> dict[str, object]:
    """Everything, with the verdicts."""
    tree = asdict(row)
    for values, figure in zip(tree["figures"], row.figures, strict=True):
        values["is_reached"] = figure.is_reached
    return tree


def in_words(figure: Figure) -> str:
    """Value, spread and unit."""
    spread = f" ± {number(figure.spread)}" if figure.spread else ""
    return f"{number(figure.value)}{spread}{' ' if figure.unit else ''}{figure.unit}"


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{figure.want} {number(figure.target)}{' ' if figure.unit else ''}{figure.unit}"


def _verdict(row: Row, figure: Figure, *, is_judged: bool) -> str:
    if row.wrong:
        return "wrong"
    if figure.target is None or not is_judged:
        return ""
    return "yes" if figure.is_reached else "**no**"


def number(value: float) -> str:
    """Three significant digits or so, as people read them."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
