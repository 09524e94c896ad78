"""Every path of a run directory in one place, and its config.

What is in a checkpoint is not decided here, nor what an evaluation writes.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from denoised._files import write_whole
from training.config import ConvDaeConfig, RunConfig
from training.errors import RunError
from training.run.checkpoint import Checkpoints


class ParentFile(BaseModel):
    """The published model file whose weights a run started from.

    Attributes:
        name, version: of the model.
        digest: SHA-256 of the file.
        network: its shape.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    version: str
    digest: str
    network: ConvDaeConfig


# What a run started from: another run, or a published model.
Parent = RunConfig | ParentFile


class RunDir:
    """``config.json``, ``log.jsonl``, the checkpoints, ``tensorboard/``, ``samples/``, ``evaluations/<set>.json``.

    A run that started from another's weights keeps that run's config as ``parent-config.json``; one that started from a
    published model notes which in ``parent-model.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.parent_config_path = path / "parent-config.json"
        self.parent_model_path = path / "parent-model.json"
        self.log_path = path / "log.jsonl"
        self.tensorboard_path = path / "tensorboard"
        self.samples_path = path / "samples"
        self.evaluations_path = path / "evaluations"
        self.estimates_path = path / "estimates"
        self.report_path = path / "report.html"
        self.checkpoints = Checkpoints(path)
        self._lock_path = path / ".lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from training in this directory for the length of the block, and makes it.

        The lock goes with the process, however that ends. Its file stays.

        Raises:
            RunError: another process trains here, or the directory cannot be written.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                if os.name == "posix":
                    import fcntl

                    # By process: the workers that a killed run leaves behind for a moment don't hold it.
                    fcntl.lockf(stack.enter_context(self._lock_path.open("wb")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.EACCES, errno.EAGAIN} and error.filename is None:
                    raise RunError(
                        f"another process is training in {self.path}; wait for its end, or choose another directory"
                    ) from error
                # Some network file systems know no locks; a run there goes without.
                if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
                    raise self._unwritable(error.filename or self._lock_path, error) from error
            yield

    def create(self, config: RunConfig) -> None:
        """Makes the directory and saves the config; one that never came to its first step is replaced.

        Raises:
            RunError: it already holds a run, or cannot be written.
        """
        if self.checkpoints.are_there():
            remedy = "continue it with --resume"
        elif self.log_path.exists():
            remedy = "it came to no checkpoint: delete it and begin again"
        else:
            self._write_config(self.config_path, config)
            for parent_path in (self.parent_config_path, self.parent_model_path):
                parent_path.unlink(missing_ok=True)
            return
        raise RunError(f"{self.path} already holds a run; {remedy}, or choose another directory")

    def load_config(self) -> RunConfig:
        """Raises RunError when there is no run here, or its config is damaged."""
        if not self.config_path.exists():
            raise RunError(
                f"{self.path} holds no run ({self.config_path.name} is missing); name the directory that was given as "
                "--run to: python -m training train"
            )
        return self._read_config(self.config_path)

    def save_parent(self, parent: Parent) -> None:
        """Notes what this run started from."""
        if isinstance(parent, ParentFile):
            self._write(self.parent_model_path, parent.model_dump_json(indent=2))
        else:
            self._write_config(self.parent_config_path, parent)

    def load_parent(self) -> Parent | None:
        """What this run started from, or None. Raises RunError when the note is damaged."""
        if self.parent_model_path.exists():
            try:
                return ParentFile.model_validate_json(self.parent_model_path.read_bytes())
            except (OSError, ValidationError) as error:
                raise _damaged(self.parent_model_path, error) from error
        return self._read_config(self.parent_config_path) if self.parent_config_path.exists() else None

    def _write_config(self, path: Path, config: RunConfig) -> None:
        self._write(path, config.to_json())

    def _write(self, path: Path, text: str) -> None:
        try:
            write_whole(path, f"{text}\n".encode())
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _unwritable(self, path: str | Path, error: OSError) -> RunError:
        return RunError(f"{path} cannot be written: {error.strerror}; free space there, or choose another directory")

    def _read_config(self, path: Path) -> RunConfig:
        try:
            return RunConfig.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} is damaged, or of another version: {error}; restore it from a copy")
