"""The model card: Markdown from a run's own figures, nothing typed by hand."""

from collections.abc import Sequence

from denoised.contract import ModelContract
from training.config import RunConfig
from training.data.manifest import Manifest
from training.evaluation.scores import Evaluation


def model_card(
    contract: ModelContract,
    config: RunConfig,
    evaluations: Sequence[Evaluation],
    manifest: Manifest,
    *,
    parent: RunConfig | None,
) -> str:
    """What the model is for, how good it is, how it was made; ``parent`` is the run that it started from."""
    noise, optimiser, tiling, parity = contract.noise, config.optimiser, contract.tiling, contract.parity
    held_out = sum(image.held_out for image in manifest.images)
    return f"""# {contract.name}, version {contract.version}

{contract.summary}

## What it takes

- {"RGB; grey images are served too" if contract.channels == 3 else "One channel"}. Any size from 1 x 1 pixel.
- Noise: {noise.kind}, sigma {noise.sigma_min:g} to {noise.sigma_max:g} 8-bit levels, \
{"clipped to black..white" if noise.clip else "not clipped"}, rounded to {noise.quantise}. It needs no noise level.
- Not for: JPEG artefacts, noise that is correlated between pixels, noise above its range.

## What it costs

- {contract.gmac_per_megapixel} GMAC for a megapixel.
- Tiles read {contract.halo_px} pixels beyond their own; then tiled and whole answers differ by at most \
{tiling.max_levels} level, on {tiling.differing_share:.4%} of the values.
- ONNX Runtime against torch: {parity.max_abs_difference:.1e} at most, {parity.psnr_db:.0f} dB.

## How good it is

{_quality(evaluations)}
## How it was made

- `{config.network.kind}`: widths {list(config.network.widths)}, residual blocks \
{list(config.network.encoder_blocks)} / {config.network.middle_blocks} / {list(config.network.decoder_blocks)} \
(encoder / middle / decoder), noise estimator {config.network.estimator_width} wide.
- {len(manifest.images) - held_out} photographs for training, {held_out} held out; data digest \
`{contract.training_data_digest[:16]}`.
- {optimiser.steps} steps of {config.data.batch_size} crops of {config.data.crop_px} pixels, \
{config.data.synthetic_share:.0%} of them generated; loss `{config.loss.image}`; AdamW {optimiser.learning_rate:g} \
with warm-up and cosine; weights averaged ({optimiser.ema_decay}); {optimiser.precision}.
{_ancestry(parent)}- Config digest `{contract.run_config_digest[:16]}`, seed {config.seed}. Repeat it with \
`python -m training train` and the config of this name in `training/configs/`.

Licence: {contract.license}.
"""


def _ancestry(parent: RunConfig | None) -> str:
    if parent is None:
        return ""
    return (
        f"- Started from the weights of a run of {parent.optimiser.steps} steps (loss `{parent.loss.image}`, "
        f"AdamW {parent.optimiser.learning_rate:g}, {parent.network.middle_blocks} middle blocks).\n"
    )


def _quality(evaluations: Sequence[Evaluation]) -> str:
    if not evaluations:
        return "Not evaluated: run `python -m training evaluate` before the export.\n"
    parts = []
    for evaluation in evaluations:
        count = len({score.file for score in evaluation.scores})
        parts.append(f"`{evaluation.image_set}`, {count} images. {evaluation.metric}.\n\n{evaluation.table()}\n")
    return "\n".join(parts)
