"""Principal components against a singular value decomposition, and that nothing but the images decides them."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from training.config import PcaConfig
from training.errors import DataError
from training.networks import PrincipalComponents

pytestmark = pytest.mark.training

CONFIG = PcaConfig(kind="pca", side_px=6, code_length=5)


def pictures(count: int = 200, *, offset: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Correlated pixels: a few random patterns, mixed, and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(8, 36, generator=generator)
    weights = torch.randn(count, 8, generator=generator) * torch.tensor([8.0, 6, 5, 4, 3, 2, 1, 0.5])
    noise = torch.randn(count, 36, generator=generator)
    return (offset + 0.5 + 0.01 * weights @ patterns + 0.005 * noise).reshape(count, 1, 6, 6)


def fitted(images: torch.Tensor, *, batch_size: int = 64, config: PcaConfig = CONFIG) -> PrincipalComponents:
    network = PrincipalComponents(config)
    network.fit(torch.split(images, batch_size))
    return network


def test_the_components_are_those_of_a_singular_value_decomposition() -> None:
    images = pictures()
    network = fitted(images)
    values = images.flatten(1).double().numpy()
    _, singular, directions = np.linalg.svd(values - values.mean(0), full_matrices=False)
    np.testing.assert_allclose(network.mean.numpy(), values.mean(0), atol=1e-6)
    np.testing.assert_allclose(np.abs(network.components.numpy()), np.abs(directions[:5]), atol=1e-5)
    np.testing.assert_allclose(network.explained_variance.numpy(), singular[:5] ** 2 / 199, rtol=1e-5)
    assert float(network.total_variance) == pytest.approx((singular**2).sum() / 199, rel=1e-6)


def test_the_reconstruction_is_the_best_that_any_linear_code_of_that_length_gives() -> None:
    images = pictures()
    error = (fitted(images)(images).image - images).square().sum()
    values = images.flatten(1).double().numpy()
    singular = np.linalg.svd(values - values.mean(0), compute_uv=False)
    assert float(error) == pytest.approx((singular[5:] ** 2).sum(), rel=1e-4)


def test_the_components_are_orthonormal_and_their_largest_entry_is_positive() -> None:
    components = fitted(pictures()).components
    torch.testing.assert_close(components @ components.T, torch.eye(5), rtol=0, atol=1e-5)
    assert torch.all(components.gather(1, components.abs().argmax(1, keepdim=True)) > 0)


def test_codes_are_uncorrelated_and_have_the_explained_variance() -> None:
    images = pictures()
    network = fitted(images)
    covariance = torch.cov(network.encode(images).mean.double().T)
    torch.testing.assert_close(covariance, torch.diag(network.explained_variance).double(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_how_the_images_come_in_batches_changes_nothing(batch_size: int) -> None:
    one, other = fitted(pictures()), fitted(pictures(), batch_size=batch_size)
    torch.testing.assert_close(other.components, one.components, rtol=0, atol=1e-6)
    torch.testing.assert_close(other.mean, one.mean, rtol=0, atol=1e-6)


def test_fitting_twice_gives_the_same_bits() -> None:
    once, again = fitted(pictures()).state_dict(), fitted(pictures()).state_dict()
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_values_far_from_zero_cancel_nothing() -> None:
    near, far = fitted(pictures().double()), fitted(pictures().double() + 1e6)
    torch.testing.assert_close(far.components, near.components, rtol=0, atol=1e-5)
    torch.testing.assert_close(far.explained_variance, near.explained_variance, rtol=1e-5, atol=0)


def test_there_is_nothing_to_train() -> None:
    assert list(PrincipalComponents(CONFIG).parameters()) == []


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_images_are_refused_with_both_numbers(count: int) -> None:
    with pytest.raises(DataError, match=rf"{count} images.* 5 principal"):
        fitted(pictures(count))


def test_no_image_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="0 images"):
        PrincipalComponents(CONFIG).fit(())
