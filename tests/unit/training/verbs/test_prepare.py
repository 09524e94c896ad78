"""The verb teaches its options, packs what it is given and says what it found."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("cv2")
pytest.importorskip("tqdm")

import tifffile
from PIL import Image as PillowImage

from training.__main__ import main
from training.data.pack import Pack

pytestmark = pytest.mark.training


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["training", "prepare", *map(str, arguments)])
    return main()


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Thirty 12-bit frames in the stacks of three specimens, and a file that breaks off."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for specimen in range(3):
        stack = rng.integers(0, 4096, (10, 32, 40)).astype(np.uint16)
        tifffile.imwrite(folder / f"specimen{specimen}.tif", stack)
    (folder / "broken.tif").write_bytes(b"II*\0")
    return folder


def test_it_says_what_was_packed_and_why(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, frames, "--to", tmp_path / "pack", "--channels", 1, "--noisy-only") == 0
    told = capsys.readouterr().out
    assert re.search(r"left out: broken\.tif: cannot be decoded: .+", told)
    assert "30 noisy images, 0.0 megapixels, grey" in told
    assert (
        "levels: u16 samples, 0 is black and 4095 white (black 0; white 4095: the full scale of its bit depth" in told
    )
    assert "split: 10 of 30 images held out: 1 of 3 files" in told
    assert "test images: none were compared; name them with --test" in told
    pack = Pack(tmp_path / "pack")
    assert pack.manifest.supervision == "noisy"
    assert len({image.file.split("#")[0] for image in pack.held_out_images()}) == 1


def test_every_option_reaches_the_pack(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        "--channels",
        3,
        "--black",
        100,
        "--white",
        4000,
        "--group-by",
        r"\d+",
        "--noisy-folder",
        tmp_path / "b",
    ]
    (tmp_path / "b").mkdir()
    for path in frames.glob("specimen*"):
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    assert run(monkeypatch, frames, "--to", tmp_path / "pack", *arguments) == 0
    manifest = Pack(tmp_path / "pack").manifest
    assert (manifest.supervision, manifest.channels) == ("pairs", 3)
    assert (manifest.levels.black, manifest.levels.white) == (100, 4000)
    assert {image.group for image in manifest.images} == {"0", "1", "2"}
    assert run(monkeypatch, frames, "--to", tmp_path / "pack", "--min-side-px", 33) == 1


def test_test_images_in_the_pack_end_it_with_a_message_and_can_be_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (24, 24), dtype=np.uint8)
    for folder in ("images", "test"):
        (tmp_path / folder).mkdir()
        PillowImage.fromarray(picture).save(tmp_path / folder / f"{folder}.png")
    arguments = [tmp_path / "images", "--to", tmp_path / "pack", "--test", tmp_path / "test"]
    assert run(monkeypatch, *arguments) == 1
    assert "test/test.png: a copy of images.png" in capsys.readouterr().err
    assert not (tmp_path / "pack" / "manifest.json").exists()
    assert run(monkeypatch, *arguments, "--allow-overlap") == 0
    told = capsys.readouterr().out
    assert "overlap, allowed: test/test.png: a copy of images.png" in told
    assert "test set test: 1 images, 1 overlap in the pack" in told
    assert "not looked for: crops of at most 40 pixels a side" in told


def test_the_help_shows_all_kinds_of_training_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(monkeypatch, "--help")
    told = capsys.readouterr().out
    for option in ("--noisy-folder", "--noisy-only", "--group-by", "--test FOLDER", "--white"):
        assert option in told
    assert re.search(r"It can't find:\s.*40 pixels", told, re.DOTALL)


@pytest.mark.parametrize("value", ["0", "-3", "few"])
def test_a_shortest_side_below_one_pixel_is_refused(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path, "--to", tmp_path / "pack", f"--min-side-px={value}")
    assert re.search(rf"--min-side-px: .*{value}", capsys.readouterr().err)


def test_clean_pairs_and_noisy_images_exclude_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path, "--to", tmp_path / "pack", "--noisy-only", "--noisy-folder", tmp_path)
    assert "not allowed with" in capsys.readouterr().err
