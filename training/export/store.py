"""Where a model's files lie, and how they get there: all at once, or not at all."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from training.errors import ExportError


def target_of(store: Path, name: str, version: str | None) -> Path:
    """``<store>/<name>/<version>``, which does not exist yet; None takes the version after the newest.

    Raises:
        ExportError: the version is no whole number, or exists.
    """
    existing = [int(path.name) for path in (store / name).glob("*") if path.name.isdecimal()]
    version = str(max(existing, default=0) + 1) if version is None else version
    if not (version.isascii() and version.isdecimal()):
        raise ExportError(f"version is {version!r}; it must be a whole number")
    target = store / name / version
    if target.exists():
        raise ExportError(f"{target} exists; versions are never overwritten: choose another, or leave it out")
    return target


def publish(target: Path, files: Mapping[str, bytes], *, check: Callable[[Path], None]) -> None:
    """Writes the files beside the target, checks them there and renames: nobody ever sees half a model.

    Args:
        target: directory that is made.
        files: contents by name.
        check: given the directory that was written; when it raises, nothing is left.

    Raises:
        ExportError: the store can't be written; or what ``check`` raises.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for name, content in files.items():
                (partial / name).write_bytes(content)
            check(partial)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            _remove_when_empty(target.parent)
            raise
    except OSError as error:
        raise ExportError(f"cannot write to {target.parent}: {error.strerror}; nothing was published") from error


def _remove_when_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
