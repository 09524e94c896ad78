"""Where a model's files lie, and how they get there: all at once, or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from training.errors import ExportError

CARD_FILE: Final = "README.md"
INT8_CARD_FILE: Final = "README.int8.md"


def is_version(text: str) -> bool:
    """Whether it is a whole number from 1, written in one way only, so that no two directories are one version."""
    return text.isascii() and text.isdecimal() and not text.startswith("0")


def target_of(store: Path, name: str, version: str | None) -> Path:
    """``<store>/<name>/<version>``, which does not exist yet and can be made; None takes the one after the newest.

    Raises:
        ExportError: the version is no whole number from 1, or exists; or the store cannot be written.
    """
    try:
        existing = [int(path.name) for path in (store / name).glob("*") if path.name.isdecimal()]
        version = str(max(existing, default=0) + 1) if version is None else version
        if not is_version(version):
            raise ExportError(f"version is {version!r}; it must be a whole number from 1")
        target = store / name / version
        if target.exists():
            raise ExportError(f"{target} exists; versions are never overwritten: choose another, or leave it out")
        nearest = next(folder for folder in target.parents if folder.exists())
        Path(tempfile.mkdtemp(dir=nearest, prefix=".")).rmdir()
    except OSError as error:
        raise ExportError(
            f"cannot write to {store / name}: {error.strerror}; make room for it, or name another store with --to"
        ) from error
    return target


def publish(target: Path, files: Mapping[str, bytes], *, check: Callable[[Path], None]) -> None:
    """Writes the files beside the target, checks them there and renames: nobody ever sees half a model.

    Of several processes that publish one target, the first to end does.

    Args:
        target: directory that is made.
        files: contents by name.
        check: given the directory that was written; when it raises, nothing is left.

    Raises:
        ExportError: the store can't be written, or another process was faster; or what ``check`` raises.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=target.parent, prefix="."))
        try:
            # Inside, because the directory itself is for its owner's eyes alone.
            partial = own / target.name
            partial.mkdir()
            for name, content in files.items():
                (partial / name).write_bytes(content)
            check(partial)
            _rename(partial, target)
        finally:
            shutil.rmtree(own, ignore_errors=True)
            # Goes only where it is empty, as after a failure of the model's first version.
            with suppress(OSError):
                target.parent.rmdir()
    except OSError as error:
        raise ExportError(f"cannot write to {target.parent}: {error.strerror}; nothing was published") from error


def require_addable(folder: Path, names: Collection[str]) -> None:
    """Raises ExportError when a published version has such a file already, or cannot be written."""
    existing = [name for name in names if (folder / name).exists()]
    if existing:
        raise ExportError(
            f"{folder / existing[0]} exists, and nothing published is overwritten; remove it, or export a new version"
        )
    try:
        Path(tempfile.mkdtemp(dir=folder, prefix=".")).rmdir()
    except OSError as error:
        raise ExportError(f"cannot write to {folder}: {error.strerror}; copy the version to where you can") from error


def add(folder: Path, files: Mapping[str, bytes], *, check: Callable[[Path], None]) -> None:
    """Puts files into a published version, each whole and in this order, after all of them passed the check.

    Args:
        folder: the version's.
        files: contents by name.
        check: given a directory with these files alone; when it raises, nothing is added.

    Raises:
        ExportError: one of them is there already, or the folder can't be written; or what ``check`` raises.
    """
    require_addable(folder, files)
    try:
        own = Path(tempfile.mkdtemp(dir=folder, prefix="."))
        try:
            for name, content in files.items():
                (own / name).write_bytes(content)
            check(own)
            for name in files:
                (own / name).rename(folder / name)
        finally:
            shutil.rmtree(own, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"cannot write to {folder}: {error.strerror}; nothing was published") from error


def _rename(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError as error:
        if not target.exists():
            raise
        raise ExportError(
            f"{target} was published by another process meanwhile; versions are never overwritten: choose another "
            "version, or leave it out"
        ) from error
