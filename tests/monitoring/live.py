"""The shipped rules and the dashboard on a live Prometheus: services run here, are loaded, overloaded, hung and killed.

    python -m tests.monitoring.live --picture docs/images/dashboard.png

Needs ``prometheus`` (Debian's package). In this order, each with its own check:

1. Mixed images at a rate that any machine holds: every query of the dashboard returns numbers, and no alert fires.
2. Four times the capacity: the alert on saturation fires, those on failures don't.
3. A network hangs, for real: the alert on stuck lanes fires.
4. A replica is killed: the alert on replicas that can't be scraped fires.

The rules are the shipped ones with all durations divided by 60. The exit code is 0 when everything held.
"""

import argparse
import contextlib
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import onnx

from denoised.contract import MODEL_FILE, ModelContract
from denoised.v1 import denoised_pb2 as pb
from tests.integration.harness import RunningService, connected, launched, ready, running
from tests.monitoring.dashboard import queries
from tests.monitoring.hanging import hanging_network
from tests.monitoring.picture import draw
from tests.monitoring.prometheus import Prometheus, running_prometheus

_ROOT: Final = Path(__file__).parents[2]
_SPEED: Final = 60.0
_WINDOW: Final = "15s"
_HANGING: Final = "hanging"
_PATIENCE_S: Final = 60.0
_REPLICAS: Final = 2
_FAILURE_ALERTS: Final = frozenset({"DenoisedErrorBudgetBurnsFast", "DenoisedErrorBudgetBurnsSlowly"})
# Every kind of image, several connections: something for every panel.
_MIXED: Final = "64x64:4,200x150/png:2,256x256:3,900x700/jpeg:1"


class Checks:
    """What held and what did not; said as it turns out.

    Attributes:
        failed_count: of those that did not.
    """

    def __init__(self) -> None:
        self.failed_count = 0

    def note(self, what: str, *, holds: bool, found: str = "") -> None:
        self.failed_count += not holds
        print(f"{'holds ' if holds else 'FAILED'}  {what}{f' ({found})' if found else ''}", flush=True)

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Notes whether it comes true in time."""
        limit_s = time.monotonic() + _PATIENCE_S
        while not (holds := condition()) and time.monotonic() < limit_s:
            time.sleep(0.5)
        self.note(what, holds=holds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="where to draw the dashboard, as PNG")
    parser.add_argument("--seconds", type=int, default=25, help="of each load  [%(default)s]")
    parser.add_argument(
        "--rate", type=float, default=4.0, help="images a second that this machine holds  [%(default)s]"
    )
    arguments = parser.parse_args()
    checks = Checks()
    with TemporaryDirectory(prefix="denoised-live-") as folder:
        _run(checks, Path(folder), seconds=arguments.seconds, rate=arguments.rate, picture=arguments.picture)
    return 1 if checks.failed_count else 0


def _run(checks: Checks, folder: Path, *, seconds: int, rate: float, picture: Path | None) -> None:
    store = _hanging_store(folder / "store")
    for name in ("first", "second", "prometheus"):
        (folder / name).mkdir()
    with (
        running(folder / "first", lane_count=1) as first,
        launched(
            folder / "second",
            models_dir=store,
            default_model=_HANGING,
            lane_count=1,
            stuck_after_s=1,
            watchdog_factor=2,
        ) as second_process,
        contextlib.ExitStack() as until_end,
    ):
        second = ready(second_process, folder / "second")
        prometheus = until_end.enter_context(
            running_prometheus(
                folder / "prometheus",
                [f"127.0.0.1:{each.http_port}" for each in (first, second)],
                port=_free_port(),
                factor=_SPEED,
            )
        )
        # Until both were scraped they count as gone.
        checks.wait("both replicas are scraped, and nothing fires", lambda: _is_calm(prometheus))
        began_s = time.time()
        _check_panels(checks, prometheus, first, seconds, rate)
        _check_overload(checks, prometheus, first, seconds)
        if picture is not None:
            draw(prometheus, picture, start_s=began_s, end_s=time.time())
            print(f"drawn   {picture}", flush=True)
        _check_stuck_lane(checks, prometheus, second)
        second.process.kill()
        second.process.wait()
        checks.wait(
            "a replica that was killed fires DenoisedReplicaDown",
            lambda: "DenoisedReplicaDown" in prometheus.firing(),
        )


def _check_panels(checks: Checks, prometheus: Prometheus, service: RunningService, seconds: int, rate: float) -> None:
    load = _load(service, "--rate", str(rate), "--duration", str(seconds), "--timeout", "20", "--mix", _MIXED)
    shown = list(queries(interval=_WINDOW))
    # What waits is 0 most of the time, which is a number too.
    empty, fired = set(shown), set[str]()
    while load.poll() is None:
        time.sleep(2.0)
        fired |= prometheus.firing()
        empty -= {query for query in empty if _has_data(prometheus, query.expr)}
    checks.note("the steady load is answered", holds=load.returncode == 0, found=f"exit code {load.returncode}")
    checks.note(
        f"each of the dashboard's {len(shown)} queries returns numbers",
        holds=not empty,
        found="; ".join(sorted(query.title for query in empty)),
    )
    checks.note("in good order no alert fires", holds=not fired, found=", ".join(sorted(fired)))


def _check_overload(checks: Checks, prometheus: Prometheus, service: RunningService, seconds: int) -> None:
    load = _load(service, "--rate", "x4", "--duration", str(seconds), "--timeout", "1", "--mix", "256x256")
    fired: set[str] = set()
    while load.poll() is None:
        time.sleep(1.0)
        fired |= prometheus.firing()
    found = ", ".join(sorted(fired)) or "nothing"
    checks.note("overload fires DenoisedSaturated", holds="DenoisedSaturated" in fired, found=found)
    checks.note("overload fires nothing about failures", holds=not fired & _FAILURE_ALERTS, found=found)


def _check_stuck_lane(checks: Checks, prometheus: Prometheus, service: RunningService) -> None:
    # Large, because a small image would run on the event loop, and hang all of the process.
    side_px = 2048
    white = pb.RawImage(
        data=b"\xff" * side_px**2,
        sample_type=pb.SAMPLE_TYPE_U8,
        height_px=side_px,
        width_px=side_px,
        channel_count=1,
    )
    with connected(service.grpc_target) as stub, contextlib.suppress(grpc.RpcError):
        stub.Denoise(pb.DenoiseRequest(image=pb.Image(raw=white)), timeout=_PATIENCE_S)
    checks.wait("a network that hangs fires DenoisedLaneStuck", lambda: "DenoisedLaneStuck" in prometheus.firing())


def _has_data(prometheus: Prometheus, expr: str) -> bool:
    return any(not math.isnan(float(sample["value"][1])) for sample in prometheus.query(expr))


def _load(service: RunningService, *options: str) -> subprocess.Popen[bytes]:
    """``denoised load`` against one service, without a word about how it went."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "denoised.cli", "load", "--server", service.grpc_target),
            *("--connections", "3", "--capacity-seconds", "3", "--warm-up", "1", *options),
        ],
        cwd=_ROOT,
        stdout=subprocess.DEVNULL,
    )


def _hanging_store(folder: Path) -> Path:
    small = onnx.load(_ROOT / "tests" / "models" / "bench-s" / "1" / MODEL_FILE)
    contract = ModelContract.from_metadata({each.key: each.value for each in small.metadata_props})
    place = folder / _HANGING / contract.version
    place.mkdir(parents=True)
    content = hanging_network(replace(contract, name=_HANGING, sigma_map_scale_px=0))
    (place / MODEL_FILE).write_bytes(content)
    return folder


def _is_calm(prometheus: Prometheus) -> bool:
    return len(prometheus.query("up == 1")) == _REPLICAS and not prometheus.firing()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


if __name__ == "__main__":
    sys.exit(main())
