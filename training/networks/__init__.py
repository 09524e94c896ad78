"""The networks that can be trained, and the one function that builds them from a config."""

from training.config import NetworkConfig
from training.networks.conv_dae import ConvDenoisingAutoencoder

__all__ = ["ConvDenoisingAutoencoder", "build_network"]


def build_network(config: NetworkConfig) -> ConvDenoisingAutoencoder:
    """A freshly initialised network; the caller seeds torch."""
    return ConvDenoisingAutoencoder(config)
