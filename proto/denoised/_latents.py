"""Calls with latent codes, for both clients: what is asked for as a message, and the answer in the caller's terms."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoised import results
from denoised._images import ImageInput, prepare
from denoised._order import SERVICE_CLASSES
from denoised.errors import InternalError, InvalidLatentError, InvalidOptionError
from denoised.results import AnyImage, DecodeResult, EncodeResult, GenerateResult, InterpolateResult
from denoised.v1 import denoised_pb2 as pb

ResultT = TypeVar("ResultT")
NumberT = TypeVar("NumberT", pb.Container, pb.SampleType, pb.ServiceClass)

_HALF: Final = np.dtype("<f2")
_CONTAINERS: Final = {"png": pb.CONTAINER_PNG, "jpeg": pb.CONTAINER_JPEG}
_SAMPLE_TYPES: Final = {"u8": pb.SAMPLE_TYPE_U8, "u16": pb.SAMPLE_TYPE_U16, "f32": pb.SAMPLE_TYPE_F32}
_DTYPES: Final = {pb.SAMPLE_TYPE_U8: "<u1", pb.SAMPLE_TYPE_U16: "<u2", pb.SAMPLE_TYPE_F32: "<f4"}


class LatentOptions(TypedDict, total=False):
    """Which model and how urgent; whatever is left out is the server's default.

    Attributes:
        model: name of the model.
        model_version: version of the model; left out, the newest one.
        service_class: as in ``CleanOptions``.
    """

    model: str
    model_version: str
    service_class: Literal["interactive", "normal", "bulk"] | None


class PictureOptions(LatentOptions, total=False):
    """Besides, how images come back.

    Attributes:
        output_container: ``png`` or ``jpeg`` for the bytes of files; left out, arrays.
        sample_type: ``u8``, ``u16`` or ``f32`` (0..1); left out, that of the model's training images.
        jpeg_quality: 1..100; left out, 95.
    """

    output_container: Literal["png", "jpeg"] | None
    sample_type: Literal["u8", "u16", "f32"] | None
    jpeg_quality: int | None


@dataclass(frozen=True, slots=True, eq=False)
class LatentCall(Generic[ResultT]):
    """A call that is ready to be made.

    Attributes:
        method: its name in the API.
        request: its message.
        read: makes the result of its answer.
    """

    method: str
    request: Any
    read: Callable[[Any], ResultT]


def encode(
    image: ImageInput, *, half_precision: bool = False, **options: Unpack[LatentOptions]
) -> LatentCall[EncodeResult]:
    """The code of an image; a path is read here.

    Raises:
        InvalidRequestError: one of its kinds, when the server would have to refuse it anyway.
    """
    request = _sendable(
        lambda: pb.EncodeRequest(image=_image(image), options=_latent_options(**options), half_precision=half_precision)
    )
    return LatentCall("Encode", request, _encode_result)


def decode(
    code: ArrayLike, *, allow_out_of_distribution: bool = False, **options: Unpack[PictureOptions]
) -> LatentCall[DecodeResult]:
    """The image of a code. Raises as :func:`encode`."""
    latent_options, picture = _split(options)
    request = _sendable(
        lambda: pb.DecodeRequest(
            latent=_latent(code, field="latent"),
            options=latent_options,
            picture=picture,
            allow_out_of_distribution=allow_out_of_distribution,
        )
    )
    return LatentCall("Decode", request, _decode_result)


def generate(
    image_count: int, *, seed: int | None, temperature: float | None, **options: Unpack[PictureOptions]
) -> LatentCall[GenerateResult]:
    """New images. Raises as :func:`encode`."""
    latent_options, picture = _split(options)
    request = _sendable(
        lambda: pb.GenerateRequest(
            image_count=image_count, seed=seed, temperature=temperature, options=latent_options, picture=picture
        )
    )
    return LatentCall("Generate", request, _generate_result)


def interpolate(
    start: ImageInput | ArrayLike,
    stop: ImageInput | ArrayLike,
    *,
    step_count: int | None,
    allow_out_of_distribution: bool,
    **options: Unpack[PictureOptions],
) -> LatentCall[InterpolateResult]:
    """The way between two ends. Raises as :func:`encode`."""
    latent_options, picture = _split(options)
    request = _sendable(
        lambda: pb.InterpolateRequest(
            start=_end(start, field="start"),
            stop=_end(stop, field="stop"),
            step_count=step_count,
            options=latent_options,
            picture=picture,
            allow_out_of_distribution=allow_out_of_distribution,
        )
    )
    return LatentCall("Interpolate", request, _interpolate_result)


def _sendable(make: Callable[[], ResultT]) -> ResultT:
    """The message; what no field can hold, such as a seed of 1e30, is refused. Ranges are the server's to check."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise InvalidOptionError(
            f"an option can't be sent: {error}", reason="OPTION_INVALID", field="options"
        ) from error


def _image(image: ImageInput) -> pb.Image:
    return prepare(image, black_level=None, white_level=None).message()


def _end(end: ImageInput | ArrayLike, *, field: str) -> pb.InterpolationEnd:
    """An image, or a code: numbers in one row."""
    if isinstance(end, list | tuple) or (isinstance(end, np.ndarray) and end.ndim == 1):
        return pb.InterpolationEnd(latent=_latent(end, field=f"{field}.latent"))
    return pb.InterpolationEnd(image=_image(end))  # type: ignore[arg-type]  # prepare refuses whatever else it is


def _latent(code: ArrayLike, *, field: str) -> pb.Latent:
    try:
        numbers = np.asarray(code)
        if numbers.dtype != np.float16:
            numbers = numbers.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidLatentError(
            f"the code is no row of numbers: {error}", reason="LATENT_INVALID", field=field
        ) from error
    if numbers.ndim != 1 or numbers.size == 0:
        raise InvalidLatentError(
            f"the code has shape {numbers.shape}; it must be a row of at least one number",
            reason="LATENT_INVALID",
            field=field,
        )
    if numbers.dtype == np.float16:
        return pb.Latent(half_values=numbers.astype(_HALF).tobytes())
    return pb.Latent(values=numbers.tolist())


def _split(options: PictureOptions) -> tuple[pb.LatentOptions, pb.PictureOptions]:
    picture = _sendable(
        lambda: pb.PictureOptions(
            container=_number(options.get("output_container"), _CONTAINERS, "output_container"),
            sample_type=_number(options.get("sample_type"), _SAMPLE_TYPES, "sample_type"),
            jpeg_quality=options.get("jpeg_quality"),
        )
    )
    latent = _latent_options(
        model=options.get("model", ""),
        model_version=options.get("model_version", ""),
        service_class=options.get("service_class"),
    )
    return latent, picture


def _latent_options(
    *,
    model: str = "",
    model_version: str = "",
    service_class: Literal["interactive", "normal", "bulk"] | None = None,
) -> pb.LatentOptions:
    return _sendable(
        lambda: pb.LatentOptions(
            model=model,
            model_version=model_version,
            service_class=_number(service_class, SERVICE_CLASSES, "service_class"),
        )
    )


def _number(name: str | None, numbers: dict[str, NumberT], option: str) -> NumberT | None:
    if name is None:
        return None
    if name not in numbers:
        raise InvalidOptionError(
            f"{option} is {name!r}; one of: {', '.join(numbers)}", reason="OPTION_INVALID", field=f"options.{option}"
        )
    return numbers[name]


def _encode_result(response: pb.EncodeResponse) -> EncodeResult:
    known = response.HasField("prior_distance")
    return EncodeResult(
        code=_code(response.latent),
        prior_distance=response.prior_distance if known else None,
        prior_distance_limit=response.prior_distance_limit if known else None,
        compression_nats=response.compression_nats if response.HasField("compression_nats") else None,
        timings=results.timings(response.timings),
        model=results.model_reference(response.model),
    )


def _decode_result(response: pb.DecodeResponse) -> DecodeResult:
    return DecodeResult(
        _restored(response.image), results.timings(response.timings), results.model_reference(response.model)
    )


def _generate_result(response: pb.GenerateResponse) -> GenerateResult:
    return GenerateResult(
        images=tuple(map(_restored, response.images)),
        codes=_codes(response.latents),
        seed=response.seed,
        timings=results.timings(response.timings),
        model=results.model_reference(response.model),
    )


def _interpolate_result(response: pb.InterpolateResponse) -> InterpolateResult:
    return InterpolateResult(
        images=tuple(map(_restored, response.images)),
        codes=_codes(response.latents),
        spherical=response.spherical,
        timings=results.timings(response.timings),
        model=results.model_reference(response.model),
    )


def _code(latent: pb.Latent) -> NDArray[np.floating]:
    if latent.half_values:
        return np.frombuffer(latent.half_values, _HALF).astype(np.float16)
    return np.array(latent.values, np.float32)


def _codes(latents: Iterable[pb.Latent]) -> NDArray[np.float32]:
    return np.array([latent.values for latent in latents], np.float32)


def _restored(image: pb.Image) -> AnyImage:
    """A fresh array (H, W) or (H, W, C), or the bytes of a file."""
    if image.WhichOneof("content") == "encoded":
        return image.encoded.data
    raw = image.raw
    dtype = _DTYPES.get(raw.sample_type)
    shape = (
        (raw.height_px, raw.width_px) if raw.channel_count == 1 else (raw.height_px, raw.width_px, raw.channel_count)
    )
    if dtype is None or len(raw.data) != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise InternalError("the server answered with an image that is none", reason="ANSWER_MALFORMED")
    samples = np.frombuffer(raw.data, dtype).reshape(shape)
    return samples.astype(samples.dtype.newbyteorder("="))
