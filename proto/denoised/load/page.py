"""A run as one HTML page that needs nothing else: what came out, and plots of it. Decides how a run looks."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Final

from denoised.load import plots
from denoised.load.histogram import Histogram
from denoised.load.plots import Bar, Line
from denoised.load.results import LoadResult, StageResult
from denoised.load.table import stage_notes
from denoised.load.verdicts import ADMITTED, Outcome

_DASH: Final = "&ndash;"
_STAGE_STYLES: Final = 6
_COLUMNS: Final = (("p50", "p50_ms"), ("p90", "p90_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"), ("max", "max_ms"))


def page(result: LoadResult) -> str:
    """The whole page."""
    title = f"Load on {result.plan.target}"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    stages = "".join(_stage_section(stage, result) for stage in result.stages)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{(files("denoised") / "report.css").read_text(encoding="utf-8")}
{(files("denoised.load") / "load.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(_lead(result))}</p>
{_verdict(result)}
</header>
<main>
{_table(result)}
{_overview(result) if result.stages else ""}{stages}</main>
<footer>Latency and deadline of an image run from when it was due to be sent, so that waiting behind a stall counts.
Admitted are ok, late and wrong. Goodput is right answers in time, while images were still coming. Slow readers are
left out of latencies.</footer>
</body>
</html>
"""


def _lead(result: LoadResult) -> str:
    plan = result.plan
    kinds = ", ".join(str(kind) for kind in plan.kinds)
    parts = [
        f"{result.server or 'No model'}; {plan.method} over {plan.connection_count} connections; {kinds}",
        f"{plan.arrivals} arrivals, {plan.duration_s:g} s a stage, {plan.timeout_s:g} s for each image",
    ]
    if result.capacity_per_s is not None:
        parts.append(f"capacity {result.capacity_per_s:.1f} images/s in a closed loop")
    if plan.cancel_share:
        parts.append(f"{plan.cancel_share:.0%} taken back after {plan.cancel_after_s:g} s on average")
    if plan.slow_connection_count:
        parts.append(f"{plan.slow_connection_count} connections read slowly")
    parts.append("answers checked" if plan.is_verified else "answers not checked")
    return "; ".join(parts) + "."


def _verdict(result: LoadResult) -> str:
    problems = result.problems()
    blocks = []
    if problems:
        blocks.append(_notice("bad", "Failed", problems))
    else:
        blocks.append(
            _notice("good", "All well: everything adds up, nothing wrong, failed or lost, all gates held", ())
        )
    complaints = [f"{stage.name}: {stage.complaint}" for stage in result.stages if stage.complaint]
    if complaints:
        blocks.append(_notice("doubt", "The generator was the bottleneck, don't blame the server", complaints))
    if result.was_interrupted:
        blocks.append(_notice("doubt", "Interrupted: figures are of the time until then", ()))
    return "".join(blocks)


def _notice(style: str, heading: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="notice {style}"><b>{escape(heading)}</b>{f"<ul>{items}</ul>" if items else ""}</div>'


def _table(result: LoadResult) -> str:
    headings = ["Stage", "Images/s", "Offered", *(_key(outcome) for outcome in Outcome), "Goodput/s"]
    headings += [f"{name}, ms" for name, _ in _COLUMNS]
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    rows = []
    for stage in result.stages:
        tally, figures = stage.tally.all, stage.figures()
        cells = [f"{stage.rate_per_s:.1f}", str(stage.tally.offered_count)]
        cells += [
            _DASH if outcome is Outcome.WRONG and not result.plan.is_verified else str(tally.count(outcome))
            for outcome in Outcome
        ]
        cells.append(f"<b>{stage.tally.goodput_per_s:.1f}</b>")
        cells += [_number(figures[figure]) for _, figure in _COLUMNS]
        rows.append(
            f'<tr><th scope="row">{escape(stage.name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'
        )
    return (
        f'<div class="summary"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody></table></div>'
    )


def _overview(result: LoadResult) -> str:
    return '<div class="cards overview">\n{}</div>\n'.format(
        _card("Goodput against offered load", "flat past the capacity is good, falling is collapse", _goodput(result))
        + _card("What became of the images", _legend(), _outcomes(result.stages))
        + _card("Latency by percentile", _stage_legend(result.stages), _by_percentile(result))
    )


def _goodput(result: LoadResult) -> str:
    stages = sorted(result.stages, key=lambda stage: stage.rate_per_s)
    highest_rate = stages[-1].rate_per_s
    highest = max(1e-9, *(stage.tally.goodput_per_s for stage in stages), result.capacity_per_s or 0.0)
    x, y = plots.linear("offered, images/s", highest_rate), plots.linear("goodput, images/s", 1.1 * highest)
    end = y.ticks[-1][0]
    kept_up = min(highest_rate, end)
    lines = [Line("goodput = offered", [(0.0, 0.0), (kept_up, kept_up)], "ideal")]
    if result.capacity_per_s is not None:
        level = result.capacity_per_s
        lines.append(Line(f"capacity {level:.1f} images/s", [(0.0, level), (x.ticks[-1][0], level)], "limit"))
    points = [(stage.rate_per_s, stage.tally.goodput_per_s) for stage in stages]
    hints = [
        f"{stage.name}: {rate:.1f} offered/s, {good:.1f} good/s"
        for stage, (rate, good) in zip(stages, points, strict=True)
    ]
    lines.append(Line("goodput", points, "goodput", hints))
    return plots.line_plot("Goodput against offered load", x, y, lines)


def _outcomes(stages: Sequence[StageResult]) -> str:
    bars = []
    for stage in stages:
        tally = stage.tally.all
        counts = [(outcome, tally.count(outcome)) for outcome in Outcome]
        total = max(1, tally.count())
        parts = [
            (_style(outcome), count, f"{stage.name}: {count} {outcome}, {count / total:.1%}")
            for outcome, count in counts
            if count
        ]
        bars.append(Bar(stage.name, parts))
    return plots.bars_plot("Outcomes of each stage, as shares", bars)


def _by_percentile(result: LoadResult) -> str:
    histograms = [stage.tally.prompt.latencies(*ADMITTED) for stage in result.stages]
    filled = [histogram for histogram in histograms if histogram.count]
    if not filled:
        return _nothing()
    most_count = max(histogram.count for histogram in filled)
    x = plots.percentiles("share of admitted images", 1.0 - 1.0 / max(10, most_count))
    lowest_ms = min(_ms(next(histogram.steps())[0]) for histogram in filled)
    deadline_ms = _ms(result.plan.timeout_s)
    y = plots.logarithmic("latency, ms", lowest_ms, max(deadline_ms, *(_ms(h.most_s) for h in filled)))
    lines = [Line("deadline", [(0.0, deadline_ms), (x.ticks[-1][0], deadline_ms), (1.0, deadline_ms)], "limit")]
    for index, (stage, histogram) in enumerate(zip(result.stages, histograms, strict=True)):
        lines.append(Line(stage.name, _steps(histogram), _stage_style(index)))
    return plots.line_plot("Latency by percentile", x, y, lines)


def _steps(histogram: Histogram) -> list[plots.Point]:
    """(share at or below, latency in ms) up to the second slowest image; the slowest has no percentile of its own."""
    points, below = [], 0
    for last_s, count in histogram.steps():
        points.append((below / histogram.count, _ms(last_s)))
        below += count
    points.append((1.0 - 1.0 / histogram.count, _ms(histogram.most_s)))
    return points


def _stage_section(stage: StageResult, result: LoadResult) -> str:
    notes = "; ".join(note.removeprefix(f"{stage.name} ") for note in stage_notes(stage))
    latency = _card(
        "Latency over time",
        '<span class="line-key p50"></span>p50 <span class="line-key p99"></span>p99 '
        '<span class="line-key most"></span>slowest <span class="line-key limit"></span>deadline',
        _latency_over_time(stage, result.plan.timeout_s),
        _reasons(stage),
    )
    outcomes = _card("Outcomes over time", _legend(), _outcomes_over_time(stage))
    return (
        f"<section><h2>{escape(stage.name)}: {stage.rate_per_s:.1f} images/s offered</h2>"
        f'<p class="note">{escape(notes)}</p>\n<div class="cards">\n{latency}{outcomes}</div></section>\n'
    )


def _latency_over_time(stage: StageResult, timeout_s: float) -> str:
    tally = stage.tally
    length_s = tally.duration_s / len(tally.slots)
    slots = [((index + 0.5) * length_s, slot.admitted) for index, slot in enumerate(tally.slots) if slot.admitted.count]
    if not slots:
        return _nothing()
    x = plots.exact("seconds since the stage began", tally.duration_s)
    lowest_ms = min(_ms(next(histogram.steps())[0]) for _, histogram in slots)
    y = plots.logarithmic("latency, ms", lowest_ms, max(_ms(timeout_s), *(_ms(h.most_s) for _, h in slots)))
    lines = [Line("deadline", [(0.0, _ms(timeout_s)), (tally.duration_s, _ms(timeout_s))], "limit")]
    for name, style, share in (("slowest", "most", 1.0), ("p99", "p99", 0.99), ("p50", "p50", 0.5)):
        lines.append(Line(name, [(time_s, _ms(h.quantile_s(share) or 0.0)) for time_s, h in slots], style))
    return plots.line_plot(f"Latency over time at {stage.name}", x, y, lines)


def _outcomes_over_time(stage: StageResult) -> str:
    tally = stage.tally
    length_s = tally.duration_s / len(tally.slots)
    highest = max(slot.counts.total() for slot in tally.slots) / length_s
    columns = []
    for index, slot in enumerate(tally.slots):
        parts = [
            (_style(outcome), slot.counts[outcome] / length_s, f"{slot.counts[outcome]} {outcome}")
            for outcome in Outcome
            if slot.counts[outcome]
        ]
        columns.append((index * length_s, (index + 1) * length_s, Bar("", parts)))
    x = plots.exact("seconds since the stage began", tally.duration_s)
    return plots.columns_plot(f"Outcomes over time at {stage.name}", x, plots.linear("images/s", highest), columns)


def _reasons(stage: StageResult) -> str:
    reasons = [
        f"{histogram.count} {verdict.outcome} {verdict.reason} (p50 {_number(_ms(histogram.quantile_s(0.5) or 0.0))}, "
        f"p99 {_number(_ms(histogram.quantile_s(0.99) or 0.0))} ms)"
        for verdict, histogram in stage.tally.all.by_reason()
        if verdict.reason
    ]
    return escape("; ".join(reasons))


def _card(title: str, legend: str, plot: str, note: str = "") -> str:
    under = f'<p class="note">{note}</p>' if note else ""
    return (
        f'<article class="card"><div class="title"><h2>{escape(title)}</h2><p class="legend">{legend}</p></div>'
        f"{plot}{under}</article>\n"
    )


def _legend() -> str:
    return " ".join(_key(outcome) for outcome in Outcome)


def _key(outcome: Outcome) -> str:
    return f'<span class="entry"><span class="key {_style(outcome)}"></span>{outcome}</span>'


def _stage_legend(stages: Sequence[StageResult]) -> str:
    keys = [
        f'<span class="line-key {_stage_style(index)}"></span>{escape(stage.name)}'
        for index, stage in enumerate(stages)
    ]
    return " ".join([*keys, '<span class="line-key limit"></span>deadline'])


def _style(outcome: Outcome) -> str:
    return f"outcome-{outcome.name.lower().replace('_', '-')}"


def _stage_style(index: int) -> str:
    return f"stage-{index % _STAGE_STYLES}"


def _nothing() -> str:
    return '<p class="nothing">Nothing was admitted.</p>'


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.1f}" if value < 1000.0 else f"{value:.0f}"


def _ms(seconds: float) -> float:
    return 1000.0 * seconds
