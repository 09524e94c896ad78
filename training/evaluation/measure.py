"""Measures a network on images with clean truth, beside its input and the baselines, as users would see the answers.

Every method gets the same noisy image and is compared after clipping and rounding to the image's own samples. What
the noise is, is ``conditions``'; where images come from, ``subjects``'.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from denoised.noise import Image
from denoised.quality import DETAIL_SMALLEST_SIDE_PX, SSIM_SMALLEST_SIDE_PX, capped_psnr_db, detail_kept, ssim
from training.evaluation.conditions import Conditions
from training.evaluation.inference import apply_network
from training.evaluation.samples import SampleKeeper
from training.evaluation.scores import (
    DEFINITIONS,
    NETWORK,
    NOISY,
    Evaluation,
    Origin,
    Score,
    headline_level,
)
from training.evaluation.subjects import ImageSet, left_out_notes
from training.networks.base import Network

# (noisy (H, W, C) in 0..1, noise level in 8-bit levels or None where it has to be estimated) -> (H, W, C).
Baseline = Callable[[Image, float | None], Image]


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores and the pictures worth showing."""

    evaluation: Evaluation
    samples: SampleKeeper


def evaluate(
    network: Network,
    images: ImageSet,
    conditions: Conditions,
    *,
    baselines: Mapping[str, Baseline],
    origin: Origin | None = None,
    on_image: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Scores every image at every level.

    Args:
        network: in eval mode on the CPU.
        images: the set.
        conditions: the noise.
        baselines: by name, to compare with.
        origin: what is measured.
        on_image: called after each image with its name.
    """
    levels = conditions.levels
    keeper = SampleKeeper(headline_level(levels), shown_index=len(images) // 2)
    scores: list[Score] = []
    digest = hashlib.sha256()
    for subject in images:
        digest.update(subject.digest())
        for level in levels:
            noisy = conditions.noisy(subject, level)
            answered = apply_network(network, noisy)
            output = subject.delivered(answered.image)
            own = _score(NETWORK, subject.file, level, output, subject.clean, answered.sigma_found)
            scores += [own, _score(NOISY, subject.file, level, subject.delivered(noisy), subject.clean)]
            sigma = level if conditions.protocol == "gaussian" else None
            for name, baseline in baselines.items():
                answer = subject.delivered(baseline(noisy, sigma))
                scores.append(_score(name, subject.file, level, answer, subject.clean))
            keeper.offer(subject.file, subject.index, level, own.psnr_db, (noisy, output, subject.clean))
        on_image(subject.file)
    evaluation = Evaluation(
        images.name,
        DEFINITIONS,
        tuple(scores),
        conditions.protocol,
        conditions.describe(),
        origin,
        samples_digest=digest.hexdigest(),
        notes=left_out_notes(images),
    )
    return Measured(evaluation, keeper)


def _score(method: str, file: str, level: float, image: Image, clean: Image, sigma_found: float | None = None) -> Score:
    smallest_px = min(clean.shape[:2])
    return Score(
        method,
        file,
        level,
        psnr_db=round(capped_psnr_db(image, clean, value_range=1.0), 4),
        ssim=round(ssim(image, clean, value_range=1.0), 5) if smallest_px >= SSIM_SMALLEST_SIDE_PX else None,
        detail=round(detail_kept(image, clean), 5) if smallest_px >= DETAIL_SMALLEST_SIDE_PX else None,
        sigma_found=None if sigma_found is None else round(sigma_found, 2),
    )
