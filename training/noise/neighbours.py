"""Learning from noisy images alone: Neighbor2Neighbor (Huang et al., CVPR 2021).

Two neighbouring pixels show nearly the same scene with independent noise. An image is split into cells of 2x2 pixels,
and two pixels that touch are drawn from each: two images of half the size, of which one is the input and the other
the target. A term that compares with the answer to the whole image takes back what neighbours really differ by.

It needs noise that is independent between pixels: raw frames, microscope and sensor data; not demosaiced photographs or
JPEG files, of which it would learn to keep the noise. Errors are squared, and the config refuses other image terms: the
mean of noisy targets is the clean image, their median or their structure is not.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from denoised.noise import keyed_rng
from training.losses import LossParts, sigma_loss
from training.networks.base import Answer

# What the paper takes for synthetic noise; larger means smoother answers.
FINAL_GAMMA: Final = 2.0

# Five parts long, as no other key is: these draws never meet those of a sample's place and noise or of a code.
_KEY: Final = 2
# Ordered pairs of pixels of a cell that share a side; 0 1 above 2 3.
_PAIRS: Final = torch.tensor([[0, 1], [0, 2], [1, 3], [2, 3], [1, 0], [2, 0], [3, 1], [3, 2]])


class Split(NamedTuple):
    """Which pixels of each cell become the input and the target: (N, h / 2, w / 2) places 0 to 3 in the cell."""

    first: Tensor
    second: Tensor


def draw_split(shape: tuple[int, int], slots: range, *, seed: int, step: int) -> Split:
    """The split of some samples of one step, a pure function of (seed, step, slot).

    Args:
        shape: (h, w) of the images, both even.
        slots: places of the samples among all that the step sees, over all ranks and accumulated batches.
        seed: of the run.
        step: counted from 0.
    """
    height_px, width_px = shape
    if height_px % 2 or width_px % 2:
        raise ValueError(f"the images are {height_px} x {width_px}; cells of 2 x 2 pixels need even sides")
    cells = (height_px // 2, width_px // 2)
    choices = [keyed_rng(_KEY, seed, step, slot, 0).integers(8, size=cells, dtype=np.uint8) for slot in slots]
    pairs = _PAIRS[torch.from_numpy(np.stack(choices)).long()]
    return Split(pairs[..., 0], pairs[..., 1])


def pick(images: Tensor, places: Tensor) -> Tensor:
    """(N, C, h, w) to (N, C, h / 2, w / 2): one pixel of each cell, the same in all channels."""
    count, channels, height_px, width_px = images.shape
    cells = images.reshape(count, channels, height_px // 2, 2, width_px // 2, 2).permute(0, 1, 2, 4, 3, 5).flatten(4)
    index = places.to(images.device)[:, None, :, :, None].expand(-1, channels, -1, -1, -1)
    return cells.gather(4, index).squeeze(4)


def self_supervised_loss(
    network: Callable[[Tensor], Answer],
    noisy: Tensor,
    sigma_map: Tensor,
    *,
    step: int | None,
    steps: int,
    seed: int,
    sigma_weight: float,
    first_slot: int = 0,
) -> LossParts:
    """The loss of a network on noisy images.

    Called under the caller's autocast; errors are computed in float32. The network is called twice: on the half-size
    input, and without gradients on the whole.

    Args:
        network: takes (N, C, h, w) of half the size too.
        noisy: (N, C, h, w).
        sigma_map: (N, 1, h, w) noise level by the run's own spec, in 0..1 units.
        step: counted from 0; the weight of the regularisation grows with it. None for the weight that it ends with,
            and for draws that are the same at every checkpoint.
        steps: of the whole run.
        seed: of the run.
        sigma_weight: of the error of the network's noise map, as in the run's other losses.
        first_slot: place of the first sample among all that the step sees, over all ranks and accumulated batches.
    """
    slots = range(first_slot, first_slot + len(noisy))
    split = draw_split((noisy.shape[2], noisy.shape[3]), slots, seed=seed, step=0 if step is None else step)
    with torch.no_grad():
        whole = network(noisy).image.float()
    answer = network(pick(noisy, split.first))
    with torch.autocast(noisy.device.type, enabled=False):
        error = answer.image.float() - pick(noisy, split.second)
        expected = pick(whole, split.first) - pick(whole, split.second)
        gamma = FINAL_GAMMA * (1.0 if step is None else step / steps)
        image = error.square().mean() + gamma * (error - expected).square().mean()
        if answer.sigma_map is None:
            return LossParts(total=image, image=image)
        sigma = sigma_loss(answer.sigma_map, pick(sigma_map, split.first))
        return LossParts(total=image + sigma_weight * sigma, image=image, sigma=sigma)
