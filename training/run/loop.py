"""One training run: samples in, checkpoints and a log out. Resumes where it stopped."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from denoised.noise import keyed_rng
from denoised.quality import psnr_db
from training.config import OptimiserConfig, RunConfig
from training.data.pack import Pack
from training.data.sampler import CropSampler
from training.errors import RunError
from training.losses import total_loss
from training.networks import build_network
from training.run.directory import RunDir

_HELD_OUT_SIDE_PX = 256
_HELD_OUT_SIGMA = 25.0
# Keeps the held-out noise apart from every training draw, whose keys start with the run's seed.
_HELD_OUT_KEY = 2**32


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where a run ended."""

    step: int
    held_out_psnr_db: float | None


class WeightAverage:
    """Exponential moving average of the weights, with the usual warm-up of the decay."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.update_count = 0
        self._decay = decay

    def update(self, network: nn.Module) -> None:
        self.update_count += 1
        decay = min(self._decay, (1 + self.update_count) / (10 + self.update_count))
        current = network.state_dict()
        torch._foreach_lerp_(list(self.weights.values()), [current[n] for n in self.weights], 1 - decay)

    @contextmanager
    def swapped_in(self, network: nn.Module) -> Iterator[None]:
        """The network carries the averaged weights inside the block, its own again after it."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)


def learning_rate(step: int, config: OptimiserConfig) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def train(
    config: RunConfig,
    pack: Pack,
    run_dir: RunDir,
    *,
    resume: bool,
    start_from: RunDir | None = None,
    show_progress: bool = True,
) -> TrainResult:
    """Runs to ``config.optimiser.steps``; writes log lines and checkpoints into ``run_dir`` on the way.

    Args:
        config: of this run.
        pack: the images.
        run_dir: where this run's files go.
        resume: continue from the newest checkpoint in ``run_dir``.
        start_from: begin with that run's averaged weights. Layers that it lacks keep their first values; a residual
            block is the identity then, so a network can be deepened without losing what it learnt.
        show_progress: draw a bar.

    Raises:
        RunError: no checkpoint to resume or start from, or its network doesn't fit.
    """
    if pack.manifest.channels != config.network.channels:
        raise RunError(
            f"the packed images have {pack.manifest.channels} channels, the network takes {config.network.channels}; "
            "prepare the images again or change network.channels"
        )
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(config.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start_from is not None and not resume:
        _adopt(network, start_from)
        run_dir.save_parent(start_from)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.optimiser.learning_rate, weight_decay=config.optimiser.weight_decay
    )
    average = WeightAverage(network, config.optimiser.ema_decay)
    start = _restore(run_dir.load_checkpoint(), network, optimiser, average) if resume else 0
    sampler = CropSampler(
        pack,
        config.noise,
        seed=config.seed,
        crop_px=config.data.crop_px,
        samples_per_epoch=config.data.samples_per_epoch,
        synthetic_share=config.data.synthetic_share,
    )
    steps = config.optimiser.steps
    run_dir.cut_log(start)
    if start >= steps:
        with average.swapped_in(network):
            return TrainResult(start, _held_out_psnr_db(network, pack, config))
    held_out_psnr_db: float | None = None
    recent: list[float] = []
    began_at_s = time.monotonic()
    with (
        run_dir.log_path.open("a", encoding="utf-8") as log,
        tqdm(total=steps, initial=start, unit="step", disable=not show_progress, smoothing=0.05) as bar,
    ):
        for step, batch in enumerate(sampler.batches(start, steps, config.data.batch_size), start=start):
            rate = learning_rate(step, config.optimiser)
            for group in optimiser.param_groups:
                group["lr"] = rate
            noisy, clean = (
                torch.from_numpy(np.ascontiguousarray(a)).to(device, memory_format=torch.channels_last)
                for a in (batch.noisy, batch.clean)
            )
            image_part = _step(network, optimiser, noisy, clean, torch.from_numpy(batch.sigma).to(device), config)
            average.update(network)
            recent.append(image_part)
            done = step + 1
            bar.update()
            is_checkpoint = done % config.checkpoint_every_steps == 0 or done == steps
            if is_checkpoint:
                with average.swapped_in(network):
                    held_out_psnr_db = _held_out_psnr_db(network, pack, config)
                run_dir.save_checkpoint(_state(done, network, optimiser, average))
            if is_checkpoint or done % config.log_every_steps == 0:
                record: dict[str, float | int] = {
                    "step": done,
                    "loss": sum(recent) / len(recent),
                    "learning_rate": rate,
                    "elapsed_s": round(time.monotonic() - began_at_s, 1),
                }
                if is_checkpoint and held_out_psnr_db is not None:
                    record["held_out_psnr_db"] = round(held_out_psnr_db, 3)
                log.write(json.dumps(record) + "\n")
                log.flush()
                bar.set_postfix_str(f"loss {record['loss']:.4g}, held out {held_out_psnr_db or float('nan'):.2f} dB")
                recent.clear()
    return TrainResult(steps, held_out_psnr_db)


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, noisy: Tensor, clean: Tensor, sigma: Tensor, config: RunConfig
) -> float:
    """One optimisation step; returns the image part of the loss."""
    with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=config.optimiser.precision == "bf16"):
        denoised = network(noisy)
    loss, image_part = total_loss(denoised, clean, sigma, config.loss)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.gradient_clip_norm)
    optimiser.step()
    return float(image_part.detach())


def _held_out_psnr_db(network: nn.Module, pack: Pack, config: RunConfig) -> float | None:
    """Mean PSNR on the centre of each held-out image at one noise level; None when nothing is held out."""
    multiple_px = config.network.size_multiple_px
    images = [image for image in pack.held_out_images() if min(image.height_px, image.width_px) >= multiple_px]
    if not images:
        return None
    sigma = min(max(_HELD_OUT_SIGMA, config.noise.sigma_min), config.noise.sigma_max)
    values = []
    for index, image in enumerate(images):
        height_px, width_px = (
            min(_HELD_OUT_SIDE_PX, side // multiple_px * multiple_px) for side in (image.height_px, image.width_px)
        )
        top, left = (image.height_px - height_px) // 2, (image.width_px - width_px) // 2
        clean_u8 = pack.pixels(image)[top : top + height_px, left : left + width_px]
        clean = clean_u8.astype(np.float32) / np.float32(255.0)
        noisy = config.noise.apply(clean, sigma=sigma, rng=keyed_rng(_HELD_OUT_KEY, index))
        device = next(network.parameters()).device
        with torch.no_grad():
            output = network(torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None].to(device)).image
        values.append(psnr_db(np.rint(output[0].clamp(0, 1).cpu().numpy().transpose(1, 2, 0) * 255), clean_u8))
    return float(np.mean(values))


def _adopt(network: nn.Module, parent: RunDir) -> None:
    """Takes over a finished run's averaged weights."""
    weights = parent.load_checkpoint()["average"]
    own = network.state_dict()
    foreign = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
    if foreign:
        raise RunError(
            f"{parent.path} has {len(foreign)} weights that this network lacks or shapes otherwise, such as "
            f"{foreign[0]}; start from a run with the same widths and no more blocks"
        )
    network.load_state_dict(own | weights)


def _state(step: int, network: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage) -> dict[str, Any]:
    return {
        "step": step,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.weights,
        "average_update_count": average.update_count,
    }


def _restore(
    state: dict[str, Any], network: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage
) -> int:
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    for name, value in state["average"].items():
        average.weights[name].copy_(value)
    average.update_count = state["average_update_count"]
    return int(state["step"])
