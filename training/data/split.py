"""Which images are held out of training: whole groups, so that nothing of a specimen is on both sides.

The choice depends on the groups' names alone, not on the order of files, and hardly changes when images are added.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from training.errors import DataError

# One image in this many is kept out of training, for the figures that a run reports while it goes.
_HELD_OUT_EVERY: Final = 20
# A group that would hold out more than this share is passed over while there are others.
_LARGEST_SHARE: Final = 0.2
_FEWEST_IMAGES: Final = 5


@dataclass(frozen=True, slots=True)
class Split:
    """Per image: its group and whether it is held out; and the rule in words."""

    groups: tuple[str, ...]
    held_out: tuple[bool, ...]
    rule: str


def split(names: Sequence[str], contents: Sequence[str], *, group_by: str | None = None) -> Split:
    """Divides images into training and held-out ones.

    Groups are folders. Where all images lie in one folder they are files, so that the planes of a stack stay
    together. Images with equal contents never part either.

    Args:
        names: of the images, with their folders; ``#plane`` at the end for planes of a stack.
        contents: a digest of each image's samples.
        group_by: a regular expression that is searched in each name; the group is what it captures, or else what it
            matches.

    Raises:
        DataError: the expression is none, or doesn't match all names.
    """
    if group_by is not None:
        keys, kind = _matched(names, group_by), f"groups by the expression {group_by}"
    else:
        keys, kind = [_folder(name) for name in names], "folders"
        if len(set(keys)) == 1:
            keys, kind = [_file(name) for name in names], "files"
    groups = _merged(keys, contents)
    sizes = Counter(groups)
    if len(sizes) < 2 or (kind == "files" and len(names) < _FEWEST_IMAGES):
        remedy = "add images" if len(sizes) > 1 else "add files or folders, or name the specimens with --group-by"
        return Split(
            tuple(groups),
            (False,) * len(names),
            f"nothing held out of {len(names)} images in {len(sizes)} {kind}; {remedy}",
        )
    chosen = _chosen(sizes)
    held_out = tuple(group in chosen for group in groups)
    return Split(
        tuple(groups),
        held_out,
        f"{sum(held_out)} of {len(names)} images held out: {len(chosen)} of {len(sizes)} {kind}",
    )


def _chosen(sizes: Counter[str]) -> set[str]:
    """Groups in the order of their names' digests until one image in twenty is held out."""
    total = sizes.total()
    wanted = max(1, total // _HELD_OUT_EVERY)
    chosen: set[str] = set()
    held_out_count = 0
    for group in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if held_out_count >= wanted:
            break
        if held_out_count + sizes[group] <= _LARGEST_SHARE * total:
            chosen.add(group)
            held_out_count += sizes[group]
    # All groups are large: the smallest one, so that there is something to measure on.
    return chosen or {min(sizes, key=lambda name: (sizes[name], name))}


def _merged(keys: Sequence[str], contents: Sequence[str]) -> list[str]:
    """Keys in which groups that share an image's content are one: the first of their names."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while (upper := leader.get(key, key)) != key:
            key = upper
        return key

    by_content: defaultdict[str, set[str]] = defaultdict(set)
    for key, content in zip(keys, contents, strict=True):
        by_content[content].add(key)
    for sharing in by_content.values():
        first, *others = sorted(find(key) for key in sharing)
        leader.update((other, first) for other in others if other != first)
    return [find(key) for key in keys]


def _matched(names: Sequence[str], group_by: str) -> list[str]:
    try:
        expression = re.compile(group_by)
    except re.error as error:
        raise DataError(f"--group-by {group_by!r} is no regular expression: {error}") from error
    matches = [expression.search(name) for name in names]
    missed = [name for name, match in zip(names, matches, strict=True) if match is None]
    if missed:
        raise DataError(
            f"--group-by {group_by!r} matches nothing in {len(missed)} of {len(names)} names, such as {missed[0]}; "
            "extend the expression so that every image belongs to a group"
        )
    return ["/".join(part or "" for part in match.groups()) or match.group() for match in matches if match]


def _file(name: str) -> str:
    stem, mark, plane = name.rpartition("#")
    return stem if mark and plane.isdigit() else name


def _folder(name: str) -> str:
    return PurePosixPath(_file(name)).parent.as_posix()
