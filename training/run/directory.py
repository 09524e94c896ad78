"""Every path of a run directory in one place, and checkpoints that survive a kill at any moment."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from training.config import RunConfig
from training.errors import RunError
from training.evaluation.scores import Evaluation


class RunDir:
    """``config.json``, ``log.jsonl``, ``checkpoint.pt`` (and the one before), ``evaluations/<set>.json``.

    A run that started from another's weights keeps that run's config as ``parent-config.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.parent_config_path = path / "parent-config.json"
        self.log_path = path / "log.jsonl"
        self.checkpoint_path = path / "checkpoint.pt"
        self.previous_checkpoint_path = path / "checkpoint.previous.pt"
        self.evaluations_path = path / "evaluations"

    def create(self, config: RunConfig) -> None:
        """Makes the directory and saves the config.

        Raises:
            RunError: it already holds a run.
        """
        if self.config_path.exists():
            raise RunError(f"{self.path} already holds a run; continue it with --resume, or choose another directory")
        self.path.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(config.to_json() + "\n", encoding="utf-8")

    def load_config(self) -> RunConfig:
        """Raises RunError when there is no run here."""
        try:
            return RunConfig.from_json(self.config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path} holds no run: {error}") from error

    def save_parent(self, parent: "RunDir") -> None:
        """Notes which run this one started from."""
        self.parent_config_path.write_text(parent.load_config().to_json() + "\n", encoding="utf-8")

    def load_parent_config(self) -> RunConfig | None:
        """The config of the run that this one started from, or None."""
        if not self.parent_config_path.exists():
            return None
        return RunConfig.from_json(self.parent_config_path.read_text(encoding="utf-8"))

    def cut_log(self, step: int) -> None:
        """Drops the records after a step, and a line cut off by a kill: those steps are made, and logged, again."""
        if not self.log_path.exists():
            return
        lines = self.log_path.read_text(encoding="utf-8").splitlines(keepends=True)
        partial = self.log_path.with_suffix(".partial")
        kept = (line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step)
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(self.log_path)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Writes beside, syncs, then swaps: there is a whole checkpoint on disk at every moment."""
        partial = self.checkpoint_path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if self.checkpoint_path.exists():
            self.checkpoint_path.replace(self.previous_checkpoint_path)
        partial.replace(self.checkpoint_path)

    def load_checkpoint(self) -> dict[str, Any]:
        """The newest whole checkpoint; falls back to the previous one.

        Raises:
            RunError: there is none, or none can be read.
        """
        problems = []
        for path in (self.checkpoint_path, self.previous_checkpoint_path):
            try:
                state = _load_whole(path)
            except FileNotFoundError:
                problems.append(f"{path.name} is missing")
            except Exception as error:  # noqa: BLE001 -- a damaged file surfaces as any of several types from the unpickler
                problems.append(f"{path.name} is damaged ({type(error).__name__})")
            else:
                if path == self.previous_checkpoint_path:
                    # Or the next save would swap the damaged file over this whole one.
                    self.checkpoint_path.unlink(missing_ok=True)
                return state
        raise RunError(f"{self.path} has no usable checkpoint: {'; '.join(problems)}")

    def save_evaluation(self, evaluation: Evaluation) -> Path:
        """Writes the scores of one set, in place of earlier ones of that set."""
        self.evaluations_path.mkdir(exist_ok=True)
        path = self.evaluations_path / f"{evaluation.image_set}.json"
        path.write_text(evaluation.to_json() + "\n", encoding="utf-8")
        return path

    def load_evaluations(self) -> list[Evaluation]:
        """All that were saved, by name of the set."""
        paths = sorted(self.evaluations_path.glob("*.json"))
        return [Evaluation.from_json(path.read_text(encoding="utf-8")) for path in paths]


def _load_whole(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        # torch.save writes checksums, torch.load does not compare them.
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} fails its checksum")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
