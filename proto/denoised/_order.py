"""What a caller asks for one image, and how it gets to the server: in one message, or in chunks.

The server says what it takes (``ListModelsResponse.limits``). What is surely small goes in one message without asking.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypedDict, TypeVar

from denoised._images import ImageInput, Prepared, prepare
from denoised.errors import ImageTooLargeError, InvalidOptionError
from denoised.v1 import denoised_pb2 as pb

# What this client sends or receives at most in one message, whatever the server takes.
LARGEST_MESSAGE_BYTES: Final = 64 * 2**20
# Suits gRPC, see denoised.proto; every server takes as much in one message, unless it is told otherwise.
CHUNK_BYTES: Final = 256 * 2**10
# More than a message needs beside the data of its image and the options of its request.
_AROUND_BYTES: Final = 1024

DEFAULT_TIMEOUT_S: Final = 30.0
DEFAULT_TIMEOUT_S_PER_MEGAPIXEL: Final = 3.0

_CONTAINERS: Final = {"png": pb.CONTAINER_PNG, "jpeg": pb.CONTAINER_JPEG}
SERVICE_CLASSES: Final = {
    "interactive": pb.SERVICE_CLASS_INTERACTIVE,
    "normal": pb.SERVICE_CLASS_NORMAL,
    "bulk": pb.SERVICE_CLASS_BULK,
}
_REPORT_LEVELS: Final = {
    "none": pb.REPORT_LEVEL_NONE,
    "fast": pb.REPORT_LEVEL_FAST,
    "sure": pb.REPORT_LEVEL_SURE,
}

NumberT = TypeVar("NumberT", pb.Container, pb.ServiceClass, pb.ReportLevel)


class CleanOptions(TypedDict, total=False):
    """How to denoise; whatever is left out is the server's default.

    Attributes:
        model: name of the model.
        model_version: version of the model; left out, the newest one.
        strength: blend of input (0) and denoised image (1).
        output_container: file format of the answer to bytes and paths; left out, that of the input.
        jpeg_quality: 1..100, for answers in JPEG; left out, 95.
        black_level: the sample value that is black; 0 when white_level alone is given.
        white_level: the sample value that is white; when black_level alone is given, 255 for 8 bits, 65535 for 16
            and 1.0 for float32. A 12-bit camera's 16-bit samples want 4095. Both left out: those of the model, when
            it was trained on samples of the image's type, else as said.
        service_class: what share of the server it gets while others wait. ``interactive``: somebody is looking at
            the screen; ``bulk``: it may take the night; left out, ``normal``.
        report_level: how much of an energy report comes with the image: ``none``, ``fast`` or ``sure``. Left out,
            ``fast`` as long as the server is not busy.
        noise_sigma: the noise level in 8-bit levels where it is known, for ``sure``.
    """

    model: str
    model_version: str
    strength: float | None
    output_container: Literal["png", "jpeg"] | None
    jpeg_quality: int | None
    black_level: float | None
    white_level: float | None
    service_class: Literal["interactive", "normal", "bulk"] | None
    report_level: Literal["none", "fast", "sure"] | None
    noise_sigma: float | None


class InspectOptions(TypedDict, total=False):
    """How to look at an image; as in ``CleanOptions``, and ``report_level`` is ``fast`` when it is left out."""

    model: str
    model_version: str
    black_level: float | None
    white_level: float | None
    service_class: Literal["interactive", "normal", "bulk"] | None
    report_level: Literal["fast", "sure"] | None
    noise_sigma: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """One image and how to denoise it."""

    image: Prepared
    options: pb.DenoiseOptions

    @property
    def default_timeout_s(self) -> float:
        """The deadline of who names none: 30 s, and 3 s for each megapixel."""
        return DEFAULT_TIMEOUT_S + DEFAULT_TIMEOUT_S_PER_MEGAPIXEL * self.image.pixel_count / 1e6

    @property
    def message_bytes(self) -> int:
        """The most that the request or its answer has when it travels in one message."""
        return max(self.image.size_bytes, self.image.answer_bytes) + self.options.ByteSize() + _AROUND_BYTES

    @property
    def is_surely_small(self) -> bool:
        """Whether it fits one message of any server."""
        return self.message_bytes <= CHUNK_BYTES

    def request(self) -> pb.DenoiseRequest:
        """The whole image in one message; its data is copied."""
        return pb.DenoiseRequest(image=self.image.message(), options=self.options)

    def inspection(self) -> pb.InspectRequest:
        """The same for one whose options ask for the report alone."""
        options = self.options
        return pb.InspectRequest(
            image=self.image.message(),
            options=pb.InspectOptions(
                model=options.model,
                model_version=options.model_version,
                service_class=options.service_class,
                report_level=options.report_level,
                noise_sigma=options.noise_sigma if options.HasField("noise_sigma") else None,
            ),
        )


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a server takes.

    Attributes:
        message_bytes: of one message.
        image_pixels: of an image in one message.
        chunked_image_pixels: of an image in chunks; None when it takes none, or does not say.
    """

    message_bytes: int = LARGEST_MESSAGE_BYTES
    image_pixels: int | None = None
    chunked_image_pixels: int | None = None

    @classmethod
    def of(cls, response: pb.ListModelsResponse, *, most_message_bytes: int) -> "ServerLimits":
        """Servers of other releases may leave any of it out; the client itself sends ``most_message_bytes``."""
        limits = response.limits
        return cls(
            message_bytes=min(limits.message_bytes or most_message_bytes, most_message_bytes),
            image_pixels=limits.image_pixels or None,
            chunked_image_pixels=limits.chunked_image_pixels or None,
        )

    @property
    def chunk_bytes(self) -> int:
        """Of the data in one chunk."""
        return max(_AROUND_BYTES, min(CHUNK_BYTES, self.message_bytes - _AROUND_BYTES))

    def wants_chunks(self, order: Order) -> bool:
        """Whether the image can't travel in one message, there or back."""
        is_long = order.message_bytes > self.message_bytes
        is_large = self.image_pixels is not None and order.image.pixel_count > self.image_pixels
        return self.chunked_image_pixels is not None and (is_long or is_large)

    def check(self, order: Order) -> None:
        """Refuses what the server would have to refuse, before it is sent.

        Raises:
            ImageTooLargeError: it has more pixels than may come in chunks.
        """
        image, limit = order.image, self.chunked_image_pixels
        if limit is not None and image.pixel_count > limit:
            raise ImageTooLargeError(
                f"{image.width_px} x {image.height_px} px are {image.pixel_count} pixels, the limit is {limit}; "
                "scale the image down or cut it into parts",
                reason="IMAGE_TOO_LARGE",
                field="image.encoded.data" if image.form is None else "image.raw",
            )


def valid_message_bytes(message_bytes: int) -> int:
    """The limit itself when chunks fit into it.

    Raises:
        InvalidOptionError: they don't.
    """
    if message_bytes < CHUNK_BYTES + _AROUND_BYTES:
        raise InvalidOptionError(
            f"message_bytes is {message_bytes}; chunks need {CHUNK_BYTES + _AROUND_BYTES}",
            reason="OPTION_INVALID",
            field="message_bytes",
        )
    return min(message_bytes, LARGEST_MESSAGE_BYTES)


def build_order(
    image: ImageInput,
    *,
    model: str = "",
    model_version: str = "",
    strength: float | None = None,
    output_container: Literal["png", "jpeg"] | None = None,
    jpeg_quality: int | None = None,
    black_level: float | None = None,
    white_level: float | None = None,
    service_class: Literal["interactive", "normal", "bulk"] | None = None,
    report_level: Literal["none", "fast", "sure"] | None = None,
    report_only: bool = False,
    noise_sigma: float | None = None,
) -> Order:
    """The order for one image; a path is read here.

    Raises:
        InvalidRequestError: one of its kinds, when the server would have to refuse it anyway.
    """
    prepared = prepare(image, black_level=black_level, white_level=white_level)
    if output_container is not None and prepared.form is not None:
        raise InvalidOptionError(
            f"output_container is {output_container!r}, but an array is answered with an array: leave it out, "
            "or pass the bytes of a file",
            reason="OPTION_INVALID",
            field="options.output_container",
        )
    container = _number(output_container, _CONTAINERS, "output_container", pb.CONTAINER_UNSPECIFIED)
    class_number = _number(service_class, SERVICE_CLASSES, "service_class", pb.SERVICE_CLASS_UNSPECIFIED)
    level_number = _number(report_level, _REPORT_LEVELS, "report_level", pb.REPORT_LEVEL_UNSPECIFIED)
    try:
        options = pb.DenoiseOptions(
            model=model,
            model_version=model_version,
            strength=strength,
            output_container=container,
            jpeg_quality=jpeg_quality,
            service_class=class_number,
            report_level=level_number,
            report_only=report_only,
            noise_sigma=noise_sigma,
        )
    except (TypeError, ValueError) as error:
        # A value that no field can hold, such as a quality of 1e12; ranges are the server's to check.
        raise InvalidOptionError(
            f"an option can't be sent: {error}", reason="OPTION_INVALID", field="options"
        ) from error
    return Order(prepared, options)


def _number(name: str | None, numbers: dict[str, NumberT], option: str, omitted: NumberT) -> NumberT:
    if name is None:
        return omitted
    if name not in numbers:
        raise InvalidOptionError(
            f"{option} is {name!r}; one of: {', '.join(numbers)}", reason="OPTION_INVALID", field=f"options.{option}"
        )
    return numbers[name]
