"""Every baseline makes a noisy photograph better, in colour and in grey, told the noise or not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

pytest.importorskip("cv2")

from denoised.noise import benchmark_noisy
from denoised.quality import psnr_db
from training.evaluation.baselines import BASELINES, FAST_BASELINES, Median, PatchPca

pytestmark = pytest.mark.training


def photograph(channels: int) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] = data.camera() if channels == 1 else data.astronaut()  # type: ignore[no-untyped-call]  # none there
    return np.atleast_3d(whole[40:168, 160:288])


def unit(image_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    return image_u8.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(BASELINES))
def test_each_improves_a_noisy_photograph(name: str, channels: int) -> None:
    clean = photograph(channels)
    noisy = benchmark_noisy(clean, sigma=25, index=0)
    before = psnr_db(noisy, clean)
    for sigma in (25.0, None):
        answer = BASELINES[name](unit(noisy), sigma)
        assert answer.shape == clean.shape
        assert answer.dtype == np.float32
        delivered = np.rint(np.clip(answer, 0, 1) * 255)
        assert psnr_db(delivered, clean) > before + 2.0


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 3), (28, 28, 1)])
@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.filterwarnings("ignore:Level value of:UserWarning")
def test_each_takes_small_and_flat_images(name: str, shape: tuple[int, int, int]) -> None:
    flat = np.full(shape, 0.5, dtype=np.float32)
    for sigma in (0.0, 25.0, None):
        assert BASELINES[name](flat, sigma) == pytest.approx(flat, abs=0.02)


def test_names_tell_the_parameters_and_the_fast_ones_are_among_all() -> None:
    assert set(FAST_BASELINES) < set(BASELINES)
    assert Median(narrow_px=5).name == "median 5/5 px"
    assert PatchPca(patch_px=5).name == "patch PCA 5 px"


def test_patches_in_chunks_give_what_all_at_once_give() -> None:
    noisy = unit(benchmark_noisy(photograph(3)[:40, :50], sigma=25, index=0))
    whole, chunked = (PatchPca(chunk_count=count)(noisy, 25.0) for count in (65_536, 100))
    # Sums in another order let a coefficient at the threshold fall to its other side here and there.
    assert np.sqrt(np.mean((whole - chunked) ** 2)) < 1e-3
