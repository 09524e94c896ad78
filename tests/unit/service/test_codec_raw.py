"""Raw samples: every type, layout and channel count, and every way to get them wrong."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codec import SampleLayout, SampleType, decode_raw, encode_raw, nonfinite_samples, raw_header
from service.errors import InvalidSamples
from service.types import Container, Image, ImageHeader


def header(
    height_px: int = 2, width_px: int = 3, channel_count: int = 3, sample_type: SampleType = SampleType.U8
) -> ImageHeader:
    return raw_header(height_px=height_px, width_px=width_px, channel_count=channel_count, sample_type=sample_type)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from(SampleType),
    st.sampled_from(SampleLayout),
    st.sampled_from(SampleLayout),
    st.integers(0, 2**32 - 1),
)
def test_samples_come_back_as_they_were(
    height_px: int,
    width_px: int,
    channels: int,
    sample_type: SampleType,
    layout: SampleLayout,
    output_layout: SampleLayout,
    seed: int,
) -> None:
    samples = (np.random.default_rng(seed).random((height_px, width_px, channels)) * 255).astype(sample_type.dtype)
    in_order = {SampleLayout.HWC: samples, SampleLayout.CHW: samples.transpose(2, 0, 1)}
    image = decode_raw(in_order[layout].tobytes(), header(height_px, width_px, channels, sample_type), layout=layout)
    has_alpha = channels in {2, 4}
    np.testing.assert_array_equal(image.colour, samples[..., : channels - has_alpha])
    assert image.colour.dtype == sample_type.dtype
    if has_alpha:
        assert image.alpha is not None
        np.testing.assert_array_equal(image.alpha, samples[..., -1])
        assert image.alpha.dtype == sample_type.dtype
    else:
        assert image.alpha is None
    assert encode_raw(image, output_layout) == in_order[output_layout].tobytes()


def test_the_header_says_what_decoding_gives() -> None:
    expected = {SampleType.U8: 8, SampleType.U16: 16, SampleType.F32: 32}
    for sample_type, bits in expected.items():
        assert header(4, 5, 2, sample_type) == ImageHeader(Container.RAW, 4, 5, 2, bits)
        assert header(4, 5, 2, sample_type).decoded_bytes == 4 * 5 * 2 * bits // 8


@pytest.mark.parametrize("layout", SampleLayout)
def test_decoding_copies_nothing(layout: SampleLayout) -> None:
    data = bytes(range(24))
    image = decode_raw(data, header(2, 3, 4), layout=layout)
    assert image.alpha is not None
    source = np.frombuffer(data, np.uint8)
    assert np.shares_memory(image.colour, source)
    assert np.shares_memory(image.alpha, source)


def test_samples_are_little_endian() -> None:
    data = b"\x01\x02"
    image = decode_raw(data, header(1, 1, 1, SampleType.U16), layout=SampleLayout.HWC)
    assert image.colour.item() == 0x0201
    big = Image(image.colour.astype(">u2"), None, 0.0, 65535.0)
    assert encode_raw(big, SampleLayout.HWC) == data


@pytest.mark.parametrize(
    ("sample_type", "white"), [(SampleType.U8, 255.0), (SampleType.U16, 65535.0), (SampleType.F32, 1.0)]
)
def test_levels_have_defaults_by_type_and_are_carried_when_given(sample_type: SampleType, white: float) -> None:
    data = bytes(sample_type.dtype.itemsize)
    pixel = header(1, 1, 1, sample_type)
    image = decode_raw(data, pixel, layout=SampleLayout.HWC)
    assert (image.black_level, image.white_level) == (0.0, white)
    image = decode_raw(data, pixel, layout=SampleLayout.HWC, black_level=64.0, white_level=1023.0)
    assert (image.black_level, image.white_level) == (64.0, 1023.0)


def test_samples_outside_the_levels_are_kept() -> None:
    values = np.array([-3.5, 0.5, 7.25], np.float32)
    image = decode_raw(values.tobytes(), header(1, 1, 3, SampleType.F32), layout=SampleLayout.HWC)
    np.testing.assert_array_equal(image.colour.ravel(), values)


@pytest.mark.parametrize("size_bytes", [0, 1, 17, 19, 36])
def test_another_length_is_refused(size_bytes: int) -> None:
    with pytest.raises(InvalidSamples, match=f"are 18 bytes, got {size_bytes};") as refusal:
        decode_raw(bytes(size_bytes), header(), layout=SampleLayout.HWC)
    assert refusal.value.field == "image.raw.data"


@pytest.mark.parametrize("size_px", [0, -1, -(2**31)])
@pytest.mark.parametrize("field", ["height_px", "width_px"])
def test_sizes_below_1_are_refused(field: str, size_px: int) -> None:
    sizes = {"height_px": 5, "width_px": 5} | {field: size_px}
    with pytest.raises(InvalidSamples, match=f"{field} is {size_px}") as refusal:
        header(height_px=sizes["height_px"], width_px=sizes["width_px"])
    assert refusal.value.field == f"image.raw.{field}"


@pytest.mark.parametrize("channel_count", [-1, 0, 5])
def test_channel_counts_beyond_1_to_4_are_refused(channel_count: int) -> None:
    with pytest.raises(InvalidSamples, match=f"channel_count is {channel_count}") as refusal:
        header(channel_count=channel_count)
    assert refusal.value.field == "image.raw.channel_count"


def test_sizes_are_counted_without_overflow() -> None:
    with pytest.raises(InvalidSamples, match=r"73786976226118729744 bytes, got 3"):
        decode_raw(b"abc", header(2**31 - 1, 2**31 - 1, 4, SampleType.F32), layout=SampleLayout.HWC)


@pytest.mark.parametrize(
    ("black", "white", "field"),
    [
        (math.nan, 1.0, "black_level"),
        (-math.inf, 1.0, "black_level"),
        (0.0, math.nan, "white_level"),
        (0.0, math.inf, "white_level"),
        (1.0, 1.0, "white_level"),
        (2.0, 1.0, "white_level"),
        (255.0, None, "white_level"),
        (None, -1.0, "white_level"),
        (-1.7e308, 1.7e308, "white_level"),
    ],
)
def test_levels_without_a_range_between_them_are_refused(black: float | None, white: float | None, field: str) -> None:
    with pytest.raises(InvalidSamples, match=field) as refusal:
        decode_raw(bytes(18), header(), layout=SampleLayout.HWC, black_level=black, white_level=white)
    assert refusal.value.field == f"image.raw.{field}"


@pytest.mark.parametrize("layout", SampleLayout)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_counted_and_the_first_is_named(layout: SampleLayout, value: float) -> None:
    samples = np.zeros((4, 5, 3), np.float32)
    samples[2, 3, 1] = samples[2, 4, 0] = samples[3, 0, 2] = value
    ordered = samples if layout is SampleLayout.HWC else samples.transpose(2, 0, 1)
    image = decode_raw(ordered.tobytes(), header(4, 5, 3, SampleType.F32), layout=layout)
    refusal = nonfinite_samples(image.colour)
    assert re.search(r"3 of 60 .* row 2, column 3, channel 1", str(refusal))
    assert refusal.field == "image.raw.data"


@pytest.mark.parametrize("layout", SampleLayout)
def test_an_alpha_that_is_no_number_is_refused_because_no_unit_is_made_of_it(layout: SampleLayout) -> None:
    samples = np.zeros((4, 5, 4), np.float32)
    samples[1, 2, 3] = np.nan
    ordered = samples if layout is SampleLayout.HWC else samples.transpose(2, 0, 1)
    with pytest.raises(InvalidSamples, match=r"1 of 80 .* row 1, column 2, channel 3"):
        decode_raw(ordered.tobytes(), header(4, 5, 4, SampleType.F32), layout=layout)
