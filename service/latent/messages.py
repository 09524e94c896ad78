"""What requests ask for, out of the API's messages; every field is checked here, once, before any work."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from denoised.contract import Capability
from denoised.v1 import denoised_pb2 as pb
from service import codec, convert
from service.codec import SampleType
from service.errors import ImageTooLarge, InvalidArgument, InvalidImage, InvalidLatent, InvalidOption
from service.geometry import check_fits, require_capability
from service.job import Levels
from service.latent.coder import Plan
from service.latent.draws import MOST_SEED, MOST_TEMPERATURE, draw
from service.latent.prior import Prior
from service.latent.units import Picture, PictureForm
from service.latent.way import point
from service.pixels import Scale
from service.registry import Model, Registry
from service.types import Codes, Container, ImageHeader, ServiceClass

_DEFAULT_STEP_COUNT: Final = 8
_LEAST_STEP_COUNT: Final = 2
_DEFAULT_JPEG_QUALITY: Final = 95
_HALF: Final = np.dtype("<f2")
# More than a message has beside the samples of its images and the numbers of its codes, for each image.
_AROUND_BYTES: Final = 128
# Where the checks of codecs find these options in a DenoiseRequest, and where they are here.
_PICTURE_FIELDS: Final[Mapping[str, str]] = {
    "options.output_container": "picture.container",
    "options.jpeg_quality": "picture.jpeg_quality",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may ask for."""

    message_bytes: int
    generated_image_count: int
    interpolation_step_count: int


class Target(NamedTuple):
    """How the images of a decoder come back."""

    form: PictureForm
    container: Container
    jpeg_quality: int


class Incoming(NamedTuple):
    """An image to be encoded: what it takes, and what makes its samples."""

    size_bytes: int
    is_file: bool
    read: Callable[[], Picture]


class End(NamedTuple):
    """An end of an interpolation: an image, or a code."""

    image: Incoming | None
    code: Codes | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model of a request, and how urgent it is."""

    model: Model
    prior: Prior
    service_class: ServiceClass


@dataclass(frozen=True, slots=True)
class Encoding:
    """What an EncodeRequest asks for."""

    chosen: Chosen
    image: Incoming
    is_half: bool

    def plan(self) -> Plan:
        return Plan(
            self.chosen.model, encoded_count=1, received_bytes=self.image.size_bytes, reads_files=self.image.is_file
        )


@dataclass(frozen=True, slots=True)
class Decoding:
    """What a DecodeRequest asks for."""

    chosen: Chosen
    code: Codes
    target: Target

    def plan(self) -> Plan:
        return _decoding_plan(self.chosen, self.target, 1)


@dataclass(frozen=True, slots=True)
class Generating:
    """What a GenerateRequest asks for."""

    chosen: Chosen
    image_count: int
    seed: int
    temperature: float
    target: Target

    def plan(self) -> Plan:
        return _decoding_plan(self.chosen, self.target, self.image_count)

    def code(self, index: int) -> Codes:
        """Of an image by its number."""
        return draw(self.seed, index, length=self.chosen.prior.code_length, temperature=self.temperature)


@dataclass(frozen=True, slots=True)
class Interpolating:
    """What an InterpolateRequest asks for."""

    chosen: Chosen
    ends: tuple[End, End]
    step_count: int
    target: Target

    @property
    def images(self) -> list[Incoming]:
        """The ends that are to be encoded, in their order."""
        return [end.image for end in self.ends if end.image is not None]

    @property
    def is_spherical(self) -> bool:
        return self.chosen.prior.is_normal

    def plan(self) -> Plan:
        return Plan(
            self.chosen.model,
            encoded_count=len(self.images),
            form=self.target.form,
            decoded_count=self.step_count,
            received_bytes=sum(image.size_bytes for image in self.images),
            reads_files=any(image.is_file for image in self.images),
            writes_files=self.target.container is not Container.RAW,
        )

    def code_of(self, encoded: Codes) -> Callable[[int], Codes]:
        """What makes the code of a step by its number; ``encoded`` are those of the ends that are images."""
        rest = iter(encoded)
        start, stop = (next(rest) if end.code is None else end.code for end in self.ends)
        last = self.step_count - 1
        return lambda index: point(start, stop, index / last, spherical=self.is_spherical)


class Requests:
    """Reads requests against the models that are loaded."""

    def __init__(self, *, registry: Callable[[], Registry], limits: Limits) -> None:
        self._registry = registry
        self._limits = limits
        self._priors: dict[tuple[str, str], Prior] = {}

    def encoding(self, request: pb.EncodeRequest) -> Encoding:
        """Raises InvalidArgument, ModelUnknown or CapabilityMissing, as all methods here."""
        chosen = self._chosen(request.options, "encode")
        return Encoding(chosen, _incoming(request.image, chosen.model, prefix=""), request.half_precision)

    def decoding(self, request: pb.DecodeRequest) -> Decoding:
        chosen = self._chosen(request.options, "decode")
        target = self._target(request.picture, chosen.model, 1)
        code = _code(
            request.latent,
            chosen.prior,
            field="latent",
            allow_out_of_distribution=request.allow_out_of_distribution,
        )
        return Decoding(chosen, code, target)

    def generating(self, request: pb.GenerateRequest) -> Generating:
        chosen = self._chosen(request.options, "generate")
        count = request.image_count if request.HasField("image_count") else 1
        most = self._limits.generated_image_count
        if not 1 <= count <= most:
            raise InvalidOption(
                f"image_count is {count}; it must lie in 1..{most}: ask for more in further calls, with other seeds",
                field="image_count",
            )
        seed = request.seed if request.HasField("seed") else secrets.randbelow(MOST_SEED + 1)
        if seed < 0:
            raise InvalidOption(f"seed is {seed}; it must lie in 0..{MOST_SEED}", field="seed")
        temperature = request.temperature if request.HasField("temperature") else 1.0
        if not 0.0 <= temperature <= MOST_TEMPERATURE:  # false for NaN, too
            raise InvalidOption(
                f"temperature is {temperature}; it must lie in 0..{MOST_TEMPERATURE:g}", field="temperature"
            )
        return Generating(chosen, count, seed, temperature, self._target(request.picture, chosen.model, count))

    def interpolating(self, request: pb.InterpolateRequest) -> Interpolating:
        chosen = self._chosen(request.options, "decode")
        count = request.step_count if request.HasField("step_count") else _DEFAULT_STEP_COUNT
        most = self._limits.interpolation_step_count
        if not _LEAST_STEP_COUNT <= count <= most:
            raise InvalidOption(
                f"step_count is {count}; it must lie in {_LEAST_STEP_COUNT}..{most}, both ends included",
                field="step_count",
            )
        allowed = request.allow_out_of_distribution
        start, stop = (
            self._end(end, chosen, field=field, allow_out_of_distribution=allowed)
            for field, end in (("start", request.start), ("stop", request.stop))
        )
        return Interpolating(chosen, (start, stop), count, self._target(request.picture, chosen.model, count))

    def _chosen(self, options: pb.LatentOptions, capability: Capability) -> Chosen:
        model = self._registry().get(options.model, options.model_version)
        require_capability(model.contract, capability)
        prior = self._priors.get(model.key)
        if prior is None:
            prior = self._priors[model.key] = Prior(model.contract)
        return Chosen(model, prior, convert.service_class_of(options.service_class))

    def _end(self, end: pb.InterpolationEnd, chosen: Chosen, *, field: str, allow_out_of_distribution: bool) -> End:
        match end.WhichOneof("content"):
            case "image":
                require_capability(chosen.model.contract, "encode")
                return End(_incoming(end.image, chosen.model, prefix=f"{field}."), None)
            case "latent":
                code = _code(
                    end.latent,
                    chosen.prior,
                    field=f"{field}.latent",
                    allow_out_of_distribution=allow_out_of_distribution,
                )
                return End(None, code)
            case _:
                raise InvalidOption(
                    f"{field} is neither an image nor a code; set {field}.image or {field}.latent", field=field
                )

    def _target(self, picture: pb.PictureOptions, model: Model, count: int) -> Target:
        target = _target(picture, model)
        contract = model.contract
        # Files are seldom larger than their samples, and never by much.
        size_bytes = count * (target.form.picture_bytes + 4 * contract.code_length + _AROUND_BYTES)
        if size_bytes > self._limits.message_bytes:
            raise ImageTooLarge(
                f"the answer would have {count} images and codes in {size_bytes} bytes; a message holds at most "
                f"{self._limits.message_bytes}; ask for fewer at once, or for samples of fewer bits",
                field="picture",
            )
        return target


def _decoding_plan(chosen: Chosen, target: Target, count: int) -> Plan:
    return Plan(chosen.model, form=target.form, decoded_count=count, writes_files=target.container is not Container.RAW)


def _code(message: pb.Latent, prior: Prior, *, field: str, allow_out_of_distribution: bool) -> Codes:
    """(d,) numbers that may be decoded."""
    if bool(message.values) == bool(message.half_values):
        both = "both values and half_values" if message.values else "no numbers"
        raise InvalidLatent(
            f"the code has {both}; set one of the two, {prior.code_length} numbers of a code of this model", field=field
        )
    if message.values:
        prior.check_length(len(message.values), field=f"{field}.values")
        code: Codes = np.fromiter(message.values, np.float32, prior.code_length)
    else:
        size_bytes = len(message.half_values)
        if size_bytes % _HALF.itemsize:
            raise InvalidLatent(
                f"half_values has {size_bytes} bytes, which are no whole 16-bit numbers; send "
                f"{_HALF.itemsize * prior.code_length}",
                field=f"{field}.half_values",
            )
        prior.check_length(size_bytes // _HALF.itemsize, field=f"{field}.half_values")
        code = np.frombuffer(message.half_values, _HALF).astype(np.float32)
    prior.check(code, field=field, allow_out_of_distribution=allow_out_of_distribution)
    return code


def _incoming(image: pb.Image, model: Model, *, prefix: str) -> Incoming:
    """An image that the model can encode; its header is looked at, its samples are not."""
    with _fields_under(prefix):
        match image.WhichOneof("content"):
            case "encoded":
                return _incoming_file(image.encoded, model, prefix)
            case "raw":
                return _incoming_samples(image.raw, model, prefix)
            case _:
                raise InvalidImage("the request has no image; set image.encoded or image.raw", field="image")


def _incoming_file(encoded: pb.EncodedImage, model: Model, prefix: str) -> Incoming:
    header = codec.sniff(encoded.data, claimed=convert.claimed_container(encoded))
    check_fits(header, model.contract)
    black, white = _levels(convert.levels_stated_by(encoded), model, header, field="image.encoded")

    def read() -> Picture:
        with _fields_under(prefix):
            image = codec.decode(encoded.data, header, black_level=black, white_level=white)
        return Picture(image.colour, Scale(black, white, model.contract.noise.clip), prefix)

    return Incoming(len(encoded.data), is_file=True, read=read)


def _incoming_samples(raw: pb.RawImage, model: Model, prefix: str) -> Incoming:
    header, layout = convert.raw_header_of(raw)
    codec.check_raw_length(len(raw.data), header)
    check_fits(header, model.contract)
    black, white = _levels(convert.levels_stated_by(raw), model, header, field="image.raw")
    samples = codec.view_raw(raw.data, header, layout)
    colour = samples[:, :, : header.channels - (header.channels in {2, 4})]
    picture = Picture(colour, Scale(black, white, model.contract.noise.clip), prefix)
    return Incoming(len(raw.data), is_file=False, read=lambda: picture)


def _levels(stated: Levels, model: Model, header: ImageHeader, *, field: str) -> tuple[float, float]:
    levels = stated.or_those_of(model.contract.levels, header)
    return codec.resolve_levels(levels.black, levels.white, bits=header.bits, field=field)


def _target(picture: pb.PictureOptions, model: Model) -> Target:
    """How the images of a decoder come back. Raises InvalidOption where an option can't be, or does not fit another."""
    contract = model.contract
    container = convert.container_of(picture.container, field="picture.container") or Container.RAW
    sample_type = convert.sample_type_of(picture.sample_type, field="picture.sample_type")
    sample_type = sample_type or SampleType[contract.levels.sample_type.upper()]
    quality = picture.jpeg_quality if picture.HasField("jpeg_quality") else _DEFAULT_JPEG_QUALITY
    side_px = contract.fixed_side_px
    header = codec.raw_header(
        height_px=side_px, width_px=side_px, channel_count=contract.channels, sample_type=sample_type
    )
    try:
        codec.check_encodable(header, container, jpeg_quality=quality)
    except InvalidArgument as error:
        error.field = _PICTURE_FIELDS.get(error.field, error.field)
        raise
    black, white = _levels(Levels(), model, header, field="picture")
    form = PictureForm(side_px, side_px, contract.channels, sample_type.dtype, Scale(black, white, contract.noise.clip))
    return Target(form, container, quality)


@contextmanager
def _fields_under(prefix: str) -> Iterator[None]:
    """What is wrong with a field inside is told by its whole path, which begins with ``prefix``."""
    try:
        yield
    except InvalidArgument as error:
        if not error.field.startswith(prefix):
            error.field = prefix + error.field
        raise
