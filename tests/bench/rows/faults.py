"""Rows of neighbours: mixed sizes with poisoned images among them, and small images beside enormous ones."""

import socket
from dataclasses import replace
from typing import Final

from denoised.v1 import denoised_pb2 as pb
from tests.bench.bench import Bench, service_job
from tests.bench.figures import Figure, Row, figure_of, quantile
from tests.bench.floors import jpeg, png
from tests.bench.jobs import ClosedLoop, Message
from tests.bench.networks import BASE_FOLDER
from tests.bench.payload import Sample, overflowing, picture, samples, unary
from tests.bench.peers import clients
from tests.bench.raw import Runner, Way

_CLIENT_COUNT: Final = 32
_POISONED_OF: Final = 16
_SIDES_PX: Final = (48, 64, 100, 256)
_MIXED_TOTAL: Final = 1024
_SHORT_MIXED_TOTAL: Final = 64

_LARGE_SIDE_PX: Final = 8000
_SHORT_LARGE_SIDE_PX: Final = 1500
_SMALL_SIDE_PX: Final = 256
_SMALL_COUNT: Final = 200
_SHORT_SMALL_COUNT: Final = 10
_TAIL_TARGET: Final = 3.0


def measure_mixed(bench: Bench) -> Row:
    """Four sizes, two networks, 32 clients; one image in 16 makes the network overflow or is half a file."""
    options = bench.options
    row = Row("mixed", "four sizes from 32 clients mixed, and 1 poisoned in 16")
    good = [
        sample
        for side_px in _SIDES_PX
        for network in (bench.networks.open, bench.networks.base)
        for sample in samples(network, side_px, side_px, count=2)
    ]
    poison = [overflowing(bench.networks.open, side_px) for side_px in _SIDES_PX]
    poison += [_half_a_file(bench.networks.open.name, side_px) for side_px in _SIDES_PX]
    ordered = []
    for index in range(len(poison) * _POISONED_OF):
        turn, place = divmod(index, _POISONED_OF)
        ordered.append(poison[turn] if place == 0 else good[(index * 7) % len(good)])
    total = _SHORT_MIXED_TOTAL if options.is_short else _MIXED_TOTAL
    job = service_job(bench.service, unary(ordered), client_count=_CLIENT_COUNT)
    before = bench.service.metrics()
    outcome = bench.clients.run(ClosedLoop(job, total=total))
    after = bench.service.metrics()
    row.wrong += outcome.problems()
    bisected = after.value("denoised_batch_failures_total") - before.value("denoised_batch_failures_total")
    row.figures += [
        Figure("good ones wrong or lost", outcome.wrong_count + sum(outcome.failures.values()), target=0),
        Figure("answered", outcome.message_count),
        Figure("batches that failed and were split", bisected),
    ]
    row.raw = {"answered": outcome.message_count, "failures": outcome.failures}
    return row


def measure_beside(bench: Bench) -> Row:
    """The p99 of a client with small images, alone and beside one with 64-megapixel JPEGs, from another address."""
    options = bench.options
    side_px = _SHORT_LARGE_SIDE_PX if options.is_short else _LARGE_SIDE_PX
    count = _SHORT_SMALL_COUNT if options.is_short else _SMALL_COUNT
    network = bench.networks.base
    row = Row("beside64", f"256x256 beside a client with {side_px**2 / 1e6:.3g} megapixels, shipped base")
    if not _has_ipv6_loopback():
        row.skipped = "it needs an IPv6 loopback, so that two clients come from two addresses"
        return row
    large = pb.DenoiseRequest(
        image=pb.Image(
            encoded=pb.EncodedImage(data=jpeg(picture(side_px, side_px, 3, 0, noise_levels=2.0), quality=80))
        ),
        options=pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=network.name, jpeg_quality=80),
    )
    small = unary(samples(network, _SMALL_SIDE_PX, _SMALL_SIDE_PX))
    largest_px = network.contract.unit_edges_px[-1]
    unit = Runner(network, Way(1, 1, 1), height_px=largest_px, width_px=largest_px)
    ratios, alones_s, besides_s, units_s = [], [], [], []
    # On all addresses of both families, so that the two clients come from different ones.
    with (
        bench.fresh_service(BASE_FOLDER, grpc_host="[::]", plaintext_allowed="true") as service,
        clients() as other_clients,
    ):
        port = service.grpc_target.rsplit(":", 1)[1]
        loop = ClosedLoop(service_job(service, small, client_count=1), total=count)
        large_job = service_job(service, (Message(large.SerializeToString(), (b"",)),), client_count=1)
        large_loop = ClosedLoop(
            replace(large_job, target=f"[::1]:{port}", are_checked=False), seconds=0.0, are_abandoned=True
        )
        bench.clients.run(replace(loop, total=5))
        for _ in range(options.rounds):
            units_s.append(quantile(unit.latencies_s(5), 0.5))
            alone = bench.clients.run(loop)
            other_clients.start(replace(large_loop, seconds=3600.0))
            beside = bench.clients.run(loop)
            other_clients.interrupt()
            # One of its images may take longer than all of the small ones.
            other = other_clients.result(may_be_empty=True)
            row.wrong += [*alone.problems(), *beside.problems(), *other.failures]
            alones_s.append(quantile(alone.latencies_s, 0.99))
            besides_s.append(quantile(beside.latencies_s, 0.99))
            ratios.append((besides_s[-1] - units_s[-1]) / alones_s[-1])
    row.figures += [
        figure_of("(p99 beside - one unit's run) / p99 alone", ratios, target=_TAIL_TARGET),
        figure_of("p99 alone", [1000 * value for value in alones_s], unit="ms"),
        figure_of("p99 beside", [1000 * value for value in besides_s], unit="ms"),
        figure_of("one unit's run", [1000 * value for value in units_s], unit="ms"),
    ]
    row.raw = {"alone_s": alones_s, "beside_s": besides_s, "unit_s": units_s}
    return row


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _half_a_file(model: str, side_px: int) -> Sample:
    file = png(picture(side_px, side_px, 1, 0))
    image = pb.Image(encoded=pb.EncodedImage(data=file[: len(file) // 2]))
    return Sample(
        pb.DenoiseRequest(image=image, options=pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=model)), None
    )
