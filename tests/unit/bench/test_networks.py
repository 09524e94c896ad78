"""The networks S and M are what the figures of other servers were taken with, and cannot be mistaken for identity."""

from pathlib import Path

import numpy as np
import pytest

from denoised.seal import check_seal
from tests.bench.networks import Network, Networks
from tests.bench.payload import overflowing, picture


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks()


def test_s_has_the_published_cost(networks: Networks) -> None:
    gflop_per_megapixel = 2 * networks.s.contract.gmac_per_megapixel

    assert gflop_per_megapixel * 1e9 * 28 * 28 / 1e6 == pytest.approx(9.6e6, rel=0.01)
    assert gflop_per_megapixel * 1e9 * 64 * 64 / 1e6 == pytest.approx(50e6, rel=0.01)


def test_m_has_the_published_cost(networks: Networks) -> None:
    assert 2 * networks.m.contract.gmac_per_megapixel * 1e9 * 256 * 256 / 1e6 == pytest.approx(14.7e9, rel=0.01)


@pytest.mark.parametrize(("name", "sides_px"), [("s", (28, 64)), ("m", (256,))])
def test_measured_sizes_are_one_unit_without_padding(networks: Networks, name: str, sides_px: tuple[int, ...]) -> None:
    network: Network = getattr(networks, name)
    for side_px in sides_px:
        tile_plan = network.plan(side_px, side_px)

        assert tile_plan.tile_count == 1
        assert tile_plan.tile_pixel_count == side_px**2


@pytest.mark.parametrize("name", ["s", "m", "open"])
def test_files_are_sealed_and_change_every_picture_a_little(networks: Networks, name: str) -> None:
    network: Network = getattr(networks, name)
    noisy = picture(64, 64, network.contract.channels, 0)

    denoised = network.answer(noisy)

    check_seal(Path(network.path).read_bytes())
    difference = np.abs(denoised.astype(int) - noisy)
    assert difference.mean() > 0.5
    assert difference.max() < 64


def test_an_overflowing_image_makes_values_that_are_not_finite(networks: Networks) -> None:
    raw = overflowing(networks.open, 64).request.image.raw
    units = np.frombuffer(raw.data, np.float32).reshape(1, 1, raw.height_px, raw.width_px)

    assert not np.isfinite(networks.open.run(units)).all()
    assert networks.open.contract.noise.clip is False


def test_answers_of_an_image_of_several_units_have_no_seams(networks: Networks) -> None:
    noisy = picture(400, 300, 1, 0)
    contract = networks.s.contract
    whole = networks.s.run(noisy.astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255))
    levels = np.rint(np.clip(whole[0], 0, 1) * 255).transpose(1, 2, 0)

    difference = np.abs(networks.s.answer(noisy).astype(float) - levels)

    assert networks.s.plan(400, 300).tile_count > 1
    assert difference.max() <= 1
    assert np.count_nonzero(difference) / difference.size <= max(0.001, 2 * contract.tiling.differing_share)
