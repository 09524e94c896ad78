"""Between the API's messages and the service's own types; every field of a request is checked here, once.

All that follows from a request without its data is a recipe. Clients send thousands of requests that differ in
nothing else, so recipes are remembered under the very bytes that they came from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from denoised.contract import Capability, Precision, SampleLevels
from denoised.v1 import denoised_pb2 as pb
from service import codec, wire
from service.codec import SampleLayout, SampleType
from service.errors import ImageTooLarge, InvalidImage, InvalidOption, InvalidSamples
from service.identities import capped
from service.job import FileOrder, Findings, Levels, Options, Outcome, RawOrder, Timings
from service.pipeline import Denoiser
from service.pixels import Scale
from service.registry import Model, Registry
from service.report.message import left_out_message
from service.types import Container, Data, Image, ImageHeader, ReportLevel, ServiceClass

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
_CLASSES: Final[dict[pb.ServiceClass, ServiceClass]] = {
    pb.SERVICE_CLASS_UNSPECIFIED: ServiceClass.NORMAL,
    pb.SERVICE_CLASS_INTERACTIVE: ServiceClass.INTERACTIVE,
    pb.SERVICE_CLASS_NORMAL: ServiceClass.NORMAL,
    pb.SERVICE_CLASS_BULK: ServiceClass.BULK,
}
_CAPABILITIES: Final[dict[Capability, pb.Capability]] = {
    "denoise": pb.CAPABILITY_DENOISE,
    "encode": pb.CAPABILITY_ENCODE,
    "decode": pb.CAPABILITY_DECODE,
    "generate": pb.CAPABILITY_GENERATE,
}
_PRECISIONS: Final[dict[Precision, pb.Precision]] = {"fp32": pb.PRECISION_FP32, "int8": pb.PRECISION_INT8}
_REPORT_LEVELS: Final[dict[pb.ReportLevel, ReportLevel]] = {
    pb.REPORT_LEVEL_UNSPECIFIED: ReportLevel.UNSPECIFIED,
    pb.REPORT_LEVEL_NONE: ReportLevel.NONE,
    pb.REPORT_LEVEL_FAST: ReportLevel.FAST,
    pb.REPORT_LEVEL_SURE: ReportLevel.SURE,
}
_LARGEST_SIGMA: Final = 255.0
_REPORT_ONLY: Final = pb.DenoiseRequest(options=pb.DenoiseOptions(report_only=True)).SerializeToString()
_DEFAULT_JPEG_QUALITY: Final = 95
# Requests without their data have some thirty bytes, a few hundred with a colour's levels and a model's name; there
# are as many as there are sizes of images.
_REMEMBERED_COUNT: Final = 1024
_REMEMBERED_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Recipe:
    """What follows from a request without its data.

    Attributes:
        order: what is asked for.
        own: the request's image as it came, without its data.
        answer: how raw samples come back; None for files, whose answer's form follows from what they hold.
        model: the reply's model field, serialised.
    """

    order: RawOrder | FileOrder
    own: wire.Content
    answer: wire.Content | None
    model: bytes


class Recipes:
    """Recipes by the bytes of requests without their data."""

    def __init__(self, *, registry: Callable[[], Registry], denoiser: Denoiser) -> None:
        self._registry = registry
        self._denoiser = denoiser
        self._remembered: dict[ServiceClass, dict[bytes, Recipe]] = {each: {} for each in ServiceClass}

    def of(self, rest: bytes, most_urgent: ServiceClass = ServiceClass.INTERACTIVE) -> Recipe:
        """The recipe of a request; see :func:`service.wire.split_request`. It is no more urgent than it may be.

        Raises:
            InvalidArgument: a field has a value that it can't have.
            ModelUnknown, CapabilityMissing: it asks for a model that can't serve it.
        """
        remembered = self._remembered[most_urgent]
        recipe = remembered.get(rest)
        if recipe is None:
            request = wire.parse(pb.DenoiseRequest, rest)
            # A canary has its share of requests that are alike, so that these are looked at one by one.
            model, is_drawn = self._registry().draw(request.options.model, request.options.model_version)
            recipe = self._made_of(request, model, most_urgent, in_chunks=False)
            if len(rest) <= _REMEMBERED_BYTES and not is_drawn:
                if len(remembered) >= _REMEMBERED_COUNT:
                    remembered.clear()
                remembered[rest] = recipe
        return recipe

    def of_inspection(self, rest: bytes, most_urgent: ServiceClass = ServiceClass.INTERACTIVE) -> Recipe:
        """The recipe of an InspectRequest, numbered as a DenoiseRequest is; raises as :meth:`of`.

        A message behind another one of the same kind is merged into it: see the source of the format.
        """
        return self.of(rest + _REPORT_ONLY, most_urgent)

    def of_header(self, header: pb.ImageHeader, most_urgent: ServiceClass = ServiceClass.INTERACTIVE) -> Recipe:
        """The recipe of an image that comes in chunks; raises as :meth:`of`."""
        request = pb.DenoiseRequest(image=header.image, options=header.options)
        model, _ = self._registry().draw(request.options.model, request.options.model_version)
        return self._made_of(request, model, most_urgent, in_chunks=True)

    def forget(self) -> None:
        """Other models are served from now on."""
        for remembered in self._remembered.values():
            remembered.clear()

    def _made_of(
        self, request: pb.DenoiseRequest, model: Model, most_urgent: ServiceClass, *, in_chunks: bool
    ) -> Recipe:
        options = _options_of(request.options, request.image, most_urgent)
        model_field = pb.DenoiseResponse(model=reference(model)).SerializeToString()
        match request.image.WhichOneof("content"):
            case "encoded":
                encoded = request.image.encoded
                file_order = FileOrder(model, options, claimed_container(encoded), levels_stated_by(encoded))
                return Recipe(file_order, _content(encoded), None, model_field)
            case "raw":
                raw = request.image.raw
                raw_order = self._raw_order(raw, model, options, in_chunks=in_chunks)
                return Recipe(raw_order, _content(raw), _raw_content(raw, raw_order.scale), model_field)
            case _:
                raise InvalidImage("the request has no image; set image.encoded or image.raw", field="image")

    def _raw_order(self, raw: pb.RawImage, model: Model, options: Options, *, in_chunks: bool) -> RawOrder:
        header, layout = raw_header_of(raw)
        geometry = self._denoiser.geometry(header, model, options, in_chunks=in_chunks)
        levels = levels_stated_by(raw).or_those_of(model.contract.levels, header)
        black, white = codec.resolve_levels(levels.black, levels.white, bits=header.bits, field="image.raw")
        scale = Scale(black, white, model.contract.noise.clip)
        return RawOrder(model, options, geometry, layout, scale)


class Replies:
    """Outcomes as the parts of a serialised reply. One message is filled again and again: making one costs more."""

    def __init__(self, *, report_one_in: int) -> None:
        """``report_one_in`` is k of the images of which one gets a report when the server is busy."""
        self._left_out = left_out_message(report_one_in)
        rest = self._rest = pb.DenoiseResponse()
        # In the order of Timings.
        self._durations = tuple(getattr(rest.timings, stage.removesuffix("_s")) for stage in Timings._fields)
        # Images side by side share their timings, and their findings where there are none.
        self._last: tuple[Timings, Findings | None, bytes] | None = None
        self._last_bytes = b""

    def response_parts(self, outcome: Outcome, recipe: Recipe) -> tuple[list[Data], int]:
        """A DenoiseResponse in parts, and its length; see :mod:`service.wire`."""
        rest = self._rest_of(outcome, recipe)
        if outcome.energy:
            rest += outcome.energy
            if recipe.order.options.report_only:
                return [rest], len(rest)
        elif outcome.findings is not None and recipe.order.options.report_level is ReportLevel.UNSPECIFIED:
            rest += self._left_out
        return wire.response_parts(self._content_of(outcome, recipe), outcome.data, rest)

    def _content_of(self, outcome: Outcome, recipe: Recipe) -> wire.Content:
        if outcome.image is None:
            return recipe.own if outcome.findings is None or recipe.answer is None else recipe.answer
        if outcome.container is Container.RAW:
            return _content(raw_message(outcome.image, recipe.order.options.raw_layout))
        return _content(pb.EncodedImage(container=container_number(outcome.container)))

    def _rest_of(self, outcome: Outcome, recipe: Recipe) -> bytes:
        rest, timings, findings = self._rest, outcome.timings, outcome.findings
        last = self._last
        if last is not None and last[0] is timings and last[1] is findings and last[2] is recipe.model:
            return self._last_bytes
        for duration, seconds in zip(self._durations, timings, strict=True):
            duration.seconds, duration.nanos = divmod(max(0, int(seconds * 1e9)), 1_000_000_000)
        if last is None or last[1] is not findings or last[2] is not recipe.model:
            self._fill_findings(findings, recipe)
        self._last = (timings, findings, recipe.model)
        self._last_bytes = rest.SerializeToString() + recipe.model
        return self._last_bytes

    def _fill_findings(self, findings: Findings | None, recipe: Recipe) -> None:
        rest = self._rest
        rest.ClearField("report")
        rest.ClearField("batching")
        if findings is None:
            return
        report, batching = rest.report, rest.batching
        if findings.noise_sigma is not None:
            noise = recipe.order.model.contract.noise
            report.noise_sigma = findings.noise_sigma
            if noise.sigma_max > 0.0:
                report.sigma_in_trained_range = noise.sigma_min <= findings.noise_sigma <= noise.sigma_max
        report.clipped_sample_count = findings.clipped_sample_count
        batching.tile_count = findings.tile_count
        batching.shared_request_count = findings.shared_request_count
        batching.shared_client_count = findings.shared_client_count


def too_large(size_bytes: int, limit_bytes: int) -> ImageTooLarge:
    """The answer does not fit a message."""
    return ImageTooLarge(
        f"the answer has {size_bytes} bytes; a message holds at most {limit_bytes}; "
        "ask for JPEG, or send the image in chunks in a DenoiseStream",
        field="options.output_container",
    )


def model_message(model: Model, *, is_default: bool) -> pb.Model:
    """What the API says of a model."""
    contract = model.contract
    return pb.Model(
        reference=reference(model),
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


def _options_of(options: pb.DenoiseOptions, image: pb.Image, most_urgent: ServiceClass) -> Options:
    """The options of a request, defaults filled in. Raises InvalidOption when one is out of its range."""
    is_report_only = options.report_only
    strength = options.strength if options.HasField("strength") and not is_report_only else 1.0
    if not 0.0 <= strength <= 1.0:  # false for NaN, too
        raise InvalidOption(f"strength is {strength}; it must lie in 0..1", field="options.strength")
    output_container = container_of(options.output_container, field="options.output_container")
    report_level = _report_level_of(options)
    quality = options.jpeg_quality if options.HasField("jpeg_quality") else _DEFAULT_JPEG_QUALITY
    if not 1 <= quality <= 100:
        raise InvalidOption(f"jpeg_quality is {quality}; it must lie in 1..100", field="options.jpeg_quality")
    return Options(
        strength=strength,
        output_container=None if is_report_only else output_container,
        jpeg_quality=quality,
        raw_layout=_LAYOUTS.get(image.raw.layout, SampleLayout.HWC),
        service_class=capped(service_class_of(options.service_class), most_urgent),
        report_level=report_level,
        report_only=is_report_only,
        noise_sigma=_noise_sigma_of(options),
    )


def _report_level_of(options: pb.DenoiseOptions) -> ReportLevel:
    """Who asks for the report alone gets one in any case."""
    number = options.report_level
    if number not in _REPORT_LEVELS:
        raise InvalidOption(
            f"report_level is {number}; known: {', '.join(pb.ReportLevel.keys())}", field="options.report_level"
        )
    level = _REPORT_LEVELS[number]
    if not options.report_only:
        return level
    if level is ReportLevel.NONE:
        raise InvalidOption(
            "report_level is REPORT_LEVEL_NONE, and nothing but the report is asked for; leave it out",
            field="options.report_level",
        )
    return ReportLevel.FAST if level is ReportLevel.UNSPECIFIED else level


def _noise_sigma_of(options: pb.DenoiseOptions) -> float | None:
    if not options.HasField("noise_sigma"):
        return None
    if not 0.0 < options.noise_sigma <= _LARGEST_SIGMA:  # false for NaN, too
        raise InvalidOption(
            f"noise_sigma is {options.noise_sigma}; it must be more than 0 and at most {_LARGEST_SIGMA:g}",
            field="options.noise_sigma",
        )
    return options.noise_sigma


def service_class_of(number: pb.ServiceClass) -> ServiceClass:
    """How urgent a request says that it is. Raises InvalidOption when nobody knows the number."""
    if number not in _CLASSES:
        raise InvalidOption(
            f"service_class is {number}; known: {', '.join(pb.ServiceClass.keys())}", field="options.service_class"
        )
    return _CLASSES[number]


def container_of(number: pb.Container, *, field: str) -> Container | None:
    """The container that is asked for, None where none is. Raises InvalidOption when nobody knows the number."""
    if number and number not in _CONTAINERS:
        name = field.rpartition(".")[2]
        raise InvalidOption(f"{name} is {number}; known: {', '.join(pb.Container.keys())}", field=field)
    return _CONTAINERS.get(number)


def sample_type_of(number: pb.SampleType, *, field: str) -> SampleType | None:
    """The number format that is asked for, None where none is. Raises InvalidOption when nobody knows the number."""
    if number and number not in _SAMPLE_TYPES:
        raise InvalidOption(f"sample_type is {number}; known: {', '.join(pb.SampleType.keys())}", field=field)
    return _SAMPLE_TYPES.get(number)


def raw_header_of(raw: pb.RawImage) -> tuple[ImageHeader, SampleLayout]:
    """What raw samples claim to be, and their order. Raises InvalidSamples where no image is like that."""
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
    return header, _LAYOUTS[raw.layout]


def claimed_container(encoded: pb.EncodedImage) -> Container | None:
    """What a file claims to be, None where it claims nothing. Raises InvalidImage when no file is that."""
    claimed = encoded.container
    if claimed == pb.CONTAINER_RAW or (claimed and claimed not in _CONTAINERS):
        raise InvalidImage(
            f"container is {claimed}, which no file is; leave it out, or send raw samples as image.raw",
            field="image.encoded.container",
        )
    return _CONTAINERS.get(claimed)


def container_number(container: Container) -> pb.Container:
    """A container as the API calls it."""
    return _CONTAINER_NUMBERS[container]


def levels_stated_by(image: pb.EncodedImage | pb.RawImage) -> Levels:
    """Black and white of an image as its message says."""
    return Levels(
        image.black_level if image.HasField("black_level") else None,
        image.white_level if image.HasField("white_level") else None,
    )


def _type_of(levels: SampleLevels) -> SampleType:
    return SampleType[levels.sample_type.upper()]


def _raw_content(raw: pb.RawImage, scale: Scale) -> wire.Content:
    """How raw samples come back: as they came, with levels in any case."""
    answer = pb.RawImage(
        sample_type=raw.sample_type,
        layout=_LAYOUT_NUMBERS[_LAYOUTS[raw.layout]],
        height_px=raw.height_px,
        width_px=raw.width_px,
        channel_count=raw.channel_count,
        black_level=scale.black_level,
        white_level=scale.white_level,
    )
    return _content(answer)


def raw_message(image: Image, layout: SampleLayout) -> pb.RawImage:
    """Samples as a message, without their data."""
    return pb.RawImage(
        sample_type=_SAMPLE_TYPE_NUMBERS[image.colour.dtype],
        layout=_LAYOUT_NUMBERS[layout],
        height_px=image.height_px,
        width_px=image.width_px,
        channel_count=image.channel_count,
        black_level=image.black_level,
        white_level=image.white_level,
    )


def _content(image: pb.EncodedImage | pb.RawImage) -> wire.Content:
    return wire.Content(is_raw=isinstance(image, pb.RawImage), head=image.SerializeToString())


def reference(model: Model) -> pb.ModelReference:
    """Which model made an answer."""
    return pb.ModelReference(name=model.contract.name, version=model.contract.version, digest=model.digest)
