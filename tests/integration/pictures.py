"""Pictures that the tests send, the requests that carry them, and what comes back as samples again.

Files are written and read with Pillow and imagecodecs, never with the service's own code.
"""

import io
import struct
import zlib
from typing import Any, cast

import imagecodecs
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image as PillowImage

from denoised.noise import benchmark_noisy, keyed_rng
from denoised.v1 import denoised_pb2 as pb

Bytes = NDArray[np.uint8]
Samples = NDArray[Any]

SAMPLE_TYPES = {"uint8": pb.SAMPLE_TYPE_U8, "uint16": pb.SAMPLE_TYPE_U16, "float32": pb.SAMPLE_TYPE_F32}
_DTYPES = {number: np.dtype(name) for name, number in SAMPLE_TYPES.items()}


def smooth(seed: int, height_px: int, width_px: int, channels: int = 3) -> Bytes:
    """A picture of gentle waves, another one for each seed."""
    rng = keyed_rng(20, seed)
    y, x = np.mgrid[0:height_px, 0:width_px] / 40.0
    planes = []
    for _ in range(channels):
        fx, fy, phase = rng.uniform(0.3, 1.5, 3)
        planes.append(128 + 55 * np.sin(fx * x + phase) * np.cos(fy * y + 2 * phase) + rng.uniform(-40, 40))
    picture: Bytes = np.rint(np.stack(planes, axis=-1)).astype(np.uint8)
    return picture


def noisy(seed: int, height_px: int, width_px: int, channels: int = 3, *, sigma: float = 25.0) -> Bytes:
    """The same with noise."""
    return benchmark_noisy(smooth(seed, height_px, width_px, channels), sigma=sigma, index=seed)


def photograph(name: str) -> Bytes:
    """One of the photographs that come with scikit-image."""
    return np.asarray(getattr(skimage.data, name)())


def mosaic() -> Bytes:
    """Four photographs side by side: larger than the largest unit, and full of detail."""
    upper = (photograph("astronaut")[:427], photograph("rocket"))
    lower = (photograph("coffee"), photograph("astronaut")[112:], np.zeros((400, 40, 3), np.uint8))
    return np.concatenate((np.concatenate(upper, axis=1), np.concatenate(lower, axis=1)))


def png(samples: Samples, **options: Any) -> bytes:
    """A PNG of (H, W) or (H, W, C) samples of 8 or 16 bits."""
    if samples.dtype == np.uint16:
        return bytes(imagecodecs.png_encode(samples))
    return file_of(PillowImage.fromarray(samples[..., 0] if samples.shape[2:] == (1,) else samples), **options)


def png_of(width_px: int, height_px: int, rows: bytes, *, interlaced: bool = False) -> bytes:
    """A PNG of 8-bit RGB that says this size and holds these filtered rows, whether they fit or not."""
    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, interlaced)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def interlaced_png(samples: Bytes) -> bytes:
    """An Adam7 PNG of (H, W, 3) samples, unfiltered."""
    # Of each pass: first column and row, steps of columns and rows.
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(
        b"\0" + row.tobytes()
        for column, line, across, down in passes
        for row in samples[line::down, column::across]
        if row.size
    )
    return png_of(samples.shape[1], samples.shape[0], rows, interlaced=True)


def jpeg(samples: Bytes, **options: Any) -> bytes:
    """A JPEG of (H, W) or (H, W, 3) samples."""
    return file_of(PillowImage.fromarray(samples), "JPEG", quality=95, **options)


def file_of(image: PillowImage.Image, container: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, container, **options)
    return stream.getvalue()


def opened(data: bytes) -> PillowImage.Image:
    """What Pillow makes of a file."""
    return PillowImage.open(io.BytesIO(data))


def file_request(data: bytes, *, claimed: int = pb.CONTAINER_UNSPECIFIED, **options: Any) -> pb.DenoiseRequest:
    return pb.DenoiseRequest(
        image=pb.Image(encoded=pb.EncodedImage(data=data, container=cast("pb.Container", claimed))),
        options=pb.DenoiseOptions(**options),
    )


def raw_image(samples: Samples, **fields: Any) -> pb.RawImage:
    """(H, W) or (H, W, C) samples; ``fields`` replace what they would say."""
    channels = samples.shape[2] if samples.ndim == 3 else 1
    chw = fields.get("layout") == pb.SAMPLE_LAYOUT_CHW
    told = {
        "data": (np.moveaxis(np.atleast_3d(samples), -1, 0) if chw else samples).tobytes(),
        "sample_type": SAMPLE_TYPES[samples.dtype.name],
        "height_px": samples.shape[0],
        "width_px": samples.shape[1],
        "channel_count": channels,
    }
    return pb.RawImage(**(told | fields))


def raw_request(samples: Samples, *, fields: dict[str, Any] | None = None, **options: Any) -> pb.DenoiseRequest:
    return pb.DenoiseRequest(
        image=pb.Image(raw=raw_image(samples, **(fields or {}))), options=pb.DenoiseOptions(**options)
    )


def samples_of(image: pb.Image) -> Samples:
    """(H, W, C), or (H, W) of a grey file."""
    if image.WhichOneof("content") == "encoded":
        data, is_jpeg = image.encoded.data, image.encoded.container == pb.CONTAINER_JPEG
        return np.asarray(opened(data) if is_jpeg else imagecodecs.png_decode(data))
    raw = image.raw
    flat = np.frombuffer(raw.data, _DTYPES[raw.sample_type])
    if raw.layout == pb.SAMPLE_LAYOUT_CHW:
        return np.moveaxis(flat.reshape(raw.channel_count, raw.height_px, raw.width_px), 0, -1)
    return flat.reshape(raw.height_px, raw.width_px, raw.channel_count)
