"""What a run minimises, as one module: samples in, loss out. It is what DistributedDataParallel wraps.

The forward pass of the network and its loss lie in one ``forward``, so that losses which call the network more than
once, as learning from noisy images alone does, train on several ranks like any other.
"""

import torch
from torch import nn

from training.config import RunConfig
from training.losses import LossParts, total_loss
from training.networks import Network
from training.noise.neighbours import self_supervised_loss
from training.run.feed import TensorBatch


class Objective(nn.Module):
    """The loss of a network by its run's config, in the run's precision."""

    def __init__(self, network: Network, config: RunConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config

    def forward(self, samples: TensorBatch, step: int | None) -> LossParts:
        """The loss at a step; None stands for the weights that all schedules end with, to compare checkpoints by."""
        config = self._config
        with torch.autocast(
            samples.noisy.device.type, dtype=torch.bfloat16, enabled=config.optimiser.precision == "bf16"
        ):
            return loss_of(self.network, samples, step=step, config=config)


def loss_of(network: Network, samples: TensorBatch, *, step: int | None, config: RunConfig) -> LossParts:
    """The loss of a network by the run's config, under the caller's autocast."""
    if config.data.supervision == "noisy":
        return self_supervised_loss(
            network,
            samples.noisy,
            samples.sigma_map,
            step=step,
            steps=config.optimiser.steps,
            seed=config.seed,
            sigma_weight=config.loss.sigma_weight,
            first_slot=samples.first_slot,
        )
    return total_loss(
        network,
        samples.noisy,
        samples.clean,
        samples.sigma_map,
        step=step,
        config=config.loss,
        epsilon=samples.epsilon if samples.epsilon.shape[1] else None,
    )
