"""Measures how the statistics of a written model's answers are distributed on held-out images.

The file itself is measured, in ONNX Runtime, on noisy crops that its own NoiseSpec makes: what a service computes
later is compared with what this very file did. Which statistics there are is decided in ``denoised.statistics``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from denoised.calibration import Calibration, encode_code_density
from denoised.contract import (
    IMAGE_OUTPUT_NAME,
    INPUT_NAME,
    LOG_VARIANCE_NAME,
    MEAN_NAME,
    SIGMA_OUTPUT_NAME,
    SampleLevels,
)
from denoised.noise import LEVELS_8BIT, Image, NoiseSpec
from denoised.statistics import (
    Code,
    Energy,
    EnergyModel,
    Likelihood,
    Statistics,
    as_delivered,
    gaussian_nats_of,
    measure,
)
from training.data.manifest import Supervision
from training.data.pack import Pack
from training.export import onnx_file
from training.export.code_density import fit_code_density
from training.export.crops import batches, noisy_crops
from training.export.quantiles import PROBABILITIES, fit_quantiles, shortened

# Enough that the error of the quantiles themselves stays below 0.03, by Kolmogorov and Smirnov's rule.
DEFAULT_CROP_COUNT: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """One crop: its statistics, with an energy that is still to come, and what the energy is made of."""

    statistics: Statistics
    square_error: float
    value_count: int
    code: Code | None


def calibrate(
    session: ort.InferenceSession,
    pack: Pack,
    noise: NoiseSpec,
    *,
    supervision: Supervision,
    size_multiple_px: int,
    fixed_side_px: int = 0,
    likelihood: Likelihood = "gaussian",
    reconstruction_sigma: float | None = None,
    crop_count: int = DEFAULT_CROP_COUNT,
    seed: int = 0,
    of_all: bool = False,
    on_crop: Callable[[], object] = lambda: None,
) -> Calibration:
    """Quantiles of every statistic that is defined for the model, and the constants of its energy.

    Args:
        session: of the whole model: image in, image out, with its noise map or code where it has them.
        pack: held-out images are measured; all images where none is held out.
        noise: what clean crops get.
        supervision: what the network learnt from: pairs bring their own noise, and noisy images keep theirs.
        size_multiple_px: what the sides of the model's input are multiples of.
        fixed_side_px: its only side, or 0.
        likelihood: of an image given its reconstruction.
        reconstruction_sigma: s of a Gaussian likelihood in 0..1 units, where training minimised an energy with it;
            None measures the one under which the crops are likeliest.
        crop_count: more make steadier quantiles.
        seed: another one draws other crops and other noise.
        of_all: measures images that were trained on as well: a few held-out ones stand for few kinds of scene.
        on_crop: called after each crop, for progress.

    Raises:
        DataError: no image is large enough.
    """
    measured = _measure(
        session,
        noisy_crops(
            pack,
            noise,
            supervision=supervision,
            size_multiple_px=size_multiple_px,
            fixed_side_px=fixed_side_px,
            count=crop_count,
            seed=seed,
            of_all=of_all,
        ),
        likelihood,
        pack.manifest.levels,
        on_crop,
    )
    model = _energy_model(measured, likelihood, reconstruction_sigma)
    statistics = [replace(crop.statistics, energy=_energy(crop, model)) for crop in measured]
    sigmas, quantiles = fit_quantiles(statistics)
    mean_base64, whitening_base64 = encode_code_density(model.code_density)
    return Calibration(
        probabilities=PROBABILITIES,
        sigmas=sigmas,
        quantiles=quantiles,
        likelihood=likelihood,
        reconstruction_sigma=model.sigma,
        code_mean_base64=mean_base64,
        code_whitening_base64=whitening_base64,
    )


def measured_crops(
    session: ort.InferenceSession,
    pack: Pack,
    noise: NoiseSpec,
    model: EnergyModel,
    *,
    supervision: Supervision,
    size_multiple_px: int,
    fixed_side_px: int = 0,
    crop_count: int = DEFAULT_CROP_COUNT,
    seed: int = 0,
) -> list[Statistics]:
    """Statistics of crops under the constants of an earlier calibration: of another seed, they rank evenly in it."""
    crops = noisy_crops(
        pack,
        noise,
        supervision=supervision,
        size_multiple_px=size_multiple_px,
        fixed_side_px=fixed_side_px,
        count=crop_count,
        seed=seed,
    )
    measured = _measure(session, crops, model.likelihood, pack.manifest.levels)
    return [replace(crop.statistics, energy=_energy(crop, model)) for crop in measured]


def _measure(
    session: ort.InferenceSession,
    crops: Iterator[Image],
    likelihood: Likelihood,
    levels: SampleLevels,
    on_crop: Callable[[], object] = lambda: None,
) -> list[_Measured]:
    measured = []
    for batch in batches(crops):
        for crop in _measured(session, batch, EnergyModel(likelihood), levels):
            measured.append(crop)
            on_crop()
    return measured


def _measured(
    session: ort.InferenceSession, batch: NDArray[np.float32], model: EnergyModel, levels: SampleLevels
) -> Iterator[_Measured]:
    answer = onnx_file.run(session, **{INPUT_NAME: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))})
    # As a service writes it: clipped, and rounded to whole samples where the images have such.
    steps = None if levels.sample_type == "f32" else levels.white - levels.black
    denoised = as_delivered(answer[IMAGE_OUTPUT_NAME].transpose(0, 2, 3, 1), steps=steps)
    for index, noisy in enumerate(batch):
        sigma_map = answer.get(SIGMA_OUTPUT_NAME)
        code = _code(answer, index)
        yield _Measured(
            statistics=measure(
                noisy,
                denoised[index],
                # On clean crops a map may come out a little below zero; no noise level is.
                network_sigma=None if sigma_map is None else max(0.0, float(sigma_map[index].mean())) * LEVELS_8BIT,
                code=code,
                model=model,
            ),
            square_error=float(np.square(noisy - denoised[index], dtype=np.float64).sum()),
            value_count=noisy.size,
            code=code,
        )


def _code(answer: onnx_file.Arrays, index: int) -> Code | None:
    if MEAN_NAME not in answer:
        return None
    log_variances = answer.get(LOG_VARIANCE_NAME)
    return Code(answer[MEAN_NAME][index], None if log_variances is None else log_variances[index])


def _energy_model(
    measured: Sequence[_Measured], likelihood: Likelihood, reconstruction_sigma: float | None
) -> EnergyModel:
    if reconstruction_sigma is None:
        mean_square = sum(crop.square_error for crop in measured) / sum(crop.value_count for crop in measured)
        # A model that changes nothing would have no scale; 8-bit rounding alone has this one.
        reconstruction_sigma = max(float(np.sqrt(mean_square)), 1.0 / (LEVELS_8BIT * np.sqrt(12.0)))
    codes = [crop.code.mean for crop in measured if crop.code is not None and crop.code.log_variance is None]
    density = fit_code_density(np.stack(codes)) if codes else None
    return EnergyModel(likelihood, shortened(reconstruction_sigma), density)


def _energy(crop: _Measured, model: EnergyModel) -> Energy:
    """The energy under the final constants."""
    provisional = crop.statistics.energy
    if model.likelihood == "gaussian":
        reconstruction_nats = gaussian_nats_of(crop.square_error, crop.value_count, sigma=model.sigma)
        provisional = replace(provisional, reconstruction_nats=reconstruction_nats)
    return replace(provisional, compression_nats=model.compression_nats(crop.code))
