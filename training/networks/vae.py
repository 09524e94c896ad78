"""The variational autoencoder (Kingma and Welling 2014): the encoder answers with a distribution over codes.

The draw from it is an argument, never made inside: so a training step can be repeated bit for bit, and an exported
encoder has no random operator and answers the same bytes in every batch.
"""

from typing import Final

from torch import Tensor

from training.config import VaeConfig
from training.networks.base import Code, LayeredNetwork
from training.networks.layers import doubling_stack, halving_stack

# Standard deviations from 0.002 to 400: far outside what a code needs, inside what float32 can square.
LOG_VARIANCE_LIMIT: Final = 12.0


class VariationalAutoencoder(LayeredNetwork):
    """The convolutional autoencoder's shape, with mean and log-variance of each number in the code."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__(
            halving_stack(config.channels, config.widths, config.side_px, 2 * config.code_length),
            doubling_stack(config.code_length, config.widths, config.side_px, config.channels),
            ends_in_sigmoid=config.ends_in_sigmoid,
        )
        self.channels = config.channels
        self.size_multiple_px = config.size_multiple_px
        self.fixed_side_px = config.side_px
        self.code_length = config.code_length

    def encode(self, noisy: Tensor) -> Code:
        both: Tensor = self.encoder(noisy)
        mean, log_variance = both[:, : self.code_length], both[:, self.code_length :]
        return Code(mean, log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT))
