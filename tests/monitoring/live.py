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
_FAILURE_ALERTS: Final = frozenset({"DenoisedErrorBudgetBurnsFast", "DenoisedErrorBudgetBurnsSlowly"})
# Every kind of image, several connections: something for every panel.
_MIXED: Final = "64x64:4,200x150/png:2,256x256:3,900x700/jpeg:1"


class CheckFailed(Exception):
    """Something did not hold; the message says what."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="where to draw the dashboard, as PNG")
    parser.add_argument("--seconds", type=int, default=25, help="of each load  [%(default)s]")
    arguments = parser.parse_args()
    try:
        with TemporaryDirectory(prefix="denoised-live-") as folder:
            _run(Path(folder), seconds=arguments.seconds, picture=arguments.picture)
    except CheckFailed as error:
        print(f"FAILED  {error}", file=sys.stderr)
        return 1
    return 0


def _run(folder: Path, *, seconds: int, picture: Path | None) -> None:
    store = _hanging_store(folder / "store")
    ports = _free_ports(2)
    for name in ("first", "second", "prometheus"):
        (folder / name).mkdir()
    with (
        running(folder / "first", lane_count=1) as first,
        launched(
            folder / "second",
            models_dir=store,
            default_model=_HANGING,
            http_port=ports[0],
            lane_count=1,
            stuck_after_s=1,
            watchdog_factor=2,
        ) as second_process,
        running_prometheus(
            folder / "prometheus",
            [f"127.0.0.1:{each}" for each in (first.http_port, ports[0])],
            port=ports[1],
            factor=_SPEED,
        ) as prometheus,
    ):
        second = ready(second_process, folder / "second")
        began_s = time.time()
        _check_panels(prometheus, first, seconds)
        _check_overload(prometheus, first, seconds)
        if picture is not None:
            draw(prometheus, picture, start_s=began_s, end_s=time.time())
            print(f"drawn   {picture}")
        _check_stuck_lane(prometheus, second)
        second.process.kill()
        second.process.wait()
        _wait_until(lambda: "DenoisedReplicaDown" in prometheus.firing(), "a killed replica fires DenoisedReplicaDown")
    _say("all of it")


def _check_panels(prometheus: Prometheus, service: RunningService, seconds: int) -> None:
    load = _load(service, "--rate", "4", "--duration", str(seconds), "--timeout", "20", "--mix", _MIXED)
    # Gauges of what waits are 0 most of the time, which is a number too.
    empty = {query.title for query in queries(interval=_WINDOW)}
    fired: set[str] = set()
    while load.poll() is None:
        time.sleep(2.0)
        fired |= prometheus.firing()
        empty -= {
            query.title
            for query in queries(interval=_WINDOW)
            if query.title in empty and _has_data(prometheus, query.expr)
        }
    if load.returncode:
        raise CheckFailed(f"the steady load ended with {load.returncode}")
    if empty:
        raise CheckFailed("no data: " + "; ".join(sorted(empty)))
    if fired:
        raise CheckFailed(f"fired in good order: {', '.join(sorted(fired))}")
    _say(f"every query of {len(list(queries(interval=_WINDOW)))} returns numbers, and no alert fires")


def _check_overload(prometheus: Prometheus, service: RunningService, seconds: int) -> None:
    load = _load(service, "--rate", "x4", "--duration", str(seconds), "--timeout", "1", "--mix", "256x256")
    fired: set[str] = set()
    while load.poll() is None:
        time.sleep(1.0)
        fired |= prometheus.firing()
    if "DenoisedSaturated" not in fired:
        raise CheckFailed(
            f"overload did not fire DenoisedSaturated; what fired: {', '.join(sorted(fired)) or 'nothing'}"
        )
    if fired & _FAILURE_ALERTS:
        raise CheckFailed(f"overload fired {', '.join(sorted(fired & _FAILURE_ALERTS))}")
    _say(f"overload fires {', '.join(sorted(fired))}, and none on failures")


def _check_stuck_lane(prometheus: Prometheus, service: RunningService) -> None:
    white = pb.RawImage(
        data=b"\xff" * 32 * 32, sample_type=pb.SAMPLE_TYPE_U8, height_px=32, width_px=32, channel_count=1
    )
    with connected(service.grpc_target) as stub, contextlib.suppress(grpc.RpcError):
        stub.Denoise(pb.DenoiseRequest(image=pb.Image(raw=white)), timeout=_PATIENCE_S)
    _wait_until(lambda: "DenoisedLaneStuck" in prometheus.firing(), "a network that hangs fires DenoisedLaneStuck")


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


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    limit_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > limit_s:
            raise CheckFailed(f"not within {_PATIENCE_S:.0f} s: {what}")
        time.sleep(0.5)
    _say(what)


def _say(what: str) -> None:
    print(f"holds   {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
