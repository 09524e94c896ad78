"""The typed configuration of a run: read from TOML, refused as a whole when anything is off, saved with the run."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from denoised.noise import NoiseSpec
from training.errors import ConfigError


def _noise_from(value: object) -> NoiseSpec:
    return value if isinstance(value, NoiseSpec) else NoiseSpec.from_json(json.dumps(value, default=str))


def _noise_to(spec: NoiseSpec) -> object:
    return json.loads(spec.to_json())


NoiseField = Annotated[NoiseSpec, BeforeValidator(_noise_from), PlainSerializer(_noise_to)]


# TOML and JSON have lists, where strict models take tuples alone.
_Counts = Annotated[tuple[int, ...], Field(strict=False)]

ESTIMATOR_SCALE_PX: Final = 8


class _Section(BaseModel):
    # Strict: `steps = true` is no run of one step. Without infinities: JSON has none.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ConvDaeConfig(_Section):
    """Shape of a convolutional denoising autoencoder: any image size, skips, no code of its own.

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

    @property
    def fixed_side_px(self) -> int | None:
        """The only side that the network takes, or None when it takes any multiple."""
        return None

    @property
    def code_length(self) -> int | None:
        """Numbers in the latent code; None because the skips go round it."""
        return None


class _CodeConfig(_Section):
    """What all networks with a real bottleneck share: square images of one size, a code of a few numbers."""

    channels: Literal[1, 3] = 1
    side_px: int = Field(ge=4, le=256)
    code_length: int = Field(ge=1, le=4096)

    @property
    def size_multiple_px(self) -> int:
        """The side itself: nothing else fits."""
        return self.side_px

    @property
    def fixed_side_px(self) -> int | None:
        """The only side that the network takes."""
        return self.side_px

    @model_validator(mode="after")
    def _is_a_bottleneck(self) -> Self:
        value_count = self.channels * self.side_px**2
        if self.code_length >= value_count:
            raise ValueError(
                f"code_length is {self.code_length}; a bottleneck is shorter than the image's {value_count} values"
            )
        return self


class FcAeConfig(_CodeConfig):
    """Fully connected autoencoder: ``hidden`` layers down to the code, the same ones mirrored back up."""

    kind: Literal["fc_ae"]
    hidden: _Counts


class _ConvCodeConfig(_CodeConfig):
    """Convolutions that halve the side at each of ``widths``, then a linear layer to the code; mirrored back up."""

    widths: _Counts

    @model_validator(mode="after")
    def _halves_evenly(self) -> Self:
        factor = 1 << len(self.widths)
        if not self.widths or self.side_px % factor:
            raise ValueError(
                f"side_px is {self.side_px} and widths has {len(self.widths)} entries; each halves the side, which "
                f"must be a multiple of {factor}"
            )
        return self


class ConvAeConfig(_ConvCodeConfig):
    """Convolutional autoencoder with a code."""

    kind: Literal["conv_ae"]


class VaeConfig(_ConvCodeConfig):
    """Variational autoencoder: the encoder answers with a distribution over codes."""

    kind: Literal["vae"]


class PcaConfig(_CodeConfig):
    """Principal component analysis: the best linear autoencoder; solved, not trained by steps."""

    kind: Literal["pca"]


NetworkConfig = Annotated[
    ConvDaeConfig | FcAeConfig | ConvAeConfig | VaeConfig | PcaConfig, Field(discriminator="kind")
]


class DataConfig(_Section):
    """Crops and batches. An epoch is a count of samples, not a pass: crops are drawn at random places.

    ``supervision`` says what the network learns from: ``clean`` images that get the config's noise, ``pairs`` of
    noisy and clean files, or ``noisy`` images alone (Neighbor2Neighbor). ``synthetic_share`` of the samples are
    generated pictures with flat areas (see ``training.data.synthetic``). ``augment`` flips and turns crops; switch
    it off where orientation means something, as in digits.
    """

    supervision: Literal["clean", "pairs", "noisy"] = "clean"
    crop_px: int = Field(ge=4)
    batch_size: int = Field(ge=1)
    samples_per_epoch: int = Field(default=16_000, ge=1)
    synthetic_share: float = Field(default=0.0, ge=0, le=1)
    augment: bool = True


class OptimiserConfig(_Section):
    """AdamW with a linear warm-up and a cosine down to zero. A step sees ``batch_size * accumulation`` samples."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_clip_norm: float = Field(default=1.0, gt=0)
    accumulation: int = Field(default=1, ge=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "bf16"
    deterministic: bool = False


ImageTerm = Literal["mse", "mae", "charbonnier", "log_mse", "bce", "ssim", "ms_ssim"]


class LossConfig(_Section):
    """What is minimised; validation and selection use the same function with the same weights.

    Attributes:
        image: weights of the image terms, such as ``{charbonnier = 0.84, ms_ssim = 0.16}``.
        sigma_weight: of the supervised noise map, where the network has one.
        objective: ``loss`` minimises the weighted image terms; ``energy`` minimises the energy in nats, compression
            term plus reconstruction term, which needs a network with a code.
        reconstruction_sigma: s of the Gaussian reconstruction energy, in 0..1 units.
        kl_weight: of the divergence in nats against the reconstruction energy in nats; 1 is the negative ELBO.
        kl_schedule: how the weight gets there over ``kl_warmup_steps``: at once, linearly, or in cycles.
        code_penalty: weight of |z|^2 / 2 (nats of a standard normal code) in the energy of a plain autoencoder.
    """

    image: dict[ImageTerm, Annotated[float, Field(gt=0)]] = Field(default={"charbonnier": 1.0}, min_length=1)
    sigma_weight: float = Field(default=0.3, ge=0)
    objective: Literal["loss", "energy"] = "loss"
    reconstruction_sigma: float = Field(default=0.1, gt=0)
    kl_weight: float = Field(default=1.0, ge=0)
    kl_schedule: Literal["constant", "linear", "cyclic"] = "constant"
    kl_warmup_steps: int = Field(default=0, ge=0)
    code_penalty: float = Field(default=0.0, ge=0)


class SelectionConfig(_Section):
    """Which checkpoint counts as the best, and when a run stops early.

    The metric is measured on the held-out images at every checkpoint; a run stops after ``patience`` checkpoints
    without ``min_improvement``, or never when that is left out.
    """

    metric: Literal["psnr_db", "loss"] = "psnr_db"
    patience: int | None = Field(default=None, ge=1)
    min_improvement: float = Field(default=0.0, ge=0)


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
    selection: SelectionConfig = SelectionConfig()
    log_every_steps: int = Field(default=50, ge=1)
    checkpoint_every_steps: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        network, crop_px = self.network, self.data.crop_px
        problems = []
        if network.fixed_side_px is not None and crop_px != network.fixed_side_px:
            problems.append(f"data.crop_px is {crop_px}; this network takes {network.fixed_side_px} alone")
        elif crop_px % network.size_multiple_px:
            problems.append(f"data.crop_px is {crop_px}; this network takes multiples of {network.size_multiple_px}")
        if self.loss.objective == "energy" and network.code_length is None:
            problems.append(
                "loss.objective is 'energy'; it is defined for networks with a code alone: in "
                f"{network.kind} the skips go round it. Use 'loss'"
            )
        if self.data.supervision == "noisy" and network.fixed_side_px is not None:
            problems.append(
                "data.supervision is 'noisy'; it compares images of half the size, which this network does not take"
            )
        if problems:
            raise ValueError("; ".join(problems))
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
