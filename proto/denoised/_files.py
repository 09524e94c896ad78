"""Which files the command line reads and writes, and how it writes them: whole or not at all."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

CONTAINER_OF_SUFFIX: Final[dict[str, Literal["png", "jpeg"]]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}


@dataclass(frozen=True, slots=True)
class Job:
    """One image to read and where its answer goes."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """What a folder asks for; every file in it is in one of the two."""

    jobs: tuple[Job, ...]
    skipped_count: int


def refuse_overlap(source: Path, target: Path) -> None:
    """Checks that writing ``target`` can't touch what is being read.

    Raises:
        ValueError: the target is the source, or lies inside of it.
    """
    real_source, real_target = source.resolve(), target.resolve()
    if real_source == real_target:
        raise ValueError(f"output {target} is the input itself: name another place, originals are never overwritten")
    if real_source in real_target.parents:
        raise ValueError(f"output {target} lies inside the input {source}: name a place outside of it")


def plan_folder(source: Path, target: Path, *, skip_existing: bool) -> FolderPlan:
    """All PNG and JPEG files below ``source``, in order, with the same places below ``target``.

    Other files count as skipped, and so do those whose output is there when ``skip_existing`` is set.
    """
    jobs: list[Job] = []
    skipped_count = 0
    for folder, subfolders, names in os.walk(source):
        subfolders.sort()
        for name in sorted(names):
            job = Job(Path(folder) / name, target / Path(folder).relative_to(source) / name)
            is_image = job.source.suffix.lower() in CONTAINER_OF_SUFFIX
            if not is_image or (skip_existing and job.target.exists()):
                skipped_count += 1
            else:
                jobs.append(job)
    return FolderPlan(tuple(jobs), skipped_count)


def write_whole(target: Path, data: bytes) -> None:
    """Writes a file that is never seen half-written; folders on the way to it are made.

    Raises:
        OSError: it can't be written, and names the target; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the target's own folder, because a rename is atomic only within one file system.
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        # A disk that is full names no file.
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
