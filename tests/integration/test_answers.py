"""What comes back is right: the network's own answer, in the form that went in, whatever that form was."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from denoised.noise import benchmark_noisy
from denoised.quality import psnr_db
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration.oracle import Oracle, to_u8, to_unit
from tests.integration.pictures import (
    Samples,
    file_request,
    jpeg,
    mosaic,
    noisy,
    photograph,
    png,
    raw_request,
    samples_of,
    smooth,
)


def _retina() -> NDArray[np.uint8]:
    return photograph("retina")[300:1100, 150:1250]


def answer(stub: DenoiseServiceStub, request: pb.DenoiseRequest) -> Samples:
    return samples_of(stub.Denoise(request).image)


@pytest.mark.parametrize(
    ("photograph", "sigma"), [(mosaic, 25), (mosaic, 50), (_retina, 25)], ids=["mosaic-25", "mosaic-50", "retina-25"]
)
def test_tiles_give_the_answer_of_the_whole_image(
    photograph: Callable[[], NDArray[np.uint8]], sigma: int, stub: DenoiseServiceStub, oracle: Oracle
) -> None:
    picture = benchmark_noisy(photograph(), sigma=sigma, index=0)
    assert min(picture.shape[:2]) > oracle.contract.unit_edges_px[-1]

    response = stub.Denoise(raw_request(picture))
    whole = oracle.denoise(to_unit(picture))

    difference = np.abs(samples_of(response.image).astype(int) - whole.levels)
    assert response.batching.tile_count > 1
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 0.001
    assert response.report.noise_sigma == pytest.approx(whole.noise_sigma, rel=0.01)


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.125])
def test_an_image_of_one_unit_gets_the_network_s_own_answer_bit_for_bit(
    strength: float, stub: DenoiseServiceStub, oracle: Oracle
) -> None:
    edge_px = oracle.contract.unit_edges_px[0]
    picture = noisy(1, edge_px, edge_px)
    unit = to_unit(picture)
    denoised = oracle.denoise(unit).image

    blend = denoised if strength == 1.0 else unit + np.float32(strength) * (denoised - unit)
    np.testing.assert_array_equal(answer(stub, raw_request(picture, strength=strength)), to_u8(blend))


def test_half_the_strength_is_half_the_way(stub: DenoiseServiceStub) -> None:
    picture = noisy(2, 90, 120)
    full, half = (answer(stub, file_request(png(picture), strength=strength)) for strength in (1.0, 0.5))

    assert np.abs(half - (picture.astype(float) + full) / 2).max() <= 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_image_comes_back_within_one_level(level: int, stub: DenoiseServiceStub) -> None:
    flat = np.full((100, 150, 3), level, np.uint8)

    assert np.abs(answer(stub, raw_request(flat)).astype(int) - level).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 13), (8, 8), (65, 3)])
def test_an_image_of_any_size_is_answered_as_what_it_looks_like_when_it_is_reflected(
    shape: tuple[int, int], stub: DenoiseServiceStub, oracle: Oracle
) -> None:
    picture = smooth(4, *shape)
    response = stub.Denoise(file_request(png(picture)))
    came_back = samples_of(response.image)

    rows, columns = (min(edge for edge in oracle.contract.unit_edges_px if edge >= side) for side in shape)
    reflected = np.pad(picture, ((0, rows - shape[0]), (0, columns - shape[1]), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(came_back, oracle.denoise(to_unit(reflected)).levels[: shape[0], : shape[1]])
    assert response.batching.tile_count == 1


def test_the_same_request_gets_the_same_bytes(stub: DenoiseServiceStub) -> None:
    request = file_request(png(noisy(5, 700, 600)))

    assert stub.Denoise(request).image == stub.Denoise(request).image


def test_noise_goes_and_the_picture_stays(stub: DenoiseServiceStub) -> None:
    clean = photograph("astronaut")
    picture = benchmark_noisy(clean, sigma=25, index=0)

    assert psnr_db(answer(stub, file_request(png(picture))), clean) > psnr_db(picture, clean) + 5


@pytest.mark.parametrize("sigma", [10, 25, 50])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "camera"])
def test_the_noise_found_is_the_noise_added(name: str, sigma: int, stub: DenoiseServiceStub) -> None:
    picture = benchmark_noisy(photograph(name)[100:356, 100:356], sigma=sigma, index=0)

    report = stub.Denoise(raw_request(picture)).report

    assert report.noise_sigma == pytest.approx(sigma, rel=0.15)
    assert report.sigma_in_trained_range


def test_grey_in_colour_channels_stays_grey(stub: DenoiseServiceStub) -> None:
    grey = noisy(6, 150, 200, 1)
    in_colour = answer(stub, file_request(png(np.repeat(grey, 3, axis=2))))

    np.testing.assert_array_equal(in_colour[..., 0], in_colour[..., 1])
    np.testing.assert_array_equal(in_colour[..., 0], in_colour[..., 2])
    np.testing.assert_array_equal(in_colour[..., :1], answer(stub, raw_request(grey)))


def test_sixteen_bits_are_denoised_in_sixteen_bits(stub: DenoiseServiceStub) -> None:
    eight = noisy(8, 120, 160)
    sixteen = eight.astype(np.uint16) * 257

    fine, coarse = answer(stub, file_request(png(sixteen))), answer(stub, file_request(png(eight)))

    assert fine.dtype == np.uint16
    assert len(np.unique(fine)) > 256
    np.testing.assert_array_equal(np.rint(fine / 257), coarse)


def test_other_levels_are_another_name_for_the_same_picture(stub: DenoiseServiceStub) -> None:
    twelve = noisy(9, 64, 80).astype(np.uint16) * 16 + 7
    shifted = twelve + np.uint16(500)

    plain = answer(stub, raw_request(twelve, fields={"white_level": 4095.0}))
    moved = stub.Denoise(raw_request(shifted, fields={"black_level": 500.0, "white_level": 4595.0})).image

    assert (moved.raw.black_level, moved.raw.white_level) == (500.0, 4595.0)
    assert plain.max() <= 4095
    assert np.abs(samples_of(moved).astype(int) - 500 - plain).max() <= 1


def test_floats_beyond_black_and_white_are_clipped_and_counted(stub: DenoiseServiceStub) -> None:
    picture = noisy(10, 60, 70).astype(np.float32) / 255
    outside = picture.copy()
    outside[:3, :4] = 1.5
    outside[10, :5, 0] = -0.25

    response = stub.Denoise(raw_request(outside))
    clipped = stub.Denoise(raw_request(np.clip(outside, 0, 1)))

    assert response.report.clipped_sample_count == 3 * 4 * 3 + 5
    assert clipped.report.clipped_sample_count == 0
    assert response.image == clipped.image


def test_strength_zero_gives_the_very_same_bytes_and_computes_nothing(stub: DenoiseServiceStub) -> None:
    for request in (
        file_request(jpeg(noisy(11, 40, 50)), strength=0.0),
        file_request(png(noisy(11, 40, 50)) + b"behind the end", strength=0.0),
        raw_request(noisy(11, 40, 50), strength=0.0),
    ):
        response = stub.Denoise(request)
        assert response.image == request.image
        assert not response.HasField("report")
        assert not response.HasField("batching")


def test_two_lanes_share_one_image_and_say_when(stub: DenoiseServiceStub, oracle: Oracle) -> None:
    response = stub.Denoise(raw_request(noisy(12, 700, 900)))
    parts = response.timings

    assert response.model == pb.ModelReference(
        name=oracle.contract.name, version=oracle.contract.version, digest=oracle.digest
    )
    assert response.batching.tile_count > 1
    assert (response.batching.shared_request_count, response.batching.shared_client_count) == (1, 1)
    total_s = parts.total.ToTimedelta()
    assert all(part.ToTimedelta() <= total_s for part in (parts.decode, parts.queue, parts.compute, parts.encode))
    assert parts.compute.ToTimedelta().total_seconds() > 0
