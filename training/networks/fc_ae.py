"""The fully connected autoencoder: the textbook's 6 - 2 - 6 units at the size of small images."""

from torch import nn

from training.config import FcAeConfig
from training.networks.base import LayeredNetwork
from training.networks.layers import dense_stack


class FullyConnectedAutoencoder(LayeredNetwork):
    """All pixels to ``hidden`` layers to the code, and the same sizes back."""

    def __init__(self, config: FcAeConfig) -> None:
        shape = (config.channels, config.side_px, config.side_px)
        sizes = (config.channels * config.side_px**2, *config.hidden, config.code_length)
        super().__init__(
            nn.Sequential(nn.Flatten(), *dense_stack(sizes)),
            nn.Sequential(*dense_stack(sizes[::-1]), nn.Unflatten(1, shape)),
            ends_in_sigmoid=config.ends_in_sigmoid,
        )
        self.channels = config.channels
        self.size_multiple_px = config.size_multiple_px
        self.fixed_side_px = config.side_px
        self.code_length = config.code_length
