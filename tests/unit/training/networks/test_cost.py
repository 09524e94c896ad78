"""Multiply-accumulates, counted against a count by hand for each kind of layer."""

import pytest

pytest.importorskip("torch")

from training.config import ConvAeConfig, ConvDaeConfig, FcAeConfig, NetworkConfig, PcaConfig, VaeConfig, load_config
from training.networks import build_network, macs_per_pixel
from training.networks.cost import TIER_LIMITS_GMAC

pytestmark = pytest.mark.training

DENOISER = ConvDaeConfig(widths=(16, 32), encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,), estimator_width=16)


@pytest.mark.parametrize("side_px", [32, 64])
def test_a_denoiser_costs_the_same_per_pixel_at_every_size(side_px: int) -> None:
    estimator = 16 * 3 * 4 * 4 / 4 + 16 * 16 * 9 / 16 + (3 * 16 * 16 * 9 + 16) / 64
    condition = 16 / 64
    head = 16 * 3 * 36 / 4
    top_blocks = 2 * (2 * 16 * 16 * 9) / 4  # one block in the encoder, one in the decoder
    down = 32 * 16 * 4 / 16
    middle = 2 * 32 * 32 * 9 / 16
    up = 16 * 32 / 16  # 1x1, before the enlargement
    tail = 12 * 16 * 9 / 4
    expected = estimator + condition + head + top_blocks + down + middle + up + tail
    assert macs_per_pixel(build_network(DENOISER), side_px=side_px) == expected


def test_linear_layers_count_as_their_weights() -> None:
    network = build_network(FcAeConfig(kind="fc_ae", side_px=4, code_length=2, hidden=(6,)))
    assert macs_per_pixel(network) == 2 * (16 * 6 + 6 * 2) / 16


def test_principal_components_count_there_and_back() -> None:
    assert macs_per_pixel(build_network(PcaConfig(kind="pca", side_px=4, code_length=3))) == 2 * 3


@pytest.mark.parametrize(
    ("config", "code_values"),
    [
        (ConvAeConfig(kind="conv_ae", side_px=8, code_length=3, widths=(16,)), 3),
        (VaeConfig(kind="vae", side_px=8, code_length=3, widths=(16,)), 6),
    ],
    ids=["conv_ae", "vae"],
)
def test_a_convolutional_code_counts_by_hand(config: NetworkConfig, code_values: int) -> None:
    block = 2 * 16 * 16 * 9 * 16
    down = 16 * 1 * 9 * 16 + block + code_values * 16 * 16
    up = 16 * 16 * 3 + block + 16 * 16 * 9 * 64 + 1 * 16 * 9 * 64
    assert macs_per_pixel(build_network(config)) == (down + up) / 64


@pytest.mark.parametrize(
    "name", ["gaussian-tiny", "gaussian-base", "gaussian-gray-base", "photo-base", "gaussian-large"]
)
def test_each_tier_stays_within_its_cost_and_states_it(name: str, pytestconfig: pytest.Config) -> None:
    limit = TIER_LIMITS_GMAC[name.rpartition("-")[2]]
    path = pytestconfig.rootpath / "training" / "configs" / f"{name}.toml"
    gmac_per_megapixel = macs_per_pixel(build_network(load_config(path).network), side_px=64) / 1e3
    assert gmac_per_megapixel <= limit
    stated = path.read_text(encoding="utf-8").split("\n[network]")[0]
    assert f"{gmac_per_megapixel:.2f}" in stated
    assert f"limit {limit:g})" in stated


def test_counting_leaves_no_trace_in_the_network() -> None:
    network = build_network(DENOISER)
    macs_per_pixel(network, side_px=16)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
