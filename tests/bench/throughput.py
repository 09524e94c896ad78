"""Raw ONNX Runtime against the service, in one run: images a second and CPU milliseconds an image.

Raw is the best of several ways to run the shipped network without a service: one-thread sessions side by side, one
for each core, at several batch sizes. The service gets the same pictures as raw 8-bit samples over bidirectional
streams; its clients share the cores with it. Rounds alternate, and the ratio is taken round by round, because
machines drift. Prints a table and, with --json, writes the figures.
"""

import argparse
import asyncio
import json
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
from tqdm import tqdm

from denoised.contract import INPUT_NAME
from denoised.noise import keyed_rng
from denoised.v1 import denoised_pb2 as pb
from service.cpu import usable_core_count
from service.demo.process import RunningService, running_service
from service.settings import SHIPPED_MODELS_DIR, Settings

_METHOD = "/denoised.v1.DenoiseService/DenoiseStream"
_STREAM_COUNT = 4
_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Case:
    """A picture size, the batches that raw ONNX Runtime may use, and how many items a stream keeps in flight."""

    side_px: int
    raw_batches: tuple[int, ...]
    in_flight: int


_CASES = (Case(64, (1, 4, 16), 16), Case(256, (1, 4), 4), Case(1024, (1,), 2))


@dataclass(frozen=True, slots=True)
class Rate:
    """Images a second and CPU milliseconds an image."""

    images_per_s: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """One size: the best raw way, the service, and the medians of the round-by-round ratios service / raw."""

    side_px: int
    raw_batch: int
    raw: Rate
    service: Rate
    rate_ratio: float
    cpu_ratio: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each size (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement (default 3)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    with running_service() as running, tqdm(total=len(_CASES) * arguments.rounds, unit="round") as bar:
        rows = [
            _measure(case, running, rounds=arguments.rounds, seconds=arguments.seconds, on_round=bar.update)
            for case in _CASES
        ]
    print(_table(rows))
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps(
                {"cores": usable_core_count(), "onnxruntime": ort.__version__, "rows": [asdict(r) for r in rows]},
                indent=1,
            )
            + "\n",
            encoding="utf-8",
        )


def _measure(
    case: Case, running: RunningService, *, rounds: int, seconds: float, on_round: Callable[[], object]
) -> Row:
    raws: dict[int, list[Rate]] = {batch: [] for batch in case.raw_batches}
    services: list[Rate] = []
    request = _request(case.side_px)
    asyncio.run(_drive(running, request, case, seconds / 2))  # not counted: connections and arenas settle
    for _ in range(rounds):
        for batch in case.raw_batches:
            raws[batch].append(_raw_rate(case.side_px, batch, seconds))
        before_s = _service_cpu_s(running)
        count, wall_s = asyncio.run(_drive(running, request, case, seconds))
        services.append(Rate(count / wall_s, 1000 * (_service_cpu_s(running) - before_s) / count))
        on_round()
    best = max(raws, key=lambda batch: statistics.median(rate.images_per_s for rate in raws[batch]))
    pairs = list(zip(services, raws[best], strict=True))
    return Row(
        side_px=case.side_px,
        raw_batch=best,
        raw=_median(raws[best]),
        service=_median(services),
        rate_ratio=statistics.median(own.images_per_s / raw.images_per_s for own, raw in pairs),
        cpu_ratio=statistics.median(own.cpu_ms / raw.cpu_ms for own, raw in pairs),
    )


def _raw_rate(side_px: int, batch: int, seconds: float) -> Rate:
    """One-thread sessions, one for each core, side by side."""
    path = next((SHIPPED_MODELS_DIR / Settings.model_fields["default_model"].default).glob("*/model.onnx"))
    units = keyed_rng(side_px).random((batch, 3, side_px, side_px), dtype=np.float32)
    sessions = [_session(path) for _ in range(usable_core_count())]
    for session in sessions:
        session.run(None, {INPUT_NAME: units})
    counts = [0] * len(sessions)
    stop_at_s = time.monotonic() + seconds

    def work(index: int) -> None:
        while time.monotonic() < stop_at_s:
            sessions[index].run(None, {INPUT_NAME: units})
            counts[index] += batch

    began_s, began_cpu_s = time.monotonic(), time.process_time()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    return Rate(sum(counts) / wall_s, 1000 * cpu_s / sum(counts))


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _request(side_px: int) -> pb.DenoiseRequest:
    samples = keyed_rng(side_px).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    raw = pb.RawImage(
        data=samples.tobytes(),
        sample_type=pb.SAMPLE_TYPE_U8,
        height_px=side_px,
        width_px=side_px,
        channel_count=3,
    )
    return pb.DenoiseRequest(image=pb.Image(raw=raw))


async def _drive(running: RunningService, request: pb.DenoiseRequest, case: Case, seconds: float) -> tuple[int, float]:
    """(answers, wall seconds) of several streams that each keep some items in flight."""
    began_s = time.monotonic()
    counts = await asyncio.gather(
        *(
            _stream(running, request, case.in_flight, lambda: time.monotonic() - began_s < seconds)
            for _ in range(_STREAM_COUNT)
        )
    )
    return sum(counts), time.monotonic() - began_s


async def _stream(
    running: RunningService, request: pb.DenoiseRequest, in_flight: int, go_on: Callable[[], bool]
) -> int:
    """Messages travel as bytes, so that the client takes as little of the cores as it can; errors would be short."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ]
    async with grpc.aio.insecure_channel(running.grpc_target, options=options) as channel:
        call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(_METHOD)()
        sent = answered = 0

        async def send() -> None:
            nonlocal sent
            frame = pb.DenoiseStreamRequest(item_id=str(sent), request=request)
            sent += 1
            await call.write(frame.SerializeToString())

        for _ in range(in_flight):
            await send()
        while answered < sent:
            answer = await call.read()
            assert isinstance(answer, bytes)
            if len(answer) < len(request.image.raw.data):
                result = pb.DenoiseStreamResponse.FromString(answer).result
                raise SystemExit(f"the service refused an image: {result.status.message}")
            answered += 1
            if go_on():
                await send()
        await call.done_writing()
        return answered


def _service_cpu_s(running: RunningService) -> float:
    with urllib.request.urlopen(f"{running.http_url}/metrics") as response:
        for line in response.read().decode().splitlines():
            if line.startswith("process_cpu_seconds_total "):
                return float(line.split()[1])
    raise SystemExit("the service's /metrics has no process_cpu_seconds_total")


def _median(rates: list[Rate]) -> Rate:
    return Rate(statistics.median(r.images_per_s for r in rates), statistics.median(r.cpu_ms for r in rates))


def _table(rows: list[Row]) -> str:
    lines = [
        "| image | raw img/s (batch) | raw CPU ms | service img/s | service CPU ms | rate ratio | CPU ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.side_px} x {r.side_px} | {r.raw.images_per_s:.1f} ({r.raw_batch}) | {r.raw.cpu_ms:.2f} "
        f"| {r.service.images_per_s:.1f} | {r.service.cpu_ms:.2f} | {r.rate_ratio:.2f} | {r.cpu_ratio:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
