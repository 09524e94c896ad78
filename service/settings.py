"""All settings of the service, read once from the environment; nothing else reads it.

Every setting is a variable with the prefix ``DENOISED_``. Unknown variables with that prefix are refused, because
they are misspelt ones, and everything that is wrong is reported at once. Settings that bound what clients may do
carry a :class:`Limit`, from which ``docs/limits.md`` is made.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_PREFIX: Final = "DENOISED_"
SHIPPED_MODELS_DIR: Final = Path(__file__).parent / "models"

# Of the client's command line, which may well be set in the same shell.
_OTHERS_VARIABLES: Final = frozenset({"DENOISED_SERVER"})
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB
# More than what is around a chunk's bytes in its message: an item's id and the fields' tags.
_FRAME_BYTES: Final = 1024


PrecisionChoice = Literal["fp32", "int8", "int8-where-present"]


class SettingsError(Exception):
    """One or more settings are wrong; the message lists them all."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Marks a setting as a limit, and says what a client sees of it.

    Attributes:
        reasons: those in ErrorInfo when it is reached; none when nothing is refused.
        effect: what happens besides, or instead.
    """

    reasons: tuple[str, ...] = ()
    effect: str = ""


class Settings(BaseSettings):
    """The service's settings. Defaults suit a container with 2 cores and 1 GiB."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        # What describe_settings prints for a setting that is not set.
        env_ignore_empty=True,
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
    )

    grpc_host: str = Field(
        default="127.0.0.1", description="Address that gRPC listens on. 0.0.0.0 for all of the machine's."
    )
    grpc_port: int = Field(default=50051, ge=0, le=65535, description="Port of gRPC; 0 takes a free one.")
    http_host: str = Field(default="127.0.0.1", description="Address of metrics, health and admin over HTTP.")
    http_port: int = Field(
        default=8081, ge=0, le=65535, description="Port of metrics, health and admin; 0 takes a free one."
    )
    ports_file: Path | None = Field(
        default=None, description='Where to write {"grpc_port": n, "http_port": n} once the service is ready.'
    )

    tls_certificate_file: Path | None = Field(
        default=None, description="The service's certificate and those between it and its authority, PEM."
    )
    tls_key_file: Path | None = Field(default=None, description="The certificate's key, PEM without a password.")
    tls_client_ca_file: Path | None = Field(
        default=None, description="Authorities of clients' certificates, PEM. Set: clients must show one (mTLS)."
    )
    callers_file: Path | None = Field(
        default=None, description="Who may call, as TOML: see docs/security.md. Unset: anybody who can connect."
    )
    plaintext_allowed: bool = Field(
        default=False,
        description="Whether gRPC may go without TLS on an address that other machines reach, as behind a mesh.",
    )
    credentials_poll_s: float = Field(
        default=0.5, gt=0, description="How often it is looked whether certificates and callers have changed."
    )

    models_dir: Path = Field(default=SHIPPED_MODELS_DIR, description="Model store: <dir>/<name>/<version>/model.onnx.")
    precision: PrecisionChoice = Field(
        default="fp32",
        description="Which files of the store are served: model.onnx (fp32), model.int8.onnx (int8; a model without it "
        "is refused), or the latter where it is present and the former elsewhere (int8-where-present).",
    )
    model_names: str = Field(
        default="*",
        description="Which of the store's models are loaded, by name, as a shell would match them. Each adds to the "
        "start and to memory.",
    )
    default_model: str = Field(default="photo-base", description="Model of requests that name none.")
    model_file_bytes: Annotated[int, Limit(effect="nothing; a larger file is not read, and its model refused")] = Field(
        default=256 * _MIB, ge=1024, description="One file of a model."
    )
    models_memory_bytes: Annotated[
        int, Limit(effect="nothing; a version that would take more is refused while the service runs")
    ] = Field(
        default=384 * _MIB, ge=_MIB, description="Memory of all networks once further versions are loaded beside them."
    )
    models_poll_s: float = Field(
        default=5.0, ge=0, description="How often it is looked whether the store has changed. 0: at the start alone."
    )
    slower_model_factor: float = Field(
        default=4.0, gt=1, description="A new version that takes this many times as long as the one served is refused."
    )

    provider: Literal["cpu", "cuda"] = Field(default="cpu", description="Where networks run.")
    profile_file: Path | None = Field(
        default=None, description="What `python -m service profile` measured. Unset: costs are learnt from the start."
    )
    lane_count: int | None = Field(
        default=None, ge=1, description="Batches that run side by side. Unset: one for each usable core, one on a GPU."
    )
    threads_per_lane: int = Field(default=1, ge=1, description="Threads of one lane.")
    wide_units: bool = Field(
        default=True, description="Whether a lone unit on an idle service gets all cores instead of one lane's threads."
    )
    gpu_memory_bytes: Annotated[int, Limit(("MODEL_FAILED",))] = Field(
        default=2 * _GIB, ge=_MIB, description="Memory of the GPU that the networks may take. Of provider cuda alone."
    )
    batch_pixels: Annotated[int, Limit(effect="nothing; the rest goes into the next batch")] = Field(
        default=256 * 256, ge=1, description="Pixels, halos included, of one batch; one unit always fits."
    )
    batch_units: Annotated[int, Limit(effect="nothing; the rest goes into the next batch")] = Field(
        default=64, ge=1, description="Units of one batch."
    )
    staged_units_per_image: Annotated[int, Limit(effect="nothing; the next units are queued as these have run")] = (
        Field(default=16, ge=1, description="Units of one image that are queued or run at once.")
    )
    codec_threads: int | None = Field(
        default=None, ge=1, description="Threads that read and write image files. Unset: one for each usable core."
    )

    interactive_weight: float = Field(default=8.0, gt=0, description="Share of the lanes of class interactive.")
    normal_weight: float = Field(default=3.0, gt=0, description="Share of the lanes of class normal.")
    bulk_weight: float = Field(default=1.0, gt=0, description="Share of the lanes of class bulk.")
    fairness_quantum_s: float = Field(
        default=0.010, gt=0, description="Work that a client gets in its turn, in predicted seconds of one lane."
    )

    message_bytes: Annotated[
        int,
        Limit(
            ("IMAGE_TOO_LARGE",),
            "that is for answers; a larger request is refused by gRPC itself, RESOURCE_EXHAUSTED without a reason",
        ),
    ] = Field(default=16 * _MIB, ge=1024, description="One gRPC message in either direction.")
    chunk_bytes: Annotated[int, Limit(effect="nothing; an answer has as many chunks as it needs")] = Field(
        default=_MIB // 4, ge=1024, description="One chunk of an answer that leaves in chunks."
    )
    image_pixels: Annotated[int, Limit(("IMAGE_TOO_LARGE",))] = Field(
        default=64_000_000, ge=1, description="Pixels of an image that comes in one message."
    )
    chunked_image_pixels: Annotated[int, Limit(("IMAGE_TOO_LARGE",))] = Field(
        default=128_000_000, ge=1, description="Pixels of an image that comes in chunks."
    )
    batch_image_count: Annotated[int, Limit(("OPTION_INVALID",))] = Field(
        default=64, ge=1, description="Images of one DenoiseBatch."
    )
    generated_image_count: Annotated[int, Limit(("OPTION_INVALID",))] = Field(
        default=64, ge=1, description="Images of one Generate."
    )
    interpolation_step_count: Annotated[int, Limit(("OPTION_INVALID",))] = Field(
        default=64, ge=2, description="Images of one Interpolate, both ends included."
    )
    stream_items_in_flight: Annotated[int, Limit(effect="the server begins no further ones until answers are read")] = (
        Field(default=32, ge=1, description="Unanswered items of one stream.")
    )
    concurrent_streams: Annotated[int, Limit(effect="further calls wait in the client")] = Field(
        default=256, ge=1, description="Calls at once on one connection."
    )

    metadata_bytes: Annotated[
        int, Limit(effect="the call ends with RESOURCE_EXHAUSTED without a reason, from gRPC itself")
    ] = Field(default=8 * 1024, ge=1024, description="Metadata of one call.")

    queue_requests: Annotated[int, Limit(("QUEUE_FULL",))] = Field(
        default=512, ge=1, description="Images that wait for the network or run."
    )
    queue_bytes: Annotated[int, Limit(("QUEUE_FULL",))] = Field(
        default=128 * _MIB, ge=1, description="Size of these images as they arrived; one always fits."
    )
    queue_pixels: Annotated[int, Limit(("QUEUE_FULL",))] = Field(
        default=128_000_000, ge=1, description="Pixels of these images, halos included; one always fits."
    )
    memory_bytes: Annotated[
        int, Limit(("MEMORY_BUDGET", "IMAGE_TOO_LARGE"), "the latter when one image alone takes more")
    ] = Field(
        default=512 * _MIB, ge=_MIB, description="Memory that the images in the service take until their calls end."
    )

    report_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of one core that energy reports take which no request states; beyond it they are sampled.",
    )
    report_one_in: int = Field(
        default=16, ge=1, description="When they are sampled, one image in so many gets an energy report."
    )

    default_timeout_s: Annotated[float, Limit(("DEADLINE_UNREACHABLE", "DEADLINE_EXCEEDED"))] = Field(
        default=30.0, gt=0, description="Deadline of calls that have none."
    )
    longest_timeout_s: Annotated[
        float, Limit(("DEADLINE_EXCEEDED",), effect="a call or item that allows itself more time gets this much")
    ] = Field(
        default=600.0,
        gt=0,
        description="Longest deadline of a call or an item of a stream. An old connection is kept for as long.",
    )
    watchdog_factor: float = Field(
        default=20.0, gt=1, description="A lane is stuck when its batch takes this many times as long as predicted."
    )
    stuck_after_s: Annotated[
        float, Limit(("NETWORK_HUNG", "ENGINE_STUCK"), effect="ENGINE_STUCK once no lane is left")
    ] = Field(default=30.0, gt=0, description="Time before which no lane is called stuck.")
    loop_lag_tick_s: float = Field(
        default=0.25, gt=0, description="How often it is measured how late the event loop comes back."
    )
    drain_delay_s: float = Field(
        default=0.0, ge=0, description="Wait between refusing new calls and closing the port, for endpoints to change."
    )
    drain_timeout_s: Annotated[float, Limit(effect="calls that take longer are cut off")] = Field(
        default=30.0, gt=0, description="Time that calls in flight have to finish when the service stops."
    )
    max_connection_age_s: Annotated[float, Limit(effect="nothing; a client connects anew and sees new replicas")] = (
        Field(default=300.0, gt=0, description="Age at which a connection is closed gently.")
    )
    max_connection_idle_s: Annotated[float, Limit(effect="nothing; a client connects anew with its next call")] = Field(
        default=300.0, gt=0, description="Time after which a connection without calls is closed."
    )

    reflection: bool = Field(default=True, description="Whether gRPC reflection is on.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(default="json", description="json for machines, console for people.")

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        """What is right by itself but can't work together; all of it at once."""
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self


def load_settings() -> Settings:
    """Settings from the environment.

    Raises:
        SettingsError: any variable with our prefix is unknown or has a wrong value; all are listed.
    """
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | _OTHERS_VARIABLES
    problems = [
        f"{name}: no such setting; `python -m service --print-config` lists them"
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX) and name not in known
    ]
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"]:
                problems.append(_explain(problem["loc"][0], problem["msg"], problem["input"]))
            else:
                problems += problem["msg"].removeprefix("Value error, ").splitlines()
    else:
        if not problems:
            return settings
    raise SettingsError("the settings are wrong:\n" + "\n".join(f"  {line}" for line in problems))


def describe_settings(settings: Settings) -> str:
    """Every setting as ``DENOISED_NAME=value  # meaning``, in the form that the environment takes."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        lines.append(f"{ENV_PREFIX}{name.upper()}={'' if value is None else value}  # {field.description}")
    return "\n".join(lines)


def _explain(name: int | str, message: str, value: object) -> str:
    return f"{ENV_PREFIX}{str(name).upper()}={value!r}: {message}"


def is_local(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _contradictions(settings: Settings) -> Iterator[str]:
    def named(name: str) -> str:
        return f"{ENV_PREFIX}{name.upper()}={getattr(settings, name)}"

    yield from _insecurities(settings, named)
    if settings.chunk_bytes + _FRAME_BYTES > settings.message_bytes:
        yield (
            f"{named('chunk_bytes')}: a chunk and its frame of up to {_FRAME_BYTES} bytes travel in one message, and "
            f"{named('message_bytes')}; lower the one or raise the other"
        )
    if settings.provider == "cuda" and settings.lane_count not in (None, 1):
        yield f"{named('lane_count')}: a GPU runs one batch at a time ({named('provider')}); leave it unset"
    if settings.provider == "cuda" and settings.precision != "fp32":
        yield f"{named('precision')}: int8 files are made for CPUs ({named('provider')}); leave it unset"
    if not settings.interactive_weight >= settings.normal_weight >= settings.bulk_weight:
        yield (
            f"{named('interactive_weight')}, {named('normal_weight')}, {named('bulk_weight')}: "
            "a more urgent class must not weigh less than a less urgent one"
        )
    if settings.longest_timeout_s < settings.default_timeout_s:
        yield (
            f"{named('default_timeout_s')}: no call may take longer than {named('longest_timeout_s')}; "
            "lower the one or raise the other"
        )
    if settings.chunked_image_pixels < settings.image_pixels:
        yield (
            f"{named('chunked_image_pixels')}: it is below {named('image_pixels')}, so that chunks would carry less "
            "than one message; raise the one or lower the other"
        )
    if settings.grpc_port == settings.http_port != 0 and settings.grpc_host == settings.http_host:
        yield f"{named('grpc_port')}: {named('http_port')} is the same port of the same address; choose two"


def _insecurities(settings: Settings, named: Callable[[str], str]) -> Iterator[str]:
    """What would show images to others, or only seem to hide them."""
    if (settings.tls_certificate_file is None) != (settings.tls_key_file is None):
        yield f"{named('tls_certificate_file')}, {named('tls_key_file')}: set both, or neither"
    if settings.tls_client_ca_file is not None and settings.tls_certificate_file is None:
        yield (
            f"{named('tls_client_ca_file')}: clients show certificates only to a service that shows one; set "
            f"{ENV_PREFIX}TLS_CERTIFICATE_FILE and {ENV_PREFIX}TLS_KEY_FILE as well"
        )
    if settings.tls_certificate_file is None and not settings.plaintext_allowed and not is_local(settings.grpc_host):
        yield (
            f"{named('grpc_host')}: other machines reach it, and without TLS images would travel in plain text; set "
            f"{ENV_PREFIX}TLS_CERTIFICATE_FILE and {ENV_PREFIX}TLS_KEY_FILE, or {ENV_PREFIX}GRPC_HOST=127.0.0.1, or "
            f"{ENV_PREFIX}PLAINTEXT_ALLOWED=true where something else encrypts"
        )
