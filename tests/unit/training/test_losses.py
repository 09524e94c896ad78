"""The image losses on known errors, and how the sigma map is weighed in."""

import math

import pytest

pytest.importorskip("torch")

import torch

from denoised.quality import psnr_db
from training.config import LossConfig
from training.losses import image_loss, total_loss
from training.networks.conv_dae import Denoised

pytestmark = pytest.mark.training


def off_by(error: float) -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.full((2, 3, 8, 8), 0.5)
    return clean + error, clean


@pytest.mark.parametrize("sign", [1, -1], ids=["too bright", "too dark"])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("mse", 0.01), ("charbonnier", math.sqrt(0.01 + 1e-6)), ("log_mse", math.log(0.01 + 2e-6))],
)
def test_a_constant_error_of_a_tenth_costs_a_known_amount(kind: str, expected: float, sign: int) -> None:
    assert image_loss(*off_by(sign * 0.1), kind).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("kind", "expected"), [("mse", 0.0), ("charbonnier", 1e-3), ("log_mse", math.log(2e-6))])
def test_a_perfect_image_costs_the_least_and_has_a_finite_gradient(kind: str, expected: float) -> None:
    output, clean = off_by(0.0)
    output.requires_grad_()
    loss = image_loss(output, clean, kind)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert output.grad is not None
    assert torch.all(output.grad == 0)


@pytest.mark.parametrize("kind", ["mse", "charbonnier", "log_mse"])
def test_the_gradient_is_that_of_finite_differences(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    output, clean = torch.rand(2, 2, 1, 4, 4, generator=generator, dtype=torch.float64)
    output.requires_grad_()
    assert torch.autograd.gradcheck(lambda image: image_loss(image, clean, kind), (output,))


@pytest.mark.parametrize("kind", ["mse", "charbonnier", "log_mse"])
def test_a_loss_is_a_mean_so_that_neither_batch_nor_crop_size_changes_its_scale(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    output, clean = torch.rand(2, 2, 3, 8, 8, generator=generator)
    once = image_loss(output, clean, kind)
    assert image_loss(output.repeat(3, 1, 1, 1), clean.repeat(3, 1, 1, 1), kind).item() == pytest.approx(once.item())
    assert image_loss(output.repeat(1, 1, 2, 2), clean.repeat(1, 1, 2, 2), kind).item() == pytest.approx(once.item())


def test_log_mse_is_the_mean_psnr_up_to_its_factor() -> None:
    # The images differ by 17 dB: a logarithm of the batch's mean error would be 4 dB off.
    generator = torch.Generator().manual_seed(2)
    clean = torch.rand(2, 3, 32, 32, generator=generator)
    noise = torch.randn(2, 3, 32, 32, generator=generator) * torch.tensor([0.2, 0.03])[:, None, None, None]
    output = clean + noise
    mean_psnr_db = sum(psnr_db(o.numpy(), c.numpy(), value_range=1.0) for o, c in zip(output, clean, strict=True)) / 2
    # The epsilon of 2e-6 beside squared errors of 9e-4 and 4e-2 moves the mean by 0.005 dB.
    factor_db = -10 / math.log(10)
    assert factor_db * image_loss(output, clean, "log_mse").item() == pytest.approx(mean_psnr_db, abs=6e-3)


def test_an_unknown_image_loss_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'ssim'"):
        image_loss(*off_by(0.1), "ssim")


@pytest.mark.parametrize("kind", ["mse", "charbonnier", "log_mse"])
def test_the_total_is_the_image_part_plus_the_weighed_error_of_the_sigma_map(kind: str) -> None:
    output, clean = off_by(0.1)
    # True levels 0.1 and 0.2 against a map of 0.15 everywhere: 0.05 off, where 50 / 255 counts as one.
    sigma_map = torch.full((2, 1, 4, 4), 0.15)
    config = LossConfig.model_validate({"image": kind, "sigma_weight": 0.3})
    total, image_part = total_loss(Denoised(output, sigma_map), clean, torch.tensor([0.1, 0.2]), config)
    assert image_part.item() == image_loss(output, clean, kind).item()
    assert (total - image_part).item() == pytest.approx(0.3 * 0.05 * 255 / 50, rel=1e-4)


def test_each_sample_is_compared_with_its_own_level() -> None:
    output, clean = off_by(0.0)
    levels = torch.tensor([0.1, 0.2])
    matching = levels[:, None, None, None].expand(2, 1, 4, 4)
    config = LossConfig(image="mse", sigma_weight=1.0)
    assert total_loss(Denoised(output, matching), clean, levels, config)[0].item() == 0
    assert total_loss(Denoised(output, matching.flip(0)), clean, levels, config)[0].item() == pytest.approx(0.51)


def test_without_weight_the_sigma_map_gets_no_gradient() -> None:
    output, clean = off_by(0.1)
    sigma_map = torch.full((2, 1, 4, 4), 0.15, requires_grad=True)
    total, image_part = total_loss(
        Denoised(output, sigma_map), clean, torch.tensor([0.1, 0.2]), LossConfig(sigma_weight=0.0)
    )
    torch.autograd.backward(total)
    assert total.item() == image_part.item()
    assert sigma_map.grad is not None
    assert torch.all(sigma_map.grad == 0)


def test_low_precision_outputs_are_compared_in_full_precision() -> None:
    # 1 - 2**-9 is no bfloat16 number: in that type the error would be rounded to none.
    clean = torch.full((1, 1, 8, 8), 1.0 - 2**-9)
    output = torch.ones(1, 1, 8, 8, dtype=torch.bfloat16)
    sigma_map = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16)
    total, _ = total_loss(Denoised(output, sigma_map), clean, torch.zeros(1), LossConfig(image="mse"))
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(2.0**-18)
