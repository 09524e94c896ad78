"""Checkpoints that survive a kill at any moment, and notice one changed byte.

A file is a line of text, the SHA-256 of the rest in hexadecimal, and what ``torch.save`` made. Three names: the newest,
the one before it, and the best. What is in them beyond bytes is the business of ``training.run.loop``.
"""

import hashlib
import io
import os
import shutil
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from denoised._strict import read_dataclass
from denoised.contract import SampleLevels
from training.config import RunConfig
from training.errors import CheckpointError

_MAGIC: Final = b"denoised checkpoint 2\n"
_HEADER_BYTES: Final = len(_MAGIC) + 64 + 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a run continues from.

    Attributes:
        step: optimisation steps done.
        config: the run's whole configuration, as JSON.
        pack_digest: of the images that it was trained on.
        network: the raw weights.
        average: the averaged weights.
        average_update_count: how often they were updated.
        optimiser: its state.
        progress: see ``training.run.stopping.Progress``.
        machine: what bits depend on beside the config (threads, ranks, device, torch); to warn when it changes.
        levels: black and white of the images that it was trained on.
    """

    step: int
    config: str
    pack_digest: str
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    average_update_count: int
    optimiser: dict[str, Any]
    progress: dict[str, Any]
    machine: dict[str, Any]
    levels: SampleLevels

    def run_config(self) -> RunConfig:
        """The configuration, typed.

        Raises:
            CheckpointError: it is of another version.
        """
        try:
            return RunConfig.from_json(self.config)
        except ValueError as error:
            raise CheckpointError(
                f"the checkpoint of step {self.step} is of another version of this program: {error}; go on with that"
            ) from error


class Checkpoints:
    """The checkpoint files of one run directory."""

    def __init__(self, folder: Path) -> None:
        self.newest_path = folder / "checkpoint.ckpt"
        self.previous_path = folder / "checkpoint.previous.ckpt"
        self.best_path = folder / "best.ckpt"
        self._newest_is_damaged = False
        # Of the checkpoint that was last saved or loaded.
        self._current_path = self.newest_path

    def are_there(self) -> bool:
        """Whether any file is, whole or not."""
        return any(path.exists() for path in (self.newest_path, self.previous_path, self.best_path))

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes beside, syncs, then swaps: there is a whole checkpoint on the disk at every moment.

        Raises:
            CheckpointError: it could not be written, for want of space mostly; the earlier ones are untouched.
        """
        partial = self.newest_path.with_suffix(".partial")
        buffer = io.BytesIO()
        tree = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
        torch.save(tree | {"levels": asdict(checkpoint.levels)}, buffer)
        payload = buffer.getbuffer()
        try:
            with partial.open("wb") as file:
                file.write(_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            # A damaged newest file must not take the place of the whole one before it.
            if self.newest_path.exists() and not self._newest_is_damaged:
                self.newest_path.replace(self.previous_path)
            partial.replace(self.newest_path)
            _sync_folder(self.newest_path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} ({len(payload) / 1e6:.1f} MB) cannot be written to "
                f"{self.newest_path.parent}: {error.strerror or error}; earlier checkpoints are intact. Free space "
                "there, then continue with --resume"
            ) from error
        self._newest_is_damaged = False
        self._current_path = self.newest_path

    def mark_best(self) -> None:
        """The checkpoint last saved or loaded is the best one: a second name of its file, where the disk knows such.

        Raises:
            CheckpointError: the name cannot be written.
        """
        if self._current_path == self.best_path:
            return
        partial = self.best_path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        try:
            try:
                os.link(self._current_path, partial)
            except OSError:
                shutil.copyfile(self._current_path, partial)
            partial.replace(self.best_path)
            # Renaming one name of a file to another of the same file does nothing.
            partial.unlink(missing_ok=True)
            _sync_folder(self.best_path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CheckpointError(
                f"{self.best_path} cannot be written: {error.strerror or error}; {self._current_path.name} is intact. "
                "Free space there, then continue with --resume"
            ) from error

    def load(self) -> Checkpoint:
        """The newest whole checkpoint; falls back to the previous one, then to the best one, with a warning.

        Raises:
            CheckpointError: there is none, or none can be read.
        """
        problems = []
        for path in (self.newest_path, self.previous_path, self.best_path):
            try:
                checkpoint = read_checkpoint(path)
            except (OSError, ValueError) as error:
                problems.append(f"{path.name} {_as_text(error)}")
                continue
            if len(problems) > 1 or (problems and self.newest_path.exists()):
                self._newest_is_damaged = True
                warnings.warn(
                    f"{self.newest_path.parent}: {'; '.join(problems)}; going on from {path.name}, of step "
                    f"{checkpoint.step}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._current_path = path
            return checkpoint
        raise CheckpointError(
            f"{self.newest_path.parent} has no usable checkpoint: {'; '.join(problems)}; restore one from a copy, or "
            "begin a new run"
        )

    def load_best(self) -> Checkpoint | None:
        """The best checkpoint; None when none was marked.

        Raises:
            CheckpointError: there is one, and it is damaged.
        """
        try:
            return read_checkpoint(self.best_path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.best_path} {_as_text(error)}; restore it from a copy") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """One file, checked.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no checkpoint, or not one byte for byte as it was written.
    """
    content = path.read_bytes()
    header, payload = content[:_HEADER_BYTES], memoryview(content)[_HEADER_BYTES:]
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise ValueError("is no checkpoint of this version")
    if hashlib.sha256(payload).hexdigest().encode() + b"\n" != header[len(_MAGIC) :]:
        raise ValueError("is damaged (its bytes do not match its SHA-256)")
    try:
        tree = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return Checkpoint(**tree | {"levels": read_dataclass(SampleLevels, tree["levels"], where="levels")})
    except Exception as error:
        # The unpickler answers with any of several types where a file was written by something else.
        raise ValueError(f"holds no checkpoint ({type(error).__name__}: {str(error).splitlines()[0]})") from error


def _as_text(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _sync_folder(folder: Path) -> None:
    """Makes a rename itself durable; systems that cannot open a folder do that on their own."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
