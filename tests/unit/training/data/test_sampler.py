"""Samples depend on (seed, epoch, index) alone, and are windows of the images in every kind of supervision."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("cv2")

from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pydantic import ValidationError

from denoised.noise import NoiseSpec
from training.config import DataConfig
from training.data.pack import Pack
from training.data.prepare import prepare
from training.data.sampler import Batch, CropSampler, Sample
from training.errors import DataError

pytestmark = pytest.mark.training

Pixels = NDArray[np.uint8]

SEED = 3
NOTHING = NoiseSpec()
NOISY = NoiseSpec.gaussian(2.0, 20.0)


def random_picture(seed: int, height_px: int, width_px: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def write_pngs(folder: Path, pictures: list[Pixels]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        PillowImage.fromarray(picture).save(folder / f"{index:03}.png")
    return folder


def packed(tmp_path: Path, pictures: list[Pixels], **options: Any) -> Pack:
    options = {"channels": 3} | options
    prepare(write_pngs(tmp_path / "images", pictures), tmp_path / "pack", **options)
    return Pack(tmp_path / "pack")


def sampler(pack: Pack, noise: NoiseSpec = NOISY, *, seed: int = SEED, **options: Any) -> CropSampler:
    data = DataConfig(**({"crop_px": 16, "batch_size": 4, "samples_per_epoch": 10} | options))
    return CropSampler(pack, noise, seed=seed, data=data)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Three pictures without clipping at the levels of NOISY: all values lie near the middle."""
    pictures = [(120 + random_picture(i, 48 + 16 * i, 64) // 16).astype(np.uint8) for i in range(3)]
    return packed(tmp_path_factory.mktemp("packed"), pictures)


def assert_same(one: Sample | Batch, other: Sample | Batch) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


# Which sample


@settings(deadline=None, derandomize=True, max_examples=25)
@given(numbers=st.lists(st.integers(0, 10**9), min_size=1, max_size=5, unique=True))
def test_a_sample_depends_on_its_number_alone(pack: Pack, numbers: list[int]) -> None:
    used = sampler(pack)
    in_order = {number: used.sample(number) for number in numbers}
    for number in sorted(numbers, reverse=True):
        assert_same(in_order[number], used.sample(number))
        assert_same(in_order[number], sampler(pack).sample(number))


def test_a_sample_is_keyed_by_seed_epoch_and_index(pack: Pack) -> None:
    # Sample 25 of epochs of 10 and sample 45 of epochs of 20 are both the fifth of epoch 2.
    assert_same(sampler(pack).sample(25), sampler(pack, samples_per_epoch=20).sample(45))
    assert not np.array_equal(sampler(pack, seed=SEED + 1).sample(25).noisy, sampler(pack).sample(25).noisy)


def test_no_two_samples_of_two_epochs_share_noise(pack: Pack) -> None:
    samples = [sampler(pack).sample(number) for number in range(20)]
    assert len({float(sample.sigma_map[0, 0]) for sample in samples}) == 20
    assert len({(sample.noisy - sample.clean).tobytes() for sample in samples}) == 20


def sampled_elsewhere(pickled: bytes, number: int) -> Sample:
    crops = pickle.loads(pickled)
    assert isinstance(crops, CropSampler)
    return crops.sample(number)


def test_worker_processes_draw_the_same_samples(pack: Pack) -> None:
    here = sampler(pack)
    here.sample(0)
    pickled = pickle.dumps(here)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        elsewhere = list(workers.map(sampled_elsewhere, [pickled] * 4, range(4)))
    for number, sample in enumerate(elsewhere):
        assert_same(sample, here.sample(number))


@pytest.mark.parametrize("cuts", [(0, 12), (0, 1, 5, 7, 12), tuple(range(13))])
def test_batches_of_any_size_hold_the_samples_in_order(pack: Pack, cuts: tuple[int, ...]) -> None:
    # Twelve samples over the end of an epoch of ten.
    crops = sampler(pack)
    batches = [crops.batch(start, stop - start) for start, stop in zip(cuts, cuts[1:], strict=False)]
    joined = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    assert joined[0].shape == joined[1].shape == (12, 3, 16, 16)
    assert joined[2].shape == (12, 1, 16, 16)
    for number in range(12):
        sample = crops.sample(number)
        np.testing.assert_array_equal(joined[0][number], sample.noisy.transpose(2, 0, 1))
        np.testing.assert_array_equal(joined[1][number], sample.clean.transpose(2, 0, 1))
        np.testing.assert_array_equal(joined[2][number, 0], sample.sigma_map)


def test_a_batch_lies_channels_last_in_memory(pack: Pack) -> None:
    batch = sampler(pack).batch(0, 2)
    assert batch.noisy.transpose(0, 2, 3, 1).flags.c_contiguous
    assert {array.dtype for array in batch} == {np.dtype(np.float32)}


# Where from


def test_crops_are_windows_in_all_eight_orientations_that_reach_every_corner(tmp_path: Path) -> None:
    height_px, width_px, crop_px = 20, 24, 16
    rows, columns = np.mgrid[0:height_px, 0:width_px].astype(np.uint8)
    pack = packed(tmp_path, [np.dstack([rows, columns, np.zeros_like(rows)])])
    crops = sampler(pack, NOTHING, crop_px=crop_px)
    picture = pack.unit(pack.manifest.images[0])
    orientations, places = set(), set()
    for number in range(600):
        noisy, clean, sigma_map = crops.sample(number)
        np.testing.assert_array_equal(noisy, clean)
        assert not sigma_map.any()
        row, column = np.rint(clean[..., 0] * 255).astype(int), np.rint(clean[..., 1] * 255).astype(int)
        top, left = row.min(), column.min()
        places.add((int(top), int(left)))
        orientations.add((int(row[0, 0] - top), int(column[0, 0] - left), bool(row[0, 0] == row[0, 1])))
        # Upright again, the crop must be the window of the picture, pixel for pixel.
        upright = np.empty((crop_px, crop_px, 3), dtype=np.float32)
        upright[row - top, column - left] = clean
        np.testing.assert_array_equal(upright, picture[top : top + crop_px, left : left + crop_px])
    assert len(orientations) == 8
    assert places == {(top, left) for top in range(5) for left in range(9)}


def test_without_augmentation_an_image_of_the_crops_size_is_itself(tmp_path: Path) -> None:
    pack = packed(tmp_path, [random_picture(index, 16, 16) for index in range(3)])
    known = {pack.unit(image).tobytes() for image in pack.training_images()}
    crops = sampler(pack, NOTHING, augment=False)
    assert {crops.sample(number).clean.tobytes() for number in range(40)} == known


def test_every_training_image_is_sampled_and_no_held_out_one(tmp_path: Path) -> None:
    pack = packed(tmp_path, [np.full((16, 16, 3), 2 * index, dtype=np.uint8) for index in range(41)])
    crops = sampler(pack, NOTHING)
    values = {crops.sample(number).clean.tobytes() for number in range(1500)}
    assert values == {pack.unit(image).tobytes() for image in pack.training_images()}
    assert len(pack.held_out_images()) == 2


def test_images_are_drawn_in_proportion_to_their_area(tmp_path: Path) -> None:
    small, large = np.zeros((16, 16, 3), dtype=np.uint8), np.full((48, 16, 3), 255, dtype=np.uint8)
    crops = sampler(packed(tmp_path, [small, large]), NOTHING)
    share = np.mean([crops.sample(number).clean[0, 0, 0] for number in range(1500)])
    # Five standard errors of a share of three quarters.
    assert share == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 1500))


def test_images_smaller_than_the_crop_are_never_sampled(tmp_path: Path) -> None:
    pictures = [np.full((16, 15, 3), 255, dtype=np.uint8), np.zeros((16, 16, 3), dtype=np.uint8)]
    crops = sampler(packed(tmp_path, pictures), NOTHING)
    assert not any(crops.sample(number).clean.any() for number in range(100))


def test_crops_larger_than_every_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"crop_px is 64, and none of the 1 training images"):
        sampler(packed(tmp_path, [random_picture(0, 63, 100)]), crop_px=64)


# Noise


def test_the_sigma_map_is_the_level_of_the_noise_in_the_crop(pack: Pack) -> None:
    crops = sampler(pack, crop_px=48)
    for number in range(30):
        noisy, clean, sigma_map = crops.sample(number)
        noise = (noisy.astype(np.float64) - clean) * 255
        sigma = float(sigma_map[0, 0]) * 255
        assert (sigma_map == sigma_map[0, 0]).all()
        assert 2 <= sigma <= 20
        # Rounding to 8 bits adds a twelfth of a squared level; five standard errors of the deviation.
        assert noise.std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=5 / np.sqrt(2 * noise.size))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_grey_share_of_samples_is_grey_in_noisy_and_clean(pack: Pack, share: float) -> None:
    crops = sampler(pack, NoiseSpec.gaussian(5, 20, grey_share=share))
    grey_count = 0
    for number in range(400):
        noisy, clean, _ = crops.sample(number)
        is_grey = [bool(np.all(image == image[..., :1])) for image in (noisy, clean)]
        assert is_grey[0] == is_grey[1]
        grey_count += is_grey[0]
    assert grey_count == pytest.approx(400 * share, abs=5 * np.sqrt(400 * share * (1 - share)))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_synthetic_share_of_samples_is_drawn_and_the_rest_cropped(tmp_path: Path, share: float) -> None:
    photograph = np.empty((16, 16, 3), dtype=np.uint8)
    photograph[:] = (1, 2, 3)
    mixed = sampler(packed(tmp_path, [photograph]), NOTHING, synthetic_share=share)
    clean = [mixed.sample(number).clean for number in range(400)]
    drawn = [each.tobytes() for each in clean if not np.array_equal(np.rint(each * 255), photograph)]
    assert len(drawn) == pytest.approx(400 * share, abs=5 * np.sqrt(400 * share * (1 - share)))
    assert len(set(drawn)) > 0.8 * len(drawn) or not drawn


def test_one_channel_stays_one_channel(tmp_path: Path) -> None:
    crops = sampler(packed(tmp_path, [random_picture(0, 20, 20)], channels=1))
    noisy, clean, sigma_map = crops.sample(0)
    assert (noisy.shape, clean.shape, sigma_map.shape) == ((16, 16, 1), (16, 16, 1), (16, 16))
    assert crops.batch(0, 2).noisy.shape == (2, 1, 16, 16)


# Real noise


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Flat pictures with real noise of deviation 10 in their left half and 30 in their right half."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    clean = [np.full((64, 64, 3), 120 + index, dtype=np.uint8) for index in range(3)]
    deviation = np.where(np.arange(64) < 32, 10.0, 30.0)[None, :, None]
    noisy = [np.rint(picture + deviation * rng.standard_normal(picture.shape)).clip(0, 255) for picture in clean]
    write_pngs(folder / "noisy", [picture.astype(np.uint8) for picture in noisy])
    return packed(folder, clean, noisy_folder=folder / "noisy")


def test_a_pair_is_the_same_window_of_both_with_the_noise_measured_in_it(pairs: Pack) -> None:
    sample = sampler(pairs, NOTHING, supervision="pairs", crop_px=64, augment=False).sample(0)
    number = next(n for n, image in enumerate(pairs.manifest.images) if np.array_equal(pairs.unit(image), sample.clean))
    np.testing.assert_array_equal(sample.noisy, pairs.noisy_unit(pairs.manifest.images[number]))
    levels = sample.sigma_map * 255
    # 81 pixels of 3 channels: a relative error of 4.5 % of each value, less of the mean.
    assert levels[:, :26].mean() == pytest.approx(10, rel=0.05)
    assert levels[:, 38:].mean() == pytest.approx(30, rel=0.05)
    exact = np.sqrt(np.square((sample.noisy - sample.clean)[20:29, 30:39], dtype=np.float64).mean())
    assert sample.sigma_map[24, 34] == pytest.approx(exact, rel=1e-4)
    corner = np.sqrt(np.square((sample.noisy - sample.clean)[:5, :5], dtype=np.float64).mean())
    assert sample.sigma_map[0, 0] == pytest.approx(corner, rel=1e-4)


def test_both_halves_of_a_pair_are_turned_alike(pairs: Pack) -> None:
    crops = sampler(pairs, NOTHING, supervision="pairs", crop_px=64)
    for number in range(16):
        noisy, clean, sigma_map = crops.sample(number)
        noise = np.abs(noisy - clean).mean(axis=2)
        # Where the map says that there is more noise, there is.
        strong = sigma_map > np.median(sigma_map)
        assert noise[strong].mean() > 2 * noise[~strong].mean()


def test_a_noisy_frame_is_its_own_target_with_the_noise_that_the_spec_says(tmp_path: Path) -> None:
    pack = packed(tmp_path, [random_picture(0, 20, 20)], noisy_only=True)
    noisy, clean, sigma_map = sampler(pack, NoiseSpec.gaussian(10, 10), supervision="noisy").sample(0)
    np.testing.assert_array_equal(noisy, clean)
    np.testing.assert_allclose(sigma_map, 10 / 255, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "supervision", "remedy"),
    [
        ({}, "noisy", "--noisy-only"),
        ({}, "pairs", "--noisy-folder"),
        ({"noisy_only": True}, "clean", "neither --noisy-only nor --noisy-folder"),
    ],
)
def test_a_pack_of_another_supervision_is_refused_with_the_option_that_makes_it(
    tmp_path: Path, options: dict[str, Any], supervision: str, remedy: str
) -> None:
    pack = packed(tmp_path, [random_picture(0, 20, 20)], **options)
    with pytest.raises(DataError, match=f"data.supervision is '{supervision}'.*{remedy}"):
        sampler(pack, supervision=supervision)


@pytest.mark.parametrize("supervision", ["noisy", "pairs"])
def test_generated_pictures_do_not_go_with_real_noise(supervision: str) -> None:
    with pytest.raises(ValidationError, match=r"synthetic_share is 0\.5"):
        DataConfig.model_validate({"crop_px": 16, "batch_size": 1, "supervision": supervision, "synthetic_share": 0.5})
