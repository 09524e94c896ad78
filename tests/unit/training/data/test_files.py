"""Every kind of image file is read for what it holds, or refused with a reason; none ends the run."""

import contextlib
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
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

from training.data.files import check_side, file_sha256, find_images, open_image
from training.data.samples import MAX_PIXELS, in_channels
from training.errors import DataError

pytestmark = pytest.mark.training

Pixels = NDArray[Any]


def random_picture(seed: int, height_px: int, width_px: int, channels: int = 3, *, deep: bool = False) -> Pixels:
    kind = np.uint16 if deep else np.uint8
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, (height_px, width_px, channels), dtype=kind)


def png(pixels: Pixels, *, second_part: bytes = b"IDAT", claimed: tuple[int, int] | None = None) -> bytes:
    """A PNG of 8 or 16 bits in two parts; the name of the second part can be spoilt, or the size in the header."""
    height_px, width_px, channels = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height_px, -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    half = len(packed) // 2

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    size = claimed or (width_px, height_px)
    header = struct.pack(">IIBBBBB", *size, 8 * pixels.itemsize, colour_type, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", packed[:half]),
        chunk(second_part, packed[half:]),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read_image(path: Path, *, channels: int) -> Pixels:
    with open_image(path) as file:
        return in_channels(file.read(0).samples, channels)


def notes_of(path: Path) -> tuple[str, ...]:
    with open_image(path) as file:
        return file.read(0).notes


def test_images_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.TIFF", "a/deep/er.webp", "c.JPG", "notes.txt", "d.ome.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/deep/er.webp", "a/z.TIFF", "b.png", "c.JPG", "d.ome.tif"]


def test_linked_folders_are_searched_once_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "images" / "own").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("images/own/a.png", "elsewhere/b.png", "elsewhere/deep/c.png"):
        (tmp_path / name).touch()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images" / "own")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "d.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    found = [path.relative_to(tmp_path / "images").as_posix() for path in find_images(tmp_path / "images")]
    assert found == ["d.png", "link/b.png", "link/deep/c.png", "own/a.png"]


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot be searched.*closed"):
        find_images(tmp_path)


def test_a_link_to_nothing_is_found_and_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (path,) = find_images(tmp_path)
    with pytest.raises(DataError, match="no such file, or a link that leads nowhere"):
        open_image(path)


def test_a_missing_folder_and_one_without_images_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is not a folder"):
        find_images(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no images.*\.tiff.*\.webp"):
        find_images(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_lossless_colour_is_read_as_written(tmp_path: Path, suffix: str) -> None:
    picture = random_picture(0, 20, 30)
    PillowImage.fromarray(picture).save(tmp_path / f"x.{suffix}", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"x.{suffix}", channels=3), picture)
    assert notes_of(tmp_path / f"x.{suffix}") == ()


def test_a_jpeg_is_read_as_its_decoder_reads_it(tmp_path: Path) -> None:
    PillowImage.fromarray(random_picture(0, 20, 30)).save(tmp_path / "x.jpeg", quality=80)
    with PillowImage.open(tmp_path / "x.jpeg") as decoded:
        np.testing.assert_array_equal(read_image(tmp_path / "x.jpeg", channels=3), np.asarray(decoded))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_keeps_all_its_bits_and_drops_alpha_alone(tmp_path: Path, channels: int) -> None:
    picture = random_picture(1, 20, 24, channels, deep=True)
    (tmp_path / "x.png").write_bytes(png(picture))
    colours = 3 if channels > 2 else 1
    read = read_image(tmp_path / "x.png", channels=colours)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, picture[:, :, :colours])
    assert notes_of(tmp_path / "x.png") == (("alpha dropped",) if channels in {2, 4} else ())


@pytest.mark.parametrize(
    ("mode", "note"), [("L", ()), ("1", ()), ("LA", ("alpha dropped",)), ("RGBA", ("alpha dropped",))]
)
def test_eight_bit_modes_become_grey_or_colour(tmp_path: Path, mode: str, note: tuple[str, ...]) -> None:
    PillowImage.fromarray(random_picture(1, 20, 24)).convert(mode).save(tmp_path / "x.png")
    with PillowImage.open(tmp_path / "x.png") as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", channels=3), expected)
    assert notes_of(tmp_path / "x.png") == note


def test_a_palette_becomes_the_colours_that_it_stands_for(tmp_path: Path) -> None:
    image = PillowImage.fromarray(random_picture(2, 20, 24)).convert("P")
    image.save(tmp_path / "x.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", channels=3), np.asarray(image.convert("RGB")))
    assert notes_of(tmp_path / "x.png") == ("palette converted", "alpha dropped")


def test_a_file_is_read_by_what_it_holds_whatever_its_name_says(tmp_path: Path) -> None:
    picture = random_picture(3, 20, 24)
    PillowImage.fromarray(picture).save(tmp_path / "x.jpg", format="PNG")
    PillowImage.fromarray(picture).save(tmp_path / "y.png", format="TIFF")
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg", channels=3), picture)
    np.testing.assert_array_equal(read_image(tmp_path / "y.png", channels=3), picture)
    assert notes_of(tmp_path / "x.jpg") == ("is PNG whatever its name says",)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [PillowImage.fromarray(random_picture(seed, 20, 24)) for seed in range(3)]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.webp", channels=3), np.asarray(frames[0]))
    assert notes_of(tmp_path / "x.webp") == ("first of 3 frames",)


def test_grey_of_colour_is_its_luma_in_either_depth(tmp_path: Path) -> None:
    for name, scale in (("a.png", 1), ("b.png", 256)):
        (tmp_path / name).write_bytes(
            png(
                np.full((4, 4, 3), (200, 100, 50), np.uint8)
                if scale == 1
                else np.full((4, 4, 3), (51200, 25600, 12800), np.uint16)
            )
        )
        # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
        assert read_image(tmp_path / name, channels=1)[0, 0, 0] == round(124.2 * scale)


def truncated(path: Path) -> None:
    path.write_bytes(png(random_picture(3, 40, 40))[:2000])


def truncated_deep(path: Path) -> None:
    path.write_bytes(png(random_picture(3, 40, 40, deep=True))[:4000])


def spoilt_within(path: Path) -> None:
    path.write_bytes(png(random_picture(3, 40, 40), second_part=b"\xed\x85\x9d\x8a"))


def truncated_jpeg(path: Path) -> None:
    PillowImage.fromarray(random_picture(0, 60, 60)).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:1500])


def truncated_webp(path: Path) -> None:
    PillowImage.fromarray(random_picture(0, 60, 60)).save(path, format="WEBP")
    path.write_bytes(path.read_bytes()[:1500])


def web_page(path: Path) -> None:
    path.write_text("<html>404</html>")


def bitmap(path: Path) -> None:
    PillowImage.fromarray(random_picture(0, 9, 9)).save(path, format="BMP")


def empty(path: Path) -> None:
    path.touch()


def header_alone(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n")


def bomb(path: Path) -> None:
    path.write_bytes(png(random_picture(4, 9, 9), claimed=(60_000, 60_000)))


def inks(path: Path) -> None:
    PillowImage.fromarray(random_picture(4, 9, 9)).convert("CMYK").save(path, format="JPEG")


def folder(path: Path) -> None:
    path.mkdir()


UNUSABLE = [
    (truncated, "cannot be decoded"),
    (truncated_deep, "cannot be decoded"),
    (spoilt_within, "cannot be decoded"),
    (truncated_jpeg, "cannot be decoded"),
    (truncated_webp, "cannot be decoded"),
    (web_page, "no PNG, JPEG, WebP or TIFF but starts with b'<html>40'"),
    (bitmap, "no PNG, JPEG, WebP or TIFF.*convert it"),
    (empty, r"empty \(0 bytes\)"),
    (header_alone, "cannot be decoded"),
    (bomb, r"60000 x 60000 are 3600 megapixels, more than the 268.*tiles"),
    (inks, "CMYK.*convert"),
    (folder, "cannot be decoded"),
]


@pytest.mark.parametrize(("spoil", "reason"), UNUSABLE, ids=[spoil.__name__ for spoil, _ in UNUSABLE])
def test_an_unusable_file_is_refused_with_its_reason(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(tmp_path / "x.png")
    with pytest.raises(DataError, match=reason):
        read_image(tmp_path / "x.png", channels=3)


def test_an_image_with_a_short_side_is_refused_with_both_sizes() -> None:
    samples = random_picture(4, 9, 40)
    with pytest.raises(DataError, match=r"40 x 9; at least 16 pixels"):
        check_side(samples, 16)
    check_side(samples, 9)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    edits=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 1500),
    bits=st.sampled_from([8, 16]),
)
def test_a_damaged_file_is_either_read_or_refused_but_never_ends_the_run(
    edits: list[tuple[int, int]], length: int, bits: int
) -> None:
    content = bytearray(png(random_picture(5, 12, 16, deep=bits == 16)))
    for position, value in edits:
        content[position % len(content)] = value
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "x.png")
        path.write_bytes(content[:length] if length > len(content) // 4 else content)
        with contextlib.suppress(DataError):
            assert read_image(path, channels=3).shape[2] == 3


def test_the_digest_of_a_file_is_that_of_all_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_largest_image_that_is_read_fits_any_camera() -> None:
    assert MAX_PIXELS >= 16_000 * 16_000
