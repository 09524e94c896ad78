"""TIFF files are read plane by plane, in every type that microscopes write, or refused with a reason."""

import contextlib
import struct
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("cv2")

import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.data.files import open_image
from training.errors import DataError

pytestmark = pytest.mark.training

Array = NDArray[Any]


def counts(*shape: int, kind: type = np.uint16, top: int = 4096) -> Array:
    return np.random.default_rng(7).integers(0, top, shape).astype(kind)


def planes(path: Path) -> list[Array]:
    with open_image(path) as file:
        return [file.read(plane).samples for plane in range(file.plane_count)]


def notes(path: Path) -> tuple[str, ...]:
    with open_image(path) as file:
        return file.read(0).notes


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_sixteen_bit_grey_is_read_as_written(
    tmp_path: Path, compression: str | None, byteorder: Literal["<", ">"]
) -> None:
    picture = counts(20, 30)
    tifffile.imwrite(tmp_path / "x.tif", picture, compression=compression, byteorder=byteorder)
    (read,) = planes(tmp_path / "x.tif")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[:, :, 0], picture)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_is_what_the_file_calls_colour_and_alpha_is_dropped(tmp_path: Path, planar: str, channels: int) -> None:
    picture = counts(channels, 20, 30) if planar == "separate" else counts(20, 30, channels)
    tifffile.imwrite(tmp_path / "x.tif", picture, photometric="rgb", planarconfig=planar)
    (read,) = planes(tmp_path / "x.tif")
    expected = np.moveaxis(picture, 0, -1) if planar == "separate" else picture
    np.testing.assert_array_equal(read, expected[:, :, :3])
    assert notes(tmp_path / "x.tif") == (("alpha dropped",) if channels == 4 else ())


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_of_grey_is_dropped_and_no_image_of_its_own(tmp_path: Path, extra: str, planar: str) -> None:
    picture = counts(2, 20, 30) if planar == "separate" else counts(20, 30, 2)
    tifffile.imwrite(
        tmp_path / "x.tif", picture, photometric="minisblack", planarconfig=planar, extrasamples=[extra], metadata=None
    )
    (read,) = planes(tmp_path / "x.tif")
    np.testing.assert_array_equal(read[:, :, 0], picture[0] if planar == "separate" else picture[:, :, 0])
    assert notes(tmp_path / "x.tif") == ("alpha dropped",)


def test_alpha_after_the_channels_of_a_microscope_is_dropped(tmp_path: Path) -> None:
    picture = counts(20, 30, 3)
    extra = ["unspecified", "unassalpha"]
    tifffile.imwrite(tmp_path / "x.tif", picture, photometric="minisblack", extrasamples=extra, planarconfig="contig")
    np.testing.assert_array_equal(np.array(planes(tmp_path / "x.tif"))[..., 0], np.moveaxis(picture, -1, 0)[:2])
    assert notes(tmp_path / "x.tif") == ("alpha dropped",)


@pytest.mark.parametrize(
    ("samples", "options"), [(2, {"photometric": "minisblack", "extrasamples": [2]}), (4, {"photometric": "rgb"})]
)
def test_alpha_of_planes_behind_one_page_is_dropped(tmp_path: Path, samples: int, options: dict[str, Any]) -> None:
    stack = counts(5, 20, 32, samples)
    tifffile.imwrite(tmp_path / "x.tif", stack, truncate=True, planarconfig="contig", **options)
    read = np.array(planes(tmp_path / "x.tif"))
    np.testing.assert_array_equal(read, stack[..., : samples // 2 + samples // 4])
    assert notes(tmp_path / "x.tif") == ("alpha dropped",)


def packed_tiff(values: Array, bits: int, photometric: int) -> bytes:
    """An uncompressed grey TIFF with several samples in a byte; the width must fill whole bytes."""
    each_bit = np.unpackbits(values.astype(np.uint8)[..., np.newaxis], axis=-1)[..., -bits:]
    data = np.packbits(each_bit.reshape(-1)).tobytes()
    height_px, width_px = values.shape
    tags = {256: width_px, 257: height_px, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height_px}
    tags[279] = len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_scaled_to_eight(tmp_path: Path, bits: int) -> None:
    values = counts(20, 32, kind=np.uint8, top=1 << bits)
    values[0, :2] = 0, (1 << bits) - 1
    (tmp_path / "x.tif").write_bytes(packed_tiff(values, bits, photometric=1))
    (read,) = planes(tmp_path / "x.tif")
    np.testing.assert_array_equal(read[:, :, 0], values * (255 // ((1 << bits) - 1)))
    assert notes(tmp_path / "x.tif") == (f"{bits} bits, widened to 8 bits",)
    (tmp_path / "y.tif").write_bytes(packed_tiff(values, bits, photometric=0))
    np.testing.assert_array_equal(planes(tmp_path / "y.tif")[0], 255 - read)


def test_a_page_of_many_channels_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hyperstack = counts(2, 3, 20, 32)
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for page in hyperstack:
            writer.write(page, photometric="minisblack", planarconfig="separate", compression="zlib")
    decode = tifffile.TiffPage.asarray
    decoded: list[int] = []

    def spy(page: tifffile.TiffPage, *arguments: Any, **options: Any) -> Array:
        decoded.append(page.index)
        return decode(page, *arguments, **options)

    monkeypatch.setattr(tifffile.TiffPage, "asarray", spy)
    np.testing.assert_array_equal(np.array(planes(tmp_path / "x.tif"))[..., 0], hyperstack.reshape(6, 20, 32))
    assert decoded == [0, 1]


WRITERS = {
    "pages": {},
    "without metadata": {"metadata": None},
    "BigTIFF": {"bigtiff": True},
    "OME-TIFF": {"ome": True},
    "ImageJ": {"imagej": True},
    "tiles": {"tile": (16, 16)},
    "one page with all planes behind it": {"truncate": True},
}


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
def test_each_page_of_a_stack_is_an_image_of_its_own(tmp_path: Path, options: dict[str, Any]) -> None:
    stack = counts(5, 20, 32)
    tifffile.imwrite(tmp_path / "x.tif", stack, **options)
    with open_image(tmp_path / "x.tif") as file:
        assert file.plane_count == 5
        assert file.decoded_bytes(3) == 20 * 32 * 2
        assert file.plane_name("a/x.tif", 3) == "a/x.tif#3"
        # In any order: a plane is found without reading those before it.
        for plane in (3, 0, 4, 1, 2):
            np.testing.assert_array_equal(file.read(plane).samples[:, :, 0], stack[plane])


def test_channels_and_slices_of_a_microscope_are_planes(tmp_path: Path) -> None:
    hyperstack = counts(2, 3, 20, 32)
    tifffile.imwrite(tmp_path / "x.ome.tif", hyperstack, ome=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(np.array(planes(tmp_path / "x.ome.tif"))[..., 0], hyperstack.reshape(6, 20, 32))
    tifffile.imwrite(tmp_path / "y.tif", hyperstack[0], photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(np.array(planes(tmp_path / "y.tif"))[..., 0], hyperstack[0])
    tifffile.imwrite(tmp_path / "z.tif", hyperstack[:, 0], volumetric=True, photometric="minisblack")
    np.testing.assert_array_equal(np.array(planes(tmp_path / "z.tif"))[..., 0], hyperstack[:, 0])


def test_files_of_one_ome_set_are_each_read_once(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.ome.tif", counts(2, 20, 32), ome=True)
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tiff:
        assert tiff.is_ome
    assert len(planes(tmp_path / "x.ome.tif")) == 2


def test_pyramid_levels_and_thumbnails_are_left_out(tmp_path: Path) -> None:
    picture = counts(64, 64)
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(picture, subifds=1)
        writer.write(picture[::2, ::2], subfiletype=1)
        writer.write(picture[::4, ::4], subfiletype=1)
    (read,) = planes(tmp_path / "x.tif")
    np.testing.assert_array_equal(read[:, :, 0], picture)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (counts(20, 30, kind=np.uint8, top=256), np.uint8),
        (counts(20, 30, kind=np.float32), np.float32),
        (counts(20, 30, kind=np.float64) / 7, np.float32),
        (counts(20, 30, kind=np.float16), np.float32),
        (counts(20, 30, kind=np.uint32), np.uint16),
        (counts(20, 30, kind=np.int32), np.uint16),
        (counts(20, 30, kind=np.int16), np.uint16),
        (counts(20, 30, kind=np.int8, top=128), np.uint16),
        (counts(20, 30, kind=np.bool_, top=2), np.uint8),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_each_numeric_type_becomes_one_of_three(tmp_path: Path, written: Array, kind: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", written, photometric="minisblack")
    (read,) = planes(tmp_path / "x.tif")
    assert read.dtype == kind
    scale = 255 if written.dtype == np.bool_ else 1
    np.testing.assert_array_equal(read[:, :, 0], (written * scale).astype(kind))
    assert bool(notes(tmp_path / "x.tif")) == (written.dtype != kind)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (np.array([[-5, 7]], np.int16), r"int16 samples lie in -5\.\.7.*offset"),
        (np.array([[5, 70000]], np.uint32), r"uint32 samples lie in 5\.\.70000.*float"),
        (np.array([[5, np.nan, np.inf]], np.float32), "2 of 3 float samples are NaN or infinite"),
        (np.array([[5, 1e300]], np.float64), "1 of 2 float samples are NaN or infinite"),
        (np.array([[5j, 7]], np.complex64), "complex64 samples are no brightness"),
    ],
    ids=["negative", "large", "NaN", "beyond single precision", "complex"],
)
def test_values_without_a_safe_reading_are_refused(tmp_path: Path, written: Array, reason: str) -> None:
    tifffile.imwrite(tmp_path / "x.tif", written)
    with pytest.raises(DataError, match=reason):
        planes(tmp_path / "x.tif")


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_white_at_zero_is_turned_round(tmp_path: Path, kind: type, white: int) -> None:
    picture = counts(20, 30, kind=kind, top=200)
    tifffile.imwrite(tmp_path / "x.tif", picture, photometric="miniswhite")
    np.testing.assert_array_equal(planes(tmp_path / "x.tif")[0][:, :, 0], white - picture)
    assert notes(tmp_path / "x.tif") == ("white was zero; inverted",)


def test_a_palette_becomes_the_colours_that_it_stands_for(tmp_path: Path) -> None:
    palette = counts(3, 256, top=65536)
    indices = counts(20, 30, kind=np.uint8, top=256)
    tifffile.imwrite(tmp_path / "x.tif", indices, photometric="palette", colormap=palette)
    np.testing.assert_array_equal(planes(tmp_path / "x.tif")[0], (palette >> 8).T[indices])
    assert notes(tmp_path / "x.tif") == ("palette converted",)


def test_inks_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", counts(20, 30, 4, kind=np.uint8, top=256), photometric="separated")
    with pytest.raises(DataError, match=r"CMYK.*convert"):
        planes(tmp_path / "x.tif")


def test_a_raw_mosaic_is_refused_by_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", counts(20, 30), photometric="cfa")
    with pytest.raises(DataError, match=r"CFA.*convert"):
        planes(tmp_path / "x.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_page_whose_samples_are_cut_short_is_refused(tmp_path: Path, compression: str | None) -> None:
    tifffile.imwrite(tmp_path / "x.tif", counts(64, 64), compression=compression)
    (tmp_path / "x.tif").write_bytes((tmp_path / "x.tif").read_bytes()[:-100])
    with open_image(tmp_path / "x.tif") as file, pytest.raises(DataError, match=r"truncated, \d+ of \d+ bytes"):
        file.read(0)


def test_a_chain_of_pages_that_breaks_off_is_told(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for page in counts(4, 64, 64):
            writer.write(page, metadata=None, contiguous=False)
    (tmp_path / "x.tif").write_bytes((tmp_path / "x.tif").read_bytes()[:20_000])
    with open_image(tmp_path / "x.tif") as file:
        assert 0 < file.plane_count < 4
        assert file.defect is not None
        assert "damaged after page" in file.defect


def test_a_page_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", shape=(40_000, 40_000), dtype=np.uint8, data=None, compression=None)
    with open_image(tmp_path / "x.tif") as file, pytest.raises(DataError, match=r"1600 megapixels.*tiles"):
        file.read(0)


def test_all_channels_of_a_page_count_since_they_are_decoded_at_once(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif",
        shape=(60, 5_000, 5_000),
        dtype=np.uint8,
        data=None,
        compression=None,
        photometric="minisblack",
        planarconfig="separate",
    )
    with open_image(tmp_path / "x.tif") as file, pytest.raises(DataError, match=r"5000 x 5000.*60 samples.*tiles"):
        file.read(0)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.integers(8, 3000),
    compression=st.sampled_from([None, "zlib", "lzw"]),
)
def test_a_damaged_file_is_either_read_or_refused_but_never_ends_the_run(
    edits: list[tuple[int, int]], length: int, compression: str | None
) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "x.tif")
        tifffile.imwrite(path, counts(5, 16, 16), compression=compression)
        content = bytearray(path.read_bytes())
        for position, value in edits:
            content[position % len(content)] = value
        path.write_bytes(content[:length])
        with contextlib.suppress(DataError), open_image(path) as file:
            for plane in range(min(file.plane_count, 5)):
                with contextlib.suppress(DataError):
                    file.read(plane)
