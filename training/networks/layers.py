"""Layers that several networks are built from, with the initial weights that make them train reliably.

Everything here becomes one of Conv, Gemm, Relu, Resize (nearest) and Reshape in a model file: the operators that every
ONNX Runtime executes fast and without surprises. Transposed convolutions are avoided on purpose: they leave
checkerboards, and their per-channel quantisation has been wrong repeatedly.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))); the second convolution starts at zero, so a fresh block is the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)
        for conv in (self.first, self.second):
            nn.init.zeros_(bias_of(conv))

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(x)))
        return x + change


def residual_blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def bias_of(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def dense_stack(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers from each size to the next, with ReLU between them and none at the end."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return _initialised(nn.Sequential(*layers[:-1]))


def halving_stack(channels: int, widths: Sequence[int], side_px: int, output_count: int) -> nn.Sequential:
    """Images (N, channels, side, side) to (N, output_count): every width halves the side, a linear layer ends it."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((channels, *widths), widths, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU(), ResidualBlock(outputs), nn.ReLU()]
    value_count = widths[-1] * (side_px >> len(widths)) ** 2
    return _initialised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(value_count, output_count)))


def doubling_stack(code_length: int, widths: Sequence[int], side_px: int, channels: int) -> nn.Sequential:
    """:func:`halving_stack` mirrored: (N, code_length) to (N, channels, side, side), no activation at the end."""
    small_px = side_px >> len(widths)
    layers: list[nn.Module] = [
        nn.Linear(code_length, widths[-1] * small_px**2),
        nn.ReLU(),
        nn.Unflatten(1, (widths[-1], small_px, small_px)),
    ]
    # The last convolution works at full size, where it costs most: it keeps the first width.
    upwards = (*reversed(widths), widths[0])
    for inputs, outputs in zip(upwards, upwards[1:], strict=False):
        layers += [
            ResidualBlock(inputs),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
        ]
    return _initialised(nn.Sequential(*layers, nn.Conv2d(widths[0], channels, 3, padding=1)))


def _initialised(stack: nn.Sequential) -> nn.Sequential:
    """He's scale before a ReLU, Glorot's at the end; biases zero. Residual blocks have set themselves."""
    layers = [layer for layer in stack if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(bias_of(layer))
    nn.init.xavier_normal_(layers[-1].weight)
    return stack
