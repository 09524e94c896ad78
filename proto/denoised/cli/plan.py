"""What a run of ``denoised clean`` is to do: every input in one of three lists, decided before anything is sent.

Files are to be cleaned, skipped, or refused, such as a second one with the same output. Nothing is opened here, and
nothing is left out: what the lists hold together is what the sum at the end starts with.
"""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from denoised._files import CONTAINER_OF_SUFFIX, Container

OUTPUT_TWICE: Final = "OUTPUT_TWICE"
NOT_LISTED: Final = "NOT_LISTED"
NOT_A_FILE: Final = "NOT_A_FILE"


@dataclass(frozen=True, slots=True)
class Job:
    """One image to read and where its answer goes."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class PassedOver:
    """An input that is not sent, and why: a reason for programs, empty where it was to be skipped, and a line."""

    source: Path
    why: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every input is in one of the three."""

    jobs: tuple[Job, ...]
    skipped: tuple[PassedOver, ...] = ()
    refused: tuple[PassedOver, ...] = ()

    @property
    def input_count(self) -> int:
        return len(self.jobs) + len(self.skipped) + len(self.refused)


@dataclass(frozen=True, slots=True)
class Shard:
    """The ``index``-th part of ``count``, from 0; which part a file is in depends on its place alone."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From ``i/n``.

        Raises:
            ValueError: it is something else, or i is not one of 0..n-1.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(f"{text!r} is no shard; write i/n with i from 0 to n - 1, such as 0/4")
        return cls(int(index), int(count))

    def holds(self, place: Path) -> bool:
        return crc32(place.as_posix().encode()) % self.count == self.index


WHOLE: Final = Shard(0, 1)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file, and its place in the output folder."""

    source: Path
    place: Path


def is_one_file(inputs: Sequence[str]) -> bool:
    """Whether the output may be a file."""
    return len(inputs) == 1 and not Path(inputs[0]).is_dir() and not _is_pattern(inputs[0])


def plan_file(source: Path, target: Path, *, skip_existing: bool) -> Plan:
    """One file to another.

    Raises:
        ValueError: they are the same.
        FileNotFoundError: there is no such file.
    """
    if not source.exists():
        raise FileNotFoundError(f"input {source} does not exist")
    _refuse_overlap(source, target)
    if skip_existing and target.exists():
        return Plan((), (PassedOver(source, f"{target} exists"),))
    return Plan((Job(source, target),))


def plan_folder(
    inputs: Sequence[str],
    target: Path,
    *,
    skip_existing: bool,
    container: Container | None = None,
    shard: Shard = WHOLE,
) -> Plan:
    """All images of the inputs, in order, below ``target``: files by their names, folders and patterns as trees.

    Args:
        inputs: files, folders, and patterns such as ``photos/**/*.png``.
        target: the output folder.
        skip_existing: leave images whose output is there.
        container: of the outputs, which choose their endings; None leaves the names as they are.
        shard: which part of the inputs to look at.

    Raises:
        ValueError: the target is an input or lies inside of one, so that outputs would be read again.
        FileNotFoundError: an input does not exist, or nothing matches it.
    """
    jobs: list[Job] = []
    skipped: list[PassedOver] = []
    refused: list[PassedOver] = []
    taken: dict[Path, Path] = {}
    for found in _find(inputs, target, shard, skipped, refused):
        output = target / found.place
        if container is not None and CONTAINER_OF_SUFFIX[output.suffix.lower()] != container:
            output = output.with_suffix(f".{container}")
        if found.source.resolve() == output.resolve():
            raise ValueError(
                f"output {output} is the input itself: name another place, originals are never overwritten"
            )
        first = taken.setdefault(output, found.source)
        if first is not found.source:
            why = f"its output {output} is that of {first} too; rename one, or give them folders of their own"
            refused.append(PassedOver(found.source, why, OUTPUT_TWICE))
        elif skip_existing and output.exists():
            skipped.append(PassedOver(found.source, f"{output} exists"))
        else:
            jobs.append(Job(found.source, output))
    return Plan(tuple(jobs), tuple(skipped), tuple(refused))


def _find(
    inputs: Sequence[str], target: Path, shard: Shard, skipped: list[PassedOver], refused: list[PassedOver]
) -> Iterator[_Found]:
    """The images of this shard; what else there is goes into the lists."""
    for text in inputs:
        for found in _found_in(text, target, lambda path, why: refused.append(PassedOver(path, why, NOT_LISTED))):
            if not shard.holds(found.place):
                continue
            why = _why_skipped(found.source)
            if why:
                skipped.append(PassedOver(found.source, why))
            elif found.source.exists() and not found.source.is_file():
                refused.append(PassedOver(found.source, "it is neither a file nor a folder", NOT_A_FILE))
            else:
                yield found


def _found_in(text: str, target: Path, note: Callable[[Path, str], None]) -> Iterator[_Found]:
    path = Path(text)
    if path.is_dir():
        _refuse_overlap(path, target)
        yield from _walk(path, note)
    elif path.exists() or path.is_symlink():
        yield _Found(path, Path(path.name))
    elif _is_pattern(text):
        base, pattern = _split(text)
        if "**" in text:
            _refuse_overlap(base, target)
        matches = [match for match in sorted(base.glob(pattern)) if not match.is_dir()]
        if not matches:
            raise FileNotFoundError(f"no file matches {text}")
        for match in matches:
            yield _Found(match, match.relative_to(base))
    else:
        raise FileNotFoundError(f"input {text} does not exist")


def _walk(source: Path, note: Callable[[Path, str], None]) -> Iterator[_Found]:
    def not_listed(error: OSError) -> None:
        note(Path(error.filename), f"{error.filename} can't be listed: {error.strerror or error}")

    for folder, subfolders, names in os.walk(source, onerror=not_listed):
        subfolders.sort()
        links = [name for name in subfolders if (Path(folder) / name).is_symlink()]
        for name in sorted([*names, *links]):
            yield _Found(Path(folder) / name, Path(folder).relative_to(source) / name)


def _why_skipped(path: Path) -> str:
    """Empty for what looks like an image by its name."""
    if path.is_dir():
        return "a link to a folder is not followed"
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in CONTAINER_OF_SUFFIX:
        return f"no {', '.join(CONTAINER_OF_SUFFIX)}"
    return ""


def _refuse_overlap(source: Path, target: Path) -> None:
    """Checks that writing ``target`` can't touch what is being read."""
    real_source, real_target = source.resolve(), target.resolve()
    if real_source == real_target:
        raise ValueError(f"output {target} is the input itself: name another place, originals are never overwritten")
    if real_source in real_target.parents:
        raise ValueError(f"output {target} lies inside the input {source}: name a place outside of it")


def _is_pattern(text: str) -> bool:
    """Names may hold such signs themselves; what exists is no pattern."""
    return glob.has_magic(text) and not Path(text).exists()


def _split(text: str) -> tuple[Path, str]:
    """The folder that all matches lie in, from the parts before the first with a sign, and the pattern below it."""
    parts = Path(text).parts
    plain = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:plain]), str(Path(*parts[plain:]))
