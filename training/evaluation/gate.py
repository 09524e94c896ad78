"""Whether a network is at least as good as an earlier one: the check that a pipeline can fail on."""

from pathlib import Path
from typing import Final

from training.errors import DataError, WorseThanBefore
from training.evaluation.changes import LevelChange, paired_changes
from training.evaluation.scores import Evaluation, load_evaluation
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


def require_no_worse(
    before: Evaluation, after: Evaluation, *, tolerance_db: float = TOLERANCE_DB
) -> tuple[LevelChange, ...]:
    """The paired changes, when none loses more than the tolerance.

    The mean decides, not its interval: a gate that a few images of large spread can never fail is none. The interval
    is in the message, so that whoever reads it can tell chance from damage.

    Raises:
        DataError: the evaluations can't be compared.
        WorseThanBefore: mean PSNR fell by more than ``tolerance_db`` at some level.
    """
    changes = paired_changes(before, after)
    worse = [change for change in changes if change.psnr_db.mean < -tolerance_db]
    if worse:
        texts = ", ".join(f"{change.psnr_db.mean:+.3f} dB{_span(change)} at {change.name}" for change in worse)
        raise WorseThanBefore(
            f"PSNR on {after.image_set} fell by more than {tolerance_db:g} dB: {texts}; keep the earlier model, or "
            "allow more with --tolerance-db"
        )
    return changes


def _span(change: LevelChange) -> str:
    low, high = change.psnr_db.low, change.psnr_db.high
    return "" if low is None or high is None else f" (95 %: {low:+.3f} to {high:+.3f})"
