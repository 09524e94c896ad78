"""What a run would be: its size, memory and time, found by making a few of its steps and throwing them away."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from training.config import RunConfig
from training.data.pack import Pack
from training.data.sampler import CropSampler
from training.networks import build_network, macs_per_pixel
from training.run.compatible import require_fitting_pack
from training.run.distributed import joined
from training.run.feed import Feed, default_worker_count
from training.run.machine import memory_limit_bytes, peak_memory_bytes, set_determinism
from training.run.schedule import learning_rate
from training.run.step import Stepper
from training.run.validation import Validator

_TIMED_STEPS: Final = 5
# Raw weights, their average, and AdamW's two moments; a newest, a previous and a best file.
_COPIES_IN_A_CHECKPOINT: Final = 4
_CHECKPOINT_FILES: Final = 3
# A step computes forward once and backward about twice.
_PASSES: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """The figures of a run to come.

    Attributes:
        parameter_count: numbers that are learnt.
        step_gmac: multiply-accumulates of one optimisation step, forward and backward, in units of 1e9.
        memory_bytes: the most that this process (on a GPU: the device) had in use; None where the system tells nothing.
        step_s: seconds of a step; None for a network that is solved at once.
        validation_s: of one measurement of the held-out images.
    """

    config: RunConfig
    training_images: int
    held_out_images: int
    parameter_count: int
    step_gmac: float
    workers: int
    device: str
    memory_bytes: int | None
    memory_limit_bytes: int | None
    disk_free_bytes: int
    step_s: float | None
    validation_s: float | None

    @property
    def disk_bytes(self) -> int:
        """All checkpoints together."""
        return 4 * self.parameter_count * _COPIES_IN_A_CHECKPOINT * _CHECKPOINT_FILES

    @property
    def duration_s(self) -> float | None:
        """Of the whole run."""
        if self.step_s is None or self.validation_s is None:
            return None
        steps = self.config.optimiser.steps
        checkpoints = -(-steps // self.config.checkpoint_every_steps)
        return steps * self.step_s + checkpoints * self.validation_s

    def text(self) -> str:
        """For people, one figure a line."""
        config = self.config
        per_step = config.data.batch_size * config.optimiser.accumulation
        total = config.optimiser.steps * per_step
        crop = f"{config.data.crop_px} x {config.data.crop_px} x {config.network.channels}"
        counts = f"{self.training_images} to train on, {self.held_out_images} held out"
        lines = [
            f"plan of {config.name}: {config.network.kind} with {self.parameter_count:,} parameters",
            f"images      {counts} ({config.data.supervision}), crops of {crop}",
        ]
        if self.step_s is None:
            lines.append("steps       none: solved at once from every training image")
        else:
            epochs = f"{total / config.data.samples_per_epoch:.1f} epochs of {config.data.samples_per_epoch:,}"
            lines += [
                f"steps       {config.optimiser.steps} of {per_step} samples: {total:,} samples, {epochs}",
                f"work        {self.step_gmac:.2f} GMAC a step, {self.step_gmac / self.step_s:.1f} GMAC/s here",
                f"machine     {self.device}, {config.optimiser.precision}, {self.workers} workers",
            ]
        if self.memory_bytes is not None:
            limit = "" if self.memory_limit_bytes is None else f" of {_size(self.memory_limit_bytes)}"
            lines.append(f"memory      {_size(self.memory_bytes)}{limit}, each worker's own left out")
        lines.append(f"disk        {_size(self.disk_bytes)} for checkpoints; {_size(self.disk_free_bytes)} free")
        if self.duration_s is not None and self.step_s is not None:
            lines.append(
                f"time        {tqdm.format_interval(int(self.duration_s))} ({self.step_s * 1e3:.1f} ms a step, "
                f"{per_step / self.step_s:.4g} samples/s; checkpoints included)"
            )
        if self.disk_bytes > self.disk_free_bytes:
            lines.append("WARNING: the checkpoints will not fit on the disk; free space, or name another --run")
        return "\n".join(lines)


def make_plan(config: RunConfig, pack: Pack, folder: Path, *, device: str = "auto", workers: int | None = None) -> Plan:
    """Times a few real steps on throw-away weights.

    Args:
        config: of the run.
        pack: its images.
        folder: where the run would lie; the nearest one that exists tells how much space is free.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: as for the run.

    Raises:
        ConfigError: config and machine do not fit.
        RunError, DataError: config and images do not fit.
    """
    require_fitting_pack(config, pack)
    network = build_network(config.network)
    pixels = config.data.crop_px**2 * config.data.batch_size * config.optimiser.accumulation
    is_stepped = any(True for _ in network.parameters())
    validator = Validator(config, pack)
    step_s: float | None = None
    validation_s: float | None = None
    with joined(device, config.data.batch_size) as ranks:
        set_determinism(deterministic=config.optimiser.deterministic)
        workers = default_worker_count(ranks.device) if workers is None else workers
        if is_stepped:
            sampler = CropSampler(pack, config.noise, seed=config.seed, data=config.data)
            stepper = Stepper(config, ranks)
            with Feed(sampler, config, ranks, start=0, stop=2 * _TIMED_STEPS, workers=workers) as feed:
                for step in range(2 * _TIMED_STEPS):
                    if step == _TIMED_STEPS:
                        began_s = time.perf_counter()
                    # Its figures are looked at, so that the device is done with it.
                    stepper.step(step, feed, learning_rate(step, config.optimiser)).tolist()
                step_s = (time.perf_counter() - began_s) / _TIMED_STEPS
            began_s = time.perf_counter()
            with stepper.average.swapped_in(stepper.network):
                validator.measure(stepper.network, ranks.device)
            validation_s = time.perf_counter() - began_s
        return Plan(
            config=config,
            training_images=len(pack.training_images()),
            held_out_images=validator.image_count,
            parameter_count=sum(value.numel() for value in network.state_dict().values()),
            step_gmac=macs_per_pixel(network, side_px=config.data.crop_px) * pixels * _PASSES / 1e9,
            workers=workers,
            device=str(ranks.device),
            memory_bytes=peak_memory_bytes(ranks.device),
            memory_limit_bytes=memory_limit_bytes(),
            disk_free_bytes=shutil.disk_usage(_existing(folder)).free,
            step_s=step_s,
            validation_s=validation_s,
        )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _size(count_bytes: int) -> str:
    return tqdm.format_sizeof(count_bytes, suffix="B", divisor=1000)
