"""What each stage of noise does to a picture: against theory, within the sigma map, and where it must not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from denoised.noise import Demosaic, Gaussian, Image, Jpeg, NoiseSpec, Noisy, PoissonGaussian, Resize, Stage, keyed_rng


def raw(*stages: Stage) -> NoiseSpec:
    return NoiseSpec(stages, clip=False, quantise="none")


def flat(value: float, side_px: int = 256, channels: int = 3) -> Image:
    return np.full((side_px, side_px, channels), value, dtype=np.float32)


def scene(side_px: int = 256) -> Image:
    """Smooth colours with a hard edge, from dark to bright."""
    rows, columns = np.mgrid[0:side_px, 0:side_px].astype(np.float32) / side_px
    planes = (0.1 + 0.7 * columns, 0.2 + 0.5 * rows, np.where(rows > columns, 0.75, 0.15))
    return np.stack(planes, axis=2).astype(np.float32)


def noise_of(noisy: Noisy) -> NDArray[np.float64]:
    return noisy.image.astype(np.float64) - noisy.clean


def neighbours_correlate(noise: NDArray[np.float64]) -> float:
    """Correlation of a pixel with the one to its right."""
    return float(np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2))


# Gaussian


@pytest.mark.parametrize("sigma", [1.0, 15.0, 25.0, 50.0, 255.0])
def test_gaussian_noise_has_the_stated_deviation_and_no_mean(sigma: float) -> None:
    # Three million values: enough to tell 255 levels from 256.
    noise = noise_of(raw(Gaussian(sigma, sigma)).apply(flat(0.5, side_px=1024), keyed_rng(1, 2, 3))) * 255
    # Five standard errors of the deviation and of the mean of `noise.size` normal values.
    assert abs(noise.std() / sigma - 1) < 5 / np.sqrt(2 * noise.size)
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(noise.size)


def test_gaussian_noise_is_normal_white_and_independent_between_channels() -> None:
    noise = noise_of(raw(Gaussian(25.0, 25.0)).apply(flat(0.5), keyed_rng(4)))
    noise = noise / noise.std()
    five_errors = 5 / np.sqrt(noise.size)
    assert abs(np.mean(noise**3)) < five_errors * np.sqrt(15)
    assert abs(np.mean(noise**4) - 3) < five_errors * np.sqrt(96)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 1.1 * five_errors
    assert abs(np.mean(noise[:, 1:] * noise[:, :-1])) < 1.1 * five_errors
    assert abs(np.mean(noise[..., 0] * noise[..., 1])) < five_errors * np.sqrt(3)
    assert abs(np.mean(noise[..., 1] * noise[..., 2])) < five_errors * np.sqrt(3)


# Poisson-Gaussian


@pytest.mark.parametrize("signal", [0.0, 0.002, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("gain", [0.0, 0.0005, 0.02, 0.5])
@pytest.mark.parametrize("read_sigma", [0.0, 4.0])
def test_sensor_noise_has_the_mean_and_the_variance_of_theory(signal: float, gain: float, read_sigma: float) -> None:
    noisy = raw(PoissonGaussian(gain, gain, read_sigma, read_sigma)).apply(flat(signal), keyed_rng(7))
    noise = noise_of(noisy)
    variance = gain * signal + (read_sigma / 255) ** 2
    assert abs(noise.mean()) <= 5 * np.sqrt(variance / noise.size) + 1e-7
    # The fourth moment of a Poisson variable adds gain ** 3 * signal to that of a normal one.
    spread = np.sqrt((2 * variance**2 + gain**3 * signal) / noise.size)
    assert abs(noise.var() - variance) <= 5 * spread + 1e-6 * variance
    np.testing.assert_allclose(noisy.sigma_map, np.sqrt(variance), rtol=1e-5, atol=1e-9)


def test_few_photons_come_in_whole_numbers_and_lean_to_the_right() -> None:
    gain, signal = 0.1, 0.3
    noise = noise_of(raw(PoissonGaussian(gain, gain)).apply(flat(signal), keyed_rng(8)))
    counts = (noise + signal) / gain
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    assert counts.min() > -1e-4
    # The skewness of a Poisson variable is 1 / sqrt(mean).
    assert np.mean(noise**3) / noise.std() ** 3 == pytest.approx(1 / np.sqrt(3), abs=0.03)


def test_read_noise_is_the_same_in_the_dark_and_in_the_light() -> None:
    clean = scene()
    spec = raw(PoissonGaussian(1e-9, 1e-9, 5.0, 5.0))
    noise = noise_of(spec.apply(clean, keyed_rng(9))) * 255
    for part in (noise[clean < 0.3], noise[clean > 0.6]):
        assert part.std() == pytest.approx(5.0, rel=0.02)


def test_additive_noise_does_not_depend_on_the_order_of_its_stages() -> None:
    stages = (PoissonGaussian(0.01, 0.01, 2.0, 2.0), Gaussian(10.0, 10.0))
    one, other = (raw(*each).apply(scene(), keyed_rng(10)) for each in (stages, stages[::-1]))
    np.testing.assert_allclose(one.sigma_map, other.sigma_map, rtol=1e-5)
    assert noise_of(one).std() == pytest.approx(noise_of(other).std(), rel=0.01)


# The map against the noise, for every chain

CHAINS = {
    "gaussian": (Gaussian(20.0, 20.0),),
    "sensor": (PoissonGaussian(0.01, 0.01, 3.0, 3.0),),
    "few photons": (PoissonGaussian(0.1, 0.1, 1.0, 1.0),),
    "demosaiced": (PoissonGaussian(0.01, 0.01, 3.0, 3.0), Demosaic()),
    "enlarged": (PoissonGaussian(0.01, 0.01, 3.0, 3.0), Resize(0.6, 0.6)),
    "camera": (PoissonGaussian(0.01, 0.01, 3.0, 3.0), Demosaic(), Resize(0.7, 0.7)),
    "enlarged, then noisy": (Gaussian(15.0, 15.0), Resize(0.5, 0.5), Gaussian(10.0, 10.0)),
    "phone": (PoissonGaussian(0.01, 0.01, 3.0, 3.0), Demosaic(), Jpeg(85, 85)),
    "bad phone": (Gaussian(20.0, 20.0), Resize(0.6, 0.6), Jpeg(30, 30, subsampling="4:4:4")),
}


@pytest.mark.parametrize("stages", CHAINS.values(), ids=CHAINS)
def test_the_map_is_the_local_deviation_of_the_noise_within_five_percent(stages: tuple[Stage, ...]) -> None:
    clean = scene()
    squares = []
    variances = []
    for index in range(16):
        noisy = raw(*stages).apply(clean, keyed_rng(11, index))
        squares.append(noise_of(noisy) ** 2)
        variances.append(noisy.sigma_map.astype(np.float64) ** 2)
    blocks = (8, 32, 8, 32)
    found = np.mean(squares, axis=(0, 3)).reshape(blocks).mean(axis=(1, 3))
    stated = np.mean(variances, axis=0).reshape(blocks).mean(axis=(1, 3))
    np.testing.assert_allclose(np.sqrt(found), np.sqrt(stated), rtol=0.05)


@pytest.mark.parametrize("later", [(), (Gaussian(5.0, 5.0),)], ids=["file", "noise on a file"])
def test_the_map_of_a_file_without_noise_has_the_energy_of_its_artefacts(later: tuple[Stage, ...]) -> None:
    # They gather at hard edges, of which the map knows the block alone.
    noisy = raw(Jpeg(30, 30), *later).apply(scene(), keyed_rng(24))
    assert np.mean(noise_of(noisy) ** 2) == pytest.approx(np.mean(noisy.sigma_map**2), rel=0.02)


@pytest.mark.parametrize("value", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("channels", [1, 3])
def test_correlating_stages_keep_the_energy_of_the_noise(value: float, channels: int) -> None:
    clean = flat(value, 64, channels)
    sensor = PoissonGaussian(0.01, 0.01, 3.0, 3.0)
    before = noise_of(raw(sensor).apply(clean, keyed_rng(12)))
    for stage in (Demosaic(), Resize(0.5, 0.5), Resize(0.125, 0.125)):
        after = noise_of(raw(sensor, stage).apply(clean, keyed_rng(12)))
        assert np.sum(after**2) == pytest.approx(np.sum(before**2), rel=1e-3)


# Correlation


def test_noise_on_a_coarser_grid_is_correlated_the_more_the_coarser_it_is() -> None:
    found = [
        neighbours_correlate(noise_of(raw(Gaussian(20.0, 20.0), Resize(scale, scale)).apply(flat(0.5), keyed_rng(13))))
        for scale in (1.0, 0.8, 0.5, 0.25)
    ]
    assert abs(found[0]) < 0.02
    assert found == sorted(found)
    assert found[1] > 0.15
    assert found[3] > 0.85


def test_a_coarser_grid_of_the_full_size_changes_nothing() -> None:
    plain, resized = (
        raw(Gaussian(20.0, 20.0), *more).apply(scene(64), keyed_rng(14)).image for more in ((), (Resize(1.0, 1.0),))
    )
    np.testing.assert_array_equal(plain, resized)


def test_demosaiced_noise_is_correlated_between_neighbours_and_between_colours() -> None:
    noise = noise_of(raw(Gaussian(20.0, 20.0), Demosaic()).apply(flat(0.5), keyed_rng(15)))
    assert neighbours_correlate(noise[..., 0]) > 0.4
    assert neighbours_correlate(noise[..., 1]) > 0.2
    # Red and blue are interpolated from twice as few sites as green.
    assert neighbours_correlate(noise[..., 0]) > neighbours_correlate(noise[..., 1])
    assert neighbours_correlate(noise[..., 2]) == pytest.approx(neighbours_correlate(noise[..., 0]), abs=0.03)


def test_demosaicing_is_that_of_a_bayer_mosaic() -> None:
    # Against a mosaic that is interpolated pixel by pixel, for each of the four positions.
    from denoised._noise_stage import Noise

    rng = np.random.default_rng(16)
    values = rng.standard_normal((10, 12, 3)).astype(np.float32)
    seen = set()
    for seed in range(24):
        noise = Noise(flat(0.5, 1), values, np.ones((1, 1, 1), np.float32))
        found = Demosaic().apply(noise, keyed_rng(seed)).values
        position = tuple(int(each) for each in keyed_rng(seed).integers(2, size=2))
        expected = slow_demosaic(values, position)
        found = found / np.linalg.norm(found)
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)
        seen.add(position)
    assert len(seen) == 4


def slow_demosaic(values: NDArray[np.float32], red: tuple[int, ...]) -> NDArray[np.float64]:
    height_px, width_px, _ = values.shape

    def colour_at(row: int, column: int) -> int:
        return (row % 2 != red[0]) + (column % 2 != red[1])

    def mirrored(place: int, size_px: int) -> int:
        return -place if place < 0 else 2 * (size_px - 1) - place if place >= size_px else place

    out = np.zeros(values.shape)
    for row in range(height_px):
        for column in range(width_px):
            for channel in range(3):
                if colour_at(row, column) == channel:
                    out[row, column, channel] = values[row, column, channel]
                    continue
                around = [
                    values[mirrored(r, height_px), mirrored(c, width_px), channel]
                    for r in (row - 1, row, row + 1)
                    for c in (column - 1, column, column + 1)
                    if colour_at(r, c) == channel
                ]
                out[row, column, channel] = np.mean(around)
    return out


@pytest.mark.parametrize("stage", [Demosaic(), Resize(0.5, 0.5), Resize(0.37, 0.37)], ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (61, 47)])
def test_correlating_noise_moves_nothing(stage: Stage, shape: tuple[int, int]) -> None:
    # Averaged over many draws, energy that starts in one spot stays centred on it, to a twentieth of a pixel.
    from denoised._noise_stage import Noise

    row, column = shape[0] // 2, shape[1] // 2
    energy = np.zeros(shape)
    rng = np.random.default_rng(17)
    for index in range(400):
        values = np.zeros((*shape, 3), np.float32)
        values[row - 8 : row + 9, column - 8 : column + 9] = rng.standard_normal((17, 17, 3))
        noise = Noise(values, values, np.ones((1, 1, 1), np.float32))
        energy += np.sum(np.square(stage.apply(noise, keyed_rng(index)).values), axis=2)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    centre = np.array([np.sum(energy * rows), np.sum(energy * columns)]) / energy.sum()
    np.testing.assert_allclose(centre, (row, column), atol=0.1)


def test_the_clean_picture_under_correlated_noise_stays_exactly_where_it_was() -> None:
    clean = scene()
    noisy = raw(PoissonGaussian(0.002, 0.002), Demosaic(), Resize(0.5, 0.5)).apply(clean, keyed_rng(18))
    assert noisy.clean is clean
    silent = raw(Demosaic(), Resize(0.5, 0.5)).apply(clean, keyed_rng(18))
    np.testing.assert_array_equal(silent.image, clean)
    np.testing.assert_array_equal(silent.sigma_map, 0)


# JPEG


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (16, 16), (41, 30)])
def test_a_jpeg_map_is_the_rms_error_of_each_block(channels: int, shape: tuple[int, int]) -> None:
    clean = scene(41)[: shape[0], : shape[1], :channels]
    seen = set()
    for seed in range(20):
        noisy = raw(Gaussian(10.0, 10.0), Jpeg(40, 40)).apply(clean, keyed_rng(seed))
        square = np.mean(np.square(noisy.image - clean), axis=2)
        matching = [(top, left) for top in range(8) for left in range(8) if fits(square, noisy.sigma_map, top, left)]
        assert matching
        seen.add(matching[0])
    assert len(seen) > 1 or shape == (1, 1)


def fits(square: NDArray[np.floating], sigma_map: Image, top: int, left: int) -> bool:
    """Whether the map is the RMS over blocks of a grid that begins so many pixels outside the picture."""
    rows, columns = ((np.arange(size) + offset) // 8 for size, offset in zip(square.shape, (top, left), strict=True))
    for row in range(rows.max() + 1):
        for column in range(columns.max() + 1):
            block = np.ix_(rows == row, columns == column)
            if not np.allclose(sigma_map[block] ** 2, square[block].mean(), rtol=1e-3):
                return False
    return True


@pytest.mark.parametrize("channels", [1, 3])
def test_a_worse_quality_leaves_a_worse_picture(channels: int) -> None:
    clean = scene()[..., :channels]
    errors = [
        np.mean(noise_of(raw(Gaussian(4.0, 4.0), Jpeg(q, q)).apply(clean, keyed_rng(19))) ** 2) for q in (100, 60, 5)
    ]
    assert errors[0] == pytest.approx((4 / 255) ** 2, rel=0.5)
    assert errors[2] > 2 * errors[1]


def test_subsampled_colour_loses_more() -> None:
    clean = scene()
    clean[::2] = clean[::2, :, ::-1]
    full, half = (
        np.mean(noise_of(raw(Jpeg(95, 95, subsampling=subsampling)).apply(clean, keyed_rng(20))) ** 2)
        for subsampling in ("4:4:4", "4:2:0")
    )
    assert half > 3 * full


def test_qualities_are_drawn_up_to_both_ends() -> None:
    clean = scene(16)
    drawn = {raw(Jpeg(50, 52)).apply(clean, keyed_rng(index)).image.tobytes() for index in range(60)}
    per_quality = [
        {raw(Jpeg(q, q)).apply(clean, keyed_rng(index)).image.tobytes() for index in range(60)} for q in (50, 51, 52)
    ]
    assert all(drawn & each for each in per_quality)


# Small pictures


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (3, 1), (9, 2)])
def test_pictures_of_any_size_get_every_kind_of_noise(shape: tuple[int, int], channels: int) -> None:
    clean = np.full((*shape, channels), 0.4, np.float32)
    for stage in (Gaussian(9.0, 9.0), PoissonGaussian(0.2, 0.2), Demosaic(), Resize(0.2, 0.2), Jpeg(5, 5)):
        noisy = NoiseSpec((Gaussian(5.0, 5.0), stage)).apply(clean, keyed_rng(21))
        assert noisy.image.shape == clean.shape
        assert noisy.sigma_map.shape == shape
        assert np.isfinite(noisy.image).all()
        assert np.isfinite(noisy.sigma_map).all()
