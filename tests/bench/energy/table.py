"""What became of the images of each kind, as figures and as a table. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from denoised.verdicts import Verdict
from tests.bench.energy.traffic import KINDS

SIGMA_MARGIN: Final = 0.1
_JUDGED: Final = tuple(verdict for verdict in Verdict if verdict is not Verdict.OK)
# Clean photographs with more of it clip by themselves.
_CLIPS_SHARE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Found:
    """One image.

    Attributes:
        photograph: file it was made of.
        clips: whether the photograph itself has black or white areas.
        sigma: noise level found.
        quantiles: by statistic.
    """

    kind: str
    photograph: str
    clips: bool
    sigma: float
    verdicts: tuple[str, ...]
    quantiles: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of image.

    Attributes:
        close_share: of the images whose noise level was found to within a tenth; None without a known level.
        shares: of the images that got each verdict.
    """

    kind: str
    count: int
    median_sigma: float
    close_share: float | None
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Alarms:
    """One verdict.

    Attributes:
        right_share: of the images that deserve it; None where none does.
        false_share: of the images that don't.
        false_count: of how many.
    """

    verdict: str
    right_share: float | None
    false_share: float
    false_count: int


def rows(found: Sequence[Found]) -> list[Row]:
    """By kind, in the order of ``traffic.KINDS``."""
    return [_row(kind, images) for kind in KINDS if (images := [each for each in found if each.kind == kind])]


def _row(kind: str, images: Sequence[Found]) -> Row:
    sigma = KINDS[kind].sigma
    close = None if not sigma else [abs(image.sigma / sigma - 1.0) <= SIGMA_MARGIN for image in images]
    return Row(
        kind=kind,
        count=len(images),
        median_sigma=float(np.median([image.sigma for image in images])),
        close_share=None if close is None else float(np.mean(close)),
        shares={verdict.value: _share(verdict.value in image.verdicts for image in images) for verdict in Verdict},
    )


def alarms(found: Sequence[Found]) -> list[Alarms]:
    """Of each verdict how often it is right, and how often it comes undeserved."""
    result = []
    for verdict in _JUDGED:
        deserving = [image for image in found if verdict in KINDS[image.kind].deserved]
        others = [image for image in found if not _may_have(verdict, image)]
        result.append(
            Alarms(
                verdict=verdict.value,
                right_share=_share(verdict.value in image.verdicts for image in deserving) if deserving else None,
                false_share=_share(verdict.value in image.verdicts for image in others),
                false_count=len(others),
            )
        )
    return result


def _may_have(verdict: Verdict, image: Found) -> bool:
    kind = KINDS[image.kind]
    return verdict in kind.deserved | kind.may_have or (verdict is Verdict.CLIPPED_INPUT and image.clips)


def unusual_shares(found: Sequence[Found], kind: str) -> dict[str, float]:
    """By statistic, the share of a kind's images in the outermost 1 % at either end: what the drift alert looks at."""
    images = [image for image in found if image.kind == kind]
    names = sorted({name for image in images for name in image.quantiles})
    return {
        name: _share(not 0.01 < image.quantiles[name] <= 0.99 for image in images if name in image.quantiles)
        for name in names
    }


def distance_from_flat(values: Iterable[float]) -> float:
    """Kolmogorov and Smirnov's, of values in 0..1 from the uniform distribution."""
    ordered = np.sort(np.fromiter(values, np.float64))
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def document(found: Sequence[Found]) -> dict[str, Any]:
    """All figures as JSON."""
    return {
        "kinds": [asdict(row) for row in rows(found)],
        "alarms": [asdict(each) for each in alarms(found)],
        "unusual_shares": {kind: unusual_shares(found, kind) for kind in dict.fromkeys(each.kind for each in found)},
    }


def markdown(found: Sequence[Found]) -> str:
    """Both tables."""
    lines = ["| images | count | sigma found | within 10 % | " + " | ".join(v.value for v in Verdict) + " |"]
    lines.append("|---" * (4 + len(Verdict)) + "|")
    for row in rows(found):
        close = "-" if row.close_share is None else f"{row.close_share:.0%}"
        shares = " | ".join(f"{row.shares[verdict.value]:.0%}" for verdict in Verdict)
        lines.append(f"| {row.kind} | {row.count} | {row.median_sigma:.1f} | {close} | {shares} |")
    lines += ["", "| verdict | of those that deserve it | false alarms | of |", "|---|---|---|---|"]
    for each in alarms(found):
        right = "-" if each.right_share is None else f"{each.right_share:.0%}"
        lines.append(f"| {each.verdict} | {right} | {each.false_share:.1%} | {each.false_count} |")
    return "\n".join(lines)


def _share(hits: Iterable[bool]) -> float:
    return float(np.mean([bool(hit) for hit in hits]))


def clips(photograph: np.ndarray) -> bool:
    """Whether a clean photograph has black or white areas of its own."""
    return float(np.mean((photograph == 0) | (photograph == 255))) > _CLIPS_SHARE
