"""PNG files built by hand, chunk by chunk, against the codec: every kind that PNG defines, and every kind of damage."""

import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.codec import check_size, decode, encode, sniff
from service.errors import ImageTooLarge, InvalidArgument, InvalidImage, UnsupportedImage
from service.types import Container, Image, ImageHeader, Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
KINDS = [
    *[(GREY, depth) for depth in (1, 2, 4, 8, 16)],
    *[(PALETTE, depth) for depth in (1, 2, 4, 8)],
    *[(colour_type, depth) for colour_type in (RGB, GREY_ALPHA, RGB_ALPHA) for depth in (8, 16)],
]
STORED_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6

Samples = NDArray[Any]


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int, height: int, depth: int, colour_type: int, method: int = 0, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, method, method, interlace))


def assemble(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks) + chunk(b"IEND")


def packed(samples: Samples, depth: int) -> NDArray[np.uint8]:
    """(H, W, C) samples as rows of bytes."""
    values = samples.reshape(len(samples), -1)
    if depth >= 8:
        return values.astype(f">u{depth // 8}").view(np.uint8).reshape(len(values), -1)
    bits = (values[..., np.newaxis] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1)


def filtered(rows: NDArray[np.uint8], pixel_bytes: int) -> bytes:
    """The rows with the five filters in turn."""
    here = rows.astype(int)
    up = np.vstack([np.zeros_like(here[:1]), here[:-1]])
    left, up_left = (np.pad(a, ((0, 0), (pixel_bytes, 0)))[:, : a.shape[1]] for a in (here, up))
    estimate = left + up - up_left
    distances = np.abs(np.stack([estimate - left, estimate - up, estimate - up_left]))
    paeth = np.choose(distances.argmin(axis=0), [left, up, up_left])
    candidates = [here, here - left, here - up, here - (left + up) // 2, here - paeth]
    return b"".join(
        bytes([row % 5]) + (candidates[row % 5][row] % 256).astype(np.uint8).tobytes() for row in range(len(rows))
    )


def pixel_stream(samples: Samples, depth: int, *, interlaced: bool = False) -> bytes:
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = (samples[row::row_step, column::column_step] for column, row, column_step, row_step in passes)
    pixel_bytes = max(1, samples.shape[2] * depth // 8)
    return b"".join(filtered(packed(part, depth), pixel_bytes) for part in parts if part.size)


def png_file(
    samples: Samples,
    depth: int,
    colour_type: int,
    *,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
    interlaced: bool = False,
    idat_count: int = 1,
) -> bytes:
    height, width = samples.shape[:2]
    compressed = zlib.compress(pixel_stream(samples, depth, interlaced=interlaced))
    step = -(-len(compressed) // idat_count)
    idats = [chunk(b"IDAT", compressed[at : at + step]) for at in range(0, len(compressed), step)]
    return assemble(ihdr(width, height, depth, colour_type, 0, int(interlaced)), *before, *idats, *after)


def decoded(data: bytes) -> Image:
    return decode(data, sniff(data, claimed=Container.PNG))


def joined(image: Image) -> Samples:
    return image.colour if image.alpha is None else np.dstack([image.colour, image.alpha])


def grey(height: int = 9, width: int = 7) -> Samples:
    return np.random.default_rng(0).integers(0, 256, (height, width, 1))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[bytes, Samples]:
    """A file of any kind and size, with or without transparency, and the samples that it must give."""
    colour_type, depth = draw(st.sampled_from(KINDS))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = rng.integers(0, 1 << depth, (height, width, STORED_CHANNELS[colour_type]))
    transparent, before, expected = draw(st.booleans()), [], samples
    white = 0xFFFF if depth == 16 else 0xFF
    if colour_type == PALETTE:
        palette = rng.integers(0, 256, (1 << depth, 3))
        alphas = rng.integers(0, 256, draw(st.integers(1, 1 << depth)))
        before.append(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
        expected = palette[samples[..., 0]]
        if transparent:
            before.append(chunk(b"tRNS", alphas.astype(np.uint8).tobytes()))
            every_alpha = np.concatenate([alphas, np.full((1 << depth) - len(alphas), 255)])
            expected = np.dstack([expected, every_alpha[samples[..., 0]]])
    elif colour_type in {GREY, RGB}:
        expected = samples * (white // ((1 << depth) - 1))
        if transparent:
            key = samples[-1, -1]
            before.append(chunk(b"tRNS", key.astype(">u2").tobytes()))
            expected = np.dstack([expected, np.where((samples == key).all(axis=2), 0, white)])
    interlaced, idat_count = draw(st.booleans()), draw(st.integers(1, 4))
    data = png_file(samples, depth, colour_type, before=before, interlaced=interlaced, idat_count=idat_count)
    return data, expected.astype(np.uint16 if depth == 16 else np.uint8)


@settings(deadline=None, max_examples=300)
@given(pictures())
def test_every_kind_of_png_decodes_to_its_samples(picture: tuple[bytes, Samples]) -> None:
    data, expected = picture
    header = sniff(data, claimed=None)
    image = decode(data, header)
    assert joined(image).dtype == expected.dtype
    np.testing.assert_array_equal(joined(image), expected)
    height_px, width_px, channels = expected.shape
    assert header == ImageHeader(Container.PNG, height_px, width_px, channels, expected.dtype.itemsize * 8)
    assert (image.black_level, image.white_level) == (0.0, 65535.0 if expected.dtype == np.uint16 else 255.0)


@settings(deadline=None, max_examples=100)
@given(pictures(), st.data())
def test_a_png_that_ends_early_is_refused_wherever_it_ends(picture: tuple[bytes, Samples], data: st.DataObject) -> None:
    file, _ = picture
    with pytest.raises(InvalidArgument):
        decoded(file[: data.draw(st.integers(0, len(file) - 1))])


@settings(deadline=None, max_examples=200)
@given(pictures(), st.data())
def test_a_changed_byte_is_refused_or_was_of_no_matter(picture: tuple[bytes, Samples], data: st.DataObject) -> None:
    file, expected = picture
    at = data.draw(st.integers(0, len(file) - 1))
    damaged = file[:at] + bytes([file[at] ^ data.draw(st.integers(1, 255))]) + file[at + 1 :]
    try:
        image = decoded(damaged)
    except InvalidArgument:
        return
    np.testing.assert_array_equal(joined(image), expected)


def test_what_follows_the_end_is_ignored() -> None:
    data = png_file(grey(), 8, GREY)
    np.testing.assert_array_equal(decoded(data + b"appended").colour, grey())


def refused_pixels() -> dict[str, bytes]:
    """IDAT bodies of a 7 x 9 grey image that are not what it needs."""
    raw = pixel_stream(grey(), 8)
    good = zlib.compress(raw)
    narrow = zlib.compressobj(wbits=9)
    return {
        "a row short": zlib.compress(raw[:-8]),
        "a row too many": zlib.compress(raw + raw[:8]),
        "none": b"",
        "no zlib": b"not zlib data at all",
        "cut off": good[:-12],
        "no checksum": good[:-4],
        "a wrong checksum": good[:-4] + b"\0\0\0\0",
        "filter 5": zlib.compress(b"\5" + raw[1:]),
        "filter 255 in the last row": zlib.compress(raw[:-8] + b"\xff" + raw[-7:]),
        "a preset dictionary": b"\x78\xf9\0\0\0\1" + good[2:],
        "a row short in a small window": narrow.compress(raw[:-8]) + narrow.flush(),
    }


@pytest.mark.parametrize("body", refused_pixels().values(), ids=refused_pixels())
def test_libpng_never_meets_damaged_pixels(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def meet(_: bytes) -> None:
        pytest.fail("libpng loses memory and a reference to None on every error")

    monkeypatch.setattr(imagecodecs, "png_decode", meet)
    data = assemble(ihdr(7, 9, 8, GREY), chunk(b"IDAT", body))
    with pytest.raises(InvalidImage, match="save it anew") as refusal:
        decode(data, sniff(data, claimed=None))
    assert refusal.value.field == "image.encoded.data"


def test_a_bad_filter_in_any_pass_of_an_interlaced_png_is_refused() -> None:
    samples = grey(9, 9)
    raw = bytearray(pixel_stream(samples, 8, interlaced=True))
    raw[-10] = 9  # the filter of the last row of the last pass
    data = assemble(ihdr(9, 9, 8, GREY, 0, 1), chunk(b"IDAT", zlib.compress(bytes(raw))))
    with pytest.raises(InvalidImage, match="filter 9"):
        decoded(data)


@pytest.mark.parametrize(
    ("height", "width"),
    [(300, 400), (15, 4368), (1, 65_535), (30, 4368), (1, 131_069)],
    ids=["two blocks", "one that is full", "one byte more", "two that are full", "one byte less than two"],
)
def test_pixels_are_handed_on_in_blocks_of_the_most_that_deflate_takes(height: int, width: int) -> None:
    samples = grey(height, width)
    np.testing.assert_array_equal(decoded(png_file(samples, 8, GREY)).colour, samples)


def test_errors_of_libpng_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise imagecodecs.PngError("any")

    monkeypatch.setattr(imagecodecs, "png_decode", fail)
    with pytest.raises(InvalidImage, match="can't be decoded"):
        decoded(png_file(grey(), 8, GREY))


def test_a_lack_of_memory_is_not_blamed_on_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(imagecodecs, "png_decode", fail)
    with pytest.raises(MemoryError):
        decoded(png_file(grey(), 8, GREY))


IDAT = chunk(b"IDAT", zlib.compress(bytes(8 * 9)))
MANY = 1_001
REFUSED: dict[str, tuple[type[InvalidArgument], str, bytes]] = {
    "zero width": (InvalidImage, "0 x 9", assemble(ihdr(0, 9, 8, GREY), IDAT)),
    "zero height": (InvalidImage, "7 x 0", assemble(ihdr(7, 0, 8, GREY), IDAT)),
    "a side of 2**31": (InvalidImage, "2147483648", assemble(ihdr(1 << 31, 9, 8, GREY), IDAT)),
    "a side that libpng does not take": (UnsupportedImage, "1000000", assemble(ihdr(1_000_001, 1, 8, GREY), IDAT)),
    "depth 3": (InvalidImage, "depth 3", assemble(ihdr(7, 9, 3, GREY), IDAT)),
    "RGB of depth 4": (InvalidImage, "depth 4", assemble(ihdr(7, 9, 4, RGB), IDAT)),
    "a palette of depth 16": (InvalidImage, "depth 16", assemble(ihdr(7, 9, 16, PALETTE), IDAT)),
    "colour type 1": (InvalidImage, "colour type 1", assemble(ihdr(7, 9, 8, 1), IDAT)),
    "compression and filter methods 1": (InvalidImage, "method 1", assemble(ihdr(7, 9, 8, GREY, 1), IDAT)),
    "interlace 2": (InvalidImage, "interlace 2", assemble(ihdr(7, 9, 8, GREY, 0, 2), IDAT)),
    "a damaged IHDR": (InvalidImage, "checksum", assemble(ihdr(7, 9, 8, GREY)[:-1] + b"\0", IDAT)),
    "a short IHDR": (InvalidImage, "12 bytes of IHDR", assemble(chunk(b"IHDR", bytes(12)), IDAT)),
    "Apple's variant": (InvalidImage, "4 bytes of CgBI", assemble(chunk(b"CgBI", bytes(4)), ihdr(7, 9, 8, RGB), IDAT)),
    "no pixels": (InvalidImage, "no pixels", assemble(ihdr(7, 9, 8, GREY))),
    "no palette": (InvalidImage, "palette", assemble(ihdr(7, 9, 8, PALETTE), IDAT)),
    "an odd palette": (InvalidImage, "palette", assemble(ihdr(7, 9, 8, PALETTE), chunk(b"PLTE", bytes(4)), IDAT)),
    "an empty palette": (InvalidImage, "palette", assemble(ihdr(7, 9, 8, PALETTE), chunk(b"PLTE"), IDAT)),
    "a long palette": (InvalidImage, "palette", assemble(ihdr(7, 9, 8, PALETTE), chunk(b"PLTE", bytes(771)), IDAT)),
    "tRNS of 3 bytes": (InvalidImage, "3 bytes", assemble(ihdr(7, 9, 8, GREY), chunk(b"tRNS", bytes(3)), IDAT)),
    "tRNS beside alpha": (InvalidImage, "type 4", assemble(ihdr(7, 9, 8, GREY_ALPHA), chunk(b"tRNS", bytes(2)), IDAT)),
    "tRNS beyond the palette": (
        InvalidImage,
        "3 bytes",
        assemble(ihdr(7, 9, 8, PALETTE), chunk(b"PLTE", bytes(6)), chunk(b"tRNS", bytes(3)), IDAT),
    ),
    "an animation": (
        UnsupportedImage,
        "frames one by one",
        assemble(ihdr(7, 9, 8, GREY), chunk(b"acTL", bytes(8)), IDAT),
    ),
    "an unknown critical chunk": (UnsupportedImage, "ABCD", assemble(ihdr(7, 9, 8, GREY), chunk(b"ABCD"), IDAT)),
    "too many chunks": (UnsupportedImage, "1000", assemble(ihdr(7, 9, 8, GREY), *[chunk(b"teXt")] * MANY, IDAT)),
    "no chunk": (InvalidImage, "byte 33", assemble(ihdr(7, 9, 8, GREY), b"\0\0\0\0\1\2\3\4\0\0\0\0", IDAT)),
    "a chunk beyond the end": (
        InvalidImage,
        "send the whole file",
        assemble(ihdr(7, 9, 8, GREY), struct.pack(">I4s", 0x7FFFFFFF, b"IDAT")),
    ),
}


@pytest.mark.parametrize(("error", "message", "data"), REFUSED.values(), ids=REFUSED)
def test_the_header_alone_is_reason_to_refuse(error: type[InvalidArgument], message: str, data: bytes) -> None:
    with pytest.raises(error, match=message) as refusal:
        sniff(data, claimed=None)
    assert type(refusal.value) is error
    assert refusal.value.field == "image.encoded.data"


@pytest.mark.parametrize(
    ("error", "message", "after"),
    [
        pytest.param(InvalidImage, "tEXt amid", [chunk(b"tEXt"), chunk(b"IDAT")], id="pixels in two places"),
        pytest.param(UnsupportedImage, "ABCD", [chunk(b"ABCD")], id="an unknown critical chunk"),
        pytest.param(InvalidImage, "tEXt is damaged", [chunk(b"tEXt")[:-1] + b"\0"], id="a damaged chunk"),
        pytest.param(UnsupportedImage, "100000", [chunk(b"IDAT")] * 100_001, id="too many chunks"),
    ],
)
def test_what_follows_the_pixels_must_be_sound(error: type[InvalidArgument], message: str, after: list[bytes]) -> None:
    with pytest.raises(error, match=message):
        decoded(png_file(grey(), 8, GREY, after=after))


def test_a_damaged_chunk_before_the_pixels_is_refused() -> None:
    with pytest.raises(InvalidImage, match="gAMA is damaged"):
        decoded(png_file(grey(), 8, GREY, before=[chunk(b"gAMA", bytes(4))[:-1] + b"\0"]))


def test_a_small_file_that_claims_50000_by_50000_is_refused_from_its_header() -> None:
    header = sniff(assemble(ihdr(50_000, 50_000, 8, RGB), IDAT), claimed=Container.PNG)
    with pytest.raises(
        ImageTooLarge, match=r"50000 x 50000 px are 2500000000 pixels, the limit is 64000000"
    ) as refusal:
        check_size(header, max_pixels=64_000_000)
    assert refusal.value.field == "image.encoded.data"
    check_size(header, max_pixels=2_500_000_000)


@pytest.mark.parametrize(("height", "width"), [(9, 8), (8, 7), (1, 1), (10_000, 10_000)])
def test_a_header_that_lies_about_the_size_does_not_pass(height: int, width: int) -> None:
    with pytest.raises(InvalidImage):
        decoded(assemble(ihdr(width, height, 8, GREY), chunk(b"IDAT", zlib.compress(pixel_stream(grey(), 8)))))


@pytest.mark.parametrize("other", [grey(9, 8), grey(8, 7), grey()[..., [0, 0]]])
def test_a_file_other_than_the_one_sniffed_does_not_pass(other: Samples) -> None:
    header = sniff(png_file(other, 8, GREY if other.shape[2] == 1 else GREY_ALPHA), claimed=None)
    with pytest.raises(InvalidImage, match="the header promised"):
        decode(png_file(grey(), 8, GREY), header)


def test_metadata_come_through_byte_for_byte() -> None:
    profile = bytes(range(256)) * 20
    iccp = chunk(b"iCCP", b"any name\0\0" + zlib.compress(profile))
    image = decoded(png_file(grey(), 8, GREY, before=[iccp, chunk(b"eXIf", EXIF)]))
    assert image.metadata == Metadata(exif=EXIF, icc_profile=profile)
    np.testing.assert_array_equal(image.colour, grey(), "the orientation is not applied")
    assert decoded(encode(image, Container.PNG, jpeg_quality=95)).metadata == image.metadata


def test_exif_may_follow_the_pixels_and_the_first_counts() -> None:
    assert decoded(png_file(grey(), 8, GREY, after=[chunk(b"eXIf", EXIF)])).metadata.exif == EXIF
    both = png_file(grey(), 8, GREY, before=[chunk(b"eXIf", EXIF)], after=[chunk(b"eXIf", b"II*\0")])
    assert decoded(both).metadata.exif == EXIF


def test_empty_exif_is_none() -> None:
    assert decoded(png_file(grey(), 8, GREY, before=[chunk(b"eXIf")])).metadata == Metadata()


PROFILE = zlib.compress(b"profile" * 100)


@pytest.mark.parametrize(
    ("error", "message", "body"),
    [
        pytest.param(UnsupportedImage, "4194304", b"n\0\0" + zlib.compress(bytes(5 << 20)), id="a bomb"),
        pytest.param(InvalidImage, "damaged", b"n\0\0\0" + PROFILE[1:], id="damaged"),
        pytest.param(InvalidImage, "incomplete", b"n\0\0" + PROFILE[:-3], id="cut off"),
        pytest.param(InvalidImage, "incomplete", b"n\0\0", id="empty"),
        pytest.param(InvalidImage, "incomplete", b"", id="nothing"),
        pytest.param(InvalidImage, "damaged", b"a name without an end", id="no name"),
    ],
)
def test_a_colour_profile_that_is_not_whole_is_refused(error: type[InvalidArgument], message: str, body: bytes) -> None:
    with pytest.raises(error, match=message):
        decoded(png_file(grey(), 8, GREY, before=[chunk(b"iCCP", body)]))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_texts_are_never_inflated(kind: bytes) -> None:
    bomb = zlib.compress(bytes(1 << 20))
    bodies: dict[bytes, Callable[[bytes], bytes]] = {
        b"zTXt": lambda text: b"key\0\0" + text,
        b"iTXt": lambda text: b"key\0\1\0\0\0" + text,
    }
    text = chunk(kind, bodies[kind](bomb))
    np.testing.assert_array_equal(decoded(png_file(grey(), 8, GREY, before=[text] * 50)).colour, grey())


def test_nothing_is_logged_or_printed_about_odd_files(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = [chunk(b"gAMA", bytes(4)), chunk(b"sRGB"), chunk(b"pHYs"), chunk(b"bKGD"), chunk(b"sBIT", bytes(3))]
    few_colours = [chunk(b"PLTE", bytes(3))]
    assert decoded(png_file(grey(), 8, GREY, before=odd)).alpha is None
    assert not decoded(png_file(grey(), 8, PALETTE, before=few_colours)).colour.any()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(300, 1, 1), (5000, 1, 3), (60_000, 1, 1), (2000, 2, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tall_images_of_pure_noise_fit_the_encoders_buffer(shape: tuple[int, int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    colour: NDArray[Any] = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    image = Image(colour, None, 0.0, float(np.iinfo(dtype).max))
    file = encode(image, Container.PNG, jpeg_quality=95)
    np.testing.assert_array_equal(decode(file, sniff(file, claimed=None)).colour, colour)
