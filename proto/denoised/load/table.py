"""A run as text: lines while it runs, a table that adds up at its end."""

from collections.abc import Sequence

from denoised.load.driver import Progress
from denoised.load.histogram import Histogram
from denoised.load.results import LoadResult, StageResult
from denoised.load.verdicts import ADMITTED, Outcome

_PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))


def progress_line(progress: Progress) -> str:
    """Where a stage stands."""
    tally = progress.tally.all
    p99_s = progress.tally.prompt.latencies(*ADMITTED).quantile_s(0.99)
    elapsed_s = max(progress.elapsed_s, 1e-3)
    return (
        f"{progress.stage} {elapsed_s:.0f} s: {progress.tally.offered_count / elapsed_s:.0f} offered/s, "
        f"{tally.count(Outcome.OK) / elapsed_s:.0f} ok/s, {progress.in_flight_count} in flight, p99 {_ms(p99_s)} ms, "
        f"{tally.count(Outcome.REFUSED)} refused, {tally.count(Outcome.LATE)} late"
    )


def report(result: LoadResult) -> str:
    """Everything that is printed at the end, verdict last."""
    blocks = [_table(_outcome_rows(result)), _table(_latency_rows(result)), *_notes(result)]
    problems = result.problems()
    if result.was_interrupted:
        blocks.append("Interrupted: figures are of the time until then.")
    blocks.append("FAILED\n" + "\n".join(f"  {line}" for line in problems) if problems else "All well.")
    return "\n\n".join(blocks)


def _outcome_rows(result: LoadResult) -> list[list[str]]:
    rows = [["stage", "images/s", "offered", "=", *(outcome.value for outcome in Outcome), "goodput/s"]]
    for stage in result.stages:
        tally = stage.tally.all
        counts = [str(tally.count(outcome)) for outcome in Outcome]
        if not result.plan.is_verified:
            counts[list(Outcome).index(Outcome.WRONG)] = "-"
        offered = str(stage.tally.offered_count)
        equals = "=" if stage.tally.adds_up else "!="
        rows.append(
            [stage.name, f"{stage.rate_per_s:.1f}", offered, equals, *counts, f"{stage.tally.goodput_per_s:.1f}"]
        )
    return rows


def _latency_rows(result: LoadResult) -> list[list[str]]:
    rows = [["latency, ms, from the intended time", "images", *(name for name, _ in _PERCENTILES)]]
    for stage in result.stages:
        rows.append(_latency_row(f"{stage.name} admitted", stage.tally.prompt.latencies(*ADMITTED)))
        for verdict, histogram in stage.tally.all.by_reason():
            if verdict.outcome not in (Outcome.OK, Outcome.NOT_SENT):
                rows.append(_latency_row(f"{stage.name} {verdict.outcome} {verdict.reason}".rstrip(), histogram))
        if stage.tally.slow.count():
            rows.append(_latency_row(f"{stage.name} slow readers, all outcomes", stage.tally.slow.latencies(*Outcome)))
    return rows


def _latency_row(name: str, histogram: Histogram) -> list[str]:
    return [name, str(histogram.count), *(_ms(histogram.quantile_s(share)) for _, share in _PERCENTILES)]


def _notes(result: LoadResult) -> list[str]:
    notes = []
    if result.capacity_per_s is not None:
        notes.append(
            f"capacity {result.capacity_per_s:.1f} images/s, closed loop, "
            f"{result.plan.capacity_in_flight} requests at a time"
        )
    if not result.plan.is_verified:
        notes.append("answers were not checked; --verify compares them")
    notes += [line for stage in result.stages for line in stage_notes(stage)]
    return ["\n".join(notes)] if notes else []


def stage_notes(stage: StageResult) -> list[str]:
    """What is to be known beside the counts: the service's use, and the generator's part in the figures."""
    health, notes = stage.health, []
    if stage.before is not None and stage.after is not None:
        cpu_ms = stage.cpu_ms_per_image
        notes.append(
            f"{stage.name} service: {'-' if cpu_ms is None else f'{cpu_ms:.2f}'} ms CPU per image, "
            f"memory {stage.before.resident_bytes / 2**20:.0f} to {stage.after.resident_bytes / 2**20:.0f} MiB"
        )
    if stage.complaint is not None:
        notes.append(f"{stage.name} GENERATOR WAS THE BOTTLENECK, don't blame the server: {stage.complaint}")
    notes += [
        f"{stage.name} {verdict.outcome} {verdict.reason}, for example: {detail}"
        for verdict, detail in stage.tally.examples.items()
    ]
    notes.append(
        f"{stage.name} generator: send lag p99 {_ms(health.send_lag.quantile_s(0.99))} ms, loop lag p99 "
        f"{_ms(health.loop_lag.quantile_s(0.99))} ms, event loop {health.thread_share:.0%} and process "
        f"{health.process_share:.0%} of a core"
    )
    return notes


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.1f}" if seconds < 1.0 else f"{1000 * seconds:.0f}"
