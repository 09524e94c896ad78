"""The pictures that a file is measured on: noisy ones as the network was made for, and generated ones."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoised.noise import NoiseSpec, keyed_rng
from training.data.manifest import Supervision
from training.data.pack import Pack

_PICTURE_KEY: Final = 2**33 + 3
_GOLDEN_KEY: Final = 2**33 + 4


class Picture(NamedTuple):
    """One picture as the network sees it.

    Attributes:
        noisy: (1, C, H, W) float32 in 0..1.
        clean: the same without noise; equal to ``noisy`` where nobody knows it.
        severity: of the noise that was added; None where it is the picture's own.
    """

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    severity: float | None


def noisy_pictures(
    pack: Pack,
    noise: NoiseSpec,
    *,
    supervision: Supervision,
    held_out: bool,
    count: int,
    severities: Sequence[float],
    multiple_px: int,
    least_px: int,
    most_px: int,
) -> Iterator[Picture]:
    """Windows of a pack's images at random places, images and severities in turn.

    Args:
        pack: with clean images, pairs, or noisy images alone.
        noise: what clean images get.
        supervision: what the network learnt from: pairs bring their own noise, and noisy images keep theirs.
        held_out: those that training never saw, or all where none are; else those that it saw.
        count: of windows; of held-out images at most one each.
        severities: places within the noise's ranges, 0..1.
        multiple_px: what sides are cut to multiples of; the next two are such.
        least_px: shorter sides are made as long by reflection.
        most_px: longer sides are cut.
    """
    images = (pack.held_out_images() if held_out else ()) or pack.training_images()
    for index in range(min(count, len(images)) if held_out else count):
        image = images[index % len(images)]
        rng = keyed_rng(_PICTURE_KEY, int(held_out), index)
        rows, columns = (
            _window(side_px, rng, multiple_px=multiple_px, least_px=least_px, most_px=most_px)
            for side_px in (image.height_px, image.width_px)
        )
        clean = _at_least(pack.unit(image, rows, columns), least_px)
        if supervision == "clean":
            severity = severities[index % len(severities)]
            sample = noise.at(severity).apply(clean, rng)
            yield Picture(_batch(sample.image), _batch(sample.clean), severity)
        else:
            noisy = clean
            if supervision == "pairs":
                noisy = _at_least(pack.noisy_unit(image, rows, columns), least_px)
            yield Picture(_batch(noisy), _batch(clean), None)


def golden_picture(noise: NoiseSpec, *, channels: int, side_px: int) -> NDArray[np.uint8]:
    """A generated picture (a ramp, a disc, a texture) with noise, (side, side, C) in 8 bit."""
    rows, columns = np.mgrid[0:side_px, 0:side_px].astype(np.float32) / max(1, side_px - 1)
    planes = (
        0.2 + 0.6 * columns,
        np.where((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.08, 0.8, 0.3),
        0.5 + 0.3 * np.sin(24 * rows) * np.cos(16 * columns),
    )
    clean = np.stack(planes[:channels], axis=2).astype(np.float32)
    noisy = noise.at(0.5).apply(clean, keyed_rng(_GOLDEN_KEY)).image
    levels: NDArray[np.uint8] = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _window(side_px: int, rng: np.random.Generator, *, multiple_px: int, least_px: int, most_px: int) -> slice:
    if side_px < least_px:
        return slice(0, side_px)
    length_px = min(side_px, most_px) // multiple_px * multiple_px
    start_px = int(rng.integers(side_px - length_px + 1))
    return slice(start_px, start_px + length_px)


def _at_least(image: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
    """With sides that are no shorter, by reflection as often as it takes."""
    padding = [(0, max(0, side_px - length)) for length in image.shape[:2]]
    return np.pad(image, (*padding, (0, 0)), mode="symmetric")


def _batch(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))[np.newaxis]
