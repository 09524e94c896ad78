"""Whether a network is at least as good as an earlier one: the check that a pipeline can fail on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from training.errors import DataError, WorseThanBefore
from training.evaluation.changes import LevelChange, paired_changes
from training.evaluation.scores import Evaluation, Protocol, load_evaluation
from training.run.directory import RunDir

TOLERANCE_DB: Final = 0.05


def load_previous(path: Path, stem: str) -> Evaluation:
    """The earlier scores to compare with: a file of them, or those of a run on the same set.

    Read before the new ones are written: they may be the same run's.

    Raises:
        DataError: there are none.
    """
    if path.is_file():
        return load_evaluation(path)
    found = RunDir(path).evaluations_path / f"{stem}.json"
    if not found.is_file():
        raise DataError(
            f"{path} has no evaluation on {stem} ({found} is missing); evaluate that run first, on the "
            "same images with the same options"
        )
    return load_evaluation(found)


def require_levels(before: Evaluation, levels: Sequence[float], *, protocol: Protocol) -> None:
    """Raises DataError when levels of the earlier evaluation are missing: the gate would not see a loss at those."""
    missing = sorted(set(before.levels()) - set(levels))
    if before.protocol == protocol and missing:
        raise DataError(
            f"the gate lacks {', '.join(before.level_name(level) for level in missing)}; the earlier run was measured "
            f"there too, this one is measured at {', '.join(before.level_name(level) for level in sorted(levels))}: "
            "give the same --sigmas or --severities to both"
        )


def require_no_worse(
    before: Evaluation, after: Evaluation, *, tolerance_db: float = TOLERANCE_DB
) -> tuple[LevelChange, ...]:
    """The paired changes, when none loses more than the tolerance.

    The mean decides, not its interval: a gate that a few images of large spread can never fail is none. The interval
    is in the message, so that whoever reads it can tell chance from damage.

    Raises:
        DataError: the evaluations can't be compared.
        WorseThanBefore: mean PSNR fell by more than ``tolerance_db`` at some level, or is no number.
    """
    require_levels(before, after.levels(), protocol=after.protocol)
    changes = paired_changes(before, after)
    # What is no number is no pass either.
    worse = [change for change in changes if not change.psnr_db.mean >= -tolerance_db]
    if worse:
        texts = ", ".join(f"{change.psnr_db.mean:+.3f} dB{_span(change)} at {change.name}" for change in worse)
        raise WorseThanBefore(
            f"PSNR on {after.image_set} did not stay within {tolerance_db:g} dB: {texts}; keep the earlier model, or "
            "allow more with --tolerance-db"
        )
    return changes


def _span(change: LevelChange) -> str:
    low, high = change.psnr_db.low, change.psnr_db.high
    return "" if low is None or high is None else f" (95 %: {low:+.3f} to {high:+.3f})"
