"""One optimisation step, the same for a run, its dry run, the search for a rate and the measurement of speed."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.config import RunConfig
from training.errors import ConfigError
from training.losses import LossParts
from training.networks import Network, build_network
from training.run.average import WeightAverage
from training.run.distributed import Ranks
from training.run.feed import TensorBatch
from training.run.objective import Objective

# The last figure of a step, after the parts of its loss.
GRADIENT_NORM = "gradient_norm"
# Of a group of weights: the part of the schedule's rate that it learns at.
_RATE_SHARE = "rate_share"
_NAMES = {"total": "loss", "image": "image_loss", "sigma": "sigma_loss"}


class Stepper:
    """A network, its optimiser and the average of its weights.

    Attributes:
        network: as built and trained, without any wrapper.
        optimiser: AdamW.
        average: of the network's weights.
        figure_names: what :meth:`step` answers, in its order; empty before the first step.
    """

    def __init__(self, config: RunConfig, ranks: Ranks, start_weights: dict[str, Tensor] | None = None) -> None:
        torch.manual_seed(config.seed)
        network = build_network(config.network)
        if not any(True for _ in network.parameters()):
            raise ConfigError(f"network.kind is {config.network.kind}; it is solved at once and has no steps to take")
        if start_weights is not None:
            network.load_state_dict(network.state_dict() | start_weights)
        self.network: Network = network.to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            _grouped_by_rate(network, config.optimiser.full_rate_fan_in),
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
            fused=ranks.device.type == "cuda",
        )
        self.average = WeightAverage(network, config.optimiser.ema_decay)
        self.figure_names: tuple[str, ...] = ()
        self._config = config.optimiser
        objective = Objective(network, config)
        self._objective: nn.Module = objective if ranks.world_size == 1 else DistributedDataParallel(objective)

    def step(self, number: int, batches: Iterator[TensorBatch], rate: float) -> Tensor:
        """Makes step ``number`` and answers its figures, still on the device, so that nothing waits for them.

        Args:
            number: counted from 0.
            batches: as many are taken as are accumulated.
            rate: of learning.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group[_RATE_SHARE]
        self.optimiser.zero_grad(set_to_none=True)
        count = self._config.accumulation
        sums: Tensor | None = None
        for index in range(count):
            with self._gradients_kept_here() if index < count - 1 else nullcontext():
                parts: LossParts = self._objective(next(batches), number)
                (parts.total / count).backward()  # type: ignore[no-untyped-call]
            figures = self._figures(parts)
            sums = figures if sums is None else sums + figures
        assert sums is not None
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._config.gradient_clip_norm)
        self.optimiser.step()
        self.average.update()
        return torch.cat([sums / count, norm.detach().reshape(1)])

    def _gradients_kept_here(self) -> "nullcontext[None]":
        """Ranks exchange gradients once a step, not once a batch."""
        if isinstance(self._objective, DistributedDataParallel):
            return self._objective.no_sync()  # type: ignore[return-value]  # any context manager will do
        return nullcontext()

    def _figures(self, parts: LossParts) -> Tensor:
        defined = {name: value for name, value in parts._asdict().items() if value is not None}
        self.figure_names = (*(_NAMES.get(name, name) for name in defined), GRADIENT_NORM)
        return torch.stack([value.detach().float() for value in defined.values()])


def _grouped_by_rate(network: Network, full_rate_fan_in: int | None) -> list[dict[str, Any]]:
    """Groups for the optimiser, one for each rate; biases, and narrow filters, learn at the full one."""
    groups: dict[float, list[nn.Parameter]] = {}
    for weight in network.parameters():
        fan_in = weight[0].numel() if weight.ndim > 1 else 1
        share = 1.0 if full_rate_fan_in is None else min(1.0, full_rate_fan_in / fan_in)
        groups.setdefault(share, []).append(weight)
    return [{"params": weights, _RATE_SHARE: share} for share, weights in groups.items()]
