"""The convolutional autoencoder with a real bottleneck: nothing goes round its code."""

from training.config import ConvAeConfig
from training.networks.base import LayeredNetwork
from training.networks.layers import doubling_stack, halving_stack


class ConvolutionalAutoencoder(LayeredNetwork):
    """Strided convolutions down to a linear code, nearest-neighbour resize and convolutions back up."""

    def __init__(self, config: ConvAeConfig) -> None:
        super().__init__(
            halving_stack(config.channels, config.widths, config.side_px, config.code_length),
            doubling_stack(config.code_length, config.widths, config.side_px, config.channels),
            ends_in_sigmoid=config.ends_in_sigmoid,
        )
        self.channels = config.channels
        self.size_multiple_px = config.size_multiple_px
        self.fixed_side_px = config.side_px
        self.code_length = config.code_length
