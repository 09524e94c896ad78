"""The statistics of an answer: noise found within a stated error, zero where nothing is, defined on any size."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from denoised import statistics
from denoised.noise import benchmark_noisy, keyed_rng
from denoised.statistics import (
    Code,
    CodeDensity,
    EnergyModel,
    Statistics,
    bernoulli_nats,
    bits_per_pixel,
    gaussian_nats,
    immerkaer_sigma,
    joint_sigma,
    kl_nats,
    measure,
    measure_blocks,
    sample_blocks,
    sure,
    wavelet_sigma,
)

Image = NDArray[np.float32]
Estimator = Callable[[Image], float]


def picture(height_px: int = 256, width_px: int = 256, channels: int = 3) -> Image:
    """Slow waves, each channel another, well inside 0..1."""
    rows, columns = np.mgrid[0:height_px, 0:width_px] / 128
    planes = [0.5 + 0.15 * np.sin(3 * rows + index) * np.cos(2 * columns) for index in range(channels)]
    return np.stack(planes, axis=2).astype(np.float32)


def noisy(clean: Image, sigma: float, *, key: int = 1) -> Image:
    rng = keyed_rng(key)
    return clean + rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(sigma / 255)


def numbers(found: Statistics) -> Iterator[float]:
    yield from found.comparable().values()
    yield found.sigma
    yield from found.colour_bias


# --- where the samples come from


@given(height_px=st.integers(1, 700), width_px=st.integers(1, 700), channels=st.sampled_from([1, 3]))
def test_a_sample_never_exceeds_its_limit_and_lies_inside_the_image(
    height_px: int, width_px: int, channels: int
) -> None:
    positions = np.arange(height_px * width_px, dtype=np.int32).reshape(height_px, width_px, 1)
    image = np.broadcast_to(positions, (height_px, width_px, channels))
    blocks = sample_blocks(image)
    assert blocks.flags.c_contiguous
    assert blocks.dtype == image.dtype
    assert blocks.size <= 131_072
    if image.size <= 131_072:
        assert np.array_equal(blocks[0].transpose(1, 2, 0), image)
    else:
        assert blocks.size > 131_072 / 3
        # Neighbours in a block are neighbours in the image, and no pixel is taken twice.
        assert (np.diff(blocks, axis=3) == 1).all()
        assert (np.diff(blocks, axis=2) == width_px).all()
        assert len(np.unique(blocks[:, 0])) == blocks[:, 0].size


@pytest.mark.parametrize("shape", [(3000, 2000, 3), (24, 9000, 3), (9000, 5, 1), (1, 300_000, 1), (2000, 2000, 1)])
def test_the_blocks_of_a_large_image_reach_from_edge_to_edge(shape: tuple[int, int, int]) -> None:
    height_px, width_px, _ = shape
    rows, columns = np.mgrid[0:height_px, 0:width_px]
    for position in (rows, columns):
        blocks = sample_blocks(np.broadcast_to(position[:, :, None], shape))
        assert blocks.min() == 0
        assert blocks.max() == position.max()


# --- noise


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [2.0, 10.0, 25.0, 50.0])
@pytest.mark.parametrize("estimate", [wavelet_sigma, immerkaer_sigma])
def test_both_estimators_find_white_noise_within_three_percent(
    estimate: Estimator, sigma: float, channels: int
) -> None:
    blocks = sample_blocks(noisy(picture(channels=channels), sigma))
    assert estimate(blocks) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("estimate", [wavelet_sigma, immerkaer_sigma])
def test_a_ramp_is_no_noise(estimate: Estimator) -> None:
    rows, columns = np.mgrid[0:64, 0:64]
    ramp = ((rows + 2 * columns) / 200).astype(np.float32)[:, :, None]
    assert estimate(sample_blocks(ramp)) < 1e-3


@pytest.mark.parametrize("estimate", [wavelet_sigma, immerkaer_sigma])
def test_noise_of_8_bit_samples_is_found_without_steps(estimate: Estimator) -> None:
    clean_u8 = np.rint(picture() * 255).astype(np.uint8)
    for sigma in (5.0, 5.3, 5.6):
        unit = benchmark_noisy(clean_u8, sigma=sigma, index=0).astype(np.float32) / np.float32(255)
        assert estimate(sample_blocks(unit)) == pytest.approx(sigma, rel=0.03)


def test_correlated_noise_makes_the_estimators_disagree_with_the_truth_and_the_residual_correlated() -> None:
    white = keyed_rng(3).standard_normal((258, 258, 1), dtype=np.float32) * np.float32(30 / 255)
    smooth = (white[:-2, :-2] + white[1:-1, :-2] + white[:-2, 1:-1] + white[1:-1, 1:-1]) / np.float32(4)
    clean = picture(channels=1)
    found = measure(clean + smooth, clean)
    assert found.immerkaer_sigma < 0.6 * 15
    assert found.correlation_horizontal == pytest.approx(0.5, abs=0.03)
    assert found.correlation_vertical == pytest.approx(0.5, abs=0.03)
    assert found.neighbour_correlation == pytest.approx(0.5, abs=0.03)


def test_with_the_answer_in_hand_clipping_takes_no_noise_away() -> None:
    # A third of the picture is nearly black: half of its noise is clipped.
    clean = np.full((240, 240, 1), 0.5, dtype=np.float32)
    clean[:80] = 0.01
    clipped = np.clip(noisy(clean, 40), 0, 1)
    blocks, answer = sample_blocks(clipped), sample_blocks(clean)
    assert wavelet_sigma(blocks) < 0.9 * 40
    assert joint_sigma(blocks, answer) == pytest.approx(40, rel=0.04)


def test_the_networks_own_estimate_is_preferred() -> None:
    clean = picture()
    assert measure(noisy(clean, 20), clean, network_sigma=17.0).sigma == 17.0
    without = measure(noisy(clean, 20), clean)
    assert without.network_sigma is None
    assert without.sigma == pytest.approx(20, rel=0.03)


# --- residual


def test_a_perfect_answer_removes_the_noise_and_leaves_no_trace() -> None:
    clean = picture(512, 512)
    found = measure(noisy(clean, 25), clean, network_sigma=25.0)
    assert found.removed_fraction == pytest.approx(1.0, abs=0.02)
    deviation = 1 / np.sqrt(found.sample_count)
    for correlation in (found.correlation_horizontal, found.correlation_vertical, found.neighbour_correlation):
        assert abs(correlation) < 6 * deviation
    assert found.channel_correlation is not None
    assert abs(found.channel_correlation) < 6 * deviation
    assert found.tail_score < 1.4
    assert max(map(abs, found.colour_bias)) < 0.3


def test_an_answer_that_changes_nothing_removed_nothing() -> None:
    image = noisy(picture(), 25)
    found = measure(image, image, network_sigma=25.0)
    assert found.removed_fraction == 0.0
    assert found.correlation_horizontal == 0.0
    assert found.tail_score == 1.0
    assert found.neighbour_correlation == 0.0
    assert found.channel_correlation == 0.0
    assert found.colour_bias == (0.0, 0.0, 0.0)


def test_a_tint_shows_in_its_channel_with_its_sign() -> None:
    clean = picture()
    tinted: Image = clean + np.array([0.0, -2 / 255, 0.0], dtype=np.float32)
    assert measure(clean, tinted).colour_bias == pytest.approx((0.0, 2.0, 0.0), abs=1e-3)


def test_one_bad_place_shows_as_tail_score() -> None:
    clean = picture()
    spoilt = clean.copy()
    spoilt[96:112, 96:112] += 0.2
    image = noisy(clean, 5)
    assert measure(image, spoilt).tail_score > 10 * measure(image, clean).tail_score


def test_texture_in_a_few_places_does_not_move_the_correlation_of_neighbours() -> None:
    clean = picture()
    answer = clean.copy()
    stripes = np.where(np.arange(256) % 8 < 4, 0.2, -0.2).astype(np.float32)
    answer[:64] += stripes[None, :, None]
    found = measure(noisy(clean, 10), answer)
    assert found.correlation_horizontal > 0.3
    assert abs(found.neighbour_correlation) < 0.03


def test_noise_that_the_channels_share_shows_as_their_correlation() -> None:
    clean = picture()
    rng = keyed_rng(4)
    shared = rng.standard_normal((256, 256, 1), dtype=np.float32) * np.float32(10 / 255)
    assert measure(clean + shared, clean).channel_correlation == pytest.approx(1.0, abs=1e-3)
    half = measure(noisy(clean + shared, 10), clean)
    assert half.channel_correlation == pytest.approx(0.5, abs=0.02)
    assert abs(half.neighbour_correlation) < 0.02
    # Opposite in two channels, and none in the third.
    opposite = shared * np.array([1.0, -1.0, 0.0], dtype=np.float32)
    assert measure(clean + opposite, clean).channel_correlation == pytest.approx(-1 / 3, abs=1e-3)


def test_an_image_with_equal_channels_is_measured_as_one() -> None:
    clean, image = picture(channels=1), noisy(picture(channels=1), 12)
    one = measure(image, clean, network_sigma=12.0)
    three = measure(np.repeat(image, 3, axis=2), np.repeat(clean, 3, axis=2), network_sigma=12.0)
    assert three.channel_correlation is None
    assert len(three.colour_bias) == 1
    assert three.sample_count == 131_072 // 3 // 1024 * 1024 < one.sample_count
    for name in ("removed_fraction", "wavelet_ratio", "reconstruction_bits_per_pixel"):
        scale = 3 if name.endswith("pixel") else 1
        assert three.comparable()[name] == pytest.approx(scale * one.comparable()[name], rel=0.02)


def test_clipped_samples_are_counted() -> None:
    image = np.full((10, 10, 1), 0.5, dtype=np.float32)
    image[0] = 0.0
    image[1, :5] = 1.0
    assert measure(image, image).clipped_share == pytest.approx(0.15)


def test_a_busy_picture_is_more_complex_than_a_smooth_one() -> None:
    clean = np.rint(picture() * 255).astype(np.float32) / np.float32(255)
    smooth, busy = (measure(image, clean).complexity_bits_per_pixel for image in (clean, noisy(clean, 25)))
    assert 0 < smooth < 0.7 * busy < 8


# --- sizes


@given(
    image=arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
        elements=st.floats(0, 1, width=32),
        fill=st.floats(0, 1, width=32),
    )
)
def test_every_number_is_finite_for_any_image_from_one_pixel_on(image: Image) -> None:
    found = measure(image, image * np.float32(0.9))
    assert all(np.isfinite(number) for number in numbers(found))
    assert all(type(number) is float for number in numbers(found))
    assert found.sigma >= 0


def test_blocks_of_another_type_give_what_the_whole_image_gives() -> None:
    clean = np.rint(picture(400, 700) * 255).astype(np.uint8)
    image = benchmark_noisy(clean, sigma=20, index=0)
    whole = measure(image.astype(np.float32) / np.float32(255), clean.astype(np.float32) / np.float32(255))
    blocks = [sample_blocks(samples).astype(np.float32) / np.float32(255) for samples in (image, clean)]
    assert measure_blocks(*blocks, pixel_count=400 * 700) == whole


def test_images_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        measure(picture(8, 8), picture(8, 9))


def test_what_a_large_image_is_found_to_be_is_what_its_small_part_is() -> None:
    clean = picture(1500, 1400)
    large = measure(noisy(clean, 25), clean, network_sigma=25.0).comparable()
    small = measure(noisy(clean, 25)[:280, :280], clean[:280, :280], network_sigma=25.0).comparable()
    for name in ("removed_fraction", "wavelet_ratio", "immerkaer_ratio", "reconstruction_bits_per_pixel"):
        assert large[name] == pytest.approx(small[name], rel=0.03)


# --- energy


def test_gaussian_energy_is_the_negative_logarithm_of_its_density() -> None:
    image, mean = np.array([[0.2, 0.9]]), np.array([[0.25, 0.7]])
    densities = np.exp(-((image - mean) ** 2) / (2 * 0.1**2)) / (0.1 * np.sqrt(2 * np.pi))
    assert gaussian_nats(image, mean, sigma=0.1) == pytest.approx(-np.log(densities).sum())


def test_bernoulli_energy_is_cross_entropy_and_finite_where_the_answer_is_wrong() -> None:
    image = np.array([1.0, 0.0, 1.0])
    assert bernoulli_nats(image, np.array([0.8, 0.1, 0.5])) == pytest.approx(-np.log(0.8 * 0.9 * 0.5))
    assert bernoulli_nats(image, 1 - image) == pytest.approx(-3 * np.log(1e-6))
    assert bernoulli_nats(image, image) == pytest.approx(0.0, abs=1e-5)


def test_kl_is_zero_for_the_prior_and_known_for_a_shifted_one() -> None:
    assert kl_nats(np.zeros(5), np.zeros(5)) == 0.0
    assert kl_nats(np.array([3.0]), np.array([0.0])) == pytest.approx(4.5)
    assert kl_nats(np.array([0.0]), np.array([np.log(4.0)])) == pytest.approx(0.5 * (4 - 1 - np.log(4)))


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8))
def test_kl_is_never_negative(pairs: list[tuple[float, float]]) -> None:
    means, log_variances = np.array(pairs).T
    assert kl_nats(means, log_variances) >= -1e-9


def test_the_density_of_a_code_is_that_of_the_fitted_gaussian() -> None:
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    mean, code = np.array([1.0, -1.0]), np.array([0.3, 0.4])
    density = CodeDensity(mean, np.linalg.inv(np.linalg.cholesky(covariance)))
    offset = code - mean
    squared = float(offset @ np.linalg.inv(covariance) @ offset)
    assert density.squared_distance(code) == pytest.approx(squared)
    expected = 0.5 * squared + 0.5 * np.log(np.linalg.det(covariance)) + np.log(2 * np.pi)
    assert density.nats(code) == pytest.approx(expected)
    diagonal, full = CodeDensity(mean, np.array([2.0, 4.0])), CodeDensity(mean, np.diag([2.0, 4.0]))
    assert diagonal.nats(code) == pytest.approx(full.nats(code))


def test_energy_is_compression_plus_reconstruction() -> None:
    image, answer = picture(8, 8, 1), picture(8, 8, 1) * np.float32(0.9)
    code = Code(np.array([1.0, 2.0]), np.array([0.0, -1.0]))
    found = measure(image, answer, code=code, model=EnergyModel(sigma=0.2)).energy
    assert found.reconstruction_nats == pytest.approx(gaussian_nats(image, answer, sigma=0.2))
    assert found.compression_nats == kl_nats(code.mean, np.array([0.0, -1.0]))
    assert found.total_nats == found.reconstruction_nats + kl_nats(code.mean, np.array([0.0, -1.0]))
    assert found.total_bits_per_pixel == bits_per_pixel(found.total_nats, 64)
    assert bits_per_pixel(64 * np.log(2), 64) == pytest.approx(1.0)


@pytest.mark.parametrize("code", [None, Code(np.array([1.0, 2.0]))])
def test_without_a_code_of_known_distribution_compression_and_total_are_undefined(code: Code | None) -> None:
    statistics = measure(picture(8, 8, 1), picture(8, 8, 1), code=code)
    found = statistics.energy
    assert found.compression_nats is None
    assert found.total_nats is None
    assert found.total_bits_per_pixel is None
    assert np.isfinite(found.reconstruction_bits_per_pixel)
    names = statistics.comparable()
    assert "compression_nats" not in names
    assert "total_bits_per_pixel" not in names


def test_the_energy_of_a_sampled_image_counts_all_its_pixels() -> None:
    clean = picture(900, 1000)
    image = noisy(clean, 25)
    model = EnergyModel(sigma=0.1)
    assert measure(image, clean, model=model).energy.reconstruction_nats == pytest.approx(
        gaussian_nats(image, clean, sigma=0.1), rel=0.01
    )


def test_a_bernoulli_model_uses_its_likelihood_and_a_fitted_code_its_density() -> None:
    image = (picture(8, 8, 1) > 0.5).astype(np.float32)
    answer = np.full_like(image, 0.5)
    model = EnergyModel("bernoulli", 0.1, CodeDensity(np.zeros(2), np.ones(2)))
    found = measure(image, answer, code=Code(np.zeros(2)), model=model)
    assert found.energy.reconstruction_nats == pytest.approx(64 * np.log(2))
    assert found.comparable()["compression_nats"] == pytest.approx(np.log(2 * np.pi))


# --- risk


def test_sure_estimates_the_error_of_a_linear_denoiser() -> None:
    clean = picture(256, 256, 1)
    image = noisy(clean, 25, key=9)

    def mean_of_five(y: Image) -> Image:
        return (y + np.roll(y, 1, 0) + np.roll(y, -1, 0) + np.roll(y, 1, 1) + np.roll(y, -1, 1)) / np.float32(5)

    estimate = sure(image, mean_of_five, sigma=25.0)
    assert estimate.divergence == pytest.approx(0.2, abs=0.02)
    true_mse = float(np.mean((mean_of_five(image) - clean) ** 2))
    assert estimate.psnr_db is not None
    assert estimate.psnr_db == pytest.approx(-10 * np.log10(true_mse), abs=0.3)
    assert sure(image, mean_of_five, sigma=25.0) == estimate
    assert sure(image, mean_of_five, sigma=25.0, seed=1) != estimate


def test_sure_of_an_identity_is_the_noise_itself_and_of_no_error_has_no_psnr() -> None:
    image = noisy(picture(64, 64, 1), 25)
    assert sure(image, lambda y: y, sigma=25.0).mse == pytest.approx((25 / 255) ** 2, rel=1e-3)
    constant = sure(image, lambda y: np.full_like(y, image.mean()), sigma=60.0)
    assert constant.mse < 0
    assert constant.psnr_db is None


def test_everything_public_is_there() -> None:
    assert all(hasattr(statistics, name) for name in statistics.__all__)
