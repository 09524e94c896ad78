"""PSNR and SSIM: known answers, the reference implementation, and what must hold for any two pictures."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from denoised.noise import benchmark_noisy
from denoised.quality import (
    PSNR_CEILING_DB,
    Interval,
    capped_psnr_db,
    detail_kept,
    mean_interval,
    psnr_db,
    ssim,
    student_t,
)

# Background load must not decide whether a test passes.
unhurried = settings(deadline=None, max_examples=40)

Picture = NDArray[np.uint8]

shapes = st.tuples(st.integers(11, 20), st.integers(11, 20)) | st.tuples(
    st.integers(11, 20), st.integers(11, 20), st.sampled_from([1, 3])
)


@st.composite
def picture_pairs(draw: st.DrawFn) -> tuple[Picture, Picture]:
    shape = draw(shapes)
    one, other = (draw(arrays(np.uint8, shape, elements=st.integers(0, 255))) for _ in range(2))
    return one, other


def noise_picture(seed: int, shape: tuple[int, ...]) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# PSNR


@pytest.mark.parametrize(
    ("difference", "expected_db"),
    [(1, 20 * math.log10(255)), (5, 20 * math.log10(51)), (255, 0.0)],
    ids=["one level", "a fiftieth", "white for black"],
)
def test_psnr_of_a_constant_error_is_known(difference: int, expected_db: float) -> None:
    black = np.zeros((4, 5, 3), dtype=np.uint8)
    assert psnr_db(black + np.uint8(difference), black) == pytest.approx(expected_db, abs=1e-12)


def test_psnr_averages_the_squares_over_all_pixels_and_channels() -> None:
    reference = np.full((2, 2, 3), 100, dtype=np.uint8)
    image = reference.copy()
    image[0, 0, 0] += 6
    image[1, 1, 2] -= 12
    assert psnr_db(image, reference) == pytest.approx(10 * math.log10(255**2 / ((36 + 144) / 12)), abs=1e-12)


def test_psnr_does_not_wrap_around_in_eight_bits() -> None:
    one, two = np.full((3, 3), 1, dtype=np.uint8), np.full((3, 3), 2, dtype=np.uint8)
    assert psnr_db(one, two) == psnr_db(two, one) == pytest.approx(20 * math.log10(255), abs=1e-12)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    picture = noise_picture(0, (5, 7, 3))
    assert psnr_db(picture, picture.copy()) == math.inf


def test_for_means_equal_pictures_count_as_the_ceiling_others_as_they_are_and_broken_ones_as_no_number() -> None:
    black = np.zeros((4, 4), np.float32)
    assert capped_psnr_db(black, black) == PSNR_CEILING_DB
    assert capped_psnr_db(black + 10, black) == psnr_db(black + 10, black)
    assert math.isnan(capped_psnr_db(black * np.float32(math.nan), black))


def test_psnr_is_the_same_for_every_depth_of_one_picture() -> None:
    clean, noisy = noise_picture(1, (16, 16)), noise_picture(2, (16, 16))
    expected_db = psnr_db(noisy, clean)
    as_u16 = [picture.astype(np.uint16) * 257 for picture in (noisy, clean)]
    as_float = [picture / 255 for picture in (noisy, clean)]
    assert psnr_db(*as_u16, value_range=65535) == pytest.approx(expected_db, abs=1e-9)
    assert psnr_db(*as_float, value_range=1.0) == pytest.approx(expected_db, abs=1e-9)


@pytest.mark.parametrize("sigma", [5.0, 15.0, 25.0])
def test_psnr_of_unclipped_noise_follows_from_its_level(sigma: float) -> None:
    grey = np.full((256, 256, 3), 128, dtype=np.uint8)
    # Rounding adds a twelfth of a squared level; five standard errors of a variance from 196,608 values.
    expected_db = 10 * math.log10(255**2 / (sigma**2 + 1 / 12))
    tolerance_db = 10 / math.log(10) * 5 * math.sqrt(2 / grey.size)
    assert psnr_db(benchmark_noisy(grey, sigma=sigma, index=0), grey) == pytest.approx(expected_db, abs=tolerance_db)


@unhurried
@given(picture_pairs())
def test_psnr_is_symmetric_and_never_negative_for_eight_bits(pair: tuple[Picture, Picture]) -> None:
    one, other = pair
    assert psnr_db(one, other) == psnr_db(other, one)
    assert psnr_db(one, other) >= 0


@unhurried
@given(picture_pairs())
def test_psnr_agrees_with_scikit_image(pair: tuple[Picture, Picture]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    one, other = pair
    if np.array_equal(one, other):
        assert psnr_db(one, other) == math.inf
    else:
        expected_db = metrics.peak_signal_noise_ratio(other, one, data_range=255)
        assert psnr_db(one, other) == pytest.approx(expected_db, abs=1e-9)


# SSIM


def test_ssim_of_two_constant_pictures_is_the_luminance_term() -> None:
    dark, light = np.full((16, 16), 50, dtype=np.uint8), np.full((16, 16), 200, dtype=np.uint8)
    stabiliser = (0.01 * 255) ** 2
    expected = (2 * 50 * 200 + stabiliser) / (50**2 + 200**2 + stabiliser)
    assert ssim(dark, light) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_a_picture_of_one_window_weighs_by_a_gaussian() -> None:
    one, other = noise_picture(3, (11, 11)), noise_picture(4, (11, 11))
    row = np.exp(-(np.arange(-5.0, 6.0) ** 2) / (2 * 1.5**2))
    weights = np.outer(row, row) / row.sum() ** 2
    x, y = one.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = np.sum(weights * x), np.sum(weights * y)
    covariance = np.cov(x.ravel(), y.ravel(), aweights=weights.ravel(), ddof=0)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance[0, 1] + c2) / (covariance[0, 0] + covariance[1, 1] + c2)
    assert ssim(one, other) == pytest.approx(luminance * structure, abs=1e-9)


@pytest.mark.parametrize("shape", [(11, 11), (12, 40), (33, 21, 1), (17, 19, 3)], ids=str)
def test_ssim_of_equal_pictures_is_one(shape: tuple[int, ...]) -> None:
    picture = noise_picture(5, shape)
    assert ssim(picture, picture.copy()) == pytest.approx(1.0, abs=1e-12)


def test_ssim_of_a_negative_is_negative() -> None:
    picture = noise_picture(6, (64, 64))
    assert ssim(255 - picture, picture) < -0.9


def test_ssim_is_the_mean_over_channels() -> None:
    one, other = noise_picture(7, (24, 30, 3)), noise_picture(8, (24, 30, 3))
    channels = [ssim(one[..., channel], other[..., channel]) for channel in range(3)]
    assert ssim(one, other) == pytest.approx(np.mean(channels), abs=1e-12)


@unhurried
@given(picture_pairs())
def test_ssim_is_symmetric_and_bounded(pair: tuple[Picture, Picture]) -> None:
    one, other = pair
    assert ssim(one, other) == pytest.approx(ssim(other, one), abs=1e-12)
    assert -1 - 1e-9 <= ssim(one, other) <= 1 + 1e-9


@unhurried
@given(picture_pairs())
def test_ssim_does_not_depend_on_orientation_or_depth(pair: tuple[Picture, Picture]) -> None:
    one, other = pair
    expected = ssim(one, other)
    assert ssim(one[::-1], other[::-1]) == pytest.approx(expected, abs=1e-9)
    assert ssim(np.rot90(one), np.rot90(other)) == pytest.approx(expected, abs=1e-9)
    assert ssim(one / 255, other / 255, value_range=1.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["camera", "coffee", "rocket"])
@pytest.mark.parametrize("sigma", [15.0, 50.0])
def test_ssim_agrees_with_scikit_image_on_photographs(name: str, sigma: float) -> None:
    # scikit-image's window with these options has radius int(3.5 * 1.5 + 0.5) = 5, so 11 x 11, and its mean leaves
    # out a border of 5 pixels and then averages channels: the very positions and order of this definition.
    data = pytest.importorskip("skimage.data")
    metrics = pytest.importorskip("skimage.metrics")
    clean = getattr(data, name)()[100:260, 150:350]
    noisy = benchmark_noisy(clean, sigma=sigma, index=0)
    expected = metrics.structural_similarity(
        noisy,
        clean,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if clean.ndim == 3 else None,
    )
    assert 0.05 < expected < 0.95
    assert ssim(noisy, clean) == pytest.approx(expected, abs=1e-9)


# Refusals


@pytest.mark.parametrize("metric", [psnr_db, ssim], ids=["psnr", "ssim"])
@pytest.mark.parametrize("shape", [(16, 17), (17, 16), (16, 16, 1), (16, 16, 3), (1, 1)], ids=str)
def test_pictures_of_other_shape_are_refused_and_named(metric: Callable[..., float], shape: tuple[int, ...]) -> None:
    # Broadcasting would otherwise compare each channel, or each row, with the same values.
    with pytest.raises(ValueError, match=r"shapes differ: image \(.*\), reference \(16, 16\)"):
        metric(np.zeros(shape, dtype=np.uint8), np.zeros((16, 16), dtype=np.uint8))


@pytest.mark.parametrize(("height_px", "width_px"), [(10, 64), (64, 10), (1, 1)])
def test_ssim_refuses_pictures_smaller_than_its_window(height_px: int, width_px: int) -> None:
    picture = np.zeros((height_px, width_px, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=f"{width_px} x {height_px}.*at least 11"):
        ssim(picture, picture)


# Detail kept


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.float64]:
    data = pytest.importorskip("skimage.data")
    return np.asarray(data.astronaut()[100:260, 150:350], dtype=np.float64)


def test_a_perfect_copy_keeps_all_detail_and_its_mean_none(photograph: NDArray[np.float64]) -> None:
    assert detail_kept(photograph.copy(), photograph) == pytest.approx(1.0, abs=1e-12)
    flat = np.full_like(photograph, photograph.mean())
    assert detail_kept(flat, photograph) == pytest.approx(0.0, abs=1e-12)


def test_half_the_contrast_keeps_half_the_detail(photograph: NDArray[np.float64]) -> None:
    assert detail_kept(100 + photograph / 2, photograph) == pytest.approx(0.5, abs=1e-12)


def test_invented_texture_and_noise_are_no_detail(photograph: NDArray[np.float64]) -> None:
    flat = np.full_like(photograph, 128.0)
    invented = np.random.default_rng(0).normal(0, 40, photograph.shape)
    # Uncorrelated with the clean picture: five standard errors of the projection.
    assert abs(detail_kept(flat + invented, photograph)) < 0.05
    assert detail_kept(photograph + invented, photograph) == pytest.approx(1.0, abs=0.05)


def test_more_blur_keeps_less_detail(photograph: NDArray[np.float64]) -> None:
    def blurred(times: int) -> NDArray[np.float64]:
        picture = photograph
        for _ in range(times):
            for axis in (0, 1):
                picture = (np.roll(picture, 1, axis) + 2 * picture + np.roll(picture, -1, axis)) / 4
        return picture

    kept = [detail_kept(blurred(times), photograph) for times in range(5)]
    assert kept == sorted(kept, reverse=True)
    assert kept[4] < 0.35


def test_shading_is_no_detail() -> None:
    texture = noise_picture(9, (40, 40)).astype(np.float64)
    ramp = np.linspace(0, 500, 40)[:, None]
    assert detail_kept(texture + ramp, texture) == pytest.approx(1.0, abs=1e-12)


def test_a_picture_without_detail_has_none_to_lose() -> None:
    flat = np.full((8, 8), 7, dtype=np.uint8)
    assert detail_kept(noise_picture(1, (8, 8)), flat) == 1.0


@pytest.mark.parametrize("side_px", [1, 4])
def test_the_detail_figure_refuses_pictures_smaller_than_its_filter(side_px: int) -> None:
    picture = np.zeros((side_px, 64), dtype=np.uint8)
    with pytest.raises(ValueError, match=f"64 x {side_px}.*at least 5"):
        detail_kept(picture, picture)


# Intervals


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 12, 30, 200])
def test_quantiles_of_students_t_agree_with_scipy(degrees: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student_t(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-3)


def test_an_interval_of_three_values_is_known() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.high is not None
    assert interval.high - 2.0 == pytest.approx(4.30265 / math.sqrt(3), rel=1e-4)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_interval([3.5]) == Interval(3.5, None, None, 1)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(4)
    intervals = [mean_interval(rng.normal(10, 3, size=6).tolist()) for _ in range(2000)]
    held = sum(1 for i in intervals if i.low is not None and i.high is not None and i.low <= 10 <= i.high)
    assert held / len(intervals) == pytest.approx(0.95, abs=5 * math.sqrt(0.95 * 0.05 / 2000))
