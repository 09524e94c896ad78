"""The image losses on known errors, how the parts are weighed, and that nothing depends on the image's size."""

import math
from typing import get_args

import pytest

pytest.importorskip("torch")

import torch

from denoised.quality import psnr_db
from training.config import ImageTerm, LossConfig
from training.energy import gaussian_nats, kl_nats, standard_normal_nats
from training.losses import TERMS, LossParts, answer_loss, image_loss, sigma_loss, total_loss
from training.networks.base import Answer, Code

pytestmark = pytest.mark.training

POINTWISE = pytest.mark.parametrize("term", ["mse", "mae", "charbonnier", "log_mse"])


def off_by(error: float) -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.full((2, 3, 16, 16), 0.5)
    return clean + error, clean


def loss_of(answer: Answer, clean: torch.Tensor, config: LossConfig, step: int | None = None) -> LossParts:
    return answer_loss(answer, clean, torch.zeros_like(clean[:, :1]), step=step, config=config)


# Image terms


def test_every_term_that_a_config_may_name_exists() -> None:
    assert set(TERMS) == set(get_args(ImageTerm))


@pytest.mark.parametrize("sign", [1, -1], ids=["too bright", "too dark"])
@pytest.mark.parametrize(
    ("term", "expected"),
    [("mse", 0.01), ("mae", 0.1), ("charbonnier", math.sqrt(0.01 + 1e-6)), ("log_mse", math.log(0.01 + 1e-4))],
)
def test_a_constant_error_of_a_tenth_costs_a_known_amount(term: ImageTerm, expected: float, sign: int) -> None:
    assert image_loss(*off_by(sign * 0.1), {term: 1.0}).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("term", "expected"), [("mse", 0.0), ("mae", 0.0), ("charbonnier", 1e-3), ("log_mse", math.log(1e-4)), ("ssim", 0)]
)
def test_a_perfect_image_costs_the_least_and_has_a_finite_gradient(term: ImageTerm, expected: float) -> None:
    output, clean = off_by(0.0)
    output.requires_grad_()
    loss = image_loss(output, clean, {term: 1.0})
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    assert output.grad.abs().max() < 1e-6


@POINTWISE
def test_a_loss_is_a_mean_so_that_neither_batch_nor_crop_size_changes_its_scale(term: ImageTerm) -> None:
    output, clean = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    once = image_loss(output, clean, {term: 1.0}).item()
    for repeats in ((3, 1, 1, 1), (1, 1, 2, 2)):
        again = image_loss(output.repeat(repeats), clean.repeat(repeats), {term: 1.0})
        assert again.item() == pytest.approx(once, rel=1e-5)


def test_log_mse_is_the_mean_psnr_up_to_its_factor() -> None:
    # The images differ by 17 dB: a logarithm of the batch's mean error would be 4 dB off.
    generator = torch.Generator().manual_seed(2)
    clean = torch.rand(2, 3, 32, 32, generator=generator)
    noise = torch.randn(2, 3, 32, 32, generator=generator) * torch.tensor([0.2, 0.03])[:, None, None, None]
    output = clean + noise
    mean_psnr_db = sum(psnr_db(o.numpy(), c.numpy(), value_range=1.0) for o, c in zip(output, clean, strict=True)) / 2
    # The epsilon of 1e-4 beside squared errors of 9e-4 and 4e-2 moves the mean by 0.24 dB.
    factor_db = -10 / math.log(10)
    assert factor_db * image_loss(output, clean, {"log_mse": 1.0}).item() == pytest.approx(mean_psnr_db, abs=0.25)


def test_log_mse_lets_no_image_count_more_than_one_with_noise_of_about_ten_levels() -> None:
    # A clean or flat image whose error is nearly gone must not drown the photographs of its batch.
    def pull(error: float) -> float:
        output = torch.full((1, 3, 8, 8), error, requires_grad=True)
        torch.autograd.backward(image_loss(output, torch.zeros(1, 3, 8, 8), {"log_mse": 1.0}))
        assert output.grad is not None
        return float(output.grad.norm())

    # Noise of sigma 10 leaves an error of about 2.5 levels.
    most = pull(2.55 / 255)
    assert all(pull(levels / 255) <= most for levels in (0.0, 0.05, 0.36, 1.0, 5.0, 20.0))


def test_cross_entropy_is_computed_from_logits_and_so_stays_finite_far_out() -> None:
    logits = torch.full((1, 1, 4, 4), 50.0, requires_grad=True)
    black = torch.zeros(1, 1, 4, 4)
    # The sigmoid of 50 is 1 in float32: its own logarithm would be minus infinity.
    loss = image_loss(torch.sigmoid(logits), black, {"bce": 1.0}, logits=logits)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(50.0)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.full((1, 1, 4, 4), 1 / 16))


def test_a_weighted_sum_is_the_sum_of_the_weighed_terms() -> None:
    output, clean = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    weights: dict[ImageTerm, float] = {"mae": 0.25, "mse": 3.0, "ssim": 0.5}
    expected = sum(weight * image_loss(output, clean, {term: 1.0}).item() for term, weight in weights.items())
    assert image_loss(output, clean, weights).item() == pytest.approx(expected, rel=1e-5)


# Noise map


def test_the_map_is_compared_with_the_means_of_the_true_one_over_its_squares() -> None:
    true = torch.zeros(1, 1, 16, 24)
    true[..., :8, :8] = 0.1
    true[..., 4:8, :8] = 0.3
    estimated = torch.zeros(1, 1, 2, 3)
    estimated[..., 0, 0] = 0.2
    assert sigma_loss(estimated, true).item() == pytest.approx(0.0, abs=1e-7)
    # One of six squares is off by a level of 50.
    estimated[..., 1, 2] = 50 / 255
    assert sigma_loss(estimated, true).item() == pytest.approx(1 / 6)


@POINTWISE
def test_the_total_is_the_image_part_plus_the_weighed_error_of_the_sigma_map(term: ImageTerm) -> None:
    output, clean = off_by(0.1)
    # True levels 0.1 and 0.2 against a map of 0.15 everywhere: 0.05 off, where 50 / 255 counts as one.
    true = torch.tensor([0.1, 0.2])[:, None, None, None].expand(2, 1, 16, 16)
    config = LossConfig(image={term: 1.0}, sigma_weight=0.3)
    parts = answer_loss(Answer(output, torch.full((2, 1, 2, 2), 0.15)), clean, true, step=0, config=config)
    assert parts.image.item() == image_loss(output, clean, {term: 1.0}).item()
    assert parts.sigma is not None
    assert parts.sigma.item() == pytest.approx(0.05 * 255 / 50, rel=1e-4)
    assert (parts.total - parts.image).item() == pytest.approx(0.3 * 0.05 * 255 / 50, rel=1e-4)


def test_without_weight_the_sigma_map_gets_no_gradient() -> None:
    output, clean = off_by(0.1)
    sigma_map = torch.full((2, 1, 2, 2), 0.15, requires_grad=True)
    parts = loss_of(Answer(output, sigma_map), clean, LossConfig(sigma_weight=0.0))
    torch.autograd.backward(parts.total)
    assert parts.total.item() == parts.image.item()
    assert sigma_map.grad is not None
    assert torch.all(sigma_map.grad == 0)


# Energy


def latent(side_px: int = 16, *, is_variational: bool = True) -> tuple[Answer, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    image, clean = torch.rand(2, 2, 1, side_px, side_px, generator=generator)
    mean, log_variance = torch.randn(2, 2, 5, generator=generator)
    return Answer(image, code=Code(mean, log_variance if is_variational else None)), clean


def test_at_weight_1_the_objective_is_the_negative_evidence_lower_bound_over_the_values() -> None:
    answer, clean = latent()
    assert answer.code is not None
    assert answer.code.log_variance is not None
    config = LossConfig(image={"mse": 1.0}, objective="energy", reconstruction_sigma=0.3)
    parts = loss_of(answer, clean, config)
    reconstruction = gaussian_nats(answer.image, clean, sigma=0.3).mean()
    divergence = kl_nats(answer.code.mean, answer.code.log_variance).mean()
    assert parts.total.item() == pytest.approx((reconstruction + divergence).item() / 256, rel=1e-5)
    assert parts.reconstruction_nats is not None
    assert parts.reconstruction_nats.item() == pytest.approx(reconstruction.item(), rel=1e-5)
    assert parts.kl_nats is not None
    assert parts.kl_nats.item() == pytest.approx(divergence.item(), rel=1e-5)
    assert parts.code_nats is None


def test_the_balance_of_the_terms_does_not_depend_on_the_image_size() -> None:
    # The classical mistake: a mean over pixels against a sum over codes changes beta with every image size.
    config = LossConfig(image={"mse": 1.0}, objective="energy")
    for side_px in (8, 32):
        answer, clean = latent(side_px)
        total = loss_of(answer, clean, config).total * side_px**2
        doubled = loss_of(answer, clean, config.model_copy(update={"kl_weight": 2.0})).total * side_px**2
        parts = loss_of(answer, clean, config)
        assert parts.kl_nats is not None
        assert (doubled - total).item() == pytest.approx(parts.kl_nats.item(), rel=1e-3)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"reconstruction_weight": 0.0}, (0, 1)),
        ({"kl_weight": 0.0}, (1, 0)),
        ({"kl_weight": 0.25}, (1, 0.25)),
    ],
    ids=["divergence only", "reconstruction only", "a quarter"],
)
def test_each_term_has_its_weight_in_nats(weights: dict[str, float], expected: tuple[float, float]) -> None:
    answer, clean = latent()
    config = LossConfig(image={"mse": 1.0}, objective="energy").model_copy(update=weights)
    parts = loss_of(answer, clean, config)
    assert parts.reconstruction_nats is not None
    assert parts.kl_nats is not None
    energy = expected[0] * parts.reconstruction_nats.item() + expected[1] * parts.kl_nats.item()
    assert parts.total.item() == pytest.approx(energy / 256, rel=1e-5)


def test_training_follows_the_schedule_and_selection_takes_the_weight_that_it_ends_with() -> None:
    answer, clean = latent()
    config = LossConfig(image={"mse": 1.0}, objective="energy", kl_weight=2.0, kl_schedule="linear", kl_warmup_steps=10)
    totals = {step: loss_of(answer, clean, config, step).total.item() for step in (0, 5, 10, None)}
    divergence = loss_of(answer, clean, config).kl_nats
    assert divergence is not None
    assert totals[5] - totals[0] == pytest.approx(divergence.item() / 256, rel=1e-4)
    assert totals[None] == totals[10]
    assert totals[10] - totals[0] == pytest.approx(2 * divergence.item() / 256, rel=1e-4)


def test_an_autoencoder_adds_the_penalty_of_its_code() -> None:
    answer, clean = latent(is_variational=False)
    assert answer.code is not None
    plain = loss_of(answer, clean, LossConfig(image={"mse": 1.0}, objective="energy"))
    penalised = loss_of(answer, clean, LossConfig(image={"mse": 1.0}, objective="energy", code_penalty=0.1))
    code = standard_normal_nats(answer.code.mean).mean().item()
    assert (penalised.total - plain.total).item() * 256 == pytest.approx(0.1 * code, rel=1e-3)
    assert penalised.code_nats is not None
    assert penalised.code_nats.item() == pytest.approx(code, rel=1e-5)
    assert (plain.code_nats, plain.kl_nats, penalised.kl_nats) == (None, None, None)


def test_an_autoencoder_with_plain_terms_reports_its_reconstruction_energy_all_the_same() -> None:
    answer, clean = latent(is_variational=False)
    parts = loss_of(answer, clean, LossConfig(image={"mae": 1.0}))
    assert parts.total.item() == image_loss(answer.image, clean, {"mae": 1.0}).item()
    assert parts.reconstruction_nats is not None
    expected = gaussian_nats(answer.image, clean, sigma=0.1).mean().item()
    assert parts.reconstruction_nats.item() == pytest.approx(expected, rel=1e-5)


def test_a_network_without_a_code_reports_no_energy() -> None:
    parts = loss_of(Answer(off_by(0.1)[0]), off_by(0.1)[1], LossConfig())
    assert (parts.reconstruction_nats, parts.kl_nats, parts.code_nats, parts.sigma) == (None, None, None, None)


# The network


def test_the_loss_of_a_network_is_that_of_its_answer() -> None:
    noisy, clean = off_by(0.1)
    sigma_map, epsilon = torch.full((2, 1, 16, 16), 0.1), torch.ones(2, 5)
    seen = []

    def network(image: torch.Tensor, draws: torch.Tensor | None) -> Answer:
        seen.append((image, draws))
        return Answer(image, torch.full((2, 1, 2, 2), 0.2))

    config = LossConfig()
    parts = total_loss(network, noisy, clean, sigma_map, step=3, config=config, epsilon=epsilon)
    expected = answer_loss(network(noisy, epsilon), clean, sigma_map, step=3, config=config)
    assert seen[0] == (noisy, epsilon)
    assert parts.total.item() == expected.total.item()


def test_low_precision_outputs_are_compared_in_full_precision() -> None:
    # 1 - 2**-9 is no bfloat16 number: in that type the error would be rounded to none.
    clean = torch.full((1, 1, 16, 16), 1.0 - 2**-9)
    answer = Answer(torch.ones(1, 1, 16, 16, dtype=torch.bfloat16), torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16))
    parts = loss_of(answer, clean, LossConfig(image={"mse": 1.0}))
    assert parts.total.dtype == torch.float32
    assert parts.total.item() == pytest.approx(2.0**-18)


def test_autocast_of_the_caller_does_not_reach_into_the_loss() -> None:
    output, clean = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    config = LossConfig(image={"ssim": 1.0})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss_of(Answer(output), clean, config).total
    assert inside.item() == loss_of(Answer(output), clean, config).total.item()
