"""Every path of a run directory in one place, its config, and its evaluations.

What is in a checkpoint is not decided here, nor what an evaluation measures.
"""

from pathlib import Path

from denoised._files import write_whole
from training.config import RunConfig
from training.errors import RunError
from training.evaluation.estimates import NoReference, load_no_reference
from training.evaluation.scores import Evaluation, load_evaluation
from training.run.checkpoint import Checkpoints


class RunDir:
    """``config.json``, ``log.jsonl``, the checkpoints, ``tensorboard/``, ``samples/``, ``evaluations/<set>.json``.

    A run that started from another's weights keeps that run's config as ``parent-config.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.parent_config_path = path / "parent-config.json"
        self.log_path = path / "log.jsonl"
        self.tensorboard_path = path / "tensorboard"
        self.samples_path = path / "samples"
        self.evaluations_path = path / "evaluations"
        self.estimates_path = path / "estimates"
        self.report_path = path / "report.html"
        self.checkpoints = Checkpoints(path)

    def create(self, config: RunConfig) -> None:
        """Makes the directory and saves the config.

        Raises:
            RunError: it already holds a run, or cannot be written.
        """
        if self.config_path.exists():
            if self.checkpoints.newest_path.exists() or self.checkpoints.previous_path.exists():
                remedy = "continue it with --resume"
            else:
                remedy = "it came to no checkpoint: delete it and begin again"
            raise RunError(f"{self.path} already holds a run; {remedy}, or choose another directory")
        self._write_config(self.config_path, config)

    def load_config(self) -> RunConfig:
        """Raises RunError when there is no run here, or its config is damaged."""
        if not self.config_path.exists():
            raise RunError(
                f"{self.path} holds no run ({self.config_path.name} is missing); name the directory that was given as "
                "--run to: python -m training train"
            )
        return self._read_config(self.config_path)

    def save_parent(self, parent: "RunDir") -> None:
        """Notes which run this one started from."""
        self._write_config(self.parent_config_path, parent.load_config())

    def load_parent_config(self) -> RunConfig | None:
        """The config of the run that this one started from, or None. Raises RunError when it is damaged."""
        return self._read_config(self.parent_config_path) if self.parent_config_path.exists() else None

    def save_evaluation(self, evaluation: Evaluation) -> Path:
        """Writes the scores of one set, in place of earlier ones of that set."""
        path = self.evaluations_path / f"{evaluation.stem}.json"
        write_whole(path, (evaluation.to_json() + "\n").encode())
        return path

    def load_evaluations(self) -> list[Evaluation]:
        """All that were saved, by name of the set. Raises DataError when a file is damaged."""
        return [load_evaluation(path) for path in sorted(self.evaluations_path.glob("*.json"))]

    def save_estimates(self, estimates: NoReference) -> Path:
        """Writes what was estimated on one set without clean truth, in place of earlier estimates on it."""
        path = self.estimates_path / f"{estimates.stem}.json"
        write_whole(path, (estimates.to_json() + "\n").encode())
        return path

    def load_estimates(self) -> list[NoReference]:
        """All that were saved, by name of the set. Raises DataError when a file is damaged."""
        return [load_no_reference(path) for path in sorted(self.estimates_path.glob("*.json"))]

    def _write_config(self, path: Path, config: RunConfig) -> None:
        try:
            write_whole(path, (config.to_json() + "\n").encode())
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror}; free space there, or choose another directory"
            ) from error

    def _read_config(self, path: Path) -> RunConfig:
        try:
            return RunConfig.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged, or of another version: {error}; restore it from a copy") from error
