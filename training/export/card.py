"""The model card: Markdown from a run's own figures, nothing typed by hand."""

from typing import assert_never

from denoised.contract import ModelContract
from denoised.noise import Demosaic, Gaussian, Jpeg, NoiseSpec, PoissonGaussian, Resize
from training.config import (
    ConvAeConfig,
    ConvDaeConfig,
    FcAeConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    PcaConfig,
    RunConfig,
    VaeConfig,
)
from training.data.manifest import Manifest
from training.export.evidence import Evidence
from training.networks.cost import TIER_LIMITS_GMAC
from training.run.directory import Parent, ParentFile
from training.run.trained import Trained

_FAMILY = {
    "conv_dae": "a convolutional denoising autoencoder",
    "conv_ae": "a convolutional autoencoder",
    "fc_ae": "a fully connected autoencoder",
    "vae": "a variational autoencoder",
    "pca": "principal component analysis, the best linear autoencoder",
}
_SUPERVISION = {
    "clean": "clean images, to which the noise above was added",
    "pairs": "pairs of noisy and clean images; the noise is that of the files",
    "noisy": "noisy images alone, each half of whose pixels is a target for the other (Neighbor2Neighbor)",
}


def model_card(
    contract: ModelContract,
    trained: Trained,
    evidence: Evidence,
    manifest: Manifest,
    *,
    parent: Parent | None,
) -> str:
    """What the model is for, how good it is, how it was made; ``parent`` is what it started from."""
    config = trained.config
    held_out = sum(image.held_out for image in manifest.images)
    return f"""{_head(contract)}
{card_facts(contract)}
## How good it is

{_quality(evidence)}
## How it was made

- {_shape(config.network)}
- {len(manifest.images) - held_out} images for training, {held_out} held out; data digest \
`{contract.training_data_digest[:16]}`. It learnt from {_SUPERVISION[config.data.supervision]}.
{_training(trained)}{_ancestry(parent)}- Config digest `{contract.run_config_digest[:16]}`, seed {config.seed}. Repeat \
it with `python -m training train` and this run's config.

Licence: {contract.license}.
"""


def quantised_card(contract: ModelContract, findings: str) -> str:
    """The card of an int8 variant: what it takes and costs, and how it compares with the file that it was made from."""
    return f"""{_head(contract)}
{card_facts(contract)}
## How it compares with the fp32 file

{findings}
## How it was made

- Convolutions of `model.onnx` beside it in 8 bit, calibrated on its training images with its own noise; nothing was \
trained. `README.md` says how that network was made. It is served with `DENOISED_PRECISION=int8`.
- Data digest `{contract.training_data_digest[:16]}`, config digest `{contract.run_config_digest[:16]}`.

Licence: {contract.license}.
"""


def card_facts(contract: ModelContract) -> str:
    """The sections on what a model takes and what it costs."""
    return f"""## What it takes

{_input(contract)}
## What it answers

{_answer(contract)}
## What it costs

{_cost(contract)}"""


def noise_in_words(noise: NoiseSpec) -> str:
    """A noise spec as one sentence without its full stop."""
    if not noise.stages:
        return "none was added: images are taken as they are"
    stages = ", then ".join(
        f"{_stage_in_words(stage)}{'' if stage.share == 1 else f' on {stage.share:.0%} of the images'}"
        for stage in noise.stages
    )
    order = f"; in random order on {noise.shuffle_share:.0%} of the images" if noise.shuffle_share else ""
    policy = "clipped to black..white" if noise.clip else "not clipped"
    grid = "" if noise.quantise == "none" else f", rounded to {noise.quantise}"
    return f"{stages}{order}; {policy}{grid}"


def _stage_in_words(stage: Gaussian | PoissonGaussian | Resize | Demosaic | Jpeg) -> str:
    match stage:
        case Gaussian():
            return f"white Gaussian noise, sigma {stage.sigma_min:g} to {stage.sigma_max:g} 8-bit levels"
        case PoissonGaussian():
            return (
                f"sensor noise, gain {stage.gain_min:g} to {stage.gain_max:g} and read noise {stage.read_sigma_min:g} "
                f"to {stage.read_sigma_max:g} 8-bit levels"
            )
        case Resize():
            return f"grain from a grid {stage.scale_min:g} to {stage.scale_max:g} times the size"
        case Demosaic():
            return "demosaicing"
        case Jpeg():
            return f"JPEG of quality {stage.quality_min} to {stage.quality_max} ({stage.subsampling})"
        case _:
            assert_never(stage)


def _head(contract: ModelContract) -> str:
    variant = "" if contract.precision == "fp32" else f", in {contract.precision}"
    return f"""# {contract.name}, version {contract.version}{variant}

{contract.summary or f"This is {_FAMILY[contract.kind]}."}
"""


def _input(contract: ModelContract) -> str:
    side_px, levels = contract.fixed_side_px, contract.levels
    channels = "RGB; grey images are served too" if contract.channels == 3 else "One channel"
    size = f"Exactly {side_px} x {side_px} pixels" if side_px else "Any size from 1 x 1 pixel"
    lines = [
        f"- {channels}. {size}.",
        f"- Samples: made for {levels.sample_type}, black at {levels.black:g} and white at {levels.white:g}.",
        f"- Noise: {noise_in_words(contract.noise)}.",
    ]
    if contract.sigma_map_scale_px:
        lines.append("- It needs no noise level: it estimates its own. Noise above its range stays.")
    return "\n".join(lines) + "\n"


def _answer(contract: ModelContract) -> str:
    if contract.kind == "conv_dae":
        return "- The image without its noise, and a map of the noise level that was found.\n"
    lines = [f"- The image as it comes out of a code of {contract.code_length} numbers; what these can't say is lost."]
    files = "`encoder.onnx` makes the code of an image and `decoder.onnx` the image of a code"
    if contract.kind == "vae":
        lines.append(
            f"- {files}. The encoder answers with mean and logarithm of the variance, and takes the draw as an input, "
            "`epsilon`; zeros give the mean. Normal draws, decoded, are new images."
        )
    else:
        lines.append(f"- {files}.")
    return "\n".join(lines) + "\n"


def _cost(contract: ModelContract) -> str:
    tiling, parity = contract.tiling, contract.parity
    lines = [f"- {contract.gmac_per_megapixel} GMAC for a megapixel, in {contract.precision}{_tier(contract)}."]
    if not contract.fixed_side_px:
        reach = contract.receptive_field_px
        sees = f"sees {reach} x {reach} pixels" if reach else "sees all of a tile"
        lines.append(
            f"- An output pixel {sees}. Tiles read {contract.halo_px} pixels beyond their own; then tiled and whole "
            f"answers differ by at most {tiling.max_levels} level, on {tiling.differing_share:.4%} of the values."
        )
    reference = "torch" if contract.precision == "fp32" else "the fp32 file"
    lines.append(
        f"- ONNX Runtime against {reference}: {parity.max_abs_difference:.1e} at most, {parity.psnr_db:.0f} dB."
    )
    return "\n".join(lines) + "\n"


def _tier(contract: ModelContract) -> str:
    """The smallest tier that holds it; tiers are for denoisers of images of any size."""
    if contract.fixed_side_px:
        return ""
    cost = contract.gmac_per_megapixel
    holding = ((tier, limit) for tier, limit in TIER_LIMITS_GMAC.items() if cost <= limit)
    tier, limit = next(holding, ("", 0.0))
    return f"; tier {tier}, whose limit is {limit:g}" if tier else "; beyond every tier"


def _shape(network: NetworkConfig) -> str:
    match network:
        case ConvDaeConfig():
            return (
                f"`conv_dae`: widths {list(network.widths)}, residual blocks {list(network.encoder_blocks)} / "
                f"{network.middle_blocks} / {list(network.decoder_blocks)} (encoder / middle / decoder), first "
                f"convolution {network.head_px} x {network.head_px}"
                f"{', ReLU between levels' if network.relu_between else ''}, noise estimator "
                f"{network.estimator_width} wide."
            )
        case ConvAeConfig() | VaeConfig():
            return f"`{network.kind}`: widths {list(network.widths)} down to a code of {network.code_length}, and back."
        case FcAeConfig():
            return f"`fc_ae`: layers of {list(network.hidden)} down to a code of {network.code_length}, and back."
        case PcaConfig():
            return f"`pca`: the first {network.code_length} principal components."
        case _:
            assert_never(network)


def _training(trained: Trained) -> str:
    config = trained.config
    if config.network.kind == "pca":
        return "- Solved in closed form, not trained by steps.\n"
    optimiser = config.optimiser
    sample_count = config.data.batch_size * optimiser.accumulation
    generated = f", {config.data.synthetic_share:.0%} of them generated" if config.data.synthetic_share else ""
    chosen = f"the best by {config.selection_metric}" if trained.weights == "best" else "the last that were saved"
    return (
        f"- {optimiser.steps} steps of {sample_count} crops of {config.data.crop_px} pixels{generated}; "
        f"{_objective(config)}; AdamW {optimiser.learning_rate:g} {_schedule(optimiser)}; weights "
        f"averaged ({optimiser.ema_decay}); {optimiser.precision}.\n"
        f"- Exported are the weights of step {trained.step}, {chosen}.\n"
    )


def _schedule(optimiser: OptimiserConfig) -> str:
    decay = "a cosine" if optimiser.decay_steps is None else f"a cosine over the last {optimiser.decay_steps} steps"
    wide = f", less for filters of more than {fan_in} inputs" if (fan_in := optimiser.full_rate_fan_in) else ""
    return f"with warm-up and {decay}{wide}"


def _objective(config: RunConfig) -> str:
    loss = config.loss
    if loss.objective == "loss":
        return f"loss {_terms(loss)}"
    if config.network.kind == "vae":
        return f"minimised the negative evidence lower bound in nats, KL weight {loss.kl_weight:g} ({loss.kl_schedule})"
    return f"minimised the energy in nats, code penalty {loss.code_penalty:g}"


def _terms(loss: LossConfig) -> str:
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in loss.image.items())


def _ancestry(parent: Parent | None) -> str:
    if parent is None:
        return ""
    if isinstance(parent, ParentFile):
        return (
            f"- Started from the weights of {parent.name}, version {parent.version} (digest `{parent.digest[:16]}`): "
            f"{_shape(parent.network)}\n"
        )
    return (
        f"- Started from the weights of a run of {parent.optimiser.steps} steps (loss {_terms(parent.loss)}, "
        f"AdamW {parent.optimiser.learning_rate:g}): {_shape(parent.network)}\n"
    )


def _quality(evidence: Evidence) -> str:
    parts = [
        f"`{evaluation.image_set}`, {len(evaluation.files())} images; {evaluation.noise}. {evaluation.metric}.\n\n"
        f"{evaluation.table()}\n"
        for evaluation in evidence.evaluations
    ]
    parts += [
        f"`{estimates.image_set}`, {len(estimates.estimates)} noisy images, estimated without clean ones. "
        f"{estimates.definitions}.\n\n{estimates.table()}\n"
        for estimates in evidence.estimates
    ]
    return "\n".join(parts) or "Not evaluated: run `python -m training evaluate` before the export.\n"
