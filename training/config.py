"""The typed configuration of a run: read from TOML, refused as a whole when anything is off, saved with the run."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from denoised.noise import NoiseSpec
from training.errors import ConfigError


def _noise_from(value: object) -> NoiseSpec:
    return value if isinstance(value, NoiseSpec) else NoiseSpec.from_json(json.dumps(value, default=str))


def _noise_to(spec: NoiseSpec) -> dict[str, object]:
    return {field.name: getattr(spec, field.name) for field in fields(spec)}


NoiseField = Annotated[NoiseSpec, BeforeValidator(_noise_from), PlainSerializer(_noise_to)]


# TOML and JSON have lists, where strict models take tuples alone.
_Counts = Annotated[tuple[int, ...], Field(strict=False)]

ESTIMATOR_SCALE_PX: Final = 8


class _Section(BaseModel):
    # Strict: `steps = true` is no run of one step. Without infinities: JSON has none.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NetworkConfig(_Section):
    """Shape of a convolutional denoising autoencoder.

    ``widths[0]`` works at half the image's size, each further level at half of that. Widths are multiples of
    16, because ONNX Runtime's blocked convolutions pad anything else.
    """

    kind: Literal["conv_dae"] = "conv_dae"
    channels: Literal[1, 3] = 3
    widths: _Counts
    encoder_blocks: _Counts
    middle_blocks: int = Field(ge=0)
    decoder_blocks: _Counts
    estimator_width: int = Field(default=32, ge=16, multiple_of=16)

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        levels = len(self.widths) - 1
        problems = []
        if levels < 1:
            problems.append(f"widths has {len(self.widths)} entries; at least 2 are needed (one per level)")
        if any(width < 16 or width % 16 for width in self.widths):
            problems.append(f"widths is {self.widths}; each must be a multiple of 16")
        for name, blocks in (("encoder_blocks", self.encoder_blocks), ("decoder_blocks", self.decoder_blocks)):
            if len(blocks) != levels or any(count < 0 for count in blocks):
                problems.append(
                    f"{name} is {blocks}; it needs {levels} counts of 0 or more, one per level but the last"
                )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def size_multiple_px(self) -> int:
        """What the sides of an image must be multiples of: each level halves, the estimator divides by 8."""
        return max(1 << len(self.widths), ESTIMATOR_SCALE_PX)


class DataConfig(_Section):
    """Crops and batches. An epoch is a count of samples, not a pass: crops are drawn at random places.

    ``synthetic_share`` of the samples are generated pictures with flat areas (see ``training.synthetic``).
    """

    crop_px: int = Field(ge=16, multiple_of=16)
    batch_size: int = Field(ge=1)
    samples_per_epoch: int = Field(default=16_000, ge=1)
    synthetic_share: float = Field(default=0.0, ge=0, le=1)


class OptimiserConfig(_Section):
    """AdamW with a linear warm-up and a cosine down to zero."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "bf16"


class LossConfig(_Section):
    """Image loss and the weight of the supervised sigma map."""

    image: Literal["charbonnier", "mse", "log_mse"] = "charbonnier"
    sigma_weight: float = Field(default=0.3, ge=0)


class RunConfig(_Section):
    """Everything that determines a run, apart from the images."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    summary: str = ""
    seed: int = Field(default=0, ge=0, lt=2**32)
    network: NetworkConfig
    noise: NoiseField
    data: DataConfig
    optimiser: OptimiserConfig
    loss: LossConfig = LossConfig()
    log_every_steps: int = Field(default=50, ge=1)
    checkpoint_every_steps: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _crops_fit_the_network(self) -> Self:
        multiple_px = self.network.size_multiple_px
        if self.data.crop_px % multiple_px:
            raise ValueError(f"data.crop_px is {self.data.crop_px}; this network takes multiples of {multiple_px}")
        return self

    def to_json(self) -> str:
        """The whole config as indented JSON; :meth:`from_json` reads it back to an equal object."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls.model_validate_json(text)


def load_config(path: Path, overrides: dict[str, str] | None = None) -> RunConfig:
    """Reads a TOML file and applies overrides such as ``{"optimiser.steps": "500"}``.

    Raises:
        ConfigError: the file is missing or no TOML, or any key or value is wrong; all of them are named at once.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    for dotted, text in (overrides or {}).items():
        _override(tree, dotted, text)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors()
        )
        raise ConfigError(f"the config {path} is wrong:\n{problems}") from error


def _override(tree: dict[str, Any], dotted: str, text: str) -> None:
    """Sets one key; the text is a TOML value, or a bare string."""
    *sections, key = dotted.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {dotted}: {section} is a value, not a section")
    try:
        tree[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tree[key] = text
