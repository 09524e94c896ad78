"""The images that are sent: gentle waves under Gaussian noise, made and packed once, before the clock runs."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from denoised._calls import build_request
from denoised.load.kinds import Kind
from denoised.noise import benchmark_noisy, keyed_rng
from denoised.v1 import denoised_pb2 as pb

_SIGMA_LEVELS: Final = 25.0
_WAVE_PX: Final = 40.0
_JPEG_QUALITY: Final = 90
_U8_TO_U16: Final = 257


@dataclass(frozen=True, slots=True)
class Picture:
    """One image, ready to be sent.

    Attributes:
        samples: (H, W) or (H, W, 3), uint8 or uint16.
        request: a ``DenoiseRequest``, serialised.
    """

    kind: Kind
    samples: NDArray[Any]
    request: bytes


def make_pictures(kinds: Sequence[Kind], *, each_count: int, seed: int, model: str = "") -> tuple[Picture, ...]:
    """``each_count`` different images of each kind, kind by kind; the same for the same seed."""
    return tuple(
        _picture(kind, seed=seed, index=kind_index * each_count + index, model=model)
        for kind_index, kind in enumerate(kinds)
        for index in range(each_count)
    )


def _picture(kind: Kind, *, seed: int, index: int, model: str) -> Picture:
    samples = _samples(kind, seed=seed, index=index)
    content = samples if kind.container == "raw" else _file(samples, kind)
    request, _ = build_request(content, model=model, report_level="none")
    return Picture(kind=kind, samples=samples, request=request.SerializeToString())


def _samples(kind: Kind, *, seed: int, index: int) -> NDArray[Any]:
    rng = keyed_rng(seed, index)
    y, x = np.mgrid[0 : kind.height_px, 0 : kind.width_px] / _WAVE_PX
    planes = []
    for _ in range(kind.channel_count):
        across, down, phase = rng.uniform(0.3, 1.5, 3)
        planes.append(128 + 55 * np.sin(across * x + phase) * np.cos(down * y + 2 * phase) + rng.uniform(-40, 40))
    clean = np.rint(np.stack(planes, axis=-1)).astype(np.uint8)
    noisy = benchmark_noisy(clean[..., 0] if kind.channel_count == 1 else clean, sigma=_SIGMA_LEVELS, index=index)
    return noisy if kind.sample_type == "u8" else noisy.astype(np.uint16) * _U8_TO_U16


def _file(samples: NDArray[Any], kind: Kind) -> bytes:
    if kind.container == "png":
        return _png(samples)
    from PIL import Image as PillowImage

    stream = io.BytesIO()
    PillowImage.fromarray(samples).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def _png(samples: NDArray[Any]) -> bytes:
    """A PNG without filters. Written here because Pillow has no colour images of 16 bits."""
    height_px, width_px = samples.shape[:2]
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height_px, -1).view(np.uint8)
    filtered = np.concatenate((np.zeros((height_px, 1), np.uint8), rows), axis=1)
    colour_type = 2 if samples.ndim == 3 else 0
    head = struct.pack(">IIBBBBB", width_px, height_px, samples.dtype.itemsize * 8, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(filtered.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def batch_message(requests: Sequence[bytes]) -> bytes:
    """A ``DenoiseBatchRequest`` of serialised requests; nothing is parsed."""
    return b"".join(part for request in requests for part in (_field_head(_BATCH_REQUESTS, request), request))


def item_message(item_id: str, request: bytes, timeout_s: float) -> bytes:
    """A ``DenoiseStreamRequest`` around a serialised request; nothing is parsed."""
    frame = pb.DenoiseStreamRequest(item_id=item_id)
    frame.timeout.FromMicroseconds(max(1, round(timeout_s * 1e6)))
    return b"".join((frame.SerializeToString(), _field_head(_ITEM_REQUEST, request), request))


_BATCH_REQUESTS: Final = pb.DenoiseBatchRequest.DESCRIPTOR.fields_by_name["requests"].number
_ITEM_REQUEST: Final = pb.DenoiseStreamRequest.DESCRIPTOR.fields_by_name["request"].number


def _field_head(number: int, body: bytes) -> bytes:
    """Tag and length before a field's bytes, as protobuf's wire format has them."""
    return _varint(number << 3 | 2) + _varint(len(body))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
