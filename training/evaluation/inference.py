"""Networks applied to whole images as arrays: padding, batches, and back. What comes out is not rounded or judged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoised.noise import LEVELS_8BIT, Image
from training.networks.base import LatentNetwork, Network

_CODE_BATCH = 256


@dataclass(frozen=True, slots=True)
class Answered:
    """What a network made of an image.

    Attributes:
        image: (H, W, C), not clipped.
        sigma_found: mean of its noise map in 8-bit levels, or None without one.
    """

    image: Image
    sigma_found: float | None


def apply_network(network: Network, noisy: Image) -> Answered:
    """The answer for a whole (H, W, C) image of any size, or of the network's one size."""
    height_px, width_px, _ = noisy.shape
    padding = [(0, -side % network.size_multiple_px) for side in (height_px, width_px)]
    padded = np.pad(noisy, (*padding, (0, 0)), mode="symmetric")
    with torch.no_grad():
        answer = network(to_batch([padded]))
    image = _from_batch(answer.image)[0][:height_px, :width_px]
    sigma = None if answer.sigma_map is None else float(answer.sigma_map.mean()) * LEVELS_8BIT
    return Answered(image, sigma)


def encode_all(
    network: LatentNetwork, images: Sequence[Image], epsilon: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(N, code_length) codes; of encoders that answer with a distribution, its means, or draws where there are epsilon.

    Args:
        network: whose encoder is asked.
        images: of its one size.
        epsilon: (N, code_length) standard normal draws.
    """
    codes = []
    with torch.no_grad():
        for start in range(0, len(images), _CODE_BATCH):
            part = slice(start, start + _CODE_BATCH)
            draws = None if epsilon is None else torch.from_numpy(epsilon[part])
            codes.append(network.encode(to_batch(images[part])).sample(draws).numpy())
    return np.concatenate(codes)


def decode_all(network: LatentNetwork, codes: NDArray[np.float32]) -> list[Image]:
    """Images of codes."""
    with torch.no_grad():
        return _from_batch(network.decode(torch.from_numpy(np.ascontiguousarray(codes))))


def to_batch(images: Sequence[Image]) -> Tensor:
    """(N, C, H, W) of images of one size."""
    stacked = np.stack(images).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(stacked, dtype=np.float32))


def _from_batch(batch: Tensor) -> list[Image]:
    return list(batch.float().numpy().transpose(0, 2, 3, 1))
