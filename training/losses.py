"""What a run minimises: an image loss, plus the error of the sigma map."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import LossConfig
from training.networks.conv_dae import SIGMA_UNIT, Denoised

# Keeps the gradient of sqrt finite; a quarter of an 8-bit level.
_CHARBONNIER_EPSILON = 1e-3
# The mean square of 0.36 eight-bit levels: rounding swallows what lies below, so it earns nothing.
_LOG_MSE_EPSILON = 2e-6


def image_loss(output: Tensor, clean: Tensor, kind: str) -> Tensor:
    """Mean loss of (N, C, H, W) against its target: ``charbonnier``, ``mse`` or ``log_mse``.

    ``log_mse`` is the mean over images of ln(MSE), that is PSNR up to a factor, so that weak noise
    counts as much as strong noise (Chen et al., "Simple baselines for image restoration", ECCV 2022).
    """
    error = output - clean
    if kind == "charbonnier":
        return torch.sqrt(error * error + _CHARBONNIER_EPSILON**2).mean()
    if kind == "mse":
        return (error * error).mean()
    if kind == "log_mse":
        return torch.log((error * error).mean(dim=(1, 2, 3)) + _LOG_MSE_EPSILON).mean()
    raise ValueError(f"unknown image loss {kind!r}")


def total_loss(denoised: Denoised, clean: Tensor, sigma: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """(total, image part). ``sigma`` is (N,), in the image's units; the map is compared with it everywhere.

    The map's error counts in units of 50 levels, so that its weight means something beside ``log_mse``: in units of
    0..1 the estimator learnt nothing of its own and found 38 where there were 50.
    """
    image_part = image_loss(denoised.image.float(), clean, config.image)
    sigma_error = F.l1_loss(denoised.sigma_map.float(), sigma[:, None, None, None].expand_as(denoised.sigma_map))
    return image_part + config.sigma_weight / SIGMA_UNIT * sigma_error, image_part
