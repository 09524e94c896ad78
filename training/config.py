"""The typed configuration of a run: read from TOML, refused as a whole when anything is off, saved with the run."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

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
# Sides below which the window of SSIM doesn't fit; MS-SSIM halves four times first.
SSIM_MIN_SIDE_PX: Final = 11
MS_SSIM_MIN_SIDE_PX: Final = SSIM_MIN_SIDE_PX * 2**4
# A covariance of more values than this fills gigabytes and takes hours to solve.
_PCA_MAX_VALUE_COUNT: Final = 4096


class _Section(BaseModel):
    # Strict: `steps = true` is no run of one step. Without infinities: JSON has none.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ConvDaeConfig(_Section):
    """Shape of a convolutional denoising autoencoder: any image size, skips, no code of its own.

    ``widths[0]`` works at half the image's size, each further level at half of that. Widths are multiples of
    16, because ONNX Runtime's blocked convolutions pad anything else. ``input_centre`` is subtracted from the image
    before the first convolution: around 0, a photograph's brightness doesn't move all of a filter's weights one way.
    ``head_px`` is the side of that convolution. ``relu_between`` puts a ReLU in front of every convolution down and up,
    and behind every sum with a skip: what comes from below then shifts the thresholds that the finer level's values
    must pass, which is all that a network can afford that is too small for blocks there.
    """

    kind: Literal["conv_dae"] = "conv_dae"
    channels: Literal[1, 3] = 3
    widths: _Counts
    encoder_blocks: _Counts
    middle_blocks: int = Field(ge=0)
    decoder_blocks: _Counts
    estimator_width: int = Field(default=32, ge=16, multiple_of=16)
    input_centre: float = Field(default=0.0, ge=0, le=1)
    head_px: Literal[4, 6] = 6
    relu_between: bool = False

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

    @property
    def ends_in_sigmoid(self) -> bool:
        """Whether the network has logits, which cross-entropy needs; this one adds a correction to its input."""
        return False


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


class _LayeredCodeConfig(_CodeConfig):
    """What the trained ones share.

    ``output`` is what the last layer's values are: the image itself, or its logits. It goes with the loss, so that
    the error reaches the last layer undamped: ``sigmoid`` with cross-entropy, ``linear`` with everything else.
    """

    output: Literal["linear", "sigmoid"] = "linear"

    @property
    def ends_in_sigmoid(self) -> bool:
        """Whether the network has logits, which cross-entropy needs."""
        return self.output == "sigmoid"


class FcAeConfig(_LayeredCodeConfig):
    """Fully connected autoencoder: ``hidden`` layers down to the code, the same ones mirrored back up."""

    kind: Literal["fc_ae"]
    hidden: _Counts

    @model_validator(mode="after")
    def _has_units(self) -> Self:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {self.hidden}; each layer has at least 1 unit")
        return self


class _ConvCodeConfig(_LayeredCodeConfig):
    """Convolutions that halve the side at each of ``widths``, then a linear layer to the code; mirrored back up."""

    widths: _Counts

    @model_validator(mode="after")
    def _halves_evenly(self) -> Self:
        if any(width < 1 for width in self.widths):
            raise ValueError(f"widths is {self.widths}; each level has at least 1 channel")
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

    @property
    def ends_in_sigmoid(self) -> bool:
        """It is linear throughout."""
        return False

    @model_validator(mode="after")
    def _can_be_solved(self) -> Self:
        value_count = self.channels * self.side_px**2
        if value_count > _PCA_MAX_VALUE_COUNT:
            raise ValueError(
                f"images have {value_count} values; principal components are solved for up to {_PCA_MAX_VALUE_COUNT}: "
                "make side_px smaller"
            )
        return self


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

    @model_validator(mode="after")
    def _noise_fits_generated_pictures(self) -> Self:
        if self.synthetic_share and self.supervision != "clean":
            raise ValueError(
                f"synthetic_share is {self.synthetic_share}; generated pictures lack the real noise of supervision "
                f"'{self.supervision}': make it 0"
            )
        return self


class OptimiserConfig(_Section):
    """AdamW with a linear warm-up and a cosine down to zero. A step sees ``batch_size * accumulation`` samples.

    The cosine takes the last ``decay_steps``; before it the rate is constant. Left out, it begins behind the warm-up.
    A run with a constant part can be made longer or shorter until the cosine begins, by changing its ``steps``.
    ``full_rate_fan_in`` is the most values that a weight's filter may take in to learn at the full rate; a wider filter
    learns at a rate that is lower by as much as it is wider (Yang et al., "Tensor Programs V", 2022). Adam moves all
    weights of a filter by about the rate at once, so that one step moves a wide filter's answer more than a narrow
    one's, and its ReLU may never open again. Left out, all learn at one rate.
    """

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    full_rate_fan_in: int | None = Field(default=None, ge=1)
    warmup_steps: int = Field(default=200, ge=0)
    decay_steps: int | None = Field(default=None, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_clip_norm: float = Field(default=1.0, gt=0)
    accumulation: int = Field(default=1, ge=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "bf16"
    deterministic: bool = False


ImageTerm = Literal["mse", "mae", "charbonnier", "log_mse", "bce", "ssim", "ms_ssim"]
_NOISY_TARGET_IMAGE: Final[dict[ImageTerm, float]] = {"mse": 1.0}


class LossConfig(_Section):
    """What is minimised; validation and selection use the same function with the same weights.

    Attributes:
        image: weights of the image terms, such as ``{charbonnier = 0.84, ms_ssim = 0.16}``. Learning from noisy images
            alone takes ``{mse = 1.0}``, which is its default: their mean is the clean image, their median is not.
        sigma_weight: of the supervised noise map, where the network has one.
        objective: ``loss`` minimises the weighted image terms; ``energy`` minimises the energy in nats, compression
            term plus reconstruction term, which needs a network with a code. Its likelihood is Gaussian where
            ``image`` is ``{mse = 1.0}`` and Bernoulli where it is ``{bce = 1.0}``.
        reconstruction_sigma: s of the Gaussian reconstruction energy, in 0..1 units.
        reconstruction_weight: of the reconstruction energy in nats; 0 leaves the compression term alone.
        kl_weight: of the divergence in nats against the reconstruction energy in nats; 1 is the negative ELBO.
        kl_schedule: how the weight gets there over ``kl_warmup_steps``: at once, linearly, or in ``kl_cycles`` cycles.
        code_penalty: weight of |z|^2 / 2 (nats of a standard normal code) in the energy of a plain autoencoder.
    """

    image: dict[ImageTerm, Annotated[float, Field(gt=0)]] = Field(default={"charbonnier": 1.0}, min_length=1)
    sigma_weight: float = Field(default=0.3, ge=0)
    objective: Literal["loss", "energy"] = "loss"
    reconstruction_sigma: float = Field(default=0.1, gt=0)
    reconstruction_weight: float = Field(default=1.0, ge=0)
    kl_weight: float = Field(default=1.0, ge=0)
    kl_schedule: Literal["constant", "linear", "cyclic"] = "constant"
    kl_warmup_steps: int = Field(default=0, ge=0)
    kl_cycles: int = Field(default=4, ge=1)
    code_penalty: float = Field(default=0.0, ge=0)

    @property
    def likelihood(self) -> Literal["gaussian", "bernoulli"]:
        """Of an image given its code."""
        return "bernoulli" if tuple(self.image) == ("bce",) else "gaussian"

    @model_validator(mode="after")
    def _terms_agree(self) -> Self:
        problems = []
        if self.objective == "energy" and self.image not in ({"mse": 1.0}, {"bce": 1.0}):
            problems.append(
                f"image is {self.image}; with objective 'energy' it names the likelihood, {{mse = 1.0}} for a Gaussian "
                "or {bce = 1.0} for a Bernoulli, and nothing else has nats"
            )
        if self.objective == "loss" and self.code_penalty > 0:
            problems.append(
                f"code_penalty is {self.code_penalty}; it is part of the energy: set objective = 'energy', or leave "
                "it out"
            )
        if (self.kl_schedule == "constant") != (self.kl_warmup_steps == 0):
            problems.append(
                f"kl_schedule is '{self.kl_schedule}' and kl_warmup_steps is {self.kl_warmup_steps}; linear and cyclic "
                "need at least 1 step, constant takes 0"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self


class SelectionConfig(_Section):
    """Which checkpoint counts as the best, and when a run stops early.

    The metric is measured on the held-out images at every checkpoint, with the averaged weights; a run stops after
    ``patience`` checkpoints without ``min_improvement``, or never when that is left out. ``psnr_db`` is what the
    export's gate looks at; left out, it is taken where clean truth exists, and ``loss`` where there are noisy images
    alone.
    """

    metric: Literal["psnr_db", "loss"] | None = None
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
    loss: LossConfig = Field(default=LossConfig(), validate_default=True)
    selection: SelectionConfig = SelectionConfig()
    log_every_steps: int = Field(default=50, ge=1)
    checkpoint_every_steps: int = Field(default=1000, ge=1)

    @field_validator("loss")
    @classmethod
    def _noisy_targets_are_squared(cls, loss: LossConfig, info: ValidationInfo) -> LossConfig:
        data = info.data.get("data")
        if data is not None and data.supervision == "noisy" and "image" not in loss.model_fields_set:
            return loss.model_copy(update={"image": dict(_NOISY_TARGET_IMAGE)})
        return loss

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        network, crop_px = self.network, self.data.crop_px
        problems = []
        if network.fixed_side_px is not None and crop_px != network.fixed_side_px:
            problems.append(f"data.crop_px is {crop_px}; this network takes {network.fixed_side_px} alone")
        elif crop_px % self.size_multiple_px:
            halved = " when it learns from noisy images, which are halved" if self.data.supervision == "noisy" else ""
            problems.append(
                f"data.crop_px is {crop_px}; this network takes multiples of {self.size_multiple_px}{halved}"
            )
        problems += self._loss_problems()
        if self.data.supervision == "noisy" and network.fixed_side_px is not None:
            problems.append(
                "data.supervision is 'noisy'; it compares images of half the size, which this network does not take"
            )
        if self.data.supervision == "noisy" and self.loss.image != _NOISY_TARGET_IMAGE:
            problems.append(
                f"loss.image is {self.loss.image}; learning from noisy images alone squares errors, because the mean "
                "of noisy targets is the clean image: set loss.image = { mse = 1.0 }, or leave it out"
            )
        if self.data.supervision == "noisy" and self.selection.metric == "psnr_db":
            problems.append("selection.metric is 'psnr_db'; noisy images alone have no clean truth. Use 'loss'")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _loss_problems(self) -> list[str]:
        network, loss = self.network, self.loss
        problems = []
        if loss.objective == "energy" and network.code_length is None:
            problems.append(
                "loss.objective is 'energy'; it is defined for networks with a code alone: in "
                f"{network.kind} the skips go round it. Use 'loss'"
            )
        if network.kind == "vae" and loss.objective != "energy":
            problems.append(
                "loss.objective is 'loss'; a variational autoencoder minimises its energy, or the divergence would "
                "have no unit to be weighed in: set objective = 'energy' with image = { bce = 1.0 } or { mse = 1.0 }"
            )
        if network.kind == "vae" and loss.code_penalty > 0:
            problems.append(
                f"loss.code_penalty is {loss.code_penalty}; it is for plain codes. A variational autoencoder's weight "
                "is loss.kl_weight"
            )
        if "bce" in loss.image and not network.ends_in_sigmoid:
            remedy = "choose another term" if network.kind in ("conv_dae", "pca") else "set network.output = 'sigmoid'"
            problems.append(f"loss.image has bce, and the network is linear at its end; {remedy}")
        if "bce" not in loss.image and network.ends_in_sigmoid:
            problems.append(
                f"network.output is 'sigmoid' and loss.image is {loss.image}; without bce a sigmoid that has turned "
                "black or white gets no gradient any more: add bce, or set network.output = 'linear'"
            )
        for term, least_px in (("ssim", SSIM_MIN_SIDE_PX), ("ms_ssim", MS_SSIM_MIN_SIDE_PX)):
            if term in loss.image and self.data.crop_px < least_px:
                problems.append(
                    f"data.crop_px is {self.data.crop_px}; {term} in loss.image needs at least {least_px}: raise it, "
                    f"or leave {term} out"
                )
        return problems

    @property
    def size_multiple_px(self) -> int:
        """What the sides of training images are multiples of; learning from noisy images halves them."""
        return self.network.size_multiple_px * (2 if self.data.supervision == "noisy" else 1)

    @property
    def selection_metric(self) -> Literal["psnr_db", "loss"]:
        """The metric of :class:`SelectionConfig`, or what it stands for when left out."""
        return self.selection.metric or ("loss" if self.data.supervision == "noisy" else "psnr_db")

    def to_json(self) -> str:
        """The whole config as indented JSON; :meth:`from_json` reads it back to an equal object."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what :meth:`to_json` wrote. Raises ValueError, which names all that is wrong in one line."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError("; ".join(_problems(error))) from error


def load_config(path: Path, overrides: dict[str, str] | None = None, *, noise_path: Path | None = None) -> RunConfig:
    """Reads a TOML file and applies overrides such as ``{"optimiser.steps": "500"}``.

    Args:
        path: of the TOML file.
        overrides: values as TOML, by dotted key.
        noise_path: what ``fit-noise`` wrote; its noise takes the place of the file's.

    Raises:
        ConfigError: a file is missing or can't be read, or any key or value is wrong; all of them are named at once.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    if noise_path is not None:
        tree["noise"] = _fitted_noise(noise_path)
    for dotted, text in (overrides or {}).items():
        _override(tree, dotted, text)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n  ".join([f"the config {path} is wrong:", *_problems(error)])) from error


def _fitted_noise(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["spec"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"cannot read the noise in {path}: {error!r}; name the JSON file that was written by: "
            "python -m training fit-noise"
        ) from error


def _problems(error: ValidationError) -> list[str]:
    """One for each key that is wrong; the file as a whole has no key."""
    problems = []
    for problem in error.errors():
        key, message = _key_of(problem["loc"]), problem["msg"].removeprefix("Value error, ")
        value = "" if problem["type"] == "json_invalid" else _value_of(problem["input"])
        problems.append(f"{key}: {message}{value}" if key else f"{message}{value}")
    return problems


def _key_of(location: tuple[str | int, ...]) -> str:
    """The key as the file spells it: without the kind of network that pydantic inserts."""
    if location[:1] == ("network",):
        location = ("network", *location[2:])
    return ".".join(str(part) for part in location if part != "[key]")


def _value_of(value: object) -> str:
    """What was read, where it is one value; of a whole section the message names what matters."""
    return "" if isinstance(value, dict) else f" (got {value!r})"


def _override(tree: Any, dotted: str, text: str) -> None:
    """Sets one key, such as ``noise.stages.0.sigma_max``; the text is a TOML value, or a bare string."""
    *sections, key = dotted.split(".")
    for section in sections:
        branch = _entry(tree, section, dotted) if isinstance(tree, list) else tree.setdefault(section, {})
        if not isinstance(branch, dict | list):
            raise ConfigError(f"--set {dotted}: {section} is a value, not a section")
        tree = branch
    if isinstance(tree, list):
        raise ConfigError(f"--set {dotted}: {sections[-1]} is a list; name a key of one of its entries, counted from 0")
    try:
        tree[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tree[key] = text


def _entry(sections: list[Any], text: str, dotted: str) -> Any:
    if not (text.isascii() and text.isdigit() and int(text) < len(sections)):
        raise ConfigError(f"--set {dotted}: {text!r} is no entry of this list; it has {len(sections)}, counted from 0")
    return sections[int(text)]
