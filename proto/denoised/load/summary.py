"""A run as JSON: what was asked, what was found, and enough to plot it again."""

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

from denoised.load.histogram import Histogram
from denoised.load.plan import LoadPlan
from denoised.load.results import LoadResult, StageResult
from denoised.load.tally import Slot, StageTally
from denoised.load.verdicts import Outcome

SCHEMA_VERSION: Final = 1


def summary(result: LoadResult) -> dict[str, Any]:
    """Plain lists, numbers and texts; latencies in milliseconds, times in seconds."""
    problems = result.problems()
    return {
        "schema_version": SCHEMA_VERSION,
        "is_ok": not problems,
        "problems": problems,
        "was_interrupted": result.was_interrupted,
        "generator": {
            "python": platform.python_version(),
            "grpcio": version("grpcio"),
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "server": result.server,
        "plan": _plan(result.plan),
        "capacity_per_s": result.capacity_per_s,
        "stages": [_stage(stage) for stage in result.stages],
    }


def _plan(plan: LoadPlan) -> dict[str, Any]:
    return asdict(plan) | {
        "rates": [str(rate) for rate in plan.rates],
        "kinds": [{"name": str(kind), "weight": kind.weight} for kind in plan.kinds],
        "gates": [str(gate) for gate in plan.gates],
    }


def _stage(stage: StageResult) -> dict[str, Any]:
    tally = stage.tally
    return {
        "name": stage.name,
        "rate_per_s": stage.rate_per_s,
        "offered": tally.offered_count,
        "adds_up": tally.adds_up,
        "figures": stage.figures(),
        "outcomes": [
            {
                "outcome": verdict.outcome.value,
                "reason": verdict.reason,
                "example": tally.examples.get(verdict),
                **_latency(histogram),
            }
            for verdict, histogram in tally.all.by_reason()
        ],
        "slow_readers": {outcome.value: tally.slow.count(outcome) for outcome in Outcome},
        "over_time": _over_time(tally),
        "generator": {
            "bottleneck": stage.complaint,
            "send_lag": _latency(stage.health.send_lag),
            "loop_lag": _latency(stage.health.loop_lag),
            "thread_share": stage.health.thread_share,
            "process_share": stage.health.process_share,
        },
        "service": None
        if stage.before is None or stage.after is None
        else {
            "cpu_ms_per_image": stage.cpu_ms_per_image,
            "resident_bytes_before": stage.before.resident_bytes,
            "resident_bytes_after": stage.after.resident_bytes,
        },
    }


def _latency(histogram: Histogram) -> dict[str, Any]:
    quantiles = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    return {
        "count": histogram.count,
        "mean_ms": 1000 * histogram.mean_s,
        **{name: _ms(histogram.quantile_s(share)) for name, share in quantiles.items()},
        "histogram_ms": [[round(1000 * last_s, 3), count] for last_s, count in histogram.steps()],
    }


def _over_time(tally: StageTally) -> list[dict[str, Any]]:
    length_s = tally.duration_s / len(tally.slots)
    return [{"from_s": index * length_s, **_slot(slot)} for index, slot in enumerate(tally.slots) if slot.counts]


def _slot(slot: Slot) -> dict[str, Any]:
    return {
        **{outcome.value.replace(" ", "_"): slot.counts[outcome] for outcome in Outcome},
        "p50_ms": _ms(slot.admitted.quantile_s(0.5)),
        "p99_ms": _ms(slot.admitted.quantile_s(0.99)),
        "max_ms": _ms(slot.admitted.quantile_s(1.0)),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
