"""The exponential moving average of the weights: what is validated, evaluated and exported."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of all weights, with the usual warm-up of the decay.

    The count of updates belongs to the average: a resumed run that lost it would start the warm-up again and overwrite
    what it had averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        # These share the network's memory, so each update sees its present values without asking for them again.
        self._current = network.state_dict()
        self.weights = {name: value.clone() for name, value in self._current.items()}
        self.update_count = 0
        self._decay = decay

    def update(self) -> None:
        """Takes in the network's present weights."""
        self.update_count += 1
        decay = min(self._decay, (1 + self.update_count) / (10 + self.update_count))
        torch._foreach_lerp_(list(self.weights.values()), list(self._current.values()), 1 - decay)

    def restore(self, weights: Mapping[str, Tensor], update_count: int) -> None:
        """Continues from a checkpoint's."""
        for name, value in weights.items():
            self.weights[name].copy_(value)
        self.update_count = update_count

    @contextmanager
    def swapped_in(self, network: nn.Module) -> Iterator[None]:
        """The network carries the averaged weights and is in eval mode inside the block; as it was after it."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        was_training = network.training
        network.load_state_dict(self.weights)
        network.eval()
        try:
            yield
        finally:
            network.load_state_dict(own)
            network.train(was_training)
