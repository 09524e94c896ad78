"""How two evaluations of the same images differ, image by image: what gates and comparisons are made of."""

from collections.abc import Callable
from dataclasses import dataclass

from denoised.quality import Interval, mean_interval
from training.errors import DataError
from training.evaluation.scores import Evaluation, Score, detail_of, psnr_of, ssim_of


@dataclass(frozen=True, slots=True)
class LevelChange:
    """How two evaluations of the same images differ at one level, from image to image."""

    level: float
    name: str
    psnr_db: Interval
    ssim: Interval | None
    detail: Interval | None


def paired_changes(before: Evaluation, after: Evaluation) -> tuple[LevelChange, ...]:
    """The changes from one network to another at every level that both have.

    Raises:
        DataError: they are of other images, noise, protocols or definitions, or share no level.
    """
    for what, one, other in (
        ("protocol", before.protocol, after.protocol),
        ("definition of its figures", before.metric, after.metric),
        ("noise", before.noise, after.noise),
        ("set of images", before.files(), after.files()),
        ("content in images of the same names", before.samples_digest, after.samples_digest),
    ):
        if one != other:
            texts = f" ({one}; {other})" if what == "noise" else ""
            raise DataError(
                f"{before.image_set} and {after.image_set} can't be compared: each has another {what}{texts}; "
                "evaluate both runs again on the same folder with the same options, such as --sigmas"
            )
    levels = sorted(set(before.levels()) & set(after.levels()))
    if not levels:
        raise DataError(
            f"no noise level in common: {before.levels()} and {after.levels()}; evaluate both at the same ones"
        )
    return tuple(
        LevelChange(
            level,
            after.level_name(level),
            _required(_change(before, after, level, psnr_of)),
            _change(before, after, level, ssim_of),
            _change(before, after, level, detail_of),
        )
        for level in levels
    )


def _change(
    before: Evaluation, after: Evaluation, level: float, value: Callable[[Score], float | None]
) -> Interval | None:
    pairs = zip(before.at(level), after.at(level), strict=True)
    values = [new - old for a, b in pairs if (old := value(a)) is not None and (new := value(b)) is not None]
    return mean_interval(values) if values else None


def _required(interval: Interval | None) -> Interval:
    assert interval is not None, "PSNR exists for every image"
    return interval
