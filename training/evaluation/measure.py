"""Measures a run's network on a folder of clean images: PSNR and SSIM at chosen noise levels, as users would see them.

Input is clipped 8-bit noise by the benchmark's protocol, output is rounded to 8 bit before it is compared.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from denoised.noise import benchmark_noisy
from denoised.quality import METRIC_DEFINITION, psnr_db, ssim
from training.config import RunConfig
from training.data.files import find_images, read_image
from training.errors import DataError
from training.evaluation.scores import Evaluation, ImageScore
from training.networks import ConvDenoisingAutoencoder, build_network
from training.run.directory import RunDir


def load_network(run_dir: RunDir) -> tuple[RunConfig, ConvDenoisingAutoencoder]:
    """A run's network with its averaged weights, on the CPU, ready for inference."""
    config = run_dir.load_config()
    network = build_network(config.network)
    network.load_state_dict(run_dir.load_checkpoint()["average"])
    return config, network.eval()


def evaluate(
    network: nn.Module,
    folder: Path,
    *,
    channels: int,
    sigmas: Sequence[float],
    on_image: Callable[[Path], None] = lambda _: None,
) -> Evaluation:
    """Scores every image of a folder at every noise level; ``on_image`` is called after each image."""
    scores = []
    for index, path in enumerate(find_images(folder)):
        try:
            clean = read_image(path, channels=channels)
        except DataError as error:
            raise DataError(f"{path} {error}; mend it or take it out of the folder") from error
        for sigma in sigmas:
            noisy = benchmark_noisy(clean, sigma=sigma, index=index)
            output, sigma_found = denoise_u8(network, noisy)
            scores.append(
                ImageScore(
                    file=path.relative_to(folder).as_posix(),
                    sigma=sigma,
                    sigma_found=round(sigma_found, 2),
                    noisy_psnr_db=round(psnr_db(noisy, clean), 4),
                    psnr_db=round(psnr_db(output, clean), 4),
                    noisy_ssim=round(ssim(noisy, clean), 5),
                    ssim=round(ssim(output, clean), 5),
                )
            )
        on_image(path)
    return Evaluation(folder.name, METRIC_DEFINITION, tuple(scores))


def denoise_u8(network: nn.Module, noisy: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """(denoised, sigma in 8-bit levels) of a whole (H, W, C) uint8 image."""
    height_px, width_px, _ = noisy.shape
    multiple_px = int(network.size_multiple_px)  # type: ignore[arg-type]  # nn.Module types attributes as tensors
    padding = [(0, -side % multiple_px) for side in (height_px, width_px)]
    padded = np.pad(noisy, (*padding, (0, 0)), mode="symmetric").transpose(2, 0, 1)[np.newaxis]
    with torch.no_grad():
        denoised = network(torch.from_numpy(padded.astype(np.float32) / np.float32(255)))
    image = denoised.image[0].numpy().transpose(1, 2, 0)[:height_px, :width_px]
    output = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return output, float(denoised.sigma_map.mean()) * 255
