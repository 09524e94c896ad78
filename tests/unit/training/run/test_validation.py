"""The held-out figures: of fixed pixels, over the whole range of noise, by the run's own loss."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")

import torch

from denoised.noise import keyed_rng
from tests.unit.training.run.tiny import CONV_DAE, ENERGY, VAE, packed, tiny_config, waves
from training.data.pack import Pack
from training.networks import Network, build_network
from training.networks.base import Answer
from training.run.validation import HeldOut, Validator

pytestmark = pytest.mark.training

CPU = torch.device("cpu")


class Identity(Network):
    """Answers with its input; its noise map is 0."""

    def forward(self, noisy: torch.Tensor, epsilon: torch.Tensor | None = None) -> Answer:
        return Answer(noisy)


def measured(network: Network, pack: Pack, /, **changes: Any) -> HeldOut:
    found = Validator(tiny_config(**changes), pack).measure(network, CPU)
    assert found is not None
    return found


def gaussian(sigma: float, to: float | None = None) -> dict[str, Any]:
    """White noise that nothing is cut off of."""
    stage = {"kind": "gaussian", "sigma_min": sigma, "sigma_max": to or sigma}
    return {"stages": [stage], "clip": False, "quantise": "none", "clean_share": 0.0}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack(packed(tmp_path_factory.mktemp("large"), [96] * 60))


def test_the_identity_scores_the_noise_itself(large: Pack) -> None:
    expected_db = 20 * math.log10(255 / 25)
    # The answer is clipped before it is measured, which takes a little of the noise away.
    assert measured(Identity(), large, noise=gaussian(25)).psnr_db == pytest.approx(expected_db, abs=0.4)


def test_clean_input_scores_the_ceiling_and_not_infinity(large: Pack) -> None:
    assert measured(Identity(), large, noise={"stages": []}).psnr_db == 100.0


def test_an_answer_that_is_no_number_is_no_perfect_score(large: Pack) -> None:
    class Broken(Network):
        def forward(self, noisy: torch.Tensor, epsilon: torch.Tensor | None = None) -> Answer:
            return Answer(noisy * math.nan)

    found = measured(Broken(), large)
    assert found.psnr_db is not None
    assert math.isnan(found.psnr_db)


def test_the_figures_are_the_same_every_time_and_for_every_seed(large: Pack) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_config().network).eval()
    first = measured(network, large)
    torch.manual_seed(1)
    assert measured(network, large) == first
    assert measured(network, large, seed=99).psnr_db == first.psnr_db


def test_the_loss_is_the_runs_own(large: Pack) -> None:
    found = measured(Identity(), large, noise=gaussian(25), loss={"image": {"mse": 1.0}})
    assert found.loss == pytest.approx((25 / 255) ** 2, rel=0.05)
    doubled = measured(Identity(), large, noise=gaussian(25), loss={"image": {"mse": 2.0}})
    assert doubled.loss == pytest.approx(2 * found.loss)


def test_severities_are_spread_over_the_range(large: Pack) -> None:
    config = tiny_config(noise=gaussian(1, 50))
    levels = []
    for _, noisy, clean in Validator(config, large).examples(100):
        levels.append(255 * float((noisy - clean).std()))
    assert len(levels) >= 2
    assert max(levels) > 1.5 * min(levels)


def test_held_out_images_smaller_than_the_network_can_take_are_left_out(tmp_path: Path) -> None:
    small = Pack(packed(tmp_path, [7] * 20 + [24] * 20))
    held_out = small.held_out_images()
    validator = Validator(tiny_config(), small)
    assert validator.image_count == sum(image.height_px >= 8 for image in held_out)


def test_nothing_held_out_is_no_figure(tmp_path: Path) -> None:
    lonely = Pack(packed(tmp_path, [24]))
    assert Validator(tiny_config(), lonely).measure(Identity(), CPU) is None


def test_images_of_different_sizes_count_alike(tmp_path: Path) -> None:
    mixed = Pack(packed(tmp_path, [24, 32, 40, 48] * 10))
    whole = measured(Identity(), mixed, noise=gaussian(25), loss={"image": {"mse": 1.0}})
    validator = Validator(tiny_config(noise=gaussian(25)), mixed)
    squares = [float(((noisy - clean) ** 2).mean()) for _, noisy, clean in validator.examples(10_000)]
    assert len(squares) == validator.image_count
    assert whole.loss == pytest.approx(sum(squares) / len(squares), rel=1e-5)


def test_a_network_with_a_code_reports_its_energy_and_its_active_units(pack: Pack) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_config(network=VAE, loss=ENERGY).network).eval()
    found = measured(network, pack, network=VAE, loss=ENERGY)
    assert found.reconstruction_nats is not None
    assert found.compression_nats is not None
    assert found.energy_bits_per_pixel == pytest.approx(
        (found.reconstruction_nats + found.compression_nats) / (256 * math.log(2))
    )
    assert found.active_units in range(5)
    assert found.record().keys() == {f"held_out_{name}" for name in HeldOut.__slots__}


def test_a_network_without_a_code_reports_none(pack: Pack) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_config(network=CONV_DAE).network).eval()
    assert measured(network, pack).record().keys() == {"held_out_loss", "held_out_psnr_db"}


def test_noisy_images_alone_have_a_loss_and_no_psnr(tmp_path: Path) -> None:
    noisy = Pack(packed(tmp_path, [48] * 20, noisy_only=True))
    torch.manual_seed(0)
    network = build_network(tiny_config().network).eval()
    data = {"supervision": "noisy", "crop_px": 16, "synthetic_share": 0.0}
    found = measured(network, noisy, data=data)
    assert found.psnr_db is None
    assert found.metric("loss") == found.loss > 0
    assert measured(network, noisy, data=data) == found


def test_the_keys_of_held_out_draws_are_no_keys_of_training() -> None:
    # A run's seed is below 2**32, and the held-out key is not.
    draws = {keyed_rng(2**32, 5).random(), keyed_rng(0, 5).random(), keyed_rng(0, 1, 5).random()}
    assert len(draws) == 3


def test_pairs_are_measured_against_their_clean_halves(tmp_path: Path) -> None:
    noisy_folder = tmp_path / "noisy"
    noisy_folder.mkdir()
    for index in range(20):
        clean = waves(index, 24).astype(np.float64)
        noisy = clean + keyed_rng(index).normal(0, 10, clean.shape)
        PillowImage.fromarray(np.rint(noisy.clip(0, 255)).astype(np.uint8)).save(noisy_folder / f"{index:03}.png")
    pack = Pack(packed(tmp_path / "clean", [24] * 20, noisy_folder=noisy_folder))
    data = {"supervision": "pairs", "synthetic_share": 0.0}
    found = measured(Identity(), pack, data=data, noise={"stages": []}, loss={"image": {"mse": 1.0}})
    span = pack.manifest.levels.white - pack.manifest.levels.black
    assert found.loss == pytest.approx((10 / span) ** 2, rel=0.2)
    torch.manual_seed(0)
    network = build_network(tiny_config().network).eval()
    assert measured(network, pack, data=data, noise={"stages": []}).psnr_db is not None
