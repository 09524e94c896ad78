"""Rows of an idle service: how long one image takes, and how long the service takes to be ready."""

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import imagecodecs
import numpy as np

from denoised.v1 import denoised_pb2 as pb
from service.cpu import usable_core_count
from tests.bench.bench import Bench, ask, echo_job, service_job
from tests.bench.figures import Row, figure_of
from tests.bench.floors import Floors, png
from tests.bench.jobs import ClosedLoop, Message
from tests.bench.networks import BASE_FOLDER, Picture
from tests.bench.payload import Sample, picture, raw_request, unary
from tests.bench.raw import Runner, Way

_SIDE_PX: Final = 512
_SHORT_SIDE_PX: Final = 128
_LATENCY_TARGET: Final = 1.05
_READY_TARGET_S: Final = 1.5
# Of one round; the median of so many is steady, and drift between rounds still cancels.
_IMAGES_PER_ROUND: Final = 15


def measure_latency(bench: Bench) -> Row:
    """One client that sends one image after the other, raw samples and PNG, and the network alone with all cores."""
    options = bench.options
    network = bench.networks.base
    side_px = _SHORT_SIDE_PX if options.is_short else _SIDE_PX
    row = Row("idle512", f"one {side_px}x{side_px} on an idle service, shipped base")
    noisy = picture(side_px, side_px, 3, 0)
    denoised = network.answer(noisy)
    file = png(noisy)
    of_png = pb.DenoiseRequest(image=pb.Image(encoded=pb.EncodedImage(data=file)), options=_options(network.name))
    row.wrong += _compare(bench, of_png, denoised)
    messages = {
        "raw u8": unary([Sample(raw_request(network.name, noisy), denoised.tobytes())]),
        "PNG": (Message(of_png.SerializeToString(), (b"",)),),
    }
    jobs = {
        what: replace(service_job(bench.service, sent, client_count=1), are_checked=what != "PNG")
        for what, sent in messages.items()
    }
    echoed = echo_job(bench.echo, messages["raw u8"], client_count=1)
    floors = Floors("png", file, denoised)
    cores = usable_core_count()
    ways = {Way(1, cores, 1, spinning=spinning) for spinning in (True, False)}
    runners = {way: Runner(network, way, height_px=side_px, width_px=side_px) for way in ways}
    raws_ms: dict[Way, list[float]] = {way: [] for way in runners}
    services_ms: dict[str, list[float]] = {what: [] for what in jobs}
    echoes_ms = []
    for _ in range(options.rounds):
        floors.add_round()
        for way, runner in runners.items():
            raws_ms[way].append(1000 * median(runner.latencies_s(_IMAGES_PER_ROUND)))
        for what, job in jobs.items():
            outcome = bench.clients.run(ClosedLoop(job, total=_IMAGES_PER_ROUND))
            row.wrong += outcome.problems()
            services_ms[what].append(1000 * median(outcome.latencies_s))
        outcome = bench.clients.run(ClosedLoop(echoed, total=_IMAGES_PER_ROUND))
        echoes_ms.append(1000 * median(outcome.latencies_s))
    fastest = min(raws_ms, key=lambda way: median(raws_ms[way]))
    best_ms = raws_ms[fastest]
    with_codecs = zip(services_ms["PNG"], floors.decode.fastest_ms, best_ms, floors.encode.fastest_ms, strict=True)
    row.figures += [
        figure_of(
            "raw u8: p50 / raw with all cores",
            [own / raw for own, raw in zip(services_ms["raw u8"], best_ms, strict=True)],
            target=_LATENCY_TARGET,
        ),
        figure_of(
            "PNG: p50 / (decode + raw + encode)",
            [own / sum(floor) for own, *floor in with_codecs],
            target=_LATENCY_TARGET,
        ),
        figure_of("service, raw u8", services_ms["raw u8"], unit="ms"),
        figure_of("service, PNG", services_ms["PNG"], unit="ms"),
        figure_of("raw", best_ms, unit="ms"),
        figure_of("decode", floors.decode.fastest_ms, unit="ms"),
        figure_of("encode", floors.encode.fastest_ms, unit="ms"),
        figure_of("echo", echoes_ms, unit="ms"),
    ]
    row.notes.append(f"raw: {fastest}")
    row.raw = {
        "raw_ms": {str(way): values for way, values in raws_ms.items()},
        "service_ms": services_ms,
        "echo_ms": echoes_ms,
        "decode_ms": floors.decode.rounds_ms,
        "encode_ms": floors.encode.rounds_ms,
    }
    return row


def measure_start(bench: Bench) -> Row:
    """From the start of the process to a service that says that it is ready, with the shipped base alone."""
    row = Row("start", "ready from cold start, one network")
    taken_s = []
    for _ in range(bench.options.rounds):
        began_s = time.perf_counter()
        with bench.fresh_service(BASE_FOLDER):
            taken_s.append(time.perf_counter() - began_s)
    row.figures.append(figure_of("process start to ready", taken_s, target=_READY_TARGET_S, unit="s"))
    row.raw = {"ready_s": taken_s}
    return row


def _options(model: str) -> pb.DenoiseOptions:
    return pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=model)


def _compare(bench: Bench, request: pb.DenoiseRequest, denoised: Picture) -> Sequence[str]:
    answer = ask(bench.service, request)
    if not np.array_equal(imagecodecs.png_decode(answer.image.encoded.data), denoised):
        return ["the PNG that came back does not hold the network's answer"]
    return []
