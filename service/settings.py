"""All settings of the service, read once from the environment; nothing else reads it.

Every setting is a variable with the prefix ``DENOISED_``. Unknown variables with that prefix are refused, because
they are misspelt ones, and everything that is wrong is reported at once.
"""

import os
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_PREFIX: Final = "DENOISED_"
SHIPPED_MODELS_DIR: Final = Path(__file__).parent / "models"

# Of the client's command line, which may well be set in the same shell.
_OTHERS_VARIABLES: Final = frozenset({"DENOISED_SERVER"})
_MIB: Final = 1024 * 1024


class SettingsError(Exception):
    """One or more settings are wrong; the message lists them all."""


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

    grpc_host: str = Field(default="0.0.0.0", description="Address that gRPC listens on.")  # noqa: S104 -- a container's port is published on purpose
    grpc_port: int = Field(default=50051, ge=0, le=65535, description="Port of gRPC; 0 takes a free one.")
    http_host: str = Field(default="0.0.0.0", description="Address of metrics and health over HTTP.")  # noqa: S104 -- as above
    http_port: int = Field(default=8081, ge=0, le=65535, description="Port of metrics and health; 0 takes a free one.")
    ports_file: Path | None = Field(
        default=None, description='Where to write {"grpc_port": n, "http_port": n} once the service is ready.'
    )

    models_dir: Path = Field(default=SHIPPED_MODELS_DIR, description="Model store: <dir>/<name>/<version>/model.onnx.")
    default_model: str = Field(default="gaussian-base", description="Model of requests that name none.")

    lane_count: int | None = Field(
        default=None, ge=1, description="Batches that run side by side. Unset: one for each usable core."
    )
    threads_per_lane: int = Field(default=1, ge=1, description="Threads of one lane.")
    batch_pixels: int = Field(
        default=2 * 512 * 512, ge=1, description="A batch holds at most this many pixels, or one unit."
    )
    codec_threads: int | None = Field(
        default=None, ge=1, description="Threads that read and write image files. Unset: one for each usable core."
    )

    message_bytes: int = Field(default=16 * _MIB, ge=1024, description="Largest gRPC message in either direction.")
    image_pixels: int = Field(default=64_000_000, ge=1, description="Largest image.")
    batch_image_count: int = Field(default=64, ge=1, description="Most images in one DenoiseBatch.")
    stream_items_in_flight: int = Field(
        default=32, ge=1, description="Unanswered items of one stream; the server stops reading at this many."
    )
    concurrent_streams: int = Field(default=256, ge=1, description="Calls at once on one connection.")
    queue_requests: int = Field(default=512, ge=1, description="Images in the service at once.")
    queue_pixels: int = Field(
        default=128_000_000, ge=1, description="Pixels, halos included, that wait for the network."
    )
    memory_bytes: int = Field(
        default=512 * _MIB, ge=_MIB, description="Memory that the images in the service may take, decoded."
    )

    default_timeout_s: float = Field(default=30.0, gt=0, description="Deadline of calls that have none.")
    drain_delay_s: float = Field(
        default=0.0, ge=0, description="Wait between refusing new calls and closing the port, for endpoints to change."
    )
    drain_timeout_s: float = Field(default=30.0, gt=0, description="How long calls in flight may take to finish.")
    max_connection_age_s: float = Field(
        default=300.0, gt=0, description="Connections are closed gently after this, so that clients see new replicas."
    )

    reflection: bool = Field(default=True, description="Whether gRPC reflection is on.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(default="json", description="json for machines, console for people.")


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
        problems += [_explain(problem["loc"][0], problem["msg"], problem["input"]) for problem in error.errors()]
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
