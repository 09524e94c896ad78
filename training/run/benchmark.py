"""How fast training is, beside a plain loop of the same network; both measured in one run, on one machine.

The plain loop is what one writes in an hour: bf16 autocast, channels last, one batch that lies on the device already,
forward, loss, backward, AdamW. No data, no noise, no clipping, no average, no checks. It runs before and after the
real one, so that a machine that gets warmer or busier meanwhile is fair to both.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from training.config import RunConfig
from training.data.pack import Pack
from training.data.sampler import CropSampler
from training.networks import build_network
from training.run.compatible import require_fitting_pack
from training.run.distributed import Ranks, joined
from training.run.feed import Feed, TensorBatch, default_worker_count
from training.run.machine import set_determinism
from training.run.objective import loss_of
from training.run.schedule import learning_rate
from training.run.step import Stepper
from training.run.tally import Tally

_WARM_UP_STEPS: Final = 3
_FEWEST_STEPS: Final = 10


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured.

    Attributes:
        samples_per_s: of the real loop, data and noise included.
        plain_samples_per_s: of the plain loop.
        data_wait_share: share of the real loop's time in which the device waited for data; on a GPU at most that.
        precision: of the real loop; the plain one's is bf16.
        step_count: of the real loop.
    """

    samples_per_s: float
    plain_samples_per_s: float
    data_wait_share: float
    precision: str
    step_count: int

    @property
    def ratio(self) -> float:
        return self.samples_per_s / self.plain_samples_per_s

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.samples_per_s:.4g} samples/s in {self.precision} over {self.step_count} steps, data and noise "
            f"included; the device waited for data {self.data_wait_share:.1%} of the time. A plain bf16, channels_last "
            f"loop of the same network with its data in memory: {self.plain_samples_per_s:.4g} samples/s. "
            f"Ratio {self.ratio:.2f}"
        )


def measure_speed(
    config: RunConfig, pack: Pack, *, device: str = "auto", workers: int | None = None, seconds: float = 10.0
) -> Speed:
    """Measures both loops, ``seconds`` each and never fewer than ten steps.

    Raises:
        ConfigError: the network is not trained by steps.
        RunError: the images do not fit the network.
    """
    require_fitting_pack(config, pack)
    with joined(device, config.data.batch_size) as ranks:
        set_determinism(deterministic=config.optimiser.deterministic)
        workers = default_worker_count(ranks.device) if workers is None else workers
        sampler = CropSampler(pack, config.noise, seed=config.seed, data=config.data)
        stepper = Stepper(config, ranks)
        with Feed(sampler, config, ranks, start=0, stop=2**31, workers=workers) as feed:
            plain_step = _plain_step(config, ranks, next(feed))
            before_s, count = _timed(plain_step, ranks.device, seconds / 2)
            for step in range(_WARM_UP_STEPS):
                stepper.step(step, feed, learning_rate(step, config.optimiser))
            tally = Tally(feed, ranks, samples_per_step=config.data.batch_size * config.optimiser.accumulation)
            ends_s, step = time.perf_counter() + seconds, 0
            while step < _FEWEST_STEPS or time.perf_counter() < ends_s:
                tally.add(step, stepper.step(step, feed, learning_rate(0, config.optimiser)))
                step += 1
                if step % _FEWEST_STEPS == 0:
                    tally.look(stepper.figure_names)
        after_s, after_count = _timed(plain_step, ranks.device, seconds / 2)
    samples_per_s, data_wait_share = tally.samples_per_s, tally.data_wait_share
    assert samples_per_s is not None
    assert data_wait_share is not None
    plain = (count + after_count) * config.data.batch_size / (before_s + after_s)
    return Speed(samples_per_s, plain, data_wait_share, config.optimiser.precision, step)


def _plain_step(config: RunConfig, ranks: Ranks, samples: TensorBatch) -> Callable[[], None]:
    torch.manual_seed(config.seed)
    network = build_network(config.network).to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.optimiser.learning_rate * 1e-3, fused=ranks.device.type == "cuda"
    )

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(ranks.device.type, dtype=torch.bfloat16):
            loss = loss_of(network, samples, step=0, config=config).total
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def _timed(step: Callable[[], None], device: torch.device, seconds: float) -> tuple[float, int]:
    """(seconds, steps) of at least ``seconds``."""
    for _ in range(_WARM_UP_STEPS):
        step()
    _synchronise(device)
    began_s, count = time.perf_counter(), 0
    while count < _FEWEST_STEPS or time.perf_counter() - began_s < seconds:
        step()
        count += 1
        if count % _FEWEST_STEPS == 0:
            _synchronise(device)
    _synchronise(device)
    return time.perf_counter() - began_s, count


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
