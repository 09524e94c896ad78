"""The bytes that clients send and the samples that must come back, made once before anything is timed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from denoised.noise import keyed_rng
from denoised.v1 import denoised_pb2 as pb
from tests.bench.jobs import Message
from tests.bench.networks import Network, Picture

_KEY: Final = 2**34 + 3
_DISTINCT: Final = 4
_NOISE_LEVELS: Final = 12.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: what is asked, and what ONNX Runtime alone answers; None is what must be refused."""

    request: pb.DenoiseRequest
    expected: bytes | None


def samples(network: Network, height_px: int, width_px: int, *, count: int = _DISTINCT) -> list[Sample]:
    """Distinct noisy pictures of one size as raw 8-bit samples."""
    made = []
    for index in range(count):
        noisy = picture(height_px, width_px, network.contract.channels, index)
        made.append(Sample(raw_request(network.name, noisy), network.answer(noisy).tobytes()))
    return made


def raw_request(model: str, noisy: Picture) -> pb.DenoiseRequest:
    """(H, W, C) 8-bit samples for a model."""
    height_px, width_px, channels = noisy.shape
    raw = pb.RawImage(
        data=noisy.tobytes(),
        sample_type=pb.SAMPLE_TYPE_U8,
        height_px=height_px,
        width_px=width_px,
        channel_count=channels,
    )
    return pb.DenoiseRequest(
        image=pb.Image(raw=raw), options=pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=model)
    )


def overflowing(network: Network, side_px: int) -> Sample:
    """Values so large that a network which takes them as they are makes no number of them."""
    channels = network.contract.channels
    values = np.full((side_px, side_px, channels), np.finfo(np.float32).max, np.float32)
    raw = pb.RawImage(
        data=values.tobytes(),
        sample_type=pb.SAMPLE_TYPE_F32,
        height_px=side_px,
        width_px=side_px,
        channel_count=channels,
    )
    return Sample(
        pb.DenoiseRequest(
            image=pb.Image(raw=raw), options=pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=network.name)
        ),
        None,
    )


def picture(
    height_px: int, width_px: int, channels: int, index: int, *, noise_levels: float = _NOISE_LEVELS
) -> Picture:
    """(H, W, C): smooth waves with noise, alike for the same arguments."""
    rng = keyed_rng(_KEY, height_px, width_px, channels, index)
    tilt, phases = rng.uniform(0.02, 0.1, 2).astype(np.float32), rng.uniform(0, 6, channels).astype(np.float32)
    columns = tilt[1] * np.arange(width_px, dtype=np.float32)[:, np.newaxis] + phases
    levels: Picture = np.empty((height_px, width_px, channels), np.uint8)
    # Row by row, because 100 megapixels as floats would be gigabytes.
    for row in range(height_px):
        noise = rng.standard_normal(columns.shape, dtype=np.float32) * np.float32(noise_levels)
        levels[row] = np.clip(127.5 + 100 * np.sin(columns + tilt[0] * np.float32(row)) + noise, 0, 255)
    return levels


def unary(of: Sequence[Sample]) -> tuple[Message, ...]:
    """A message of each."""
    return tuple(Message(sample.request.SerializeToString(), (sample.expected,)) for sample in of)


def batches(of: Sequence[Sample], size: int) -> tuple[Message, ...]:
    """Messages of ``size`` images each; as many as there are samples."""
    made = []
    for first in range(len(of)):
        chosen = [of[(first + index) % len(of)] for index in range(size)]
        message = pb.DenoiseBatchRequest(requests=[sample.request for sample in chosen])
        made.append(Message(message.SerializeToString(), tuple(sample.expected for sample in chosen)))
    return tuple(made)


def frames(of: Sequence[Sample], count: int) -> tuple[Message, ...]:
    """Frames of one stream with the ids 0 to ``count``."""
    made = []
    for index in range(count):
        sample = of[index % len(of)]
        frame = pb.DenoiseStreamRequest(item_id=str(index), request=sample.request)
        made.append(Message(frame.SerializeToString(), (sample.expected,)))
    return tuple(made)
