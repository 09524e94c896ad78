"""Ranks of one run, as torchrun starts them. One process that was started by hand is rank 0 of 1.

A step's samples are a property of the config, not of the ranks: rank r of W takes the r-th of W equal shares of each
batch, so one rank and two see the same samples in the same step.
"""

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from training.errors import ConfigError
from training.run.machine import pick_device


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of its run.

    Attributes:
        rank: 0 writes the files.
        world_size: how many there are.
        device: this rank's own.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, first: int, count: int) -> tuple[int, int]:
        """(first, count) of this rank's part of the samples ``first`` to ``first + count``."""
        own = count // self.world_size
        return first + self.rank * own, own

    def largest(self, value: int) -> int:
        """The largest value of all ranks, so that they decide alike."""
        if self.world_size == 1:
            return value
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.MAX).item())

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks."""
        return self._reduced(values, dist.ReduceOp.SUM) / self.world_size

    def from_main(self, value: float) -> float:
        """Rank 0's value."""
        if self.world_size == 1:
            return value
        box = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(box, src=0)
        return float(box.item())

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.world_size > 1:
            # A copy in the CPU's memory goes through gloo, beside whatever the devices are busy with.
            values = values.detach().cpu().clone()
            dist.all_reduce(values, operation)
        return values


def is_first_rank() -> bool:
    """Whether this process writes the files of its run; true where torchrun did not start it."""
    return os.environ.get("RANK", "0") == "0"


def ranks_on_this_machine() -> int:
    """How many processes of the run share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined(device_name: str, batch_size: int) -> Iterator[Ranks]:
    """Joins the other ranks for the length of the block, where torchrun started this process.

    The block keeps nothing that was wrapped for the ranks, so that none of their threads is left behind it.

    Raises:
        ConfigError: a batch cannot be shared equally, or this rank has no device of its own.
    """
    if not dist.is_torchelastic_launched():
        yield Ranks(0, 1, pick_device(device_name, 0))
        return
    rank, world_size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if batch_size % world_size:
        raise ConfigError(
            f"data.batch_size is {batch_size} and there are {world_size} ranks, who share it; it must "
            f"be a multiple of {world_size}"
        )
    device = pick_device(device_name, local_rank)
    # Has the group of all ranks as default arguments. Imported later, by DistributedDataParallel, it would keep the
    # group, whose threads would then meet the interpreter's end and abort the process.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(rank, world_size, device)
    finally:
        # What was wrapped for the ranks is part of cycles; the group's threads end with its last owner.
        gc.collect()
        dist.destroy_process_group()
