"""The networks that can be trained, and the one function that builds them from a config."""

from training.config import NetworkConfig
from training.networks.base import Answer, Network
from training.networks.conv_dae import ConvDenoisingAutoencoder

__all__ = ["Answer", "Network", "build_network"]


def build_network(config: NetworkConfig) -> Network:
    """A freshly initialised network; the caller seeds torch."""
    if config.kind != "conv_dae":
        raise NotImplementedError(config.kind)
    return ConvDenoisingAutoencoder(config)
