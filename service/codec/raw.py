"""Raw samples: no file format, so every property comes from the request and is checked here."""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codec import levels, planes
from service.errors import InvalidSamples
from service.types import Container, Data, Image, ImageHeader, Metadata, Samples


class SampleType(Enum):
    """Number format of raw samples: its little-endian NumPy type."""

    U8 = "<u1"
    U16 = "<u2"
    F32 = "<f4"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.value)


class SampleLayout(Enum):
    """Order of raw samples."""

    HWC = "hwc"
    CHW = "chw"


_TYPE_OF_BITS = {sample_type.dtype.itemsize * 8: sample_type for sample_type in SampleType}


def raw_header(*, height_px: int, width_px: int, channel_count: int, sample_type: SampleType) -> ImageHeader:
    """The header of raw samples, for the checks that come before decoding.

    Raises:
        InvalidSamples: sizes or channels that no image has.
    """
    for name, size_px in (("height_px", height_px), ("width_px", width_px)):
        if size_px < 1:
            raise InvalidSamples(f"{name} is {size_px}; it must be 1 or more", field=f"image.raw.{name}")
    if not 1 <= channel_count <= 4:
        raise InvalidSamples(
            f"channel_count is {channel_count}; it must be 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha)",
            field="image.raw.channel_count",
        )
    return ImageHeader(
        container=Container.RAW,
        height_px=height_px,
        width_px=width_px,
        channels=channel_count,
        bits=sample_type.dtype.itemsize * 8,
    )


def check_raw_length(size_bytes: int, header: ImageHeader) -> None:
    """Raises InvalidSamples unless so many bytes are the samples of such an image."""
    if size_bytes != header.decoded_bytes:
        raise InvalidSamples(
            f"{header.height_px} x {header.width_px} px with {header.channels} channels of {header.bits} bits are "
            f"{header.decoded_bytes} bytes, got {size_bytes}; send all samples, without stride or padding",
            field="image.raw.data",
        )


def dtype_of(header: ImageHeader) -> np.dtype[Any]:
    """The little-endian type of raw samples."""
    return _TYPE_OF_BITS[header.bits].dtype


def view_raw(data: Data, header: ImageHeader, layout: SampleLayout) -> Samples:
    """(H, W, C) samples: a read-only view of ``data``, whose length :func:`check_raw_length` has found right."""
    flat = np.frombuffer(data, dtype_of(header))
    height_px, width_px, channels = header.height_px, header.width_px, header.channels
    if layout is SampleLayout.HWC:
        return flat.reshape(height_px, width_px, channels)
    return flat.reshape(channels, height_px, width_px).transpose(1, 2, 0)


def raw_bytes(samples: Samples, layout: SampleLayout) -> memoryview:
    """The memory of samples that :func:`view_raw` gave, or of an array made in their likeness, in their layout."""
    ordered = samples if layout is SampleLayout.HWC else samples.transpose(2, 0, 1)
    return ordered.reshape(-1).view(np.uint8).data


def decode_raw(
    data: Data,
    header: ImageHeader,
    *,
    layout: SampleLayout,
    black_level: float | None = None,
    white_level: float | None = None,
) -> Image:
    """The image that the samples are: a read-only view of ``data``, which it keeps alive.

    Of float samples only the alpha is looked at. Colour is looked at when units are made of it, and not twice: what
    NaN or infinities in it mean is for :func:`nonfinite_samples` to say.

    Args:
        data: the samples.
        header: from ``raw_header``.
        layout: their order.
        black_level: the sample value that is black; None for 0.
        white_level: the sample value that is white; None for the largest integer, or 1.0 for floats.

    Raises:
        InvalidSamples: a wrong length, levels without a range between them, an alpha of NaN or infinities.
    """
    check_raw_length(len(data), header)
    black, white = levels.resolve(black_level, white_level, bits=header.bits, field="image.raw")
    samples = view_raw(data, header, layout)
    image = planes.split(samples, black_level=black, white_level=white, metadata=Metadata())
    if image.alpha is not None and image.alpha.dtype == np.float32 and not np.isfinite(image.alpha).all():
        raise nonfinite_samples(samples)
    return image


def encode_raw(image: Image, layout: SampleLayout) -> bytes:
    """The samples of an image in their own type, alpha last."""
    if layout is SampleLayout.CHW and image.alpha is None:
        # An answer to samples in this order lies in memory so, and is copied once.
        return _little_endian(image.colour.transpose(2, 0, 1)).tobytes()
    samples = planes.join(image)
    return _little_endian(samples if layout is SampleLayout.HWC else samples.transpose(2, 0, 1)).tobytes()


def nonfinite_samples(samples: Samples, *, top_px: int = 0, left_px: int = 0) -> InvalidSamples:
    """The refusal of float samples of which some are NaN or infinite: how many, and where the first is.

    Args:
        samples: (H, W, C), of an image or of the part of one that begins at row ``top_px``, column ``left_px``.
    """
    finite = np.isfinite(samples)
    row, column, channel = (int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
    return InvalidSamples(
        f"{finite.size - int(np.count_nonzero(finite))} of {finite.size} samples are NaN or infinite, the first at row "
        f"{top_px + row}, column {left_px + column}, channel {channel}; replace them before sending",
        field="image.raw.data",
    )


def _little_endian(samples: NDArray[Any]) -> NDArray[Any]:
    return samples.astype(samples.dtype.newbyteorder("<"), copy=False)
