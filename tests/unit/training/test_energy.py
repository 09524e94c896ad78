"""Energies in nats: the same numbers as the service's, the right reductions, and what an epoch adds up to."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from denoised import statistics
from training.config import LossConfig
from training.energy import (
    EnergyMeter,
    bernoulli_nats,
    compression_nats,
    gaussian_nats,
    kl_nats,
    reconstruction_nats,
    standard_normal_nats,
)
from training.networks.base import Answer, Code

pytestmark = pytest.mark.training


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pictures(count: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(image, target), 0..1."""
    return torch.sigmoid(random(count, 2, 5, 4, seed=seed)), torch.sigmoid(random(count, 2, 5, 4, seed=seed + 1))


# Against the service's


@pytest.mark.parametrize("sigma", [0.02, 0.1, 1.0])
def test_the_gaussian_energy_is_the_services(sigma: float) -> None:
    image, target = pictures()
    expected = [statistics.gaussian_nats(t.numpy(), i.numpy(), sigma=sigma) for i, t in zip(image, target, strict=True)]
    np.testing.assert_allclose(gaussian_nats(image, target, sigma=sigma).numpy(), expected, rtol=1e-12)


def test_the_bernoulli_energy_is_the_services() -> None:
    image, target = pictures()
    expected = [statistics.bernoulli_nats(t.numpy(), i.numpy()) for i, t in zip(image, target, strict=True)]
    np.testing.assert_allclose(bernoulli_nats(torch.logit(image), target).numpy(), expected, rtol=1e-9)


def test_the_divergence_is_the_services() -> None:
    mean, log_variance = random(4, 6), random(4, 6, seed=1)
    expected = [statistics.kl_nats(m.numpy(), v.numpy()) for m, v in zip(mean, log_variance, strict=True)]
    np.testing.assert_allclose(kl_nats(mean, log_variance).numpy(), expected, rtol=1e-12)


def test_the_penalty_of_a_plain_code_is_the_services_for_a_standard_normal() -> None:
    codes = random(4, 6)
    density = statistics.CodeDensity(mean=np.zeros(6), whitening=np.ones(6))
    np.testing.assert_allclose(standard_normal_nats(codes).numpy(), [density.nats(c.numpy()) for c in codes])


# Against what they mean


def test_the_divergence_is_the_mean_log_ratio_of_the_two_densities() -> None:
    mean, log_variance = torch.tensor([[0.7, -0.3]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    draws = mean + torch.exp(log_variance / 2) * random(200_000, 2)
    # ln(N(z; mean, v) / N(z; 0, 1)); the constants cancel.
    ratios = 0.5 * (draws.square() - (draws - mean).square() / log_variance.exp() - log_variance).sum(1)
    assert kl_nats(mean, log_variance).item() == pytest.approx(float(ratios.mean()), abs=0.01)


def test_a_code_like_the_prior_costs_nothing() -> None:
    assert kl_nats(torch.zeros(2, 5), torch.zeros(2, 5)).tolist() == [0.0, 0.0]


def test_energies_are_sums_so_that_twice_the_image_costs_twice_as_much() -> None:
    image, target = pictures()
    once, twice = (gaussian_nats(i, t, sigma=0.1) for i, t in ((image, target), (image.repeat(1, 1, 2, 1),) * 2))
    both = gaussian_nats(image.repeat(1, 1, 2, 1), target.repeat(1, 1, 2, 1), sigma=0.1)
    torch.testing.assert_close(both, 2 * once)
    assert torch.all(twice < both)
    logits = torch.logit(image)
    torch.testing.assert_close(
        bernoulli_nats(logits.repeat(1, 2, 1, 1), target.repeat(1, 2, 1, 1)), 2 * bernoulli_nats(logits, target)
    )


def test_logits_far_out_cost_a_finite_energy() -> None:
    logits = torch.tensor([[1e4]])
    assert bernoulli_nats(logits, torch.zeros(1, 1)).item() == 1e4
    assert bernoulli_nats(logits, torch.ones(1, 1)).item() == 0.0


def test_the_image_term_names_the_likelihood() -> None:
    image, target = pictures()
    answer = Answer(image, logits=torch.logit(image))
    bernoulli = LossConfig(image={"bce": 1.0}, objective="energy")
    gaussian = LossConfig(image={"mse": 1.0}, objective="energy", reconstruction_sigma=0.2)
    expected = bernoulli_nats(torch.logit(image).float(), target)
    torch.testing.assert_close(reconstruction_nats(answer, target, bernoulli), expected)
    expected = gaussian_nats(image.float(), target, sigma=0.2)
    torch.testing.assert_close(reconstruction_nats(answer, target, gaussian), expected)


def test_cross_entropy_without_logits_is_refused() -> None:
    image, target = pictures()
    with pytest.raises(ValueError, match="sigmoid"):
        reconstruction_nats(Answer(image), target, LossConfig(image={"bce": 1.0}))


def test_the_compression_term_is_that_of_the_code() -> None:
    mean, log_variance = random(2, 3).float(), random(2, 3, seed=1).float()
    assert torch.equal(compression_nats(Code(mean, log_variance)), kl_nats(mean, log_variance))
    assert torch.equal(compression_nats(Code(mean, None)), standard_normal_nats(mean))


# An epoch

ENERGY = LossConfig(image={"mse": 1.0}, objective="energy")


def answers(count: int, *, seed: int = 0) -> tuple[Answer, torch.Tensor]:
    image, target = pictures(count, seed)
    return Answer(image, code=Code(random(count, 3, seed=seed), random(count, 3, seed=seed + 1))), target


def test_an_epoch_is_the_mean_over_images_however_they_came_in_batches() -> None:
    (first, first_target), (second, second_target) = answers(2), answers(5, seed=7)
    meter = EnergyMeter(ENERGY, code_length=3)
    meter.add(first, first_target)
    meter.add(second, second_target)
    result = meter.result()
    reconstruction = [gaussian_nats(a.image, t, sigma=0.1) for a, t in ((first, first_target), (second, second_target))]
    assert result.reconstruction_nats == pytest.approx(float(torch.cat(reconstruction).mean()), rel=1e-5)
    assert first.code is not None
    assert second.code is not None
    compression = float(torch.cat([compression_nats(first.code), compression_nats(second.code)]).mean())
    assert result.compression_nats == pytest.approx(compression, rel=1e-5)
    assert result.total_nats == pytest.approx(result.reconstruction_nats + compression, rel=1e-5)


def test_bits_per_pixel_are_nats_over_the_pixels_and_ln_2() -> None:
    meter = EnergyMeter(ENERGY, code_length=3)
    meter.add(*answers(4))
    result = meter.result()
    assert result.pixel_count == 20
    assert result.reconstruction_bits_per_pixel == pytest.approx(result.reconstruction_nats / (20 * math.log(2)))
    assert result.total_nats is not None
    assert result.total_bits_per_pixel == pytest.approx(result.total_nats / (20 * math.log(2)))


def test_sums_of_two_meters_add_up() -> None:
    whole, left, right = (EnergyMeter(ENERGY, code_length=3) for _ in range(3))
    for meter, batch in ((left, answers(2)), (right, answers(5, seed=7))):
        whole.add(*batch)
        meter.add(*batch)
    left.sums += right.sums
    assert left.result() == whole.result()


def test_units_are_active_where_their_mean_moves_over_the_data() -> None:
    # Standard deviations of 0.09 and 0.11 lie on both sides of a variance of 0.01; noise in the code is no activity.
    mean = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]]).double().T[:, :2] * torch.tensor([0.09, 0.11])
    mean = torch.cat([mean + 5, torch.zeros(4, 1)], dim=1)
    image, target = pictures(4)
    meter = EnergyMeter(ENERGY, code_length=3)
    meter.add(Answer(image, code=Code(mean, torch.full((4, 3), 3.0))), target)
    assert meter.result().active_units == 1


def test_a_plain_code_without_a_penalty_has_no_compression_term() -> None:
    image, target = pictures()
    answer = Answer(image, code=Code(random(3, 3), None))
    meter = EnergyMeter(ENERGY, code_length=3)
    meter.add(answer, target)
    assert (meter.result().compression_nats, meter.result().total_nats) == (None, None)
    assert meter.result().total_bits_per_pixel is None
    penalised = EnergyMeter(ENERGY.model_copy(update={"code_penalty": 0.5}), code_length=3)
    penalised.add(answer, target)
    expected = float(standard_normal_nats(random(3, 3)).mean())
    assert penalised.result().compression_nats == pytest.approx(expected, rel=1e-5)


def test_a_network_without_a_code_has_no_energy() -> None:
    image, target = pictures()
    with pytest.raises(ValueError, match="no code"):
        EnergyMeter(ENERGY, code_length=3).add(Answer(image), target)


def test_an_epoch_without_images_has_no_energy() -> None:
    with pytest.raises(ValueError, match="no image"):
        EnergyMeter(ENERGY, code_length=3).result()
