"""Pictures of what a latent code holds: reconstructions, samples of the prior, ways between codes, the plane of two.

Only drawing; figures come from ``measure`` and ``probe``. Random codes are keyed, so that a report made twice shows
the same.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image as PillowImage

from denoised.noise import Image, keyed_rng
from training.evaluation.grids import Row, draw_sheet, draw_tiles
from training.evaluation.inference import apply_network, decode_all, encode_all
from training.evaluation.scores import PlanePoint
from training.networks.base import LatentNetwork

_COLUMNS: Final = 10
_SMALL_CELL_PX: Final = 84
_PRIOR_ROWS: Final = 8
_WAYS: Final = 4
_STEPS: Final = 10
_PLANE_SIDE: Final = 16
_PLANE_CELL_PX: Final = 56
# Standard deviations of the prior: 99.5 % of its draws lie in this square, and what lies between codes shows too.
PRIOR_REACH: Final = 3.0
_SPAN_SHARE: Final = 0.02
# A plane with more points is a blot.
_MOST_POINTS: Final = 2000
_PRIOR_KEY: Final = 2**32 + 5
_CODE_KEY: Final = 2**32 + 6


def reconstruction_sheet(
    network: LatentNetwork, clean: Sequence[Image], noisy: Sequence[Image] | None, noise_name: str
) -> PillowImage.Image:
    """Images above what comes back from their codes; with noisy images, those and their answers below."""
    shown = [clean[index] for index in _spread(len(clean), _COLUMNS)]
    rows = [Row(shown, "clean"), Row(_answers(network, shown), "reconstructed from the code of the clean image")]
    if noisy is not None:
        degraded = [noisy[index] for index in _spread(len(noisy), _COLUMNS)]
        rows += [
            Row(degraded, f"noisy ({noise_name})"),
            Row(_answers(network, degraded), "reconstructed from the code of the noisy image"),
        ]
    return draw_sheet([], rows, cell_px=_SMALL_CELL_PX)


def prior_sheet(network: LatentNetwork, *, seed: int = 0) -> PillowImage.Image:
    """Decoded draws of the standard normal: what a variational autoencoder takes for likely pictures."""
    rng = keyed_rng(_PRIOR_KEY, seed)
    codes = rng.standard_normal((_COLUMNS * _PRIOR_ROWS, network.code_length), dtype=np.float32)
    return draw_tiles(decode_all(network, codes), columns=_COLUMNS, cell_px=_SMALL_CELL_PX)


def interpolation_sheet(network: LatentNetwork, images: Sequence[Image]) -> PillowImage.Image:
    """Each row leads in a straight line from the code of one image to that of another, decoded on the way."""
    ends = encode_all(network, [images[index] for index in _spread(len(images), 2 * _WAYS)])
    shares = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    pictures: list[Image] = []
    # Each image with one from the other half of the set: sorted sets have like images side by side.
    for start, end in zip(ends[: len(ends) // 2], ends[len(ends) // 2 :], strict=False):
        pictures += decode_all(network, (1 - shares) * start + shares * end)
    return draw_tiles(pictures, columns=_STEPS, cell_px=_SMALL_CELL_PX)


def plane_points(
    network: LatentNetwork, images: Sequence[Image], labels: Sequence[str], *, seed: int = 0
) -> tuple[PlanePoint, ...]:
    """The codes of images where codes have two numbers: of an encoder that answers with a distribution, a draw each.

    Means would hide what the divergence does: all of them lie at 0 when it is minimised alone, the draws everywhere.
    """
    step = -(-len(images) // _MOST_POINTS)
    chosen = images[::step]
    epsilon = keyed_rng(_CODE_KEY, seed).standard_normal((len(chosen), 2), dtype=np.float32)
    return tuple(
        PlanePoint(round(float(x), 4), round(float(y), 4), label)
        for (x, y), label in zip(encode_all(network, chosen, epsilon), labels[::step], strict=True)
    )


def plane_sheet(network: LatentNetwork, points: Sequence[PlanePoint] | None) -> PillowImage.Image:
    """The plane of a code of two numbers, decoded on a grid, y upwards.

    Args:
        network: whose decoder is asked.
        points: codes that the grid spans; None for the part of the plane in which the prior lies.
    """
    if points is None:
        low, high = [-PRIOR_REACH] * 2, [PRIOR_REACH] * 2
    else:
        codes = [(point.x, point.y) for point in points]
        low, high = (np.quantile(codes, share, axis=0).tolist() for share in (_SPAN_SHARE, 1 - _SPAN_SHARE))
    xs, ys = (np.linspace(low[axis], high[axis], _PLANE_SIDE, dtype=np.float32) for axis in (0, 1))
    grid = np.array([(x, y) for y in ys[::-1] for x in xs], dtype=np.float32)
    return draw_tiles(decode_all(network, grid), columns=_PLANE_SIDE, cell_px=_PLANE_CELL_PX, gap_px=1)


def _answers(network: LatentNetwork, images: Sequence[Image]) -> list[Image]:
    return [apply_network(network, image).image for image in images]


def _spread(count: int, wanted: int) -> list[int]:
    """Places that cover a sorted set evenly."""
    return [int(index) for index in np.unique(np.linspace(0, count - 1, min(count, wanted)).round())]
