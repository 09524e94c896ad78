"""How many pods a load takes, computed from measurements: ``python -m tests.bench.capacity`` writes docs/capacity.md.

Nothing is measured here: what an image costs and what a replica holds come from the benchmark's committed results. How
the autoscaler follows is a simulation of its rule as Kubernetes documents it, over a day with bursts.
"""

import argparse
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = _ROOT / "docs" / "results" / "bench.json"
PAGE: Final = _ROOT / "docs" / "capacity.md"
TARGET_USE: Final = 0.7
CORES_PER_POD: Final = 2
# What a pod takes from being asked for until it takes requests: scheduled, image there, networks loaded.
_START_S: Final = 15.0
_SYNC_S: Final = 15.0
_CALM_S: Final = 300.0
_TOLERANCE: Final = 0.1
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of image.

    Attributes:
        megapixels: of one image.
        cpu_s: the service's CPU time for one.
    """

    name: str
    megapixels: float
    cpu_s: float

    @property
    def images_per_core_s(self) -> float:
        return 1.0 / self.cpu_s

    def pods(self, images_per_s: float) -> int:
        """So that their cores are used as far as the autoscaler lets them be, and two at least."""
        return max(2, math.ceil(images_per_s * self.cpu_s / (CORES_PER_POD * TARGET_USE)))

    def core_hours_per_million_megapixels(self) -> float:
        """At the use that the autoscaler keeps."""
        return self.cpu_s / self.megapixels * 1e6 / 3600 / TARGET_USE


# (row of the results, name, megapixels of one image)
_KINDS: Final = (
    ("base256", "gaussian-base, 256 x 256, raw", 0.256**2),
    ("base1024", "gaussian-base, 1024 x 1024, raw", 1.024**2),
    ("jpeg12", "gaussian-base, 12 megapixels, JPEG to JPEG", 12.0),
    ("chunked100", "gaussian-base, 100 megapixels in chunks, raw", 100.0),
    ("s28", "small network S, 28 x 28, raw, one a call", 0.028**2),
    ("s28batch", "small network S, 28 x 28, raw, 64 a call", 0.028**2),
    ("s64", "small network S, 64 x 64, raw", 0.064**2),
)


def figure(results: Any, key: str, name: str) -> tuple[float, str]:
    """(value, unit) of a figure of a row.

    Raises:
        KeyError: there is none.
    """
    for row in results["rows"]:
        for each in row["figures"] if row["key"] == key else ():
            if each["name"] == name:
                return float(each["value"]), each["unit"]
    raise KeyError(f"{key}: {name}")


def measured_work(results: Any) -> list[Work]:
    """What the benchmark's rows say of each kind."""
    works = []
    for key, name, megapixels in _KINDS:
        value, unit = figure(results, key, "service CPU")
        works.append(Work(name, megapixels, value / 1000 if unit == "ms" else value))
    return works


@dataclass(frozen=True, slots=True)
class Follow:
    """How a day went.

    Attributes:
        pod_hours: paid for.
        refused_share: of the work that arrived.
        most_pods: at one time.
    """

    pod_hours: float
    refused_share: float
    most_pods: int


def bursty_day(*, base: float, peak: float, burst: float) -> Callable[[float], float]:
    """Work that arrives, in cores: a wave over the day, and every two hours a burst of ten minutes on top."""

    def offered(at_s: float) -> float:
        wave = base + (peak - base) * (1 - math.cos(2 * math.pi * at_s / _DAY_S)) / 2
        return wave + (burst if at_s % 7200 < 600 else 0.0)

    return offered


def follow(
    offered: Callable[[float], float], *, sees_refused: bool, least_pods: int = 2, most_pods: int = 100
) -> Follow:
    """The autoscaler's rule over a day, in steps of its own period.

    Wanted are ``ceil(pods x use / target)`` unless that is within a tenth of now; up at most to twice in a step of
    30 s, down by one a minute and only to the most that was wanted in the last five minutes. What exceeds the pods'
    cores is refused at once, as the service does it.

    Args:
        offered: cores of work at a time of the day, in seconds.
        sees_refused: whether use is what arrives (offered work) or what is done (CPU).
    """
    pods, starting = float(least_pods), deque[tuple[float, int]]()
    wanted_lately: deque[tuple[float, int]] = deque()
    refused = arrived = pod_s = 0.0
    most, last_up_s, last_down_s = least_pods, -math.inf, -math.inf
    for at_s in _steps():
        while starting and starting[0][0] <= at_s:
            pods += starting.popleft()[1]
        asked = int(pods) + sum(count for _, count in starting)
        work, room = offered(at_s), pods * CORES_PER_POD
        arrived += work * _SYNC_S
        refused += max(0.0, work - room) * _SYNC_S
        pod_s += asked * _SYNC_S
        seen = work if sees_refused else min(work, room)
        ratio = seen / room / TARGET_USE
        wanted = asked if abs(ratio - 1) <= _TOLERANCE else math.ceil(pods * ratio)
        wanted = min(most_pods, max(least_pods, wanted))
        wanted_lately.append((at_s, wanted))
        while wanted_lately[0][0] < at_s - _CALM_S:
            wanted_lately.popleft()
        if wanted > asked and at_s - last_up_s >= 30:
            starting.append((at_s + _START_S, min(wanted, 2 * asked) - asked))
            last_up_s = at_s
        elif (calm := max(each for _, each in wanted_lately)) < asked and not starting and at_s - last_down_s >= 60:
            pods = max(float(calm), pods - 1)
            last_down_s = at_s
        most = max(most, asked)
    return Follow(pod_s / 3600, refused / arrived, most)


def _steps() -> Iterator[float]:
    return (step * _SYNC_S for step in range(int(_DAY_S / _SYNC_S)))


_LOADS: Final = (10, 100, 1000)
_DAY: Final = {"base": 4.0, "peak": 20.0, "burst": 20.0}


def page(results: Any) -> str:
    """The page in Markdown."""
    works = measured_work(results)
    idle_mb, _ = figure(results, "chunked100", "RSS idle")
    busy_mb, _ = figure(results, "rss", "most RSS")
    extra_mb, _ = figure(results, "chunked100", "most RSS - RSS idle")
    start_s, _ = figure(results, "start", "process start to ready")
    machine = results["machine"]
    offered = bursty_day(**_DAY)
    ways: Sequence[tuple[str, Follow]] = (
        ("CPU (`base`)", follow(offered, sees_refused=False)),
        ("offered work (`components/autoscaling-*`)", follow(offered, sees_refused=True)),
    )
    lines = [
        f"""\
# Capacity

Made by `make capacity` from `docs/results/bench.json` ({results["date"]}, {machine["cores"]} cores of
{machine["processor"]}).
Measure your own machine with `make bench` and make the page again: what an image costs is the machine's.

## What an image costs

Pods have {CORES_PER_POD} cores and are used to {TARGET_USE:.0%}, as the autoscaler keeps them; two is the least. Core
hours times your price for one are the cost.
""",
        "| images | CPU of one | images/s a core | "
        + " | ".join(f"pods for {load:,}/s" for load in _LOADS)
        + " | core hours for a million megapixels |",
        "|---|---|---|" + "---|" * len(_LOADS) + "---|",
    ]
    lines += [
        f"| {work.name} | {_seconds(work.cpu_s)} | {_number(work.images_per_core_s)} | "
        + " | ".join(f"{work.pods(load):,}" for load in _LOADS)
        + f" | {_number(work.core_hours_per_million_megapixels())} |"
        for work in works
    ]
    lines += [
        f"""
## What a replica holds

| | memory |
|---|---|
| idle, one network | {idle_mb:.0f} MB |
| 32 clients with 256 x 256, the most | {busy_mb:.0f} MB |
| added by one image of 100 megapixels in chunks | {extra_mb:.0f} MB |
| limit of the pod | 1 GiB, half of it for images (`DENOISED_MEMORY_BYTES`) |

It is ready {start_s:.1f} s after its process begins.

## How the autoscaler follows

A day with a wave from {_DAY["base"]:.0f} to {_DAY["peak"]:.0f} cores of work, and every two hours ten minutes with
{_DAY["burst"]:.0f} cores more. Simulated by the rule that Kubernetes documents (every {_SYNC_S:.0f} s, tolerance
{_TOLERANCE:.0%}, at most twice as many in 30 s, one fewer a minute after five calm minutes). A new pod takes requests
{_START_S:.0f} s after it was asked for, which is assumed: it is the cluster's.

| signal | pod hours | most pods | work refused |
|---|---|---|---|""",
        *(f"| {name} | {way.pod_hours:.0f} | {way.most_pods} | {way.refused_share:.2%} |" for name, way in ways),
        """
CPU can't show more than all of it, so that it climbs in steps of 1 / 0.7; offered work names the pods that are needed,
as fast as the autoscaler may add them.
""",
    ]
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="of make bench  [%(default)s]")
    parser.add_argument("--to", type=Path, default=PAGE, help="the page  [%(default)s]")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    arguments.to.write_text(page(results), encoding="utf-8")
    print(f"wrote {arguments.to}")


if __name__ == "__main__":
    main()
