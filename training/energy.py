"""The energy of images under a network with a code, in nats: the same numbers as ``denoised.statistics``, in torch.

The founders' reading is E = C(x, z) + R(z, x'), the cost of squeezing the input into its code plus the cost of what
decoding loses. Taken literally, C = |x - f(x)|^2 subtracts a code from an image, which have no common shape, and
R = |g(z) - x'|^2 is 0 because x' is g(z): minimising it teaches nothing. Two forms make sense. Ranzato et al.
(AISTATS 2007) compare like with like: |z - f(x)|^2 + |x - g(z)|^2, whose first term is 0 for a code that is computed
by f, so that a penalty on the code takes its place. For a variational autoencoder both terms are negative
log-likelihoods, and their sum is the negative evidence lower bound: the length of a message that holds the image.

Both are sums over an image's values, never means, and a batch answers one number per image: a mean would make the
weight of the compression term depend on the number of pixels.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from denoised.statistics import Energy
from training.config import LossConfig
from training.networks.base import Answer, Code

# A number of the code says something about the data where its mean moves (Burda et al., "Importance weighted
# autoencoders", ICLR 2016).
ACTIVE_VARIANCE: Final = 0.01


def gaussian_nats(image: Tensor, target: Tensor, *, sigma: float) -> Tensor:
    """(N,) -ln of the density of the target around the image: sum(e^2) / (2 s^2) + V ln(s) + V/2 ln(2 pi)."""
    square_error = (image - target).square().flatten(1).sum(1)
    return square_error / (2 * sigma * sigma) + _gaussian_constant(sigma) * image[0].numel()


def bernoulli_nats(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) cross-entropy of the target against probabilities given by their logits, summed over the values.

    For grey targets it is no likelihood but a bound that no reconstruction brings to 0.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def kl_nats(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(N,) divergence of a diagonal Gaussian from the standard normal: sum(mu^2 + v - 1 - ln v) / 2."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)


def standard_normal_nats(code: Tensor) -> Tensor:
    """(N,) -ln of the standard normal density at a code: |z|^2 / 2 + d/2 ln(2 pi)."""
    return 0.5 * code.square().sum(1) + _gaussian_constant(1.0) * code.shape[1]


def reconstruction_nats(answer: Answer, target: Tensor, loss: LossConfig) -> Tensor:
    """(N,) the reconstruction term under the config's likelihood."""
    if loss.likelihood == "bernoulli":
        return bernoulli_nats(require_logits(answer).float(), target)
    return gaussian_nats(answer.image.float(), target, sigma=loss.reconstruction_sigma)


def compression_nats(code: Code) -> Tensor:
    """(N,) the compression term: the divergence of a distribution, or a penalised code's own density."""
    if code.log_variance is None:
        return standard_normal_nats(code.mean.float())
    return kl_nats(code.mean.float(), code.log_variance.float())


def require_logits(answer: Answer) -> Tensor:
    """The logits, which cross-entropy needs; the config refuses it for networks without."""
    if answer.logits is None:
        raise ValueError("cross-entropy needs a network that ends in a sigmoid; use loss.image = { mse = 1.0 }")
    return answer.logits


@dataclass(frozen=True, slots=True)
class EpochEnergy(Energy):
    """Means over images: the energy of a mean image.

    The compression term is None for a plain code without a penalty, too: no density is assumed of it.

    Attributes:
        active_units: numbers of the code whose mean varies over the images by more than ``ACTIVE_VARIANCE``.
    """

    active_units: int


class EnergyMeter:
    """Adds up the energies of an epoch, or of the held-out images, for a network with a code.

    Attributes:
        sums: float64; every entry is a plain sum, so ranks add theirs by one all-reduce.
    """

    sums: Tensor

    def __init__(self, loss: LossConfig, *, code_length: int, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(3 + 2 * code_length, dtype=torch.float64, device=device)
        self._loss = loss
        self._pixel_count = 0
        self._is_compression_defined = False

    @torch.no_grad()
    def add(self, answer: Answer, target: Tensor) -> None:
        """Counts a batch: what the network made of it, and (N, C, H, W) what it should have made."""
        code = answer.code
        if code is None:
            raise ValueError("the network has no code; its energy is undefined")
        self._pixel_count = target.shape[-2] * target.shape[-1]
        self._is_compression_defined = code.log_variance is not None or self._loss.code_penalty > 0
        means = code.mean.double()
        terms = (reconstruction_nats(answer, target, self._loss), compression_nats(code))
        batch = [means.new_tensor([len(means)]), *(term.double().sum().reshape(1) for term in terms)]
        self.sums += torch.cat([*batch, means.sum(0), means.square().sum(0)])

    def result(self) -> EpochEnergy:
        """Means over all images so far.

        Raises:
            ValueError: there were none.
        """
        count = float(self.sums[0])
        if count == 0:
            raise ValueError("no image was added; there is no energy to report")
        moments = self.sums[1:] / count
        means, squares = moments[2:].chunk(2)
        return EpochEnergy(
            reconstruction_nats=float(moments[0]),
            compression_nats=float(moments[1]) if self._is_compression_defined else None,
            pixel_count=self._pixel_count,
            active_units=int((squares - means.square() > ACTIVE_VARIANCE).sum()),
        )


def _gaussian_constant(sigma: float) -> float:
    return math.log(sigma) + 0.5 * math.log(2 * math.pi)
