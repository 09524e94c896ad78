"""Row of large JPEGs: CPU time of an image against the fastest decode, the network alone, and the fastest encode."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Final

import simplejpeg

from denoised.quality import psnr_db
from denoised.v1 import denoised_pb2 as pb
from tests.bench.bench import Bench, ask, service_job
from tests.bench.figures import Rate, Row, figure_of
from tests.bench.floors import Floors, jpeg
from tests.bench.jobs import ClosedLoop, Message
from tests.bench.networks import Picture
from tests.bench.payload import picture
from tests.bench.raw import Runner, Way, ways

_SIZE_PX: Final = (3000, 4000)
_SHORT_SIZE_PX: Final = (300, 400)
# As a camera writes it: about half a byte for a pixel.
_NOISE_LEVELS: Final = 6.0
_QUALITY: Final = 90
_CLIENT_COUNT: Final = 2
_IMAGES_PER_CLIENT: Final = 2
_TARGET: Final = 1.05
# By which an answer may be further from the network's own than the same encoded here is.
_LARGEST_LOSS_DB: Final = 0.5


def measure(bench: Bench) -> Row:
    """Rounds of codecs, raw and service, in turn; the service begins and ends idle."""
    options = bench.options
    network = bench.networks.base
    height_px, width_px = _SHORT_SIZE_PX if options.is_short else _SIZE_PX
    row = Row("jpeg12", f"JPEG in, JPEG out, {height_px * width_px / 1e6:.3g} megapixels, shipped base")
    file = jpeg(picture(height_px, width_px, 3, 0, noise_levels=_NOISE_LEVELS), quality=_QUALITY, subsampling="420")
    request = pb.DenoiseRequest(
        image=pb.Image(encoded=pb.EncodedImage(data=file)),
        options=pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=network.name),
    )
    denoised = network.answer(simplejpeg.decode_jpeg(file))
    row.wrong += _compare(bench, request, denoised)
    floors = Floors("jpeg", file, denoised)
    runners = {way: Runner(network, way, height_px=height_px, width_px=width_px) for way in ways((1,))}
    raws: dict[Way, list[Rate]] = {way: [] for way in runners}
    services_ms = []
    messages = (Message(request.SerializeToString(), (b"",)),)
    # Compared above: its bytes are a matter of the encoder.
    job = replace(service_job(bench.service, messages, client_count=_CLIENT_COUNT), are_checked=False)
    for _ in range(options.rounds):
        floors.add_round()
        for way, runner in runners.items():
            raws[way].append(runner.measure(options.seconds))
        outcome = bench.clients.run(ClosedLoop(job, total=_CLIENT_COUNT * _IMAGES_PER_CLIENT))
        row.wrong += outcome.problems()
        services_ms.append(1000 * outcome.cpu_s / outcome.message_count)
    cheapest = min(raws, key=lambda way: median(rate.cpu_ms for rate in raws[way]))
    raws_ms = [rate.cpu_ms for rate in raws[cheapest]]
    parts = zip(services_ms, floors.decode.fastest_ms, raws_ms, floors.encode.fastest_ms, strict=True)
    row.figures += [
        figure_of("CPU / (decode + raw + encode)", [own / sum(floor) for own, *floor in parts], target=_TARGET),
        figure_of("service CPU", services_ms, unit="ms"),
        figure_of("decode", floors.decode.fastest_ms, unit="ms"),
        figure_of("raw CPU", raws_ms, unit="ms"),
        figure_of("encode", floors.encode.fastest_ms, unit="ms"),
    ]
    row.notes.append(
        f"raw: {cheapest}; decode {floors.decode.fastest}; encode {floors.encode.fastest}; {len(file) / 1e6:.1f} MB"
    )
    row.raw = {
        "decode_ms": floors.decode.rounds_ms,
        "encode_ms": floors.encode.rounds_ms,
        "raw": {str(way): [asdict(rate) for rate in rates] for way, rates in raws.items()},
        "service_ms": services_ms,
    }
    return row


def _compare(bench: Bench, request: pb.DenoiseRequest, denoised: Picture) -> Sequence[str]:
    """Whether the service's file holds what the network answers, as well as JPEG can hold it."""
    answer = ask(bench.service, request)
    got_db = psnr_db(simplejpeg.decode_jpeg(answer.image.encoded.data), denoised)
    own_db = psnr_db(simplejpeg.decode_jpeg(jpeg(denoised)), denoised)
    if got_db < own_db - _LARGEST_LOSS_DB:
        return [f"the answer is {got_db:.1f} dB from the network's; encoded here it would be {own_db:.1f} dB"]
    return []
