"""Published networks' figures, to read the table by: constants with their source, never measured in a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.bench.quality.images import KODAK


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a published network reaches on a set under the Gaussian protocol, told the noise level.

    Attributes:
        method: name.
        image_set, image_count: that it was measured on, all of them.
        psnr_db: mean PSNR by noise level.
        gmac_per_megapixel: its cost.
        source: of weights and figures.
    """

    method: str
    image_set: str
    image_count: int
    psnr_db: Mapping[int, float]
    gmac_per_megapixel: float
    source: str


_SOURCE: Final = (
    "Zhang, Zuo, Zhang, FFDNet, IEEE TIP 27(9), 2018: the authors' published weights, {}, told sigma, for clipped "
    "8-bit input; not measured in this run"
)

ANCHORS: Final = (
    Anchor(
        "FFDNet-Clip colour",
        KODAK,
        24,
        {15: 34.67, 25: 32.19, 50: 29.03},
        213.0,
        _SOURCE.format("trained on clipped noise"),
    ),
    Anchor(
        "FFDNet colour",
        KODAK,
        24,
        {15: 34.38, 25: 31.65, 50: 27.37},
        213.0,
        _SOURCE.format("trained on unclipped noise"),
    ),
)


def anchors_of(image_set: str, image_count: int) -> tuple[Anchor, ...]:
    """Those of a set; of a part of it none, because the mean over a part is another figure."""
    return tuple(a for a in ANCHORS if (a.image_set, a.image_count) == (image_set, image_count))
