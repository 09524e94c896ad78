"""What a network costs to run, counted rather than timed."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from training.networks.base import Network
from training.networks.pca import PrincipalComponents

# What a denoiser of each tier may cost, in GMAC per megapixel.
TIER_LIMITS_GMAC: Final[Mapping[str, float]] = {"tiny": 3.0, "base": 22.0, "large": 140.0}


def macs_per_pixel(network: Network, *, side_px: int = 256) -> float:
    """Multiply-accumulates for one input pixel, counted on a forward pass: those of convolutions and matrix products.

    Millions of them per megapixel are the same number: 26.5e3 here is 26.5 GMAC per megapixel.

    Args:
        network: any kind; only its shape matters.
        side_px: of the square that is counted, where the network doesn't insist on its own.
    """
    side_px = network.fixed_side_px or side_px
    total = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d | nn.Linear)
        total += output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    parameter = next(iter(network.state_dict().values()))
    with torch.no_grad():
        network(torch.zeros(1, network.channels, side_px, side_px, device=parameter.device))
    for hook in hooks:
        hook.remove()
    if isinstance(network, PrincipalComponents):
        total += 2 * network.components.numel()
    return total / side_px**2
