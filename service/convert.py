"""Between the API's messages and the service's own types; every field of a request is checked here, once."""

import math
from dataclasses import dataclass
from typing import Final

from google.protobuf.duration_pb2 import Duration

from denoised.contract import Capability, Precision, SampleLevels
from denoised.v1 import denoised_pb2 as pb
from service import codec
from service.codec import SampleLayout, SampleType
from service.errors import InvalidImage, InvalidOption, InvalidSamples
from service.pipeline import Options, Outcome, Source
from service.registry import Model
from service.types import Container, Image, ImageHeader

_CONTAINERS: Final[dict[pb.Container, Container]] = {
    pb.CONTAINER_PNG: Container.PNG,
    pb.CONTAINER_JPEG: Container.JPEG,
    pb.CONTAINER_RAW: Container.RAW,
}
_CONTAINER_NUMBERS: Final = {container: number for number, container in _CONTAINERS.items()}
_SAMPLE_TYPES: Final[dict[pb.SampleType, SampleType]] = {
    pb.SAMPLE_TYPE_U8: SampleType.U8,
    pb.SAMPLE_TYPE_U16: SampleType.U16,
    pb.SAMPLE_TYPE_F32: SampleType.F32,
}
_SAMPLE_TYPE_NUMBERS: Final = {sample_type.dtype: number for number, sample_type in _SAMPLE_TYPES.items()}
_LAYOUTS: Final[dict[pb.SampleLayout, SampleLayout]] = {
    pb.SAMPLE_LAYOUT_UNSPECIFIED: SampleLayout.HWC,
    pb.SAMPLE_LAYOUT_HWC: SampleLayout.HWC,
    pb.SAMPLE_LAYOUT_CHW: SampleLayout.CHW,
}
_LAYOUT_NUMBERS: Final = {SampleLayout.HWC: pb.SAMPLE_LAYOUT_HWC, SampleLayout.CHW: pb.SAMPLE_LAYOUT_CHW}
_CAPABILITIES: Final[dict[Capability, pb.Capability]] = {
    "denoise": pb.CAPABILITY_DENOISE,
    "encode": pb.CAPABILITY_ENCODE,
    "decode": pb.CAPABILITY_DECODE,
    "generate": pb.CAPABILITY_GENERATE,
}
_PRECISIONS: Final[dict[Precision, pb.Precision]] = {"fp32": pb.PRECISION_FP32, "int8": pb.PRECISION_INT8}
_DEFAULT_JPEG_QUALITY: Final = 95
# More than an answer holds beside its image's data: numbers, durations, the model's digest, and its name and version,
# which are names of folders.
_BESIDE_DATA_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class _Levels:
    """Black and white as a request states them."""

    black: float | None
    white: float | None

    @classmethod
    def stated_by(cls, image: pb.EncodedImage | pb.RawImage) -> "_Levels":
        return cls(
            image.black_level if image.HasField("black_level") else None,
            image.white_level if image.HasField("white_level") else None,
        )

    def or_those_of(self, levels: SampleLevels, header: ImageHeader) -> "_Levels":
        """The model's where none is stated: who states one of them describes samples of another make."""
        if self == _Levels(None, None) and _type_of(levels).dtype.itemsize * 8 == header.bits:
            return _Levels(levels.black, levels.white)
        return self


@dataclass(frozen=True, slots=True)
class EncodedSource:
    """An image file."""

    data: bytes
    header: ImageHeader
    levels: _Levels

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def decode(self, levels: SampleLevels) -> Image:
        chosen = self.levels.or_those_of(levels, self.header)
        return codec.decode(self.data, self.header, black_level=chosen.black, white_level=chosen.white)


@dataclass(frozen=True, slots=True)
class RawSource:
    """Raw samples."""

    data: bytes
    header: ImageHeader
    layout: SampleLayout
    levels: _Levels

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def decode(self, levels: SampleLevels) -> Image:
        chosen = self.levels.or_those_of(levels, self.header)
        return codec.decode_raw(
            self.data, self.header, layout=self.layout, black_level=chosen.black, white_level=chosen.white
        )


def source_of(image: pb.Image) -> Source:
    """The image of a request, its header read.

    Raises:
        InvalidArgument: no image, or its header is wrong.
    """
    match image.WhichOneof("content"):
        case "encoded":
            claimed = image.encoded.container
            if claimed == pb.CONTAINER_RAW or (claimed and claimed not in _CONTAINERS):
                raise InvalidImage(
                    f"container is {claimed}, which no file is; leave it out, or send raw samples as image.raw",
                    field="image.encoded.container",
                )
            data = image.encoded.data
            header = codec.sniff(data, claimed=_CONTAINERS.get(claimed))
            return EncodedSource(data, header, _Levels.stated_by(image.encoded))
        case "raw":
            return _raw_source(image.raw)
        case _:
            raise InvalidImage("the request has no image; set image.encoded or image.raw", field="image")


def options_of(options: pb.DenoiseOptions, image: pb.Image) -> Options:
    """The options of a request, defaults filled in.

    Raises:
        InvalidOption: one is out of its range.
    """
    strength = options.strength if options.HasField("strength") else 1.0
    if not 0.0 <= strength <= 1.0:  # false for NaN, too
        raise InvalidOption(f"strength is {strength}; it must lie in 0..1", field="options.strength")
    number = options.output_container
    if number and number not in _CONTAINERS:
        raise InvalidOption(
            f"output_container is {number}; known: {', '.join(pb.Container.keys())}", field="options.output_container"
        )
    quality = options.jpeg_quality if options.HasField("jpeg_quality") else _DEFAULT_JPEG_QUALITY
    if not 1 <= quality <= 100:
        raise InvalidOption(f"jpeg_quality is {quality}; it must lie in 1..100", field="options.jpeg_quality")
    return Options(
        strength=strength,
        output_container=_CONTAINERS.get(number),
        jpeg_quality=quality,
        raw_layout=_LAYOUTS.get(image.raw.layout, SampleLayout.HWC),
    )


def timeout_s(frame: pb.DenoiseStreamRequest) -> float:
    """The time that an item of a stream may take.

    Raises:
        InvalidOption: it is not more than zero.
    """
    seconds = frame.timeout.seconds + frame.timeout.nanos / 1e9
    if not seconds > 0:
        raise InvalidOption(f"timeout is {seconds} s; it must be more than 0", field="timeout")
    return seconds


def response_of(outcome: Outcome, request: pb.DenoiseRequest, model: Model) -> pb.DenoiseResponse:
    """The answer to a request."""
    response = pb.DenoiseResponse(
        image=request.image if outcome.answer is None else _image_message(outcome, request.image),
        timings=pb.Timings(
            decode=_duration(outcome.timings.decode_s),
            queue=_duration(outcome.timings.queue_s),
            compute=_duration(outcome.timings.compute_s),
            encode=_duration(outcome.timings.encode_s),
            total=_duration(outcome.timings.total_s),
        ),
        model=_reference(model),
    )
    findings = outcome.findings
    if findings is not None:
        sigma, noise = findings.noise_sigma, model.contract.noise
        if sigma is not None:
            response.report.noise_sigma = sigma
            if noise.sigma_max > 0.0:
                response.report.sigma_in_trained_range = noise.sigma_min <= sigma <= noise.sigma_max
        response.report.clipped_sample_count = findings.clipped_sample_count
        response.batching.tile_count = findings.tile_count
        response.batching.shared_request_count = findings.shared_request_count
        response.batching.shared_client_count = findings.shared_client_count
    return response


def most_bytes(outcome: Outcome, source: Source) -> int:
    """What an answer takes in a message, at most. Asking the message itself costs as much as writing it."""
    data_bytes = source.size_bytes if outcome.answer is None else len(outcome.answer.data)
    return data_bytes + _BESIDE_DATA_BYTES


def model_message(model: Model, *, is_default: bool) -> pb.Model:
    """What the API says of a model."""
    contract = model.contract
    return pb.Model(
        reference=_reference(model),
        summary=contract.summary,
        channel_count=contract.channels,
        sigma_min=contract.noise.sigma_min,
        sigma_max=contract.noise.sigma_max,
        clips_input=contract.noise.clip,
        gmac_per_megapixel=contract.gmac_per_megapixel,
        license=contract.license,
        is_default=is_default,
        kind=contract.kind,
        capabilities=[_CAPABILITIES[capability] for capability in contract.capabilities],
        precision=_PRECISIONS[contract.precision],
        fixed_side_px=contract.fixed_side_px,
        code_length=contract.code_length,
        sample_type=_SAMPLE_TYPE_NUMBERS[_type_of(contract.levels).dtype],
        black_level=contract.levels.black,
        white_level=contract.levels.white,
    )


def _type_of(levels: SampleLevels) -> SampleType:
    return SampleType[levels.sample_type.upper()]


def _raw_source(raw: pb.RawImage) -> RawSource:
    if raw.sample_type not in _SAMPLE_TYPES:
        raise InvalidSamples(
            f"sample_type is {raw.sample_type}; it must be one of: {', '.join(pb.SampleType.keys()[1:])}",
            field="image.raw.sample_type",
        )
    if raw.layout not in _LAYOUTS:
        raise InvalidSamples(
            f"layout is {raw.layout}; known: {', '.join(pb.SampleLayout.keys())}", field="image.raw.layout"
        )
    header = codec.raw_header(
        height_px=raw.height_px,
        width_px=raw.width_px,
        channel_count=raw.channel_count,
        sample_type=_SAMPLE_TYPES[raw.sample_type],
    )
    return RawSource(raw.data, header, _LAYOUTS[raw.layout], _Levels.stated_by(raw))


def _image_message(outcome: Outcome, asked: pb.Image) -> pb.Image:
    answer = outcome.answer
    assert answer is not None
    if outcome.container is not Container.RAW:
        return pb.Image(encoded=pb.EncodedImage(data=answer.data, container=_CONTAINER_NUMBERS[outcome.container]))
    image = answer.image
    return pb.Image(
        raw=pb.RawImage(
            data=answer.data,
            sample_type=_SAMPLE_TYPE_NUMBERS[image.colour.dtype],
            layout=_LAYOUT_NUMBERS[_LAYOUTS[asked.raw.layout]],
            height_px=image.height_px,
            width_px=image.width_px,
            channel_count=image.channel_count,
            black_level=image.black_level,
            white_level=image.white_level,
        )
    )


def _reference(model: Model) -> pb.ModelReference:
    return pb.ModelReference(name=model.contract.name, version=model.contract.version, digest=model.digest)


def _duration(seconds: float) -> Duration:
    nanoseconds = 0 if not math.isfinite(seconds) else max(0, round(seconds * 1e9))
    return Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
