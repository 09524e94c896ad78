"""What is sent: mixes as written, images as packed, requests as drawn."""

import io
from itertools import islice, repeat

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from denoised.load.kinds import Kind, parse_mix
from denoised.load.pictures import batch_message, item_message, make_pictures
from denoised.load.workload import Workload, picture_weights
from denoised.noise import keyed_rng
from denoised.v1 import denoised_pb2 as pb


def mix(*entries: str) -> tuple[Kind, ...]:
    return parse_mix(entries, container="raw", sample_type="u8", colour="colour")


def image_of(request: bytes) -> pb.Image:
    return pb.DenoiseRequest.FromString(request).image


def test_a_mix_is_sizes_and_shares() -> None:
    assert mix("256x128:0.9, 1024x1024:0.1") == (
        Kind(256, 128, "raw", "u8", "colour", 0.9),
        Kind(1024, 1024, "raw", "u8", "colour", 0.1),
    )


def test_an_entry_may_say_how_it_differs_in_any_order() -> None:
    assert mix("64x64/grey/u16/png", "32x32/jpeg") == (
        Kind(64, 64, "png", "u16", "grey", 1.0),
        Kind(32, 32, "jpeg", "u8", "colour", 1.0),
    )


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("", "names no size"),
        ("256", "names no size"),
        ("0x10", "names no size"),
        ("1x2x3", "names no size"),
        ("64x64/tiff", "'tiff' is none of raw, png, jpeg, u8, u16, grey, colour"),
        ("64x64/jpeg/u16", "a JPEG holds 8 bits"),
        ("64x64:0", "must be a number above 0"),
        ("64x64:much", "must be a number above 0"),
        ("64x64:nan", "must be a number above 0"),
    ],
)
def test_a_mix_that_is_none_is_refused_by_name(entry: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        mix(entry)


def test_raw_images_say_what_they_are() -> None:
    (picture,) = make_pictures(mix("5x3/u16/grey"), each_count=1, seed=1, model="small")
    request = pb.DenoiseRequest.FromString(picture.request)
    raw = request.image.raw
    assert (raw.width_px, raw.height_px, raw.channel_count, raw.sample_type) == (5, 3, 1, pb.SAMPLE_TYPE_U16)
    assert raw.data == picture.samples.astype("<u2").tobytes()
    assert request.options.model == "small"


@pytest.mark.parametrize("form", ["u8/grey", "u8/colour", "u16/grey", "u16/colour"])
def test_a_png_holds_the_samples(form: str) -> None:
    (picture,) = make_pictures(mix(f"7x5/png/{form}"), each_count=1, seed=1)
    np.testing.assert_array_equal(imagecodecs.png_decode(image_of(picture.request).encoded.data), picture.samples)


@pytest.mark.parametrize(("colour", "mode"), [("grey", "L"), ("colour", "RGB")])
def test_a_jpeg_is_one(colour: str, mode: str) -> None:
    (picture,) = make_pictures(mix(f"9x6/jpeg/{colour}"), each_count=1, seed=1)
    with Image.open(io.BytesIO(image_of(picture.request).encoded.data)) as opened:
        assert (opened.format, opened.size, opened.mode) == ("JPEG", (9, 6), mode)


def test_images_differ_from_each_other_and_are_those_of_the_seed() -> None:
    kinds = mix("16x16", "8x8/png")
    pictures = make_pictures(kinds, each_count=2, seed=1)
    assert [picture.kind for picture in pictures] == [kinds[0], kinds[0], kinds[1], kinds[1]]
    assert len({picture.request for picture in pictures}) == 4
    assert [p.request for p in make_pictures(kinds, each_count=2, seed=1)] == [p.request for p in pictures]
    assert {p.request for p in make_pictures(kinds, each_count=2, seed=2)}.isdisjoint(p.request for p in pictures)


def test_messages_put_together_as_bytes_are_the_messages_that_protobuf_would_make() -> None:
    requests = [picture.request for picture in make_pictures(mix("1x1", "300x10"), each_count=1, seed=1)]
    parsed = [pb.DenoiseRequest.FromString(request) for request in requests]
    assert pb.DenoiseBatchRequest.FromString(batch_message(requests)) == pb.DenoiseBatchRequest(requests=parsed)
    item = pb.DenoiseStreamRequest.FromString(item_message("7", requests[1], 1.5))
    assert (item.item_id, item.request) == ("7", parsed[1])
    assert item.timeout.ToTimedelta().total_seconds() == 1.5


def test_requests_are_those_of_the_generator_and_take_connections_in_turn() -> None:
    workload = Workload((0.5, 0.5), images_per_shot=3, connection_count=2, cancel_share=0.3, cancel_after_s=0.1)
    shots = list(islice(workload.shots(iter(range(5000)), keyed_rng(1)), 3000))
    assert shots == list(islice(workload.shots(iter(range(5000)), keyed_rng(1)), 3000))
    assert [shot.connection for shot in shots[:4]] == [0, 1, 0, 1]
    assert [shot.due_s for shot in shots] == list(range(3000))
    assert {len(shot.pictures) for shot in shots} == {3}


def test_shares_are_kept() -> None:
    kinds = mix("8x8:9", "16x16:1")
    weights = picture_weights(kinds, each_count=2)
    assert weights == pytest.approx((0.45, 0.45, 0.05, 0.05))
    workload = Workload(weights, images_per_shot=1, connection_count=1, cancel_share=0.25, cancel_after_s=0.2)
    shots = list(workload.shots(repeat(0.0, 20_000), keyed_rng(3)))
    large_count = sum(shot.pictures[0] >= 2 for shot in shots)
    delays_s = [shot.cancel_after_s for shot in shots if shot.cancel_after_s is not None]
    assert large_count / len(shots) == pytest.approx(0.1, abs=0.01)
    assert len(delays_s) / len(shots) == pytest.approx(0.25, abs=0.015)
    assert sum(delays_s) / len(delays_s) == pytest.approx(0.2, rel=0.05)


def test_nothing_is_taken_back_unless_asked_for() -> None:
    workload = Workload((1.0,), images_per_shot=1, connection_count=1)
    assert {shot.cancel_after_s for shot in workload.shots(repeat(0.0, 100), keyed_rng(1))} == {None}
