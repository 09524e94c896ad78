"""How good the averaged weights are on the held-out images: the figures that select a checkpoint and stop a run.

Noise is keyed by the image alone, so every checkpoint of every run with this config is measured on the same pixels.
Each image has its own severity within the ranges of the run's noise, evenly spread over the images. Measured in
float32, as the exported network runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoised.noise import keyed_rng
from denoised.quality import capped_psnr_db
from training.config import RunConfig
from training.data.manifest import PackedImage
from training.data.pack import Pack
from training.data.sampler import local_rms
from training.energy import EnergyMeter
from training.networks import Network
from training.run.feed import TensorBatch, keyed_epsilon
from training.run.objective import loss_of

_SIDE_PX: Final = 256
# A hundred crops of 256 x 256: enough for a mean, and seconds on a CPU.
_MOST_PIXELS: Final = 100 * _SIDE_PX**2
_BATCH_PIXELS: Final = 4 * _SIDE_PX**2
# Keep held-out draws apart from every training draw, whose keys start with the run's seed, below 2**32.
_NOISE_KEY: Final = 2**32
_EPSILON_KEY: Final = 2**32 + 1
_GOLDEN_RATIO: Final = 0.618033988749895


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Figures on the held-out images; means over images.

    Attributes:
        loss: of the run's own loss, with the weights that its schedules end with.
        psnr_db: of the answer, clipped to 0..1; None without clean truth.
        reconstruction_nats, compression_nats: the energy of an image; None where it is undefined.
        reconstruction_bits_per_pixel, energy_bits_per_pixel: the first of them, and their sum, as bits.
        active_units: numbers of the code that say something; None without a code.
    """

    loss: float
    psnr_db: float | None = None
    reconstruction_nats: float | None = None
    compression_nats: float | None = None
    reconstruction_bits_per_pixel: float | None = None
    energy_bits_per_pixel: float | None = None
    active_units: int | None = None

    def record(self) -> dict[str, float | int]:
        """Those that are defined, by their names in the log."""
        return {f"held_out_{name}": value for name in self.__slots__ if (value := getattr(self, name)) is not None}

    def metric(self, name: str) -> float | None:
        """One figure by its name in the config."""
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True, slots=True)
class _Crop:
    """The centre of a held-out image."""

    image: PackedImage
    number: int
    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Validator:
    """Measures networks on a pack's held-out images."""

    def __init__(self, config: RunConfig, pack: Pack) -> None:
        self._config = config
        self._pack = pack
        self._crops = _chosen_crops(config, pack)

    @property
    def image_count(self) -> int:
        """Images that are measured; 0 when nothing that the network can take is held out."""
        return len(self._crops)

    @torch.no_grad()
    def measure(self, network: Network, device: torch.device) -> HeldOut | None:
        """The figures, or None when nothing is held out. The network is in eval mode."""
        if not self._crops:
            return None
        config, losses, levels_db = self._config, 0.0, []
        code_length = network.code_length
        meter = None if code_length is None else EnergyMeter(config.loss, code_length=code_length, device=device)
        for samples in self._batches(device):
            losses += float(loss_of(network, samples, step=None, config=config).total) * len(samples.noisy)
            if meter is not None:
                meter.add(network(samples.noisy, samples.epsilon if samples.epsilon.shape[1] else None), samples.clean)
            if config.data.supervision != "noisy":
                levels_db += _levels_db(network(samples.noisy).image, samples.clean)
        figures = HeldOut(losses / len(self._crops), float(np.mean(levels_db)) if levels_db else None)
        return figures if meter is None else _with_energy(figures, meter)

    def examples(self, count: int) -> list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
        """(file, noisy, clean) of some of the crops, evenly chosen; (h, w, C) each."""
        chosen = self._crops[:: max(1, -(-len(self._crops) // count))]
        return [(crop.image.file, *self._pixels(crop)[:2]) for crop in chosen]

    def _batches(self, device: torch.device) -> Iterator[TensorBatch]:
        """Neighbours of one shape together; small images would be slow one by one."""
        slot = 0
        for (height_px, width_px), group in groupby(self._crops, key=lambda crop: crop.shape):
            crops, most = list(group), max(1, _BATCH_PIXELS // (height_px * width_px))
            for batch in (crops[start : start + most] for start in range(0, len(crops), most)):
                noisy, clean, sigma_map = (
                    torch.from_numpy(np.stack(part).transpose(0, 3, 1, 2).copy())
                    for part in zip(*(self._pixels(crop) for crop in batch), strict=True)
                )
                epsilon = keyed_epsilon(self._config, range(slot, slot + len(batch)), key=_EPSILON_KEY)
                yield TensorBatch(noisy, clean, sigma_map, epsilon, slot).to(device)
                slot += len(batch)

    def _pixels(self, crop: _Crop) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """(noisy, clean, sigma map), each (h, w, C or 1)."""
        unit = self._pack.unit(crop.image, crop.rows, crop.columns)
        noise = self._config.noise
        if self._config.data.supervision == "clean":
            severity = (0.5 + crop.number * _GOLDEN_RATIO) % 1.0
            drawn = noise.at(severity).apply(unit, keyed_rng(_NOISE_KEY, crop.number))
            return drawn.image, drawn.clean, drawn.sigma_map[:, :, None]
        if self._config.data.supervision == "pairs":
            noisy = self._pack.noisy_unit(crop.image, crop.rows, crop.columns)
            return noisy, unit, local_rms(noisy - unit)[:, :, None]
        return unit, unit, noise.sigma_map_of(unit)[:, :, None]


def _chosen_crops(config: RunConfig, pack: Pack) -> list[_Crop]:
    """The centres of the held-out images; of very many, an even choice."""
    multiple_px, fixed_px = config.size_multiple_px, config.network.fixed_side_px
    crops = []
    for number, image in enumerate(pack.held_out_images()):
        height_px, width_px = (
            fixed_px or min(_SIDE_PX, side // multiple_px * multiple_px) for side in (image.height_px, image.width_px)
        )
        if min(height_px, width_px) == 0 or height_px > image.height_px or width_px > image.width_px:
            continue
        top, left = (image.height_px - height_px) // 2, (image.width_px - width_px) // 2
        crops.append(_Crop(image, number, slice(top, top + height_px), slice(left, left + width_px)))
    pixels = sum(height * width for height, width in (crop.shape for crop in crops))
    return crops[:: max(1, -(-pixels // _MOST_PIXELS))]


def _levels_db(images: Tensor, clean: Tensor) -> list[float]:
    pairs = zip(images.clamp(0, 1).cpu().numpy(), clean.cpu().numpy(), strict=True)
    return [capped_psnr_db(image, target, value_range=1.0) for image, target in pairs]


def _with_energy(figures: HeldOut, meter: EnergyMeter) -> HeldOut:
    energy = meter.result()
    return HeldOut(
        figures.loss,
        figures.psnr_db,
        energy.reconstruction_nats,
        energy.compression_nats,
        energy.reconstruction_bits_per_pixel,
        energy.total_bits_per_pixel,
        energy.active_units,
    )
