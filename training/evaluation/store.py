"""Evaluations and estimates as files of a run's directory: one for each set, a later one in place of the earlier.

What they hold is decided by ``scores`` and ``estimates``, where they lie by ``RunDir``.
"""

from pathlib import Path

from denoised._files import write_whole
from training.errors import RunError
from training.evaluation.estimates import NoReference, load_no_reference
from training.evaluation.scores import Evaluation, load_evaluation
from training.run.directory import RunDir


def save_evaluation(run_dir: RunDir, evaluation: Evaluation) -> Path:
    """Writes the scores of one set, in place of earlier ones of that set. Raises RunError when the disk refuses."""
    return _write(run_dir.evaluations_path / f"{evaluation.stem}.json", evaluation.to_json())


def load_evaluations(run_dir: RunDir) -> list[Evaluation]:
    """All that were saved, by name of the set. Raises DataError when a file is damaged."""
    return [load_evaluation(path) for path in sorted(run_dir.evaluations_path.glob("*.json"))]


def save_estimates(run_dir: RunDir, estimates: NoReference) -> Path:
    """Writes what was estimated on one set without clean truth, in place of earlier estimates on it.

    Raises:
        RunError: the disk refuses.
    """
    return _write(run_dir.estimates_path / f"{estimates.stem}.json", estimates.to_json())


def load_estimates(run_dir: RunDir) -> list[NoReference]:
    """All that were saved, by name of the set. Raises DataError when a file is damaged."""
    return [load_no_reference(path) for path in sorted(run_dir.estimates_path.glob("*.json"))]


def _write(path: Path, text: str) -> Path:
    try:
        write_whole(path, (text + "\n").encode())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; free space there and evaluate again") from error
    return path
