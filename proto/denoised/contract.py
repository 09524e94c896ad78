"""What a model file says about itself: the one agreement between training, which writes it, and the service.

It travels in the ONNX file's ``metadata_props``, every key under one prefix, every value a string. The service
refuses a file without it. Pure data: nothing here reads or writes ONNX.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from denoised._strict import read_dataclass
from denoised.calibration import Calibration
from denoised.noise import NoiseSpec

PREFIX: Final = "denoised."
SCHEMA_VERSION: Final = 2
# Beside the contract's own keys; see denoised.seal.
FILE_DIGEST_KEY: Final = PREFIX + "file_digest"

Kind = Literal["conv_dae", "conv_ae", "fc_ae", "vae", "pca"]
Capability = Literal["denoise", "encode", "decode", "generate"]
Precision = Literal["fp32", "int8"]
SampleType = Literal["u8", "u16", "f32"]

# In a version's directory of the store: the network, and beside it the same in 8-bit integers, where there is such.
MODEL_FILE: Final = "model.onnx"
INT8_MODEL_FILE: Final = "model.int8.onnx"
MODEL_FILES: Final[Mapping[Precision, str]] = {"fp32": MODEL_FILE, "int8": INT8_MODEL_FILE}
# Beside them, of a network with a code: its two halves.
ENCODER_FILE: Final = "encoder.onnx"
DECODER_FILE: Final = "decoder.onnx"
# How far the two halves, one behind the other, may be from the whole, in 0..1 units.
COMPOSITION_TOLERANCE: Final = 1e-5

# Of all three files.
INPUT_NAME: Final = "noisy"
IMAGE_OUTPUT_NAME: Final = "denoised"
SIGMA_OUTPUT_NAME: Final = "sigma_map"
EPSILON_NAME: Final = "epsilon"
CODE_NAME: Final = "code"
MEAN_NAME: Final = "mean"
LOG_VARIANCE_NAME: Final = "log_variance"

# What the networks with a code can do; a code that is a distribution can be drawn as well.
LATENT_KINDS: Final[tuple[Kind, ...]] = ("conv_ae", "fc_ae", "vae", "pca")
GENERATIVE_KINDS: Final[tuple[Kind, ...]] = ("vae",)


class ContractError(ValueError):
    """A model file's description is missing, incomplete or contradicts itself."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How close ONNX Runtime came to torch at export, over all shapes and batch sizes that were tried."""

    max_abs_difference: float
    psnr_db: float


@dataclass(frozen=True, slots=True)
class TilingError:
    """How far a tiled answer was from the whole-image answer at export, in 8-bit levels."""

    max_levels: int
    differing_share: float


@dataclass(frozen=True, slots=True)
class SampleLevels:
    """Which sample values are black and white in the images that a model was made for.

    12-bit data in 16-bit files has white at 4095: read as 0..65535 it would be nearly black.

    Attributes:
        sample_type: of the training images.
        black, white: sample values that become 0 and 1.
    """

    sample_type: SampleType = "u8"
    black: float = 0.0
    white: float = 255.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.black) and np.isfinite(self.white) and self.black < self.white):
            raise ContractError(f"levels are {self.black}..{self.white}; black must lie below white")


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A noisy picture and what the network must make of it, so that a runtime can prove itself before it serves.

    Attributes:
        height_px, width_px, channels: shape of both pictures.
        noisy_base64, denoised_base64: 8-bit samples (H, W, C) in memory order, as base64.
    """

    # Runtimes may sum in another order; a rounding boundary is then crossed by one level here and there.
    TOLERANCE_LEVELS: ClassVar[int] = 1

    height_px: int
    width_px: int
    channels: int
    noisy_base64: str
    denoised_base64: str

    def __post_init__(self) -> None:
        for text in (self.noisy_base64, self.denoised_base64):
            try:
                self._picture(text)
            except ValueError as error:
                raise ContractError(f"the golden pair is damaged: {error}") from error

    @classmethod
    def of(cls, noisy: NDArray[np.uint8], denoised: NDArray[np.uint8]) -> "GoldenPair":
        """From two (H, W, C) uint8 pictures of one shape."""
        texts = (base64.b64encode(np.ascontiguousarray(picture).tobytes()).decode() for picture in (noisy, denoised))
        return cls(*noisy.shape, *texts)

    def noisy(self) -> NDArray[np.uint8]:
        return self._picture(self.noisy_base64)

    def denoised(self) -> NDArray[np.uint8]:
        return self._picture(self.denoised_base64)

    def _picture(self, text: str) -> NDArray[np.uint8]:
        samples = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
        return samples.reshape(self.height_px, self.width_px, self.channels)


@dataclass(frozen=True, slots=True)
class ModelContract:
    """The description of one model file.

    The network maps ``noisy`` (N, channels, h, w) float32, black at 0 and white at 1, to ``denoised`` of the
    same shape. h and w are multiples of ``size_multiple_px``, or exactly ``fixed_side_px``. With a noise map it
    also answers ``sigma_map`` (N, 1, h / sigma_map_scale_px, w / sigma_map_scale_px), standard deviations in the
    same 0..1 units. A latent model's directory holds ``encoder.onnx`` and ``decoder.onnx`` too.

    Attributes:
        name, version: as in the store, ``<name>/<version>/``; the version is a whole number as text.
        kind: the family of network.
        capabilities: what it can be asked for.
        precision: of its convolutions; a variant in int8 lies beside the fp32 file, as ``model.int8.onnx``, with
            the same name and version.
        summary: one sentence for people.
        channels: 3 (RGB order) or 1.
        noise: what it was trained on; its clip policy is the input contract.
        levels: black and white of the images that it was trained on; what samples of that type mean unless a
            request says otherwise.
        size_multiple_px: what both sides of a unit are multiples of.
        fixed_side_px: the only side of an image that a model with a bottleneck takes; 0 means any.
        unit_edges_px: the allowed lengths of a unit's sides, ascending; a unit is any pair of them. Pixels
            depend on this list and on the image's size alone, never on the machine.
        halo_px: how far beyond the pixels that it owns a tile reads; a multiple of size_multiple_px.
        receptive_field_px: side of the square of input pixels that one output pixel was seen to depend on; 0 where
            it sees all.
        sigma_map_scale_px: side of the square that one value of the sigma map stands for; 0 means no map.
        code_length: numbers in the latent code; 0 means no code.
        gmac_per_megapixel: multiply-accumulates in 1e9 per million pixels.
        parity: measured at export against torch.
        tiling: measured at export, tiled against whole.
        quality_db: mean PSNR by evaluation set and noise level, such as {"kodak24_500": {"25": 30.6}}.
        calibration: how the statistics of its answers are distributed on held-out images.
        training_data_digest: digest of the packed training images' manifest.
        run_config_digest: SHA-256 of the run's config.
        license: SPDX identifier.
        golden: reproduced by the service before it serves the file.
    """

    name: str
    version: str
    kind: Kind
    capabilities: tuple[Capability, ...]
    precision: Precision
    summary: str
    channels: int
    noise: NoiseSpec
    levels: SampleLevels
    size_multiple_px: int
    fixed_side_px: int
    unit_edges_px: tuple[int, ...]
    halo_px: int
    receptive_field_px: int
    sigma_map_scale_px: int
    code_length: int
    gmac_per_megapixel: float
    parity: Parity
    tiling: TilingError
    quality_db: Mapping[str, Mapping[str, float]]
    calibration: Calibration
    training_data_digest: str
    run_config_digest: str
    license: str
    golden: GoldenPair

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ContractError("; ".join(problems))

    def _problems(self) -> list[str]:
        multiple_px, edges_px = self.size_multiple_px, self.unit_edges_px
        checks = (
            (self.kind in get_args(Kind), f"kind is {self.kind!r}; known: {', '.join(get_args(Kind))}"),
            (
                bool(self.capabilities) and set(self.capabilities) <= set(get_args(Capability)),
                f"capabilities is {self.capabilities}; at least one of: {', '.join(get_args(Capability))}",
            ),
            (
                self.precision in get_args(Precision),
                f"precision is {self.precision!r}; known: {', '.join(get_args(Precision))}",
            ),
            (
                self.levels.sample_type in get_args(SampleType),
                f"levels.sample_type is {self.levels.sample_type!r}; known: {', '.join(get_args(SampleType))}",
            ),
            (self.channels in (1, 3), f"channels is {self.channels}; must be 1 or 3"),
            (
                self.fixed_side_px == 0 or (edges_px, self.halo_px) == ((self.fixed_side_px,), 0),
                f"fixed_side_px is {self.fixed_side_px}; it is the only unit edge, not {edges_px}, without a halo_px",
            ),
            (
                self.code_length > 0 if self.kind in LATENT_KINDS else self.code_length == 0,
                f"code_length is {self.code_length}; {', '.join(LATENT_KINDS)} have a code, other kinds have 0",
            ),
            (
                self.kind in LATENT_KINDS or not {"encode", "decode"} & set(self.capabilities),
                f"capabilities is {self.capabilities}; only a kind with a code encodes and decodes",
            ),
            (
                self.kind in GENERATIVE_KINDS or "generate" not in self.capabilities,
                f"capabilities is {self.capabilities}; only {', '.join(GENERATIVE_KINDS)} generates",
            ),
            (
                self.receptive_field_px >= 0,
                f"receptive_field_px is {self.receptive_field_px}; must be positive, or 0 for all of the input",
            ),
            (self.version.isascii() and self.version.isdigit(), f"version is {self.version!r}; must be a whole number"),
            (multiple_px >= 1, f"size_multiple_px is {multiple_px}; must be at least 1"),
            (
                bool(edges_px) and list(edges_px) == sorted(set(edges_px)) and edges_px[0] > 0,
                f"unit_edges_px is {edges_px}; must be positive, ascending and not empty",
            ),
            (
                all(edge % max(multiple_px, 1) == 0 for edge in (*edges_px, self.halo_px)),
                f"unit_edges_px {edges_px} and halo_px {self.halo_px} must be multiples of {multiple_px}",
            ),
            (
                bool(edges_px) and 0 <= 2 * self.halo_px < edges_px[-1],
                f"halo_px is {self.halo_px}; twice that must be less than the largest edge",
            ),
            (
                self.sigma_map_scale_px >= 0 and multiple_px % max(self.sigma_map_scale_px, 1) == 0,
                f"sigma_map_scale_px is {self.sigma_map_scale_px}; must divide {multiple_px}, or be 0 for no map",
            ),
            (
                self.golden.channels == self.channels
                and self.golden.height_px % max(multiple_px, 1) == self.golden.width_px % max(multiple_px, 1) == 0
                and (self.golden.height_px == self.golden.width_px == self.fixed_side_px or not self.fixed_side_px),
                "the golden pair's pictures must have the network's channels and sides that it can take",
            ),
        )
        return [message for is_right, message in checks if not is_right]

    def to_metadata(self) -> dict[str, str]:
        """Keys with the prefix, values as JSON."""
        values: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        values["noise"] = json.loads(self.noise.to_json())
        for key in ("levels", "parity", "tiling", "calibration", "golden"):
            values[key] = asdict(getattr(self, key))
        values["schema_version"] = SCHEMA_VERSION
        return {PREFIX + key: json.dumps(value, sort_keys=True) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelContract":
        """Reads what :meth:`to_metadata` wrote; other prefixes are ignored.

        Raises:
            ContractError: no contract, another schema version, missing or unknown keys, or values that
                contradict each other.
        """
        texts = {
            key.removeprefix(PREFIX): text
            for key, text in metadata.items()
            if key.startswith(PREFIX) and key != FILE_DIGEST_KEY
        }
        if "schema_version" not in texts:
            raise ContractError("the file carries no model contract; export it with: python -m training export")
        values = {key: _parsed(key, text) for key, text in texts.items()}
        schema_version = values.pop("schema_version")
        if schema_version != SCHEMA_VERSION or type(schema_version) is not int:
            raise ContractError(
                f"the model contract has schema version {schema_version}; this release reads {SCHEMA_VERSION}"
            )
        try:
            return read_dataclass(cls, values, where="the model contract")
        except ContractError:
            raise
        except ValueError as error:
            raise ContractError(f"the model contract is wrong: {error}") from error


def _parsed(key: str, text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise ContractError(f"the model contract is damaged at {key}: {error}") from error
    return value
