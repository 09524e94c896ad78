"""Sends the images of a set to every method and scores what comes back.

Answers are timed one at a time while nothing else runs; scores are computed between the batches, on all cores.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from service.cpu import usable_core_count
from tests.bench.quality.images import CleanImage
from tests.bench.quality.methods import OPENCV_NLM, Answer, Classical, Method, Served, Unchanged
from tests.bench.quality.protocols import HEADLINE_SIGMA, Condition
from tests.bench.quality.raw import RawNetwork
from tests.bench.quality.scores import Kind, Row, Score, figures_of

# Answers that wait for their scores.
_BATCH_COUNT: Final = 8


@dataclass(frozen=True, slots=True)
class Task:
    """A method with the conditions that it is measured under."""

    method: Method
    kind: Kind
    conditions: tuple[Condition, ...]


def headline_sigma(sigmas: Sequence[int]) -> int:
    """The level that single figures are given for: 25, or the nearest one."""
    return min(sigmas, key=lambda sigma: (abs(sigma - HEADLINE_SIGMA), sigma))


def tasks(networks: Sequence[Served], classical: Sequence[Classical], sigmas: Sequence[int]) -> list[Task]:
    """What is measured: colour networks on all images, one-channel networks on the grey versions.

    Args:
        networks, classical: the methods.
        sigmas: of the Gaussian protocol.
    """
    gaussian = tuple(Condition("gaussian", sigma) for sigma in sigmas)
    as_grey = tuple(Condition("gaussian", sigma, is_grey=True) for sigma in sigmas)
    photo, clean = Condition("photo"), Condition("clean")
    grey_headline = (Condition("gaussian", headline_sigma(sigmas), is_grey=True),)
    has_grey_network = any(network.model.channel_count == 1 for network in networks)
    grey_extras = (*as_grey, Condition("photo", is_grey=True)) if has_grey_network else grey_headline
    found = [Task(Unchanged(), "input", (*gaussian, photo, *grey_extras))]
    for network in networks:
        if network.model.channel_count == 1:
            conditions = (*as_grey, Condition("photo", is_grey=True), Condition("clean", is_grey=True))
        else:
            conditions = (*gaussian, photo, clean, *grey_headline)
        found.append(Task(network, "network", conditions))
    # Only one of them is measured behind JPEG: none was made for it.
    found += [
        Task(method, "classical", (*gaussian, photo) if method.name == OPENCV_NLM else gaussian) for method in classical
    ]
    return found


def score_task(task: Task, images: Sequence[CleanImage], on_answer: Callable[[], object]) -> Iterator[Score]:
    """All scores of a task.

    Args:
        task: method and conditions.
        images: of the set, all of channels and sides that the method takes.
        on_answer: called after each answer.
    """
    warm_shapes: set[tuple[int, ...]] = set()
    with ThreadPoolExecutor(usable_core_count()) as pool:
        for condition in task.conditions:
            for start in range(0, len(images), _BATCH_COUNT):
                batch, answers = images[start : start + _BATCH_COUNT], []
                for image in batch:
                    noisy = condition.noisy(image)
                    sigma = condition.told_sigma(image, noisy)
                    if noisy.shape not in warm_shapes and task.kind != "input":
                        task.method.answer(noisy, sigma)
                        warm_shapes.add(noisy.shape)
                    answers.append(task.method.answer(noisy, sigma))
                    on_answer()
                yield from pool.map(partial(_score, task, condition), batch, answers)


def row_of(task: Task, scores: Sequence[Score], images: Sequence[CleanImage], raw: RawNetwork | None) -> Row:
    """The method's costs.

    Args:
        task: the method.
        scores: its own.
        images: of the set.
        raw: the network without the service.
    """
    timed = [score.ms_per_megapixel for score in scores if score.protocol == "gaussian"]
    cost = round(float(np.median(timed)), 1) if task.kind != "input" else None
    if raw is None or not isinstance(task.method, Served):
        return Row(task.method.name, task.kind, ms_per_megapixel=cost)
    model = task.method.model
    raw_s = [raw.seconds_per_megapixel(task.conditions[0].noisy(image)) for image in images]
    return Row(
        task.method.name,
        task.kind,
        is_grey_only=model.channel_count == 1,
        version=model.version,
        digest=model.digest,
        gmac_per_megapixel=raw.contract.gmac_per_megapixel,
        ms_per_megapixel=cost,
        raw_ms_per_megapixel=round(1000 * float(np.median(raw_s)), 1),
    )


def _score(task: Task, condition: Condition, image: CleanImage, answer: Answer) -> Score:
    psnr_db, similarity, detail = figures_of(answer.samples, condition.reference(image).samples)
    return Score(
        method=task.method.name,
        file=image.name,
        protocol=condition.protocol,
        sigma=condition.sigma,
        is_grey=condition.is_grey,
        psnr_db=psnr_db,
        ssim=similarity,
        detail=detail,
        sigma_found=None if answer.sigma_found is None else round(answer.sigma_found, 2),
        ms_per_megapixel=round(answer.wall_s * 1000 / image.megapixels, 1),
    )
