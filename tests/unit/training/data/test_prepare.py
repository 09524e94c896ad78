"""Folders become packs: audited, flat in memory, whole or not at all."""

import errno
import hashlib
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("cv2")

import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from denoised.contract import SampleLevels
from denoised.noise import NoiseSpec
from training.config import DataConfig
from training.data.manifest import Manifest
from training.data.pack import MANIFEST_FILE, Pack
from training.data.pack_writer import PackWriter
from training.data.prepare import prepare
from training.data.sampler import CropSampler
from training.errors import DataError

pytestmark = pytest.mark.training

Pixels = NDArray[Any]


def random_picture(seed: int, height_px: int = 20, width_px: int = 24) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def write_pngs(folder: Path, pictures: list[Pixels]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        PillowImage.fromarray(picture).save(folder / f"{index:03}.png")
    return folder


def twelve_bit_frame(seed: int, height_px: int = 40, width_px: int = 48) -> Pixels:
    rng = np.random.default_rng(seed)
    frame = rng.uniform(0, 3000 + 100 * seed, (height_px, width_px))
    return frame.astype(np.uint16)


def test_the_pack_holds_exactly_the_samples_of_the_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
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
    assert manifest.supervision == "clean"
    for image in manifest.images:
        np.testing.assert_array_equal(pack.samples(image), expected[image.file])
        assert image.sha256 == hashlib.sha256((tmp_path / "images" / image.file).read_bytes()).hexdigest()
        assert image.samples_sha256 == hashlib.sha256(expected[image.file].tobytes()).hexdigest()
    whole = b"".join(expected[image.file].tobytes() for image in manifest.images)
    assert (tmp_path / "pack" / "samples.u8").read_bytes() == whole
    assert sorted(path.name for path in (tmp_path / "pack").iterdir()) == [MANIFEST_FILE, "samples.u8"]


def test_twelve_bit_data_in_sixteen_bit_files_do_not_come_out_black(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for seed in range(10):
        tifffile.imwrite(tmp_path / "frames" / f"{seed}.tif", twelve_bit_frame(seed))
    manifest = prepare(tmp_path / "frames", tmp_path / "pack", channels=1, noisy_only=True)
    assert manifest.supervision == "noisy"
    assert manifest.levels == SampleLevels("u16", 0, 4095)
    pack = Pack(tmp_path / "pack")
    means = [float(pack.unit(image).mean()) for image in manifest.images]
    assert min(means) > 0.3
    np.testing.assert_array_equal(pack.samples(manifest.images[3])[:, :, 0], twelve_bit_frame(3))


def test_stacks_of_every_kind_are_packed_page_by_page_and_never_split(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    stack = np.stack([twelve_bit_frame(seed) for seed in range(40)])
    tifffile.imwrite(tmp_path / "frames" / "a.tif", stack[:10])
    tifffile.imwrite(tmp_path / "frames" / "b.ome.tif", stack[10:20], ome=True)
    tifffile.imwrite(tmp_path / "frames" / "c.btf", stack[20:30], bigtiff=True)
    tifffile.imwrite(tmp_path / "frames" / "d.tif", stack[30:], imagej=True, compression=None)
    manifest = prepare(tmp_path / "frames", tmp_path / "pack", channels=1)
    pack = Pack(tmp_path / "pack")
    assert [image.file for image in manifest.images[::10]] == ["a.tif#0", "b.ome.tif#0", "c.btf#0", "d.tif#0"]
    for image, page in zip(manifest.images, stack, strict=True):
        np.testing.assert_array_equal(pack.samples(image)[:, :, 0], page)
    held_out = {image.file.split("#")[0] for image in pack.held_out_images()}
    assert len(held_out) == 1
    assert len(pack.held_out_images()) == 10


def test_an_unusable_file_is_listed_with_its_reason_and_no_neighbour_takes_its_place(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index) for index in range(6)])
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:500])
    (folder / "002.png").write_text("<html>")
    (folder / "003.png").write_bytes((folder / "005.png").read_bytes())
    PillowImage.fromarray(random_picture(9, 9, 40)).save(folder / "004.png")
    seen: list[str] = []
    manifest = prepare(
        folder, tmp_path / "pack", channels=3, min_side_px=16, on_file=lambda path: seen.append(path.name)
    )
    assert [image.file for image in manifest.images] == ["000.png", "003.png"]
    reasons = {entry.file: entry.reason for entry in manifest.quarantined}
    assert list(reasons) == ["001.png", "002.png", "004.png", "005.png"]
    assert "cannot be decoded" in reasons["001.png"]
    assert "no PNG, JPEG, WebP or TIFF" in reasons["002.png"]
    assert "40 x 9; at least 16 pixels" in reasons["004.png"]
    assert reasons["005.png"] == "the same samples as 003.png, which is kept"
    assert seen == [f"{index:03}.png" for index in range(6)]
    assert Pack(tmp_path / "pack").manifest == manifest


def test_a_damaged_page_is_listed_and_the_others_are_packed(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    stack = np.random.default_rng(0).random((5, 20, 24), dtype=np.float32)
    stack[2, 3, 4] = np.nan
    tifffile.imwrite(tmp_path / "frames" / "x.tif", stack)
    manifest = prepare(tmp_path / "frames", tmp_path / "pack", channels=1)
    assert [image.file for image in manifest.images] == ["x.tif#0", "x.tif#1", "x.tif#3", "x.tif#4"]
    (entry,) = manifest.quarantined
    assert entry.file == "x.tif#2"
    assert "1 of 480 float samples are NaN" in entry.reason


def test_one_pack_has_one_sample_type_and_the_others_are_listed(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index) for index in range(3)])
    tifffile.imwrite(folder / "x.tif", twelve_bit_frame(0))
    manifest = prepare(folder, tmp_path / "pack", channels=3)
    assert manifest.levels.sample_type == "u8"
    assert [entry.file for entry in manifest.quarantined] == ["x.tif"]
    assert "u16 samples, where 3 images have u8" in manifest.quarantined[0].reason
    assert sorted(path.name for path in (tmp_path / "pack").iterdir()) == [MANIFEST_FILE, "samples.u8"]


def test_given_levels_are_stored(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    tifffile.imwrite(tmp_path / "frames" / "x.tif", twelve_bit_frame(0))
    manifest = prepare(tmp_path / "frames", tmp_path / "pack", channels=1, black=100, white=3500)
    assert manifest.levels == SampleLevels("u16", 100, 3500)


# Pairs


def test_pairs_are_matched_by_their_relative_names_whatever_their_suffixes(tmp_path: Path) -> None:
    clean = write_pngs(tmp_path / "clean" / "a", [random_picture(index) for index in range(4)]).parent
    noisy = write_pngs(tmp_path / "noisy" / "a", [random_picture(10 + index) for index in range(4)]).parent
    PillowImage.fromarray(random_picture(12)).save(noisy / "a" / "002.webp", lossless=True)
    (noisy / "a" / "002.png").unlink()
    (noisy / "a" / "003.png").rename(noisy / "a" / "lone.png")
    PillowImage.fromarray(random_picture(11, 20, 23)).save(noisy / "a" / "001.png")
    manifest = prepare(clean, tmp_path / "pack", channels=3, noisy_folder=noisy)
    pack = Pack(tmp_path / "pack")
    assert manifest.supervision == "pairs"
    assert [image.file for image in manifest.images] == ["a/000.png", "a/002.png"]
    for image, seed in zip(manifest.images, (0, 2), strict=True):
        np.testing.assert_array_equal(pack.samples(image), random_picture(seed))
        np.testing.assert_array_equal(pack.noisy_samples(image), random_picture(10 + seed))
    reasons = {entry.file: entry.reason for entry in manifest.quarantined}
    assert "no noisy image of this name" in reasons["a/003.png"]
    assert "no clean image of this name" in reasons["noisy/a/lone.png"]
    assert reasons["a/001.png"].startswith("the clean image is 24 x 20 u8, the noisy one 23 x 20 u8")
    pack.verify()


def write_pairs(clean: Path, noisy: Path, pairs: dict[str, str], clean_alone: str = "", noisy_alone: str = "") -> None:
    """Each noisy picture is its clean one, darker by five, so that a wrong partner shows."""
    for folder, alone in ((clean, clean_alone), (noisy, noisy_alone)):
        folder.mkdir()
        if alone:
            PillowImage.fromarray(random_picture(99)).save(folder / alone)
    for seed, (clean_name, noisy_name) in enumerate(pairs.items()):
        picture = random_picture(seed) // 2 + 10
        PillowImage.fromarray(picture).save(clean / clean_name, lossless=True)
        PillowImage.fromarray(picture - 5).save(noisy / noisy_name, lossless=True)


def test_a_partner_of_the_same_whole_name_is_never_given_to_another_file(tmp_path: Path) -> None:
    clean, noisy = tmp_path / "clean", tmp_path / "noisy"
    write_pairs(clean, noisy, {"x.png": "x.png", "y.png": "y.webp"}, clean_alone="x.jpg")
    manifest = prepare(clean, tmp_path / "pack", channels=3, noisy_folder=noisy)
    assert [image.file for image in manifest.images] == ["x.png", "y.png"]
    assert [entry.file for entry in manifest.quarantined] == ["x.jpg"]
    pack = Pack(tmp_path / "pack")
    for image in manifest.images:
        np.testing.assert_array_equal(pack.samples(image) - pack.noisy_samples(image), 5)


def test_partners_that_several_files_could_have_are_left_out_with_the_reason(tmp_path: Path) -> None:
    clean, noisy = tmp_path / "clean", tmp_path / "noisy"
    write_pairs(clean, noisy, {"a.png": "a.png", "x.png": "x.webp"}, clean_alone="x.jpg")
    PillowImage.fromarray(random_picture(5)).save(clean / "y.png")
    PillowImage.fromarray(random_picture(6)).save(noisy / "y.webp")
    PillowImage.fromarray(random_picture(7)).save(noisy / "y.jpg")
    manifest = prepare(clean, tmp_path / "pack", channels=3, noisy_folder=noisy)
    assert [image.file for image in manifest.images] == ["a.png"]
    reasons = {entry.file: entry.reason for entry in manifest.quarantined}
    assert list(reasons) == ["x.jpg", "x.png", "y.png", "noisy/x.webp", "noisy/y.jpg", "noisy/y.webp"]
    assert all("several files called x" in reasons[name] for name in ("x.jpg", "x.png", "noisy/x.webp"))
    assert all("several files called y" in reasons[name] for name in ("y.png", "noisy/y.jpg", "noisy/y.webp"))


def test_stacks_pair_up_page_by_page(tmp_path: Path) -> None:
    stack = np.stack([twelve_bit_frame(seed) for seed in range(10)])
    for folder, pages in (("clean", stack[:5]), ("noisy", stack[5:])):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "x.tif", pages)
    tifffile.imwrite(tmp_path / "clean" / "y.tif", stack[:2])
    tifffile.imwrite(tmp_path / "noisy" / "y.tif", stack[:5])
    manifest = prepare(tmp_path / "clean", tmp_path / "pack", channels=1, noisy_folder=tmp_path / "noisy")
    pack = Pack(tmp_path / "pack")
    for page, image in enumerate(manifest.images):
        np.testing.assert_array_equal(pack.noisy_samples(image)[:, :, 0], stack[5 + page])
    assert [entry.reason for entry in manifest.quarantined] == [
        "the clean file has 2 planes, the noisy one 5; both need as many"
    ]


def test_a_noisy_folder_inside_the_clean_one_is_refused(tmp_path: Path) -> None:
    write_pngs(tmp_path / "clean" / "noisy", [random_picture(0)])
    with pytest.raises(DataError, match="lie in one another"):
        prepare(tmp_path / "clean", tmp_path / "pack", channels=3, noisy_folder=tmp_path / "clean" / "noisy")


# Names


def renamed_to_latin1(path: Path) -> None:
    try:
        path.rename(path.parent / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")


def test_a_name_that_is_no_utf8_is_left_out_with_the_reason(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index) for index in range(3)])
    renamed_to_latin1(folder / "001.png")
    manifest = prepare(folder, tmp_path / "pack", channels=3)
    assert [image.file for image in manifest.images] == ["000.png", "002.png"]
    (entry,) = manifest.quarantined
    assert entry.file == r"caf\xe9.png"
    assert "UTF-8; rename" in entry.reason
    assert Pack(tmp_path / "pack").manifest == manifest


def test_pairs_with_names_that_are_no_utf8_are_left_out_on_both_sides(tmp_path: Path) -> None:
    clean = write_pngs(tmp_path / "clean", [random_picture(index) for index in range(3)])
    noisy = write_pngs(tmp_path / "noisy", [random_picture(10 + index) for index in range(3)])
    for folder in (clean, noisy):
        renamed_to_latin1(folder / "001.png")
    manifest = prepare(clean, tmp_path / "pack", channels=3, noisy_folder=noisy)
    assert [entry.file for entry in manifest.quarantined] == [r"caf\xe9.png", r"noisy/caf\xe9.png"]
    assert len(manifest.images) == 2


def test_a_test_image_whose_name_is_no_utf8_is_compared_all_the_same(tmp_path: Path) -> None:
    images = write_pngs(tmp_path / "images", [random_picture(index) for index in range(2)])
    test = write_pngs(tmp_path / "test", [random_picture(1)])
    renamed_to_latin1(test / "000.png")
    manifest = prepare(images, tmp_path / "pack", channels=3, test_folders=[test], allow_overlap=True)
    ((overlap,),) = (test_set.overlaps for test_set in manifest.test_sets)
    assert (overlap.test_file, overlap.file) == (r"caf\xe9.png", "001.png")
    assert Pack(tmp_path / "pack").manifest == manifest


def test_linked_folders_are_read_and_links_to_nothing_listed(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(0)])
    write_pngs(tmp_path / "real", [random_picture(1)])
    (folder / "link").symlink_to(tmp_path / "real")
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    manifest = prepare(folder, tmp_path / "pack", channels=3)
    assert [image.file for image in manifest.images] == ["000.png", "link/000.png"]
    (entry,) = manifest.quarantined
    assert (entry.file, "leads nowhere" in entry.reason) == ("gone.png", True)


# Whole or not at all


def test_the_manifest_is_put_in_place_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index) for index in range(3)])
    target = tmp_path / "pack"
    swap = Path.replace
    swapped: list[str] = []

    def spy(self: Path, to: Path) -> Path:
        assert not (target / MANIFEST_FILE).exists()
        swapped.append(to.name)
        return swap(self, to)

    monkeypatch.setattr(Path, "replace", spy)
    prepare(folder, target, channels=3)
    assert swapped == ["samples.u8", MANIFEST_FILE]


def test_a_broken_off_preparation_leaves_no_pack_and_an_older_one_whole(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index) for index in range(3)])

    def interrupt(path: Path) -> None:
        if path.name == "001.png":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "pack", channels=3, on_file=interrupt)
    assert list((tmp_path / "pack").iterdir()) == []
    older = prepare(folder, tmp_path / "pack", channels=3)
    write_pngs(folder, [random_picture(7)])
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "pack", channels=3, on_file=interrupt)
    pack = Pack(tmp_path / "pack")
    assert pack.manifest == older
    pack.verify()


def test_what_has_an_older_pack_mapped_keeps_reading_it(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(0)])
    manifest = prepare(folder, tmp_path / "pack", channels=3)
    view = Pack(tmp_path / "pack").samples(manifest.images[0])
    write_pngs(folder, [random_picture(7)])
    prepare(folder, tmp_path / "pack", channels=3)
    np.testing.assert_array_equal(view, random_picture(0))


def test_a_full_disk_ends_with_the_bytes_that_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(index) for index in range(3)])

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    # Three images of 20 x 24 pixels, with the four bytes a pixel that decoding takes.
    with pytest.raises(DataError, match=r"no room.*needs about 5,760 bytes.*--to"):
        prepare(folder, tmp_path / "pack", channels=3)
    assert list((tmp_path / "pack").iterdir()) == []


def test_a_manifest_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(0)])
    sync = os.fsync
    synced: list[int] = []

    def fail_second(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_second)
    with pytest.raises(DataError, match="cannot write the pack"):
        prepare(folder, tmp_path / "pack", channels=3)
    assert list((tmp_path / "pack").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_while_samples_are_written_is_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "samples.u8.partial").symlink_to("/dev/full")
    with (
        pytest.raises(DataError, match=r"no room.*needs about 123,456 bytes"),
        PackWriter(tmp_path, lambda: 123_456) as writer,
    ):
        writer.append([np.zeros((1000, 1000, 1), np.uint8)])


def test_a_target_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "images", [random_picture(0)])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write the pack to .*file"):
        prepare(folder, tmp_path / "file", channels=3)


def test_a_folder_of_unusable_files_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png").write_text("<html>")
    with pytest.raises(DataError, match=r"none of the 1 images.*x\.png: cannot be decoded"):
        prepare(tmp_path / "images", tmp_path / "pack", channels=3)
    with pytest.raises(DataError):
        Pack(tmp_path / "pack")


def test_packing_and_sampling_a_large_stack_takes_little_memory(tmp_path: Path) -> None:
    page_count, side_px = 96, 512
    (tmp_path / "frames").mkdir()
    rng = np.random.default_rng(0)
    with tifffile.TiffWriter(tmp_path / "frames" / "x.tif", bigtiff=True) as writer:
        for _ in range(page_count):
            writer.write(rng.integers(0, 4096, (side_px, side_px), dtype=np.uint16), contiguous=True)
    packed_bytes = page_count * side_px**2 * 2
    tracemalloc.start()
    try:
        prepare(tmp_path / "frames", tmp_path / "pack", channels=1)
        packing_peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        data = DataConfig(crop_px=64, batch_size=8, samples_per_epoch=100)
        sampler = CropSampler(Pack(tmp_path / "pack"), NoiseSpec.gaussian(5, 50), seed=0, data=data)
        for first in range(0, 80, 8):
            sampler.batch(first, 8)
        sampling_peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "pack" / "samples.u16").stat().st_size == packed_bytes
    # Every array that NumPy or a decoder makes counts: some pages wait for the disk, never all of them.
    assert packing_peak_bytes < packed_bytes / 3
    assert sampling_peak_bytes < packed_bytes / 20


# The digest


def manifest_of(tmp_path: Path, name: str, pictures: list[Pixels], **options: Any) -> Manifest:
    return prepare(write_pngs(tmp_path / name, pictures), tmp_path / f"{name}-pack", channels=3, **options)


def test_the_digest_covers_contents_names_order_and_levels_but_not_the_place(tmp_path: Path) -> None:
    one, two, three = (random_picture(index) for index in range(3))
    digest = manifest_of(tmp_path, "first", [one, two]).digest
    assert manifest_of(tmp_path, "elsewhere", [one, two]).digest == digest
    others = [
        manifest_of(tmp_path, "swapped", [two, one]),
        manifest_of(tmp_path, "changed", [one, three]),
        manifest_of(tmp_path, "more", [one, two, three]),
        manifest_of(tmp_path, "levels", [one, two], white=200),
        manifest_of(tmp_path, "noisy", [one, two], noisy_only=True),
    ]
    assert len({digest, *(other.digest for other in others)}) == 6


def test_decoding_in_threads_does_not_change_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [random_picture(index, 20 + index, 40) for index in range(40)]
    digests = set()
    for threads in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        digests.add(manifest_of(tmp_path, f"threads{threads}", pictures).digest)
    assert len(digests) == 1


# Test images


def test_a_test_image_in_the_pack_is_refused_unless_allowed_and_then_recorded(tmp_path: Path) -> None:
    skimage_data = pytest.importorskip("skimage.data")
    astronaut, coffee, chelsea = skimage_data.astronaut(), skimage_data.coffee(), skimage_data.chelsea()
    images = write_pngs(tmp_path / "images", [astronaut, coffee])
    test = write_pngs(tmp_path / "test", [chelsea])
    manifest = prepare(images, tmp_path / "pack", channels=3, test_folders=[test])
    assert [(s.folder, s.image_count, s.overlaps) for s in manifest.test_sets] == [("test", 1, ())]
    PillowImage.fromarray(coffee[100:350, 150:500]).save(test / "cut.jpg", quality=60)
    with pytest.raises(
        DataError, match=r"1 test images are among.*\n  test/cut\.jpg: a crop.*001\.png\n.*--allow-overlap"
    ):
        prepare(images, tmp_path / "pack", channels=3, test_folders=[test])
    assert Pack(tmp_path / "pack").manifest == manifest
    allowed = prepare(images, tmp_path / "pack", channels=3, test_folders=[test], allow_overlap=True)
    ((overlap,),) = (test_set.overlaps for test_set in Pack(tmp_path / "pack").manifest.test_sets)
    assert (overlap.test_file, overlap.file) == ("cut.jpg", "001.png")
    assert allowed.digest != manifest.digest


@pytest.mark.parametrize("channels", [1, 3])
def test_an_exact_copy_is_found_in_grey_or_colour_however_smooth_it_is(tmp_path: Path, channels: int) -> None:
    ramp = np.tile(np.linspace(0, 150, 320).astype(np.uint8), (320, 1))
    smooth = [ramp + np.uint8(index) for index in range(3)]
    images = write_pngs(tmp_path / "images", smooth)
    test = write_pngs(tmp_path / "test", [smooth[1], smooth[2] + 50])
    manifest = prepare(images, tmp_path / "pack", channels=channels, test_folders=[test], allow_overlap=True)
    ((overlap,),) = (test_set.overlaps for test_set in manifest.test_sets)
    assert (overlap.test_file, overlap.file, overlap.how) == ("000.png", "001.png", "a copy of")


def test_a_test_image_that_cannot_be_read_cannot_be_cleared(tmp_path: Path) -> None:
    images = write_pngs(tmp_path / "images", [random_picture(0)])
    test = write_pngs(tmp_path / "test", [random_picture(1, 60, 60)])
    (test / "000.png").write_bytes((test / "000.png").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"000\.png cannot be decoded.*mend it"):
        prepare(images, tmp_path / "pack", channels=3, test_folders=[test])
