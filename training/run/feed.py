"""Batches for the steps of a run, made by worker processes ahead of time.

A batch is a pure function of its number, so any number of workers gives the same batches in the same order. Nothing
random happens in a worker that is not keyed by a sample's number.
"""

import signal
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from denoised.noise import keyed_rng
from training.config import RunConfig
from training.data.sampler import CropSampler
from training.run.distributed import Ranks
from training.run.machine import core_count

# Four parts long, where the sampler's keys have three: draws of a code never meet draws of noise.
_EPSILON_KEY = 1
_BATCHES_AHEAD_OF_A_WORKER = 4
_MOST_WORKERS = 8
_CORES_TO_SPARE_ONE = 4


class TensorBatch(NamedTuple):
    """A batch as tensors.

    Attributes:
        noisy, clean: (N, C, h, w) float32 in 0..1.
        sigma_map: (N, 1, h, w) float32, true noise level.
        epsilon: (N, code_length) standard normal draws; (N, 0) for networks that draw none.
        first_slot: place of the first sample among all that its step sees, over all ranks and accumulated batches.
    """

    noisy: Tensor
    clean: Tensor
    sigma_map: Tensor
    epsilon: Tensor
    first_slot: int

    def to(self, device: torch.device) -> "TensorBatch":
        """On the device, images with their channels last, the copy under way beside other work."""
        noisy, clean, sigma_map = (
            part.to(device, non_blocking=True, memory_format=torch.channels_last)
            for part in (self.noisy, self.clean, self.sigma_map)
        )
        return TensorBatch(noisy, clean, sigma_map, self.epsilon.to(device, non_blocking=True), self.first_slot)


def keyed_epsilon(config: RunConfig, numbers: range, *, key: int = _EPSILON_KEY) -> Tensor:
    """(N, code_length) standard normal draws of these samples, for networks whose code is a distribution."""
    length = config.network.code_length or 0 if config.network.kind == "vae" else 0
    draws = [keyed_rng(key, config.seed, 0, number).standard_normal(length, dtype=np.float32) for number in numbers]
    return torch.from_numpy(np.stack(draws))


class _Batches(Dataset[TensorBatch]):
    """Batch ``number``: this rank's share of samples ``number * batch_size`` and following."""

    def __init__(self, sampler: CropSampler, config: RunConfig, ranks: Ranks) -> None:
        self._sampler = sampler
        self._config = config
        self._ranks = ranks

    def __getitem__(self, number: int) -> TensorBatch:
        batch_size = self._config.data.batch_size
        first, count = self._ranks.share(number * batch_size, batch_size)
        noisy, clean, sigma_map = (torch.from_numpy(part) for part in self._sampler.batch(first, count))
        epsilon = keyed_epsilon(self._config, range(first, first + count))
        samples_per_step = batch_size * self._config.optimiser.accumulation
        return TensorBatch(noisy, clean, sigma_map, epsilon, first % samples_per_step)


class Feed:
    """The batches of steps ``start`` to ``stop``, one after the other, and how long they were waited for."""

    def __init__(
        self, sampler: CropSampler, config: RunConfig, ranks: Ranks, *, start: int, stop: int, workers: int
    ) -> None:
        micro = config.optimiser.accumulation
        with warnings.catch_warnings():
            # More workers than cores are the user's choice; the default never is.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader: DataLoader[TensorBatch] = DataLoader(
                _Batches(sampler, config, ranks),
                sampler=range(start * micro, stop * micro),
                batch_size=None,
                num_workers=workers,
                prefetch_factor=_BATCHES_AHEAD_OF_A_WORKER if workers else None,
                pin_memory=ranks.device.type == "cuda",
                worker_init_fn=_leave_signals_to_the_main_process,
            )
            self._batches = iter(loader)
        self._device = ranks.device
        self.waited_s = 0.0

    def __next__(self) -> TensorBatch:
        """The next batch, on the device."""
        began_s = time.perf_counter()
        samples: TensorBatch = next(self._batches)
        self.waited_s += time.perf_counter() - began_s
        return samples.to(self._device)

    def __iter__(self) -> Iterator[TensorBatch]:
        return self

    def close(self) -> None:
        """Ends the workers."""
        del self._batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def default_worker_count(device: torch.device) -> int:
    """All spare cores, up to 8, beside a GPU; one beside a CPU that trains, and none where it has few cores.

    Torch's threads wait for the slowest of them at every layer, and a worker on their cores makes one slow: on two
    cores the base network took 308 samples a second without a worker and 229 with one.
    """
    whole_cores = int(core_count())
    if device.type == "cpu":
        return 1 if whole_cores >= _CORES_TO_SPARE_ONE else 0
    return max(1, min(_MOST_WORKERS, whole_cores - 1))


def _leave_signals_to_the_main_process(_worker: int) -> None:
    """A signal to the whole process group must not take the batches away from the step that is to be finished.

    Workers end with the main process: they watch for it.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
