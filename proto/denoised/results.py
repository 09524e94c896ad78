"""What the client hands back: plain frozen values, durations in seconds, no protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from denoised._energy_messages import EnergyReport, energy_report
from denoised.v1 import denoised_pb2 as pb

ImageT = TypeVar("ImageT")
AnyImage = NDArray[Any] | bytes


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Which model made an answer; ``digest`` is the SHA-256 of its file."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the server's time went. Stages overlap when an image has several tiles, so they need not add up."""

    decode_s: float
    queue_s: float
    compute_s: float
    encode_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class CleanResult(Generic[ImageT]):
    """A denoised image and what the server says about it.

    Attributes:
        image: an array for an array, the bytes of a file for bytes or a path.
        noise_sigma: standard deviation of the noise found, in 8-bit levels (0..255). None when the model estimates
            none, and when strength was 0 and nothing was computed.
        sigma_in_trained_range: whether the model was trained for that much noise. None when noise_sigma is, and when
            the model's range is not known.
        clipped_sample_count: samples outside black..white that were clipped before denoising. None when nothing was
            computed.
        timings: where the server's time went.
        tile_count: tiles that the image was cut into; 0 when nothing was computed.
        shared_request_count: the most requests, this one included, that shared a batch with one of its tiles.
        shared_client_count: the most clients, this one included, that shared a batch with one of its tiles.
        model: which model made it.
        energy: how far to trust it; None when no report was asked for, and when nothing was computed.
    """

    image: ImageT
    noise_sigma: float | None
    sigma_in_trained_range: bool | None
    clipped_sample_count: int | None
    timings: Timings
    tile_count: int
    shared_request_count: int
    shared_client_count: int
    model: ModelReference
    energy: EnergyReport | None


@dataclass(frozen=True, slots=True)
class InspectResult:
    """What the server found in an image that it was asked to look at.

    Attributes:
        energy: all statistics and verdicts.
        noise_sigma, sigma_in_trained_range, clipped_sample_count, timings, tile_count, shared_request_count,
            shared_client_count: as in ``CleanResult``.
        model: which model looked at it.
    """

    energy: EnergyReport
    noise_sigma: float | None
    sigma_in_trained_range: bool | None
    clipped_sample_count: int
    timings: Timings
    tile_count: int
    shared_request_count: int
    shared_client_count: int
    model: ModelReference


@dataclass(frozen=True, slots=True, eq=False)
class EncodeResult:
    """The latent code of an image.

    Attributes:
        code: (d,) float32, or float16 where half precision was asked for.
        prior_distance: standard deviations from the middle of the model's codes; None where nothing is known of them.
        prior_distance_limit: from there on codes are refused unless asked for; None with ``prior_distance``.
        compression_nats: what the code costs; None where that is undefined.
        timings: where the server's time went.
        model: which model made it.
    """

    code: NDArray[np.floating]
    prior_distance: float | None
    prior_distance_limit: float | None
    compression_nats: float | None
    timings: Timings
    model: ModelReference


@dataclass(frozen=True, slots=True, eq=False)
class DecodeResult:
    """The image of a code: an array (H, W) or (H, W, C), or the bytes of a file where a container was asked for."""

    image: AnyImage
    timings: Timings
    model: ModelReference


@dataclass(frozen=True, slots=True, eq=False)
class GenerateResult:
    """New images; see :class:`DecodeResult`.

    Attributes:
        images: as many as were asked for.
        codes: (N, d) float32, that they were decoded from.
        seed: gives them again.
    """

    images: tuple[AnyImage, ...]
    codes: NDArray[np.float32]
    seed: int
    timings: Timings
    model: ModelReference


@dataclass(frozen=True, slots=True, eq=False)
class InterpolateResult:
    """Images from one end to the other; see :class:`DecodeResult`.

    Attributes:
        images: the ends and what is between them.
        codes: (N, d) float32, that they were decoded from.
        spherical: whether the way is an arc and not a line.
    """

    images: tuple[AnyImage, ...]
    codes: NDArray[np.float32]
    spherical: bool
    timings: Timings
    model: ModelReference


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the server has loaded. Noise levels are in 8-bit levels (0..255).

    Attributes:
        channel_count: channels of the network: 3 RGB (grey is served too), 1 grey.
        gmac_per_megapixel: cost, in 1e9 multiply-accumulate operations for one megapixel.
        clips_input: whether samples outside black..white are clipped first, as in its training.
        is_default: whether it is used when no model is named.
        kind: family of the network, such as ``conv_dae``.
        capabilities: what it can be asked for, such as ``denoise``; those that this client doesn't know are left out.
        precision: ``fp32`` or ``int8``; empty when this client doesn't know it.
        fixed_side_px: the only height and width of an image that it takes; 0 means any.
        code_length: numbers in its latent code; 0 means that it has none.
        sample_type: of the images that it was trained on, ``u8``, ``u16`` or ``f32``; images of that type have the
            next two levels unless they state others.
        black_level, white_level: the sample values that were black and white.
    """

    name: str
    version: str
    digest: str
    summary: str
    channel_count: int
    sigma_min: float
    sigma_max: float
    clips_input: bool
    gmac_per_megapixel: float
    license: str
    is_default: bool
    kind: str
    capabilities: tuple[str, ...]
    precision: str
    fixed_side_px: int
    code_length: int
    sample_type: str
    black_level: float
    white_level: float


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself.

    Attributes:
        health: ``SERVING``, ``NOT_SERVING`` while it starts or stops, or ``UNKNOWN``.
        models: what it has loaded, by name, then by version, oldest first.
        message_bytes, image_pixels, batch_image_count, chunked_image_pixels: the most that it takes; None of what an
            older server does not tell.
        is_newer: whether it says things that this client does not know.
    """

    health: str
    models: tuple[Model, ...]
    message_bytes: int | None
    image_pixels: int | None
    batch_image_count: int | None
    chunked_image_pixels: int | None
    is_newer: bool

    @property
    def is_older(self) -> bool:
        """Whether it does not tell what this client asks for."""
        return None in (self.message_bytes, self.image_pixels, self.batch_image_count, self.chunked_image_pixels)


def server(response: pb.ListModelsResponse, health: str) -> Server:
    """The message in the client's terms."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    limits = response.limits
    capabilities = {number for message in response.models for number in message.capabilities}
    return Server(
        health=health,
        models=tuple(model(message) for message in response.models),
        message_bytes=limits.message_bytes or None,
        image_pixels=limits.image_pixels or None,
        batch_image_count=limits.batch_image_count or None,
        chunked_image_pixels=limits.chunked_image_pixels or None,
        is_newer=not capabilities <= set(_CAPABILITIES)
        or any(len(UnknownFieldSet(message)) for message in (response, limits, *response.models)),
    )


def clean_result(response: pb.DenoiseResponse, image: ImageT) -> CleanResult[ImageT]:
    """The response in the client's terms, around an image that has been converted already."""
    report = response.report if response.HasField("report") else None
    return CleanResult(
        image=image,
        noise_sigma=_noise_sigma(response.report),
        sigma_in_trained_range=_sigma_in_trained_range(response.report),
        clipped_sample_count=report.clipped_sample_count if report is not None else None,
        timings=timings(response.timings),
        tile_count=response.batching.tile_count,
        shared_request_count=response.batching.shared_request_count,
        shared_client_count=response.batching.shared_client_count,
        model=model_reference(response.model),
        energy=energy_report(response.energy) if response.HasField("energy") else None,
    )


def inspect_result(response: pb.InspectResponse | pb.DenoiseResponse) -> InspectResult:
    """The response in the client's terms; a DenoiseResponse is one without an image."""
    return InspectResult(
        energy=energy_report(response.energy),
        noise_sigma=_noise_sigma(response.report),
        sigma_in_trained_range=_sigma_in_trained_range(response.report),
        clipped_sample_count=response.report.clipped_sample_count,
        timings=timings(response.timings),
        tile_count=response.batching.tile_count,
        shared_request_count=response.batching.shared_request_count,
        shared_client_count=response.batching.shared_client_count,
        model=model_reference(response.model),
    )


def _noise_sigma(report: pb.NoiseReport) -> float | None:
    return report.noise_sigma if report.HasField("noise_sigma") else None


def _sigma_in_trained_range(report: pb.NoiseReport) -> bool | None:
    return report.sigma_in_trained_range if report.HasField("sigma_in_trained_range") else None


def timings(message: pb.Timings) -> Timings:
    """The message in the client's terms."""
    return Timings(
        decode_s=_seconds(message.decode),
        queue_s=_seconds(message.queue),
        compute_s=_seconds(message.compute),
        encode_s=_seconds(message.encode),
        total_s=_seconds(message.total),
    )


def model_reference(message: pb.ModelReference) -> ModelReference:
    """The message in the client's terms."""
    return ModelReference(name=message.name, version=message.version, digest=message.digest)


def model(message: pb.Model) -> Model:
    """The message in the client's terms."""
    return Model(
        name=message.reference.name,
        version=message.reference.version,
        digest=message.reference.digest,
        summary=message.summary,
        channel_count=message.channel_count,
        sigma_min=message.sigma_min,
        sigma_max=message.sigma_max,
        clips_input=message.clips_input,
        gmac_per_megapixel=message.gmac_per_megapixel,
        license=message.license,
        is_default=message.is_default,
        kind=message.kind,
        capabilities=tuple(_CAPABILITIES[number] for number in message.capabilities if number in _CAPABILITIES),
        precision=_PRECISIONS.get(message.precision, ""),
        fixed_side_px=message.fixed_side_px,
        code_length=message.code_length,
        sample_type=_SAMPLE_TYPES.get(message.sample_type, ""),
        black_level=message.black_level,
        white_level=message.white_level,
    )


def _names(numbers: Mapping[str, int], prefix: str) -> dict[int, str]:
    """The values of an enumeration by number, in the form that people write; the unspecified one is none of them."""
    return {number: name.removeprefix(prefix).lower() for name, number in numbers.items() if number}


_CAPABILITIES: Final = _names(dict(pb.Capability.items()), "CAPABILITY_")
_PRECISIONS: Final = _names(dict(pb.Precision.items()), "PRECISION_")
_SAMPLE_TYPES: Final = _names(dict(pb.SampleType.items()), "SAMPLE_TYPE_")


def _seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()
