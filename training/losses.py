"""What a run minimises. Training, validation and selection call the same function with the same weights.

Reductions, because they are where autoencoders go wrong: image terms are means over values, so their weights mean the
same at every crop size. Energies are sums over an image's values, in nats; the objective divides the whole energy,
both terms together, by the number of values, which leaves their balance alone: ``kl_weight`` 1 is the negative
evidence lower bound of the image, however large it is.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import ImageTerm, LossConfig
from training.energy import compression_nats, reconstruction_nats, require_logits
from training.kl_schedule import kl_weight_at
from training.networks.base import Answer
from training.networks.conv_dae import SIGMA_UNIT
from training.similarity import ms_ssim, ssim

# Keeps the gradient of sqrt finite; a quarter of an 8-bit level.
_CHARBONNIER_EPSILON: Final = 1e-3
# The mean square of 2.5 eight-bit levels. An image's gradient goes with e / (e^2 + epsilon), e its root mean square
# error: none counts more than one with noise of sigma 10 does. With 2e-6 clean and flat images counted ten times as
# much as noisy photographs: 1.8 dB less at sigma 25 after 3,000 steps.
_LOG_MSE_EPSILON: Final = 1e-4


class LossParts(NamedTuple):
    """A loss and what it is made of, as scalars; parts that a network doesn't have are None.

    Attributes:
        total: what is minimised.
        image: the weighted image terms; part of the total where ``objective`` is ``loss``.
        sigma: mean error of the noise map, in units of 50 levels, before its weight.
        reconstruction_nats: mean energy of an image given its code; for networks with a code.
        kl_nats: mean divergence of a code's distribution from the prior.
        code_nats: mean energy of a plain code under a standard normal; where it is penalised.
    """

    total: Tensor
    image: Tensor
    sigma: Tensor | None = None
    reconstruction_nats: Tensor | None = None
    kl_nats: Tensor | None = None
    code_nats: Tensor | None = None


def total_loss(
    network: Callable[[Tensor, Tensor | None], Answer],
    noisy: Tensor,
    clean: Tensor,
    sigma_map: Tensor,
    *,
    step: int | None,
    config: LossConfig,
    epsilon: Tensor | None = None,
) -> LossParts:
    """The loss of a network on a batch.

    Args:
        network: or a wrapper of it; called under the caller's autocast.
        noisy, clean: (N, C, h, w).
        sigma_map: (N, 1, h, w) true local noise level, in 0..1 units.
        step: for the schedule of the KL weight, counted from 0; None for the weight that it ends with.
        config: the weights.
        epsilon: (N, code_length) standard normal draws, for a network whose code is a distribution.
    """
    return answer_loss(network(noisy, epsilon), clean, sigma_map, step=step, config=config)


def answer_loss(answer: Answer, clean: Tensor, sigma_map: Tensor, *, step: int | None, config: LossConfig) -> LossParts:
    """:func:`total_loss` of an answer that is there already. Computed in float32, whatever the network ran in."""
    with torch.autocast(clean.device.type, enabled=False):
        image = image_loss(answer.image, clean, config.image, logits=answer.logits)
        parts = LossParts(total=image, image=image)
        if answer.code is not None:
            parts = _with_energy(parts, answer, clean, step, config)
        if answer.sigma_map is not None:
            sigma = sigma_loss(answer.sigma_map, sigma_map)
            parts = parts._replace(total=parts.total + config.sigma_weight * sigma, sigma=sigma)
        return parts


def image_loss(
    image: Tensor, target: Tensor, weights: Mapping[ImageTerm, float], *, logits: Tensor | None = None
) -> Tensor:
    """The weighted sum of image terms of (N, C, h, w), a scalar.

    Args:
        image: what the network made, not clipped.
        target: what it should have made.
        weights: of the terms; see :data:`TERMS`.
        logits: what ``image`` is the sigmoid of, for ``bce``.
    """
    answer = Answer(image.float(), logits=None if logits is None else logits.float())
    return torch.stack([weight * TERMS[term](answer, target) for term, weight in weights.items()]).sum()


def sigma_loss(estimated: Tensor, true: Tensor) -> Tensor:
    """Mean absolute error of the noise map (N, 1, h/s, w/s) against the true one's (N, 1, h, w) means over its squares.

    It counts in units of 50 levels, so that its weight means something beside ``log_mse``: in units of
    0..1 the estimator learnt nothing of its own and found 38 where there were 50.
    """
    scale_px = true.shape[-1] // estimated.shape[-1]
    return F.l1_loss(estimated.float(), F.avg_pool2d(true, scale_px)) / SIGMA_UNIT


def _with_energy(parts: LossParts, answer: Answer, clean: Tensor, step: int | None, config: LossConfig) -> LossParts:
    code = answer.code
    assert code is not None
    value_count = clean[0].numel()
    reconstruction = reconstruction_nats(answer, clean, config).mean()
    parts = parts._replace(reconstruction_nats=reconstruction)
    weight = config.code_penalty if code.log_variance is None else kl_weight_at(step, config)
    compression = compression_nats(code).mean()
    if code.log_variance is not None:
        parts = parts._replace(kl_nats=compression)
    elif weight > 0:
        parts = parts._replace(code_nats=compression)
    if config.objective == "energy":
        energy = config.reconstruction_weight * reconstruction + weight * compression
        parts = parts._replace(total=energy / value_count)
    return parts


def _mse(answer: Answer, target: Tensor) -> Tensor:
    return F.mse_loss(answer.image, target)


def _mae(answer: Answer, target: Tensor) -> Tensor:
    return F.l1_loss(answer.image, target)


def _charbonnier(answer: Answer, target: Tensor) -> Tensor:
    return torch.sqrt((answer.image - target).square() + _CHARBONNIER_EPSILON**2).mean()


def _log_mse(answer: Answer, target: Tensor) -> Tensor:
    return torch.log((answer.image - target).square().mean(dim=(1, 2, 3)) + _LOG_MSE_EPSILON).mean()


def _bce(answer: Answer, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(require_logits(answer), target)


def _ssim(answer: Answer, target: Tensor) -> Tensor:
    return 1 - ssim(answer.image, target).mean()


def _ms_ssim(answer: Answer, target: Tensor) -> Tensor:
    return 1 - ms_ssim(answer.image, target).mean()


# ``charbonnier`` is the absolute error with a round tip. ``log_mse`` is the mean over images of ln(MSE), that is PSNR
# up to a factor, so that weak noise counts as much as strong noise (Chen et al., "Simple baselines for image
# restoration", ECCV 2022). ``ssim`` and ``ms_ssim`` are 1 minus the similarity.
TERMS: Final[Mapping[ImageTerm, Callable[[Answer, Tensor], Tensor]]] = {
    "mse": _mse,
    "mae": _mae,
    "charbonnier": _charbonnier,
    "log_mse": _log_mse,
    "bce": _bce,
    "ssim": _ssim,
    "ms_ssim": _ms_ssim,
}
