"""The networks that can be trained, and the one function that builds them from a config."""

from typing import assert_never

from training.config import ConvAeConfig, ConvDaeConfig, FcAeConfig, NetworkConfig, PcaConfig, VaeConfig
from training.networks.base import Answer, Code, LatentNetwork, Network
from training.networks.conv_ae import ConvolutionalAutoencoder
from training.networks.conv_dae import ConvDenoisingAutoencoder
from training.networks.cost import macs_per_pixel
from training.networks.fc_ae import FullyConnectedAutoencoder
from training.networks.pca import PrincipalComponents
from training.networks.vae import VariationalAutoencoder

__all__ = [
    "Answer",
    "Code",
    "ConvDenoisingAutoencoder",
    "ConvolutionalAutoencoder",
    "FullyConnectedAutoencoder",
    "LatentNetwork",
    "Network",
    "PrincipalComponents",
    "VariationalAutoencoder",
    "build_network",
    "macs_per_pixel",
]


def build_network(config: NetworkConfig) -> Network:
    """A freshly initialised network; the caller seeds torch."""
    match config:
        case ConvDaeConfig():
            return ConvDenoisingAutoencoder(config)
        case FcAeConfig():
            return FullyConnectedAutoencoder(config)
        case ConvAeConfig():
            return ConvolutionalAutoencoder(config)
        case VaeConfig():
            return VariationalAutoencoder(config)
        case PcaConfig():
            return PrincipalComponents(config)
        case _:
            assert_never(config)
