"""SSIM and MS-SSIM in torch, differentiable; the same definition as ``denoised.quality`` measures with.

Values are in 0..1 units. Both answer one number per image, the mean over channels.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import MS_SSIM_MIN_SIDE_PX, SSIM_MIN_SIDE_PX

_WINDOW_RADIUS_PX: Final = SSIM_MIN_SIDE_PX // 2
_WINDOW_SIGMA_PX: Final = 1.5
_C1: Final = 0.01**2
_C2: Final = 0.03**2

# Wang, Simoncelli, Bovik, "Multiscale structural similarity", Asilomar 2003: finest scale first.
_SCALE_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# A scale where the structures oppose each other has no real root; it counts as almost nothing instead.
_LEAST_SIMILARITY: Final = 1e-4


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """(N,) structural similarity of (N, C, H, W); 1 where they are equal.

    Raises:
        ValueError: a side is shorter than the window.
    """
    _require_side(image, SSIM_MIN_SIDE_PX, "SSIM")
    luminance, structure = _maps(image, reference)
    return (luminance * structure).mean(dim=(1, 2, 3))


def ms_ssim(image: Tensor, reference: Tensor) -> Tensor:
    """(N,) multi-scale structural similarity of (N, C, H, W): structure at five scales, luminance at the coarsest.

    Raises:
        ValueError: at the coarsest scale a side would be shorter than the window.
    """
    _require_side(image, MS_SSIM_MIN_SIDE_PX, "MS-SSIM")
    similarity = torch.ones(image.shape[:2], dtype=image.dtype, device=image.device)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:
            image, reference = F.avg_pool2d(image, 2), F.avg_pool2d(reference, 2)
        luminance, structure = _maps(image, reference)
        is_coarsest = scale == len(_SCALE_WEIGHTS) - 1
        at_scale = (luminance * structure if is_coarsest else structure).mean(dim=(2, 3))
        similarity = similarity * at_scale.clamp(min=_LEAST_SIMILARITY) ** weight
    return similarity.mean(dim=1)


def _maps(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, at each position where the window fits."""
    # Around the reference's mean: float32 would cancel the variance of bright flat areas away.
    centre = reference.mean(dim=(2, 3), keepdim=True)
    x, y = image - centre, reference - centre
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _window_means(torch.stack((x, y, x * x, y * y, x * y)))
    covariance = mean_xy - mean_x * mean_y
    variances = mean_xx + mean_yy - mean_x * mean_x - mean_y * mean_y
    bright_x, bright_y = mean_x + centre, mean_y + centre
    luminance = (2 * bright_x * bright_y + _C1) / (bright_x * bright_x + bright_y * bright_y + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _window_means(values: Tensor) -> Tensor:
    """Gaussian-weighted local means of (..., H, W)."""
    offsets = torch.arange(-_WINDOW_RADIUS_PX, _WINDOW_RADIUS_PX + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / _WINDOW_SIGMA_PX) ** 2)
    window = (weights / weights.sum()).to(values)
    planes = values.reshape(-1, 1, *values.shape[-2:])
    planes = F.conv2d(F.conv2d(planes, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return planes.reshape(*values.shape[:-2], *planes.shape[-2:])


def _require_side(image: Tensor, least_px: int, name: str) -> None:
    height_px, width_px = image.shape[-2:]
    if min(height_px, width_px) < least_px:
        raise ValueError(
            f"crops are {width_px} x {height_px}; {name} needs at least {least_px} pixels a side: raise data.crop_px "
            "or leave it out of loss.image"
        )
