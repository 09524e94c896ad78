"""The convolutional denoising autoencoder, blind to its caller, with a noise estimator inside.

Shape rules come from what ONNX Runtime executes at full speed on x86: plain convolutions with multiples of
16 channels, strided convolutions down, 1x1 and nearest resize up, additive skips, one DepthToSpace at the tail.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ESTIMATOR_SCALE_PX, ConvDaeConfig

# The sigma map is handled inside in units of 50 eight-bit levels, which keeps it near 1 for the optimiser.
SIGMA_UNIT = 50.0 / 255.0
# Below this much noise, in the same unit (3 levels), the correction fades out: a clean picture passes unchanged.
_GATE_SIGMA = 3.0 / 50.0


class Denoised(NamedTuple):
    """What the network answers.

    Attributes:
        image: (N, C, H, W) the denoised image, not clipped.
        sigma_map: (N, 1, H/s, W/s) estimated noise level in the image's own units (0..1), s = sigma_map_scale.
    """

    image: Tensor
    sigma_map: Tensor


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))); the second convolution starts at zero, so a fresh block is the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)
        for conv in (self.first, self.second):
            nn.init.zeros_(_bias(conv))

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(x)))
        return x + change


class NoiseEstimator(nn.Module):
    """Noisy image to a local map of its noise level, at an eighth of the size (the idea of CBDNet, CVPR 2019)."""

    scale_px = ESTIMATOR_SCALE_PX

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )
        # The first guess is 25 levels: from "no noise" the faded-out correction would never get a gradient.
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.constant_(_bias(last), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        sigma_map: Tensor = self.layers(x)
        return sigma_map


class ConvDenoisingAutoencoder(nn.Module):
    """Encoder, bottleneck, decoder with symmetric additive skips and a global residual.

    The first convolution halves the size; each further level halves it again. The estimator's sigma map
    enters behind that first convolution, as an extra input plane of it would, and it scales the correction down where
    there is hardly any noise, so that the ripples of zero padding at the border stay out of clean pictures.
    """

    def __init__(self, config: ConvDaeConfig) -> None:
        super().__init__()
        widths = config.widths
        self.channels = config.channels
        self.size_multiple_px = config.size_multiple_px
        self.sigma_map_scale_px = NoiseEstimator.scale_px

        self.estimator = NoiseEstimator(config.channels, config.estimator_width)
        self.condition = nn.Conv2d(1, widths[0], 1)
        self.head = nn.Conv2d(config.channels, widths[0], 6, stride=2, padding=2)
        self.encoder = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, config.encoder_blocks, strict=False))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.middle = _blocks(widths[-1], config.middle_blocks)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.decoder = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, config.decoder_blocks, strict=False))
        self.tail = nn.Conv2d(widths[0], 4 * config.channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(_bias(self.tail))

    def forward(self, noisy: Tensor) -> Denoised:
        """(N, C, H, W) with H and W multiples of ``size_multiple_px``, values as in the noise spec."""
        sigma_map = self.estimator(noisy)
        condition = self.condition(sigma_map)
        x = self.head(noisy) + F.interpolate(condition, scale_factor=self.sigma_map_scale_px // 2, mode="nearest")
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for blocks, up, skip in reversed(list(zip(self.decoder, self.up, skips, strict=True))):
            x = blocks(F.interpolate(up(x), scale_factor=2, mode="nearest") + skip)
        gate = F.interpolate(
            (sigma_map / _GATE_SIGMA).clamp(0.0, 1.0), scale_factor=self.sigma_map_scale_px // 2, mode="nearest"
        )
        residual = F.pixel_shuffle(self.tail(x) * gate, 2)
        return Denoised(noisy - residual, sigma_map * SIGMA_UNIT)


def macs_per_pixel(network: nn.Module, *, channels: int, side_px: int = 256) -> float:
    """Multiply-accumulates of all convolutions for one input pixel, counted on a forward pass."""
    total = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, channels, side_px, side_px))
    for hook in hooks:
        hook.remove()
    return total / side_px**2


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
