"""Packing image folders, opening packs, and samples that depend on their number alone."""

import contextlib
import hashlib
import json
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage

from denoised.noise import NoiseSpec
from training.data import (
    MANIFEST_FILE,
    PIXELS_FILE,
    Batch,
    CropSampler,
    Manifest,
    Pack,
    find_images,
    prepare,
    read_image,
)
from training.errors import DataError

pytestmark = pytest.mark.training

Pixels = NDArray[np.uint8]
Sample = tuple[NDArray[np.float32], NDArray[np.float32], float]

CLEAN = NoiseSpec(kind="gaussian", sigma_min=0.0, sigma_max=0.0)
NOISY = NoiseSpec(kind="gaussian", sigma_min=2.0, sigma_max=20.0)
SEED = 3


def random_picture(seed: int, height_px: int, width_px: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def png(pixels: NDArray[np.unsignedinteger], *, second_part: bytes = b"IDAT") -> bytes:
    """A colour PNG of 8 or 16 bits in two parts; the name of the second part can be spoilt."""
    height_px, width_px, _ = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height_px, -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    half = len(packed) // 2

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8 * pixels.itemsize, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", packed[:half]),
            chunk(second_part, packed[half:]),
            chunk(b"IEND", b""),
        ]
    )


def write_pngs(folder: Path, pictures: list[Pixels]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        PillowImage.fromarray(picture).save(folder / f"{index:03}.png")
    return folder


def packed(tmp_path: Path, pictures: list[Pixels], *, channels: int = 3) -> Pack:
    prepare(write_pngs(tmp_path / "images", pictures), tmp_path / "pack", channels=channels, min_side_px=1)
    return Pack(tmp_path / "pack")


def sampler(pack: Pack, noise: NoiseSpec = NOISY, *, crop_px: int = 16, samples_per_epoch: int = 10) -> CropSampler:
    return CropSampler(pack, noise, seed=SEED, crop_px=crop_px, samples_per_epoch=samples_per_epoch)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Three pictures without clipping at the levels of NOISY: all values lie near the middle."""
    pictures = [(120 + random_picture(i, 48 + 16 * i, 64) // 16).astype(np.uint8) for i in range(3)]
    return packed(tmp_path_factory.mktemp("packed"), pictures)


def assert_same_sample(one: Sample, other: Sample) -> None:
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert one[2] == other[2]


def assert_same_batch(one: Batch, other: Batch) -> None:
    np.testing.assert_array_equal(one.noisy, other.noisy)
    np.testing.assert_array_equal(one.clean, other.clean)
    np.testing.assert_array_equal(one.sigma, other.sigma)


# Packing


def test_the_pack_holds_exactly_the_pixels_of_the_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    pictures = {"b.png": (17, 20), "a/z.PNG": (30, 16), "a/deep/er.webp": (16, 16), "c.png": (40, 33)}
    expected: dict[str, Pixels] = {}
    for index, (name, (height_px, width_px)) in enumerate(pictures.items()):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        expected[name] = random_picture(index, height_px, width_px)
        PillowImage.fromarray(expected[name]).save(path, lossless=True)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    manifest = prepare(tmp_path / "images", tmp_path / "pack", channels=3, min_side_px=16)
    pack = Pack(tmp_path / "pack")
    assert pack.manifest == manifest
    assert [image.file for image in manifest.images] == ["a/deep/er.webp", "a/z.PNG", "b.png", "c.png"]
    assert manifest.quarantined == ()
    for image in manifest.images:
        np.testing.assert_array_equal(pack.pixels(image), expected[image.file])
        assert image.sha256 == hashlib.sha256((tmp_path / "images" / image.file).read_bytes()).hexdigest()
    whole = b"".join(expected[image.file].tobytes() for image in manifest.images)
    assert (tmp_path / "pack" / PIXELS_FILE).read_bytes() == whole


def test_a_jpeg_is_packed_as_its_decoder_reads_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    PillowImage.fromarray(random_picture(0, 20, 30)).save(tmp_path / "images" / "x.jpeg", quality=80)
    manifest = prepare(tmp_path / "images", tmp_path / "pack", channels=3, min_side_px=1)
    with PillowImage.open(tmp_path / "images" / "x.jpeg") as decoded:
        np.testing.assert_array_equal(Pack(tmp_path / "pack").pixels(manifest.images[0]), np.asarray(decoded))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_other_kinds_of_eight_bit_images_become_colour(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    PillowImage.fromarray(random_picture(1, 20, 24)).convert(mode).save(path)
    with PillowImage.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(path, channels=3), expected)


def test_one_channel_packs_grey_values(tmp_path: Path) -> None:
    pictures = [random_picture(index, 16, 18) for index in range(2)]
    pack = packed(tmp_path, pictures, channels=1)
    for image, picture in zip(pack.manifest.images, pictures, strict=True):
        grey = np.asarray(PillowImage.fromarray(picture).convert("L"))
        np.testing.assert_array_equal(pack.pixels(image), grey[:, :, None])


def sixteen_bit_grey(path: Path) -> None:
    PillowImage.fromarray(np.arange(40 * 40, dtype=np.uint16).reshape(40, 40)).save(path)


def sixteen_bit_colour(path: Path) -> None:
    path.write_bytes(png(random_picture(2, 40, 40).astype(np.uint16) * 257))


def truncated(path: Path) -> None:
    content = png(random_picture(3, 40, 40))
    path.write_bytes(content[: len(content) // 2])


def spoilt_within(path: Path) -> None:
    path.write_bytes(png(random_picture(3, 40, 40), second_part=b"\xed\x85\x9d\x8a"))


def no_image(path: Path) -> None:
    path.write_text("<html>404</html>")


def empty(path: Path) -> None:
    path.touch()


def too_small(path: Path) -> None:
    path.write_bytes(png(random_picture(4, 9, 40)))


UNUSABLE = [
    (sixteen_bit_grey, r"more than 8 bits.*convert"),
    (sixteen_bit_colour, r"more than 8 bits.*convert"),
    (truncated, "cannot be decoded"),
    (spoilt_within, "cannot be decoded"),
    (no_image, "cannot be decoded"),
    (empty, "cannot be decoded"),
    (too_small, r"40 x 9.*16 pixels"),
]


@pytest.mark.parametrize(("spoil", "reason"), UNUSABLE, ids=[spoil.__name__ for spoil, _ in UNUSABLE])
def test_an_unusable_file_is_listed_with_its_reason_and_no_neighbour_takes_its_place(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index, 20, 24) for index in range(4)])
    (folder / "002.png").unlink()
    spoil(folder / "002.png")
    seen: list[str] = []
    manifest = prepare(
        folder, tmp_path / "pack", channels=3, min_side_px=16, on_file=lambda path: seen.append(path.name)
    )
    assert [image.file for image in manifest.images] == ["000.png", "001.png", "003.png"]
    assert [entry.file for entry in manifest.quarantined] == ["002.png"]
    assert re.search(reason, manifest.quarantined[0].reason)
    assert seen == ["000.png", "001.png", "002.png", "003.png"]
    pack = Pack(tmp_path / "pack")
    assert pack.manifest == manifest
    for image, number in zip(pack.manifest.images, (0, 1, 3), strict=True):
        np.testing.assert_array_equal(pack.pixels(image), random_picture(number, 20, 24))


@settings(deadline=None, derandomize=True, max_examples=400)
@given(
    edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 700),
)
def test_a_damaged_file_is_either_read_or_refused_but_never_ends_the_run(
    edits: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(png(random_picture(5, 12, 16)))
    for position, value in edits:
        content[position % len(content)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.png")
        path.write_bytes(content[:length] if length > len(content) // 4 else content)
        with contextlib.suppress(DataError):
            assert read_image(path, channels=3).dtype == np.uint8


def test_the_manifest_is_absent_until_every_pixel_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index, 20, 24) for index in range(3)])
    target = tmp_path / "pack"
    swap = Path.replace
    swapped: list[str] = []

    def spy(self: Path, to: Path) -> Path:
        assert (target / PIXELS_FILE).stat().st_size == 3 * 20 * 24 * 3
        swapped.append(to.name)
        return swap(self, to)

    monkeypatch.setattr(Path, "replace", spy)
    present: list[bool] = []
    prepare(
        folder,
        target,
        channels=3,
        min_side_px=1,
        on_file=lambda path: present.append((target / MANIFEST_FILE).exists()),
    )
    assert present == [False] * 3
    assert swapped == [MANIFEST_FILE]


def test_a_broken_off_preparation_leaves_no_valid_pack_even_where_one_was(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index, 20, 24) for index in range(3)])
    prepare(folder, tmp_path / "pack", channels=3, min_side_px=1)

    def interrupt(path: Path) -> None:
        if path.name == "001.png":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "pack", channels=3, min_side_px=1, on_file=interrupt)
    with pytest.raises(DataError, match="python -m training prepare"):
        Pack(tmp_path / "pack")
    prepare(folder, tmp_path / "pack", channels=3, min_side_px=1)
    assert len(Pack(tmp_path / "pack").manifest.images) == 3


def test_a_missing_folder_and_one_without_images_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is not a folder"):
        find_images(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no images.*\.webp"):
        find_images(tmp_path)


def test_a_folder_of_unusable_files_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    no_image(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"none of the 1 images.*cannot be decoded"):
        prepare(tmp_path, tmp_path / "pack", channels=3, min_side_px=1)
    with pytest.raises(DataError):
        Pack(tmp_path / "pack")


def test_the_digest_covers_contents_names_and_order_but_not_the_place(tmp_path: Path) -> None:
    def manifest(name: str, pictures: list[Pixels]) -> Manifest:
        return prepare(write_pngs(tmp_path / name, pictures), tmp_path / f"{name}-pack", channels=3, min_side_px=1)

    one, two, three = (random_picture(index, 16, 16) for index in range(3))
    digest = manifest("first", [one, two]).digest
    assert manifest("elsewhere", [one, two]).digest == digest
    assert manifest("swapped", [two, one]).digest != digest
    assert manifest("changed", [one, three]).digest != digest
    assert manifest("more", [one, two, three]).digest != digest


# Opening


def drop_pixels(pack: Path) -> None:
    (pack / PIXELS_FILE).unlink()


def empty_pixels(pack: Path) -> None:
    (pack / PIXELS_FILE).write_bytes(b"")


def shorten_pixels(pack: Path) -> None:
    (pack / PIXELS_FILE).write_bytes((pack / PIXELS_FILE).read_bytes()[:-1])


def lengthen_pixels(pack: Path) -> None:
    (pack / PIXELS_FILE).write_bytes((pack / PIXELS_FILE).read_bytes() + b"\0")


def drop_manifest(pack: Path) -> None:
    (pack / MANIFEST_FILE).unlink()


def shorten_manifest(pack: Path) -> None:
    text = (pack / MANIFEST_FILE).read_text()
    (pack / MANIFEST_FILE).write_text(text[: len(text) // 2])


def edit_manifest(pack: Path, **changes: object) -> None:
    tree = json.loads((pack / MANIFEST_FILE).read_text())
    (pack / MANIFEST_FILE).write_text(json.dumps({**tree, **changes}))


def manifest_of_a_later_version(pack: Path) -> None:
    edit_manifest(pack, version=2)


def manifest_that_is_a_list(pack: Path) -> None:
    (pack / MANIFEST_FILE).write_text("[]")


def manifest_with_foreign_images(pack: Path) -> None:
    edit_manifest(pack, images=[{"path": "x.png"}])


@pytest.mark.parametrize(
    "damage",
    [
        drop_pixels,
        empty_pixels,
        shorten_pixels,
        lengthen_pixels,
        drop_manifest,
        shorten_manifest,
        manifest_of_a_later_version,
        manifest_that_is_a_list,
        manifest_with_foreign_images,
    ],
)
def test_a_damaged_pack_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    packed(tmp_path, [random_picture(0, 16, 16)])
    damage(tmp_path / "pack")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "pack")) + ".*prepare"):
        Pack(tmp_path / "pack")


def test_one_image_in_twenty_is_held_out(tmp_path: Path) -> None:
    pack = packed(tmp_path, [random_picture(index, 4, 4) for index in range(45)])
    assert [image.file for image in pack.held_out_images()] == ["019.png", "039.png"]
    assert set(pack.training_images()) | set(pack.held_out_images()) == set(pack.manifest.images)
    assert len(pack.training_images()) == 43


# Samples


@settings(deadline=None, max_examples=30)
@given(numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_a_sample_depends_on_its_number_alone(pack: Pack, numbers: list[int]) -> None:
    used = sampler(pack)
    in_order = {number: used.sample(number) for number in numbers}
    for number in sorted(numbers, reverse=True):
        assert_same_sample(in_order[number], used.sample(number))
        assert_same_sample(in_order[number], sampler(pack).sample(number))


def test_a_sample_is_keyed_by_seed_epoch_and_index(pack: Pack) -> None:
    # Sample 25 of epochs of 10 and sample 45 of epochs of 20 are both the fifth of epoch 2.
    assert_same_sample(sampler(pack).sample(25), sampler(pack, samples_per_epoch=20).sample(45))
    other_seed = CropSampler(pack, NOISY, seed=SEED + 1, crop_px=16, samples_per_epoch=10)
    assert other_seed.sample(25)[2] != sampler(pack).sample(25)[2]


def test_no_two_samples_of_two_epochs_share_noise(pack: Pack) -> None:
    samples = [sampler(pack).sample(number) for number in range(20)]
    assert len({sigma for _, _, sigma in samples}) == 20
    assert len({(noisy - clean).tobytes() for noisy, clean, _ in samples}) == 20


def test_a_sample_is_a_crop_in_the_range_of_an_image(pack: Pack) -> None:
    noisy, clean, sigma = sampler(pack, crop_px=32).sample(0)
    assert noisy.shape == clean.shape == (32, 32, 3)
    assert noisy.dtype == clean.dtype == np.float32
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert NOISY.sigma_min <= sigma <= NOISY.sigma_max


def test_the_stated_level_is_that_of_the_noise_in_the_crop(pack: Pack) -> None:
    crops = sampler(pack, crop_px=48)
    for number in range(30):
        noisy, clean, sigma = crops.sample(number)
        noise = (noisy.astype(np.float64) - clean) * 255
        # Rounding to 8 bits adds a twelfth of a squared level; five standard errors of the deviation.
        assert noise.std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=5 / np.sqrt(2 * noise.size))
        assert abs(noise.mean()) < 5 * sigma / np.sqrt(noise.size)


def test_crops_are_windows_in_all_eight_orientations_that_reach_every_corner(tmp_path: Path) -> None:
    height_px, width_px, crop_px = 20, 24, 16
    rows, columns = np.mgrid[0:height_px, 0:width_px].astype(np.uint8)
    pack = packed(tmp_path, [np.dstack([rows, columns, np.zeros_like(rows)])])
    crops = sampler(pack, CLEAN, crop_px=crop_px)
    orientations, places = set(), set()
    for number in range(600):
        noisy, clean, _ = crops.sample(number)
        np.testing.assert_array_equal(noisy, clean)
        row, column = np.rint(clean[..., 0] * 255).astype(int), np.rint(clean[..., 1] * 255).astype(int)
        top, left = row.min(), column.min()
        places.add((int(top), int(left)))
        orientations.add((int(row[0, 0] - top), int(column[0, 0] - left), bool(row[0, 0] == row[0, 1])))
        # Upright again, the crop must be the window of the picture, pixel for pixel.
        upright = np.empty((crop_px, crop_px, 3), dtype=np.float32)
        upright[row - top, column - left] = clean
        window = pack.pixels(pack.manifest.images[0])[top : top + crop_px, left : left + crop_px]
        np.testing.assert_array_equal(upright, window.astype(np.float32) / np.float32(255))
    assert len(orientations) == 8
    assert places == {(top, left) for top in range(5) for left in range(9)}


def constant_pictures(count: int) -> list[Pixels]:
    return [np.full((16, 16, 3), 2 * index, dtype=np.uint8) for index in range(count)]


def test_every_training_image_is_sampled_and_no_held_out_one(tmp_path: Path) -> None:
    pack = packed(tmp_path, constant_pictures(41))
    crops = sampler(pack, CLEAN)
    values = {round(float(crops.sample(number)[1][0, 0, 0]) * 255) for number in range(1500)}
    assert values == {2 * index for index in range(41) if index not in {19, 39}}


def test_images_are_drawn_in_proportion_to_their_area(tmp_path: Path) -> None:
    small, large = np.zeros((16, 16, 3), dtype=np.uint8), np.full((48, 16, 3), 255, dtype=np.uint8)
    crops = sampler(packed(tmp_path, [small, large]), CLEAN)
    share = np.mean([crops.sample(number)[1][0, 0, 0] for number in range(1500)])
    # Five standard errors of a share of three quarters.
    assert share == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 1500))


def test_images_smaller_than_the_crop_are_never_sampled(tmp_path: Path) -> None:
    pictures = [np.full((16, 15, 3), 255, dtype=np.uint8), np.zeros((16, 16, 3), dtype=np.uint8)]
    crops = sampler(packed(tmp_path, pictures), CLEAN)
    assert not any(crops.sample(number)[1].any() for number in range(100))


def test_crops_larger_than_every_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="64 pixels"):
        sampler(packed(tmp_path, [random_picture(0, 63, 100)]), crop_px=64)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_grey_share_of_samples_is_grey_in_noisy_and_clean(pack: Pack, share: float) -> None:
    noise = NoiseSpec(kind="gaussian", sigma_min=5.0, sigma_max=20.0, grey_share=share)
    crops = sampler(pack, noise)
    grey_count = 0
    for number in range(400):
        noisy, clean, _ = crops.sample(number)
        is_grey = [bool(np.all(image == image[..., :1])) for image in (noisy, clean)]
        assert is_grey[0] == is_grey[1]
        assert np.array_equal(np.rint(clean * 255) / np.float32(255), clean)
        grey_count += is_grey[0]
    assert grey_count == pytest.approx(400 * share, abs=5 * np.sqrt(400 * share * (1 - share)))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_synthetic_share_of_samples_is_drawn_and_the_rest_cropped(tmp_path: Path, share: float) -> None:
    photograph = np.empty((16, 16, 3), dtype=np.uint8)
    photograph[:] = (1, 2, 3)
    mixed = CropSampler(
        packed(tmp_path, [photograph]), CLEAN, seed=SEED, crop_px=16, samples_per_epoch=10, synthetic_share=share
    )
    drawn = []
    for number in range(400):
        noisy, clean, _ = mixed.sample(number)
        assert_same_sample((noisy, clean, 0.0), mixed.sample(number))
        assert clean.shape == (16, 16, 3)
        np.testing.assert_array_equal(np.rint(clean * 255) / np.float32(255), clean)
        if not np.array_equal(np.rint(clean * 255), photograph):
            drawn.append(clean.tobytes())
    assert len(drawn) == pytest.approx(400 * share, abs=5 * np.sqrt(400 * share * (1 - share)))
    # Some are of one colour, and black and white are among the colours; most differ.
    assert len(set(drawn)) > 0.8 * len(drawn) or not drawn


def test_samples_of_the_clean_share_are_the_image_itself(pack: Pack) -> None:
    noise = NoiseSpec(kind="gaussian", sigma_min=5.0, sigma_max=20.0, clean_share=0.5)
    samples = [sampler(pack, noise).sample(number) for number in range(40)]
    assert 0 < sum(sigma == 0 for _, _, sigma in samples) < 40
    for noisy, clean, sigma in samples:
        assert np.array_equal(noisy, clean) == (sigma == 0)


def test_grey_is_the_luma_of_the_colours(tmp_path: Path) -> None:
    colour = np.empty((16, 16, 3), dtype=np.uint8)
    colour[:] = (200, 100, 50)
    noise = NoiseSpec(kind="gaussian", sigma_min=0.0, sigma_max=0.0, grey_share=1.0)
    clean = sampler(packed(tmp_path, [colour]), noise).sample(0)[1]
    # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
    np.testing.assert_array_equal(np.rint(clean * 255), 124)


def test_a_grey_share_does_not_disturb_one_channel(tmp_path: Path) -> None:
    noise = NoiseSpec(kind="gaussian", sigma_min=5.0, sigma_max=20.0, grey_share=0.5)
    crops = sampler(packed(tmp_path, [random_picture(0, 20, 20)], channels=1), noise)
    for number in range(10):
        noisy, clean, _ = crops.sample(number)
        assert noisy.shape == clean.shape == (16, 16, 1)


# Batches


def test_a_batch_is_its_samples_in_order(pack: Pack) -> None:
    crops = sampler(pack)
    batch = crops.batch(3, 4)
    assert batch.noisy.shape == batch.clean.shape == (4, 3, 16, 16)
    assert batch.sigma.dtype == np.float32
    for slot in range(4):
        noisy, clean, sigma = crops.sample(12 + slot)
        np.testing.assert_array_equal(batch.noisy[slot], noisy.transpose(2, 0, 1))
        np.testing.assert_array_equal(batch.clean[slot], clean.transpose(2, 0, 1))
        assert batch.sigma[slot] == np.float32(sigma / 255)


@pytest.mark.parametrize("ahead", [1, 3, 50])
@pytest.mark.parametrize(("start", "stop"), [(0, 9), (4, 9), (8, 9), (5, 5)])
def test_batches_made_ahead_equal_those_made_one_by_one(pack: Pack, start: int, stop: int, ahead: int) -> None:
    # Four samples a batch and ten an epoch: the ends of batches and epochs do not meet.
    made_ahead = list(sampler(pack).batches(start, stop, 4, ahead=ahead))
    assert len(made_ahead) == stop - start
    for step, batch in enumerate(made_ahead, start=start):
        assert_same_batch(batch, sampler(pack).batch(step, 4))


def test_two_readers_of_one_sampler_do_not_disturb_each_other(pack: Pack) -> None:
    crops = sampler(pack)
    one, other = crops.batches(0, 6, 2), crops.batches(3, 9, 2)
    for step, (first, second) in enumerate(zip(one, other, strict=True)):
        crops.sample(step)
        assert_same_batch(first, sampler(pack).batch(step, 2))
        assert_same_batch(second, sampler(pack).batch(step + 3, 2))


def test_a_run_killed_many_times_sees_the_samples_of_an_uninterrupted_one(pack: Pack) -> None:
    uninterrupted = list(sampler(pack).batches(0, 12, 4))
    pieces = [
        batch for start, stop in [(0, 1), (1, 5), (5, 7), (7, 12)] for batch in sampler(pack).batches(start, stop, 4)
    ]
    for one, other in zip(uninterrupted, pieces, strict=True):
        assert_same_batch(one, other)


def test_an_error_while_sampling_ahead_reaches_the_reader(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = sampler(pack)
    whole_batch = CropSampler.batch

    def fail_at_two(self: CropSampler, step: int, batch_size: int) -> Batch:
        if step == 2:
            raise DataError("pixels are gone")
        return whole_batch(self, step, batch_size)

    monkeypatch.setattr(CropSampler, "batch", fail_at_two)
    reader = crops.batches(0, 5, 2)
    next(reader)
    next(reader)
    with pytest.raises(DataError, match="pixels are gone"):
        next(reader)
