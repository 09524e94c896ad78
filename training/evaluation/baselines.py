"""Denoisers without a network, for the tables of every report: median, wavelet, non-local means, patch PCA.

Each is told the noise level, or estimates it; the networks are told nothing. Images are (H, W, C) float32 in 0..1
units, of one channel or three, and noise levels are in 8-bit levels. Principal components at the code length of a
bottleneck model are a network of their own, see ``training.networks.pca``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means, denoise_wavelet

from denoised.noise import LEVELS_8BIT, Image
from denoised.statistics import immerkaer_sigma, sample_blocks

# Below this there is nothing to remove, and thresholds of 0 break some methods.
_LEAST_SIGMA: Final = 0.1


@dataclass(frozen=True, slots=True)
class Median:
    """Median of a square window in each channel; the wider one from a noise level on."""

    narrow_px: int = 3
    wide_px: int = 5
    wide_from_sigma: float = 35.0

    @property
    def name(self) -> str:
        return f"median {self.narrow_px}/{self.wide_px} px"

    def __call__(self, noisy: Image, sigma: float | None) -> Image:
        side_px = self.wide_px if _known(noisy, sigma) >= self.wide_from_sigma else self.narrow_px
        planes = (cv2.medianBlur(np.ascontiguousarray(plane), side_px) for plane in noisy.transpose(2, 0, 1))
        return np.stack(list(planes), axis=2)


@dataclass(frozen=True, slots=True)
class Wavelet:
    """BayesShrink, soft thresholds by scale: Chang, Yu, Vetterli, IEEE TIP 9(9), 2000; colour in YCbCr."""

    wavelet: str = "db2"

    @property
    def name(self) -> str:
        return f"wavelet {self.wavelet}"

    def __call__(self, noisy: Image, sigma: float | None) -> Image:
        is_colour = noisy.shape[2] == 3
        unit_sigma = _known(noisy, sigma) / LEVELS_8BIT
        answer: NDArray[np.floating] = denoise_wavelet(
            noisy if is_colour else noisy[:, :, 0],
            sigma=unit_sigma,
            wavelet=self.wavelet,
            method="BayesShrink",
            mode="soft",
            convert2ycbcr=is_colour,
            rescale_sigma=True,
            channel_axis=-1 if is_colour else None,
        )
        return answer.astype(np.float32).reshape(noisy.shape)


@dataclass(frozen=True, slots=True)
class NonLocalMeans:
    """Buades, Coll, Morel, CVPR 2005, in scikit-image's fast form; ``strength`` times sigma is its h."""

    patch_px: int = 5
    distance_px: int = 6
    strength: float = 0.6

    @property
    def name(self) -> str:
        return f"non-local means {self.patch_px} px"

    def __call__(self, noisy: Image, sigma: float | None) -> Image:
        unit_sigma = _known(noisy, sigma) / LEVELS_8BIT
        answer: NDArray[np.floating] = denoise_nl_means(
            noisy,
            patch_size=self.patch_px,
            patch_distance=self.distance_px,
            h=self.strength * unit_sigma,
            sigma=unit_sigma,
            fast_mode=True,
            channel_axis=-1,
        )
        return answer.astype(np.float32).reshape(noisy.shape)


@dataclass(frozen=True, slots=True)
class PatchPca:
    """Principal components of the image's own patches, small coefficients set to zero, overlapping patches averaged.

    Deledalle, Salmon, Dalalyan, "Image denoising with patch based PCA: local versus global", BMVC 2011, the global
    form with a hard threshold of ``threshold`` sigma.
    """

    patch_px: int = 7
    threshold: float = 2.75
    # Patches that are held at a time.
    chunk_count: int = 65_536

    @property
    def name(self) -> str:
        return f"patch PCA {self.patch_px} px"

    def __call__(self, noisy: Image, sigma: float | None) -> Image:
        side_px = min(self.patch_px, *noisy.shape[:2])
        limit = np.float32(self.threshold * _known(noisy, sigma) / LEVELS_8BIT)
        mean, axes = self._components(noisy, side_px)
        total = np.zeros_like(noisy)
        weight = np.zeros((*noisy.shape[:2], 1), dtype=np.float32)
        for top, patches in self._chunks(noisy, side_px):
            coefficients = (patches.reshape(-1, mean.size) - mean) @ axes
            coefficients[np.abs(coefficients) < limit] = 0.0
            kept = (coefficients @ axes.T + mean).reshape(patches.shape)
            rows, columns = patches.shape[:2]
            for row in range(side_px):
                for column in range(side_px):
                    place = slice(top + row, top + row + rows), slice(column, column + columns)
                    total[place] += kept[:, :, :, row, column]
                    weight[place] += 1.0
        total /= weight
        return total

    def _components(self, noisy: Image, side_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(V,) mean and (V, V) eigenvectors of the covariance of all patches."""
        value_count = side_px * side_px * noisy.shape[2]
        sums, products, count = np.zeros(value_count), np.zeros((value_count, value_count)), 0
        for _, patches in self._chunks(noisy, side_px):
            values = patches.reshape(-1, value_count)
            sums += values.sum(axis=0, dtype=np.float64)
            products += values.T @ values
            count += len(values)
        mean = sums / count
        _, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
        return mean.astype(np.float32), axes.astype(np.float32)

    def _chunks(self, noisy: Image, side_px: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(top row, patches (rows, columns, C, side, side)) until every place of a patch was there once."""
        windows = np.lib.stride_tricks.sliding_window_view(noisy, (side_px, side_px), axis=(0, 1))
        step = max(self.chunk_count // windows.shape[1], 1)
        for top in range(0, len(windows), step):
            yield top, windows[top : top + step]


Method = Median | Wavelet | NonLocalMeans | PatchPca


def _known(noisy: Image, sigma: float | None) -> float:
    """The noise level in 8-bit levels, given or estimated; never 0."""
    return max(immerkaer_sigma(sample_blocks(noisy)) if sigma is None else sigma, _LEAST_SIGMA)


def _by_name(*methods: Method) -> Mapping[str, Callable[[Image, float | None], Image]]:
    return {method.name: method for method in methods}


# Strengths that did best on photographs with clipped 8-bit noise of sigma 25.
FAST_BASELINES: Final = _by_name(Median(), Wavelet())
BASELINES: Final = {**FAST_BASELINES, **_by_name(NonLocalMeans(), PatchPca())}
