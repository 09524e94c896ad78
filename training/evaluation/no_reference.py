"""What can be said of a network where no clean image exists: estimates, each with what it assumes.

Residual whiteness: what was removed should look like noise. Repeats: with two frames of one scene, the answer for one
is compared with the other, whose noise it cannot know (Lehtinen et al., "Noise2Noise", ICML 2018). SURE: Stein's
estimate of the error from one frame. None of them is a PSNR against truth, and nothing here calls them that.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from denoised.noise import Image
from denoised.statistics import measure, sure
from training.evaluation.estimates import DEFINITIONS, Estimates, NoReference
from training.evaluation.grids import Row, crop_window, residual_picture
from training.evaluation.inference import apply_network
from training.evaluation.scores import Origin
from training.evaluation.subjects import ImageSet, left_out_notes
from training.networks.base import Network

SAMPLE_HEADS: Final = ("noisy", "output", "removed x8")

_SHOWN_COUNT: Final = 5


def estimate(
    network: Network,
    images: ImageSet,
    *,
    sigma: float | None = None,
    origin: Origin | None = None,
    on_image: Callable[[str], None] = lambda _: None,
) -> tuple[NoReference, list[Row]]:
    """Estimates for a set of noisy images, and rows for a sheet of the first ones.

    Args:
        network: in eval mode on the CPU.
        images: noisy frames as its clean images; second frames of the same scenes as their noisy forms, if any.
        sigma: the noise level in 8-bit levels where it is known.
        origin: what is measured.
        on_image: called after each image with its name.
    """
    estimates: list[Estimates] = []
    rows: list[Row] = []
    for subject in images:
        frame = subject.clean
        answered = apply_network(network, frame)
        output = subject.delivered(answered.image)
        found = measure(frame, output, network_sigma=answered.sigma_found if sigma is None else sigma)
        risk = sure(frame, lambda image: apply_network(network, image).image, sigma=found.sigma)
        repeats = (None, None) if subject.noisy is None else repeat_psnr_db(frame, subject.noisy, answered.image)
        estimates.append(
            Estimates(
                file=subject.file,
                sigma=round(found.sigma, 2),
                removed_fraction=round(found.removed_fraction, 4),
                correlation_horizontal=round(found.correlation_horizontal, 4),
                correlation_vertical=round(found.correlation_vertical, 4),
                clipped_share=round(found.clipped_share, 5),
                sure_psnr_db=_rounded(risk.psnr_db),
                repeat_psnr_db=_rounded(repeats[1]),
                repeat_noisy_psnr_db=_rounded(repeats[0]),
            )
        )
        if len(rows) < _SHOWN_COUNT:
            window = crop_window(frame.shape[0], frame.shape[1])
            pictures = (frame[window], output[window], residual_picture(frame, output)[window])
            rows.append(
                Row(pictures, f"{subject.file}: noise {found.sigma:.1f}, removed {estimates[-1].removed_fraction:.2f}")
            )
        on_image(subject.file)
    notes = left_out_notes(images)
    return NoReference(images.name, DEFINITIONS, sigma, tuple(estimates), origin, notes=notes), rows


def repeat_psnr_db(first: Image, second: Image, answer: Image) -> tuple[float | None, float | None]:
    """(input, answer) against what both frames are noisy forms of; None where the estimated error is not positive.

    mean((answer - second)^2) is the answer's error plus the second frame's noise, because the answer knows nothing of
    that noise; half of mean((first - second)^2) is that noise.
    """
    variance = float(np.mean(np.square(first - second, dtype=np.float64))) / 2
    error = float(np.mean(np.square(answer - second, dtype=np.float64))) - variance
    return _psnr_db(variance), _psnr_db(error)


def _psnr_db(mean_square: float) -> float | None:
    return -10.0 * float(np.log10(mean_square)) if mean_square > 0.0 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
