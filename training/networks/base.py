"""What every trainable network looks like from outside."""

from typing import NamedTuple

from torch import Tensor, nn


class Code(NamedTuple):
    """A latent code.

    Attributes:
        mean: (N, d); the code itself where the encoder is deterministic.
        log_variance: (N, d) natural logarithm, or None where the encoder is deterministic.
    """

    mean: Tensor
    log_variance: Tensor | None


class Answer(NamedTuple):
    """What a network makes of a batch.

    Attributes:
        image: (N, C, H, W) the denoised or reconstructed image, not clipped.
        sigma_map: (N, 1, H/s, W/s) estimated noise level in the image's own units (0..1), s = sigma_map_scale_px;
            None where the network estimates none.
        code: None where the network has none.
    """

    image: Tensor
    sigma_map: Tensor | None = None
    code: Code | None = None


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
                them the code is its mean.
        """
        raise NotImplementedError


class LatentNetwork(Network):
    """A network that goes through a code: ``forward`` is ``decode`` of (a sample of) ``encode``."""

    code_length: int

    def encode(self, noisy: Tensor) -> Code:
        """(N, C, side, side) to its code."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """(N, d) to images (N, C, side, side), not clipped."""
        raise NotImplementedError
