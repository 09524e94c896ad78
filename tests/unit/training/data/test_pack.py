"""A pack opens whole or not at all, reads windows, travels to other processes, and notices one changed byte."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("cv2")

from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.data.manifest import VERSION
from training.data.pack import MANIFEST_FILE, Pack
from training.data.prepare import prepare
from training.errors import DataError

pytestmark = pytest.mark.training

SAMPLES_FILE = "samples.u8"


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (20, 24 + seed, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack of six pairs."""
    for name, offset in (("clean", 0), ("noisy", 100)):
        (tmp_path / name).mkdir()
        for seed in range(6):
            noisy = (picture(seed).astype(int) + offset).clip(0, 255).astype(np.uint8)
            PillowImage.fromarray(noisy).save(tmp_path / name / f"{seed}.png")
    prepare(tmp_path / "clean", tmp_path / "pack", channels=3, noisy_folder=tmp_path / "noisy")
    return tmp_path / "pack"


def test_windows_are_parts_of_the_whole_in_unit_values(folder: Path) -> None:
    pack = Pack(folder)
    image = pack.manifest.images[2]
    whole = pack.unit(image)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, picture(2).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(pack.unit(image, slice(3, 9), slice(5, 20)), whole[3:9, 5:20])
    np.testing.assert_array_equal(pack.noisy_unit(image, slice(3, 9)), pack.noisy_unit(image)[3:9])
    assert (pack.noisy_unit(image) >= whole).all()


def test_training_and_held_out_images_are_all_images(folder: Path) -> None:
    pack = Pack(folder)
    assert len(pack.held_out_images()) == 1
    assert {*pack.training_images(), *pack.held_out_images()} == set(pack.manifest.images)


def test_samples_cannot_be_written_to(folder: Path) -> None:
    pack = Pack(folder)
    with pytest.raises(ValueError, match="read-only"):
        pack.samples(pack.manifest.images[0])[0, 0, 0] = 1


def test_a_pack_travels_without_its_samples(folder: Path) -> None:
    pack = Pack(folder)
    image = pack.manifest.images[1]
    expected = pack.unit(image)
    text = pickle.dumps(pack)
    assert len(text) < 5_000
    np.testing.assert_array_equal(pickle.loads(text).unit(image), expected)


def test_a_pack_that_was_prepared_again_is_not_read_under_the_older_manifest(folder: Path) -> None:
    pack = Pack(folder)
    image = pack.manifest.images[1]
    expected = pack.unit(image)
    noisy = folder.parent / "noisy"
    prepare(noisy, folder, channels=3, noisy_folder=folder.parent / "clean")
    # What is mapped stays what it was; what maps later would see other images of the same sizes.
    np.testing.assert_array_equal(pack.unit(image), expected)
    with pytest.raises(DataError, match=r"samples\.u8 was replaced.*open the pack again"):
        pickle.loads(pickle.dumps(pack)).unit(image)
    with pytest.raises(DataError, match=r"noisy\.u8 was replaced"):
        pack.noisy_unit(image)


@pytest.mark.parametrize("name", [SAMPLES_FILE, "noisy.u8"])
@pytest.mark.parametrize("position", [0, 4321, -1])
def test_one_changed_byte_of_the_samples_is_noticed(folder: Path, name: str, position: int) -> None:
    Pack(folder).verify()
    content = bytearray((folder / name).read_bytes())
    content[position] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=r"samples of \d\.png .*have changed.*prepare"):
        Pack(folder).verify()


def test_verification_tells_how_far_it_is(folder: Path) -> None:
    seen: list[str] = []
    Pack(folder).verify(on_image=lambda image: seen.append(image.file))
    assert seen == [f"{seed}.png" for seed in range(6)]


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(pack: Path) -> None:
        tree = json.loads((pack / MANIFEST_FILE).read_text())
        change(tree)
        (pack / MANIFEST_FILE).write_text(json.dumps(tree))

    return spoil


def resized(name: str, by: int) -> Callable[[Path], None]:
    def spoil(pack: Path) -> None:
        content = (pack / name).read_bytes()
        (pack / name).write_bytes(content[:by] if by < 0 else content + bytes(by))

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no samples": (lambda pack: (pack / SAMPLES_FILE).unlink(), "holds no packed images"),
    "no noisy samples": (lambda pack: (pack / "noisy.u8").unlink(), "holds no packed images"),
    "empty samples": (lambda pack: (pack / SAMPLES_FILE).write_bytes(b""), "has 0 bytes, not"),
    "short samples": (resized(SAMPLES_FILE, -1), "prepare it again"),
    "long samples": (resized("noisy.u8", 1), "prepare it again"),
    "no manifest": (lambda pack: (pack / MANIFEST_FILE).unlink(), "holds no packed images"),
    "half a manifest": (resized(MANIFEST_FILE, -40), "holds no packed images"),
    "a manifest that is a list": (lambda pack: (pack / MANIFEST_FILE).write_text("[]"), "manifest version None"),
    "another version": (edited(lambda tree: tree.update(version=VERSION + 1)), f"version {VERSION + 1}, not {VERSION}"),
    "an unknown key": (edited(lambda tree: tree.update(colour="red")), "unknown keys: colour"),
    "a missing key": (edited(lambda tree: tree.pop("channels")), "lacks: channels"),
    "another order": (edited(lambda tree: tree["images"].reverse()), "changed after it was written"),
    "no digest": (edited(lambda tree: tree.pop("digest")), "changed after it was written"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_pack_is_refused_with_what_to_do(folder: Path, spoil: Callable[[Path], object], reason: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=reason) as caught:
        Pack(folder)
    assert "prepare" in str(caught.value)
