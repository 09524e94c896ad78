"""What is sent: known noise, by position in the set, in the form of the clean image."""

import numpy as np
import pytest

from denoised.noise import benchmark_noisy
from tests.bench.quality.images import CleanImage
from tests.bench.quality.protocols import PHOTO_GAIN, PHOTO_READ_NOISE, Condition, photo_noisy


def image(level: int, *, index: int = 0, channels: int = 3) -> CleanImage:
    return CleanImage("flat", index, np.full((192, 192, 3) if channels == 3 else (192, 192), level, np.uint8))


@pytest.mark.parametrize("index", [0, 7])
def test_gaussian_noise_is_the_benchmarks(index: int) -> None:
    sent = Condition("gaussian", 25).noisy(image(128, index=index))

    assert np.array_equal(sent, benchmark_noisy(image(128).samples, sigma=25, index=index))


def test_grey_versions_are_lumas_own_form_with_its_own_noise() -> None:
    samples = np.zeros((16, 16, 3), np.uint8)
    samples[...] = (200, 100, 50)
    colour = CleanImage("colour", 3, samples)
    condition = Condition("gaussian", 15, is_grey=True)

    # 0.299 R + 0.587 G + 0.114 B
    assert condition.reference(colour).samples[0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert condition.noisy(colour).shape == (16, 16)


def test_nothing_is_added_to_clean_images() -> None:
    assert np.array_equal(Condition("clean").noisy(image(77)), image(77).samples)


@pytest.mark.parametrize("level", [64, 128, 192])
def test_photo_noise_grows_with_brightness_as_stated_and_jpeg_changes_it_little(level: int) -> None:
    flat = image(level, channels=1).samples
    before_jpeg = 255 * np.sqrt(PHOTO_GAIN * level / 255 + PHOTO_READ_NOISE**2)

    measured = (photo_noisy(flat, index=0).astype(float) - level).std()

    assert measured == pytest.approx(before_jpeg, rel=0.08)
    assert measured != pytest.approx(before_jpeg, rel=0.001)


def test_photo_noise_is_that_of_the_position() -> None:
    flat = image(100).samples

    assert np.array_equal(photo_noisy(flat, index=1), photo_noisy(flat, index=1))
    assert not np.array_equal(photo_noisy(flat, index=1), photo_noisy(flat, index=2))


def test_classical_methods_are_told_the_level_or_the_true_mean() -> None:
    clean = image(128)
    noisy = clean.samples.copy()
    noisy[::2] += 6

    assert Condition("gaussian", 50).told_sigma(clean, noisy) == 50
    assert Condition("photo").told_sigma(clean, noisy) == pytest.approx(np.sqrt(36 / 2))
