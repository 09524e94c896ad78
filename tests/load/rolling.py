"""Three replicas behind round_robin lose one another under load, and the Python client with its defaults loses nothing.

    python tests/load/rolling.py                       # each replica restarted in turn, 10,000 requests
    python tests/load/rolling.py --fault stop          # one is stopped (SIGSTOP) for a while, as a node that stalls
    python tests/load/rolling.py --fault kill          # each is killed (SIGKILL) and started again in turn

Each replica is a process of its own with the small test network, on a port that it gets back after a restart, as a pod
gets back its place behind the headless Service. Requests go round while replicas come and go; every answer is compared
with the one that the image got before. Exit code 0: all were answered, and rightly.
"""

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

_ROOT: Final = Path(__file__).resolve().parents[2]
# Where this file is run, neither the repository nor the public package need be on the path.
sys.path[:0] = [str(_ROOT), str(_ROOT / "proto")]

from denoised import AsyncClient, DenoisedError  # noqa: E402 -- see above
from service.demo.process import launch, log_of, ports_of  # noqa: E402 -- see above

Fault = Literal["restart", "kill", "stop"]
_MODEL: Final = "bench-s"
_SIDE_PX: Final = 28
_START_LIMIT_S: Final = 600.0
_POLL_S: Final = 0.05
# Nothing that works takes as long; a call that hung is told so.
_TIMEOUT_S: Final = 60.0


@dataclass
class Result:
    """What became of the requests.

    Attributes:
        errors: those that failed, by what the client raised.
        longest_s: the longest that one took, tries and pauses included.
        faults: replicas that were restarted, killed or stopped.
    """

    answered_count: int = 0
    wrong_count: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    faults: int = 0

    @property
    def is_whole(self) -> bool:
        return not self.wrong_count and not self.errors


class Replica:
    """One process on ports of its own."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._settings: dict[str, object] = {
            "models_dir": store,
            "default_model": _MODEL,
            "lane_count": 1,
            "grpc_port": _free_port(),
            # As in the manifests, for endpoints to change; here for clients to hear of the drain.
            "drain_delay_s": 0.5,
        }
        self.grpc_port = self._settings["grpc_port"]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it takes requests."""
        (self._folder / "ports.json").unlink(missing_ok=True)
        process = self._process = launch(self._folder, **self._settings)
        limit_s = time.monotonic() + _START_LIMIT_S
        while ports_of(self._folder) is None:
            if process.poll() is not None or time.monotonic() > limit_s:
                raise RuntimeError(f"a replica did not start:\n{log_of(self._folder)[-2000:]}")
            await asyncio.sleep(_POLL_S)

    async def end(self, number: signal.Signals) -> int:
        """Sends the signal and waits for the end; the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return await asyncio.to_thread(self._process.wait, _START_LIMIT_S)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


async def run(fault: Fault, *, request_count: int, caller_count: int, stop_s: float) -> Result:
    """Sends at least so many requests, until every replica has had its turn."""
    result, done = Result(), asyncio.Event()
    async with _replicas(3) as replicas:
        target = "ipv4:" + ",".join(f"127.0.0.1:{replica.grpc_port}" for replica in replicas)
        async with AsyncClient(target) as client:
            picture = np.random.default_rng(7).integers(0, 256, (_SIDE_PX, _SIDE_PX), np.uint8)
            right = (await client.clean(picture, timeout_s=_TIMEOUT_S)).image
            callers = [
                asyncio.create_task(_call(client, picture, right, result, done, request_count))
                for _ in range(caller_count)
            ]
            try:
                await _turns(fault, replicas, result, stop_s)
            finally:
                done.set()
            await asyncio.gather(*callers)
    return result


async def _turns(fault: Fault, replicas: list[Replica], result: Result, stop_s: float) -> None:
    for replica in replicas[:1] if fault == "stop" else replicas:
        # Some requests in good order between two faults.
        target = result.answered_count + 50
        while result.answered_count < target and not result.errors:  # noqa: ASYNC110 -- callers count, and wait for nobody
            await asyncio.sleep(_POLL_S)
        result.faults += 1
        if fault == "stop":
            replica.signal(signal.SIGSTOP)
            await asyncio.sleep(stop_s)
            replica.signal(signal.SIGCONT)
        else:
            code = await replica.end(signal.SIGTERM if fault == "restart" else signal.SIGKILL)
            if fault == "restart" and code:
                raise RuntimeError(f"a replica ended with {code} on SIGTERM")
            await replica.start()


async def _call(
    client: AsyncClient,
    picture: NDArray[np.uint8],
    right: NDArray[np.uint8],
    result: Result,
    done: asyncio.Event,
    request_count: int,
) -> None:
    """One caller, one request after the other."""
    while not done.is_set() or result.answered_count < request_count:
        began_s = time.monotonic()
        try:
            answer = await client.clean(picture, timeout_s=_TIMEOUT_S)
        except DenoisedError as error:
            result.errors[f"{type(error).__name__}: {error}"[:160]] += 1
            if result.errors.total() > request_count:
                return
        else:
            result.wrong_count += not np.array_equal(answer.image, right)
            result.answered_count += 1
        result.longest_s = max(result.longest_s, time.monotonic() - began_s)


@asynccontextmanager
async def _replicas(count: int) -> AsyncIterator[list[Replica]]:
    with TemporaryDirectory(prefix="denoised-rolling-") as name:
        folder = Path(name)
        (folder / "store").mkdir()
        (folder / "store" / _MODEL).symlink_to(_ROOT / "tests" / "models" / _MODEL)
        replicas = [Replica(folder / f"replica-{number}", folder / "store") for number in range(count)]
        try:
            await asyncio.gather(*(replica.start() for replica in replicas))
            yield replicas
        finally:
            for replica in replicas:
                replica.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", choices=("restart", "kill", "stop"), default="restart")
    parser.add_argument("--requests", type=int, default=10_000, help="at least so many  [%(default)s]")
    parser.add_argument("--callers", type=int, default=8, help="requests at a time  [%(default)s]")
    parser.add_argument("--stop-seconds", type=float, default=20.0, help="how long one stands still  [%(default)s]")
    arguments = parser.parse_args()
    result = asyncio.run(
        run(
            arguments.fault,
            request_count=arguments.requests,
            caller_count=arguments.callers,
            stop_s=arguments.stop_seconds,
        )
    )
    print(
        json.dumps(
            {
                "fault": arguments.fault,
                "replicas_hit": result.faults,
                "answered": result.answered_count,
                "wrong": result.wrong_count,
                "failed": result.errors.total(),
                "longest_s": round(result.longest_s, 2),
                "errors": result.errors,
            },
            indent=2,
        )
    )
    return 0 if result.is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
