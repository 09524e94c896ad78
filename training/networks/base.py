"""What every trainable network looks like from outside.

Images are in 0..1 units at every border. A network that ends in a sigmoid hands out its argument too, because
cross-entropy of a rounded 0 or 1 is infinite and of its logit is not.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Code(NamedTuple):
    """A latent code.

    Attributes:
        mean: (N, d); the code itself where the encoder is deterministic.
        log_variance: (N, d) natural logarithm, or None where the encoder is deterministic.
    """

    mean: Tensor
    log_variance: Tensor | None

    def sample(self, epsilon: Tensor | None) -> Tensor:
        """(N, d): mean plus epsilon standard deviations; the mean itself where either is missing."""
        if epsilon is None or self.log_variance is None:
            return self.mean
        return self.mean + torch.exp(0.5 * self.log_variance) * epsilon


class Answer(NamedTuple):
    """What a network makes of a batch.

    Attributes:
        image: (N, C, H, W) the denoised or reconstructed image, not clipped.
        sigma_map: (N, 1, H/s, W/s) estimated noise level in the image's own units (0..1), s = sigma_map_scale_px;
            None where the network estimates none.
        code: None where the network has none.
        logits: what ``image`` is the sigmoid of; None where the network is linear at its end.
    """

    image: Tensor
    sigma_map: Tensor | None = None
    code: Code | None = None
    logits: Tensor | None = None


class Network(nn.Module):
    """Base of all networks.

    Attributes:
        channels: 1 or 3.
        size_multiple_px: what both sides of the input are multiples of.
        fixed_side_px: the only side that it takes, or None.
        sigma_map_scale_px: side of the square that one value of the noise map stands for, or None without a map.
        code_length: numbers in the code, or None without one.
    """

    channels: int
    size_multiple_px: int
    fixed_side_px: int | None = None
    sigma_map_scale_px: int | None = None
    code_length: int | None = None

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:
        """(N, C, H, W) in 0..1 units to an answer.

        Args:
            noisy: the input.
            epsilon: (N, code_length) standard normal draws, for networks whose code is a distribution; without
                them the code is its mean. Other networks ignore them.
        """
        raise NotImplementedError


class LatentNetwork(Network):
    """A network that goes through a code: ``forward`` is ``decode`` of (a sample of) ``encode``."""

    code_length: int
    fixed_side_px: int

    def encode(self, noisy: Tensor) -> Code:
        """(N, C, side, side) to its code."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """(N, d) to images (N, C, side, side), not clipped."""
        raise NotImplementedError


class LayeredNetwork(LatentNetwork):
    """A latent network of two stacks of layers, whose last values are the image or its logits."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, ends_in_sigmoid: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self._ends_in_sigmoid = ends_in_sigmoid

    def encode(self, noisy: Tensor) -> Code:
        return Code(self.encoder(noisy), None)

    def decode(self, code: Tensor) -> Tensor:
        values: Tensor = self.decoder(code)
        return torch.sigmoid(values) if self._ends_in_sigmoid else values

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:
        code = self.encode(noisy)
        values: Tensor = self.decoder(code.sample(epsilon))
        if self._ends_in_sigmoid:
            return Answer(torch.sigmoid(values), code=code, logits=values)
        return Answer(values, code=code)
