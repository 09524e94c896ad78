"""SSIM and MS-SSIM in torch against the NumPy definition that reports measure with."""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch")

import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoised import quality
from training.similarity import ms_ssim, ssim

pytestmark = pytest.mark.training

Measure = Callable[[Tensor, Tensor], Tensor]


def photograph(side_px: int) -> Tensor:
    pixels = np.asarray(getattr(skimage.data, "astronaut")())  # noqa: B009 -- scikit-image declares no types
    return torch.from_numpy(pixels[:side_px, :side_px].transpose(2, 0, 1) / 255).float()[None]


def noisy(image: Tensor, sigma_levels: float, seed: int = 0) -> Tensor:
    return image + sigma_levels / 255 * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def in_numpy(image: Tensor, reference: Tensor) -> float:
    return quality.ssim(*(t[0].double().numpy().transpose(1, 2, 0) for t in (image, reference)), value_range=1.0)


@pytest.mark.parametrize("sigma_levels", [0, 5, 25, 100])
@pytest.mark.parametrize("side_px", [11, 12, 64])
def test_ssim_is_that_of_the_reports(side_px: int, sigma_levels: float) -> None:
    clean = photograph(side_px)
    image = noisy(clean, sigma_levels)
    assert ssim(image, clean).item() == pytest.approx(in_numpy(image, clean), abs=2e-5)


def test_ssim_of_flat_areas_is_that_of_the_reports() -> None:
    # Where nothing varies, float32 subtracts nearly equal squares.
    clean = torch.full((1, 1, 32, 32), 0.9)
    image = clean + 0.01
    assert ssim(image, clean).item() == pytest.approx(in_numpy(image, clean), abs=1e-4)


def test_ssim_answers_for_each_image_alone() -> None:
    clean = torch.cat([photograph(32), photograph(64)[..., 32:, 32:]])
    image = torch.cat([noisy(clean[:1], 10), noisy(clean[1:], 60)])
    alone = torch.cat([ssim(image[:1], clean[:1]), ssim(image[1:], clean[1:])])
    torch.testing.assert_close(ssim(image, clean), alone)
    assert alone[0] > alone[1] + 0.1


# MS-SSIM


def ms_ssim_in_numpy(image: Tensor, reference: Tensor) -> float:
    """Wang et al. 2003, from its formula, in float64 with SciPy's windows: an independent second opinion."""
    from scipy.ndimage import correlate1d

    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth: NDArray[np.float64] = correlate1d(correlate1d(values, window, axis=0), window, axis=1)
        return smooth[5:-5, 5:-5]

    channels = []
    for x, y in zip(image[0].double().numpy(), reference[0].double().numpy(), strict=True):
        similarity = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale:
                half = (x.shape[0] // 2, 2, x.shape[1] // 2, 2)
                x, y = (v[: 2 * half[0], : 2 * half[2]].reshape(half).mean((1, 3)) for v in (x, y))  # noqa: PLW2901 -- the next scale is what remains of this one
            covariance = mean(x * y) - mean(x) * mean(y)
            variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
            terms = (2 * covariance + 0.03**2) / (variances + 0.03**2)
            if scale == 4:
                terms = terms * (2 * mean(x) * mean(y) + 0.01**2) / (mean(x) ** 2 + mean(y) ** 2 + 0.01**2)
            similarity *= terms.mean() ** weight
        channels.append(similarity)
    return float(np.mean(channels))


@pytest.mark.parametrize("sigma_levels", [5, 25, 100])
@pytest.mark.parametrize("side_px", [176, 183])
def test_ms_ssim_is_its_formula(side_px: int, sigma_levels: float) -> None:
    clean = photograph(side_px)
    image = noisy(clean, sigma_levels)
    assert ms_ssim(image, clean).item() == pytest.approx(ms_ssim_in_numpy(image, clean), abs=2e-5)


def test_a_negative_has_a_finite_similarity_and_gradient() -> None:
    clean = photograph(176)
    image = (1 - clean).requires_grad_()
    similarity = ms_ssim(image, clean)
    torch.autograd.backward(similarity)
    assert 0 <= similarity.item() < 0.01
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


# Both


@pytest.mark.parametrize(("measure", "side_px"), [(ssim, 16), (ms_ssim, 176)], ids=["ssim", "ms_ssim"])
def test_equal_images_are_alike_and_noise_makes_them_less_so(measure: Measure, side_px: int) -> None:
    clean = photograph(side_px)
    values = [measure(noisy(clean, sigma), clean).item() for sigma in (0, 10, 25, 50)]
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


@pytest.mark.parametrize(("measure", "least_px"), [(ssim, 11), (ms_ssim, 176)], ids=["ssim", "ms_ssim"])
def test_a_crop_too_small_is_refused_with_its_size_and_the_limit(measure: Measure, least_px: int) -> None:
    image = torch.rand(1, 1, least_px, least_px - 1)
    with pytest.raises(ValueError, match=rf"{least_px - 1} x {least_px}.*at least {least_px}"):
        measure(image, image)


def test_the_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    image, reference = torch.rand(2, 1, 1, 12, 12, generator=generator, dtype=torch.float64)
    image.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ssim(x, reference), (image,))
