"""Decodes many files in order, a few at a time: threads decode while the caller packs, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from training.data.files import as_text, check_side, file_sha256, find_images, is_utf8, name_in, open_image
from training.data.image_file import ImageFile
from training.data.manifest import Quarantined
from training.data.pack import samples_sha256
from training.data.samples import DTYPES, Samples, in_channels, sample_type
from training.errors import DataError

# Decoded images that wait to be packed; a single one may be larger.
_BUDGET_BYTES: Final = 256 << 20
_MOST_WAITING: Final = 16
_AMBIGUOUS: Final = "several files called {} could be partners; give each pair one name, suffixes included"


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or a clean one and its noisy partner.

    Attributes:
        name: relative to the folder that is prepared.
        paths: (image,) or (clean image, noisy image).
    """

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image, or one pair, ready to be packed.

    Attributes:
        name: of the image; with ``#plane`` in a stack.
        sha256: of the (clean) source file.
        samples: (H, W, C) of the image, and of its noisy partner, in one type.
        digests: of the samples.
        notes: what had to be done to the file.
    """

    name: str
    sha256: str
    samples: tuple[Samples, ...]
    digests: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is due next: an image, or the end of its source."""

    due: "Future[Decoded | Quarantined] | Quarantined | Source"
    size_bytes: int = 0
    files: ExitStack | None = None


def image_sources(folder: Path) -> tuple[list[Source], list[Quarantined]]:
    """Every image file below a folder; and those with names that can't be written down.

    Raises:
        DataError: there is none.
    """
    names, left_over = _named(folder, "")
    return [Source(name.as_posix(), (path,)) for name, path in names.items()], left_over


def pair_sources(clean_folder: Path, noisy_folder: Path) -> tuple[list[Source], list[Quarantined]]:
    """Clean files with the noisy ones of the same relative name, or else of the same but for the suffix.

    Files without a partner, or with several that it could be, are left over.

    Raises:
        DataError: a folder has no images, or one lies in the other.
    """
    clean_root, noisy_root = clean_folder.resolve(), noisy_folder.resolve()
    if clean_root.is_relative_to(noisy_root) or noisy_root.is_relative_to(clean_root):
        raise DataError(
            f"{clean_folder} and {noisy_folder} lie in one another; give clean and noisy images folders of their own"
        )
    prefix = f"{as_text(noisy_folder.name)}/"
    clean, left_over = _named(clean_folder, "")
    noisy, noisy_left_over = _named(noisy_folder, prefix)
    # Whole names come first, so that no file takes another one's partner by its stem.
    partners = {name: name for name in clean if name in noisy}
    clean_stems = _by_stem(name for name in clean if name not in partners)
    noisy_stems = _by_stem(name for name in noisy if name not in partners)
    partners |= {
        names[0]: noisy_stems[stem][0]
        for stem, names in clean_stems.items()
        if len(names) == len(noisy_stems.get(stem, ())) == 1
    }
    left_over += _unpaired(clean_stems, noisy_stems, "", f"no noisy image of this name in {as_text(str(noisy_folder))}")
    left_over += noisy_left_over
    left_over += _unpaired(
        noisy_stems, clean_stems, prefix, f"no clean image of this name in {as_text(str(clean_folder))}"
    )
    sources = [
        Source(name.as_posix(), (path, noisy[partners[name]])) for name, path in clean.items() if name in partners
    ]
    return sources, left_over


def _named(folder: Path, prefix: str) -> tuple[dict[Path, Path], list[Quarantined]]:
    """Paths of a folder's images by their relative names; and what has a name that a manifest can't hold."""
    names: dict[Path, Path] = {}
    left_over = []
    for path in find_images(folder):
        name = path.relative_to(folder)
        if is_utf8(name):
            names[name] = path
        else:
            left_over.append(
                Quarantined(prefix + name_in(folder, path), "the name is no UTF-8; rename the file or its folder")
            )
    return names, left_over


def _by_stem(names: Iterable[Path]) -> dict[Path, list[Path]]:
    stems: dict[Path, list[Path]] = {}
    for name in names:
        stems.setdefault(name.with_suffix(""), []).append(name)
    return stems


def _unpaired(
    stems: dict[Path, list[Path]], others: dict[Path, list[Path]], prefix: str, alone: str
) -> Iterator[Quarantined]:
    """Files of one folder that have no partner in the other one, or share a stem with files that could all be it."""
    for stem, names in stems.items():
        if len(names) == len(others.get(stem, ())) == 1:
            continue
        reason = _AMBIGUOUS.format(stem) if stem in others else alone
        yield from (Quarantined(prefix + name.as_posix(), reason) for name in names)


def decoded(
    sources: Sequence[Source], *, channels: int, min_side_px: int, on_source: Callable[[Source], None]
) -> Iterator[Decoded | Quarantined]:
    """Every image of every source in order, or why it was left out; ``on_source`` is called after each source."""
    waiting: deque[_Entry] = deque()
    waiting_bytes = 0
    with ExitStack() as opened, ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode") as pool:
        # Entered later, left earlier: nothing is decoded any more when the files are closed.
        opened.callback(_close, waiting)

        def emptied(until_bytes: int, until_count: int) -> Iterator[Decoded | Quarantined]:
            nonlocal waiting_bytes
            while waiting and (waiting_bytes > until_bytes or len(waiting) > until_count):
                entry = waiting.popleft()
                waiting_bytes -= entry.size_bytes
                if entry.files is not None:
                    entry.files.close()
                if isinstance(entry.due, Source):
                    on_source(entry.due)
                else:
                    yield entry.due.result() if isinstance(entry.due, Future) else entry.due

        for source in sources:
            with ExitStack() as stack:
                try:
                    files = [stack.enter_context(open_image(path)) for path in source.paths]
                    _check_planes(files)
                except DataError as error:
                    waiting.append(_Entry(Quarantined(source.name, str(error))))
                else:
                    waiting += [_Entry(Quarantined(source.name, file.defect)) for file in files if file.defect]
                    sha256 = pool.submit(file_sha256, source.paths[0])
                    for plane in range(files[0].plane_count):
                        size_bytes = sum(file.decoded_bytes(plane) for file in files)
                        yield from emptied(_BUDGET_BYTES - size_bytes, _MOST_WAITING)
                        name = files[0].plane_name(source.name, plane)
                        due = pool.submit(_decode, files, plane, name, sha256, channels, min_side_px)
                        waiting.append(_Entry(due, size_bytes))
                        waiting_bytes += size_bytes
                waiting.append(_Entry(source, files=stack.pop_all()))
            yield from emptied(_BUDGET_BYTES, _MOST_WAITING)
        yield from emptied(-1, 0)


def needed_bytes(sources: Sequence[Source]) -> int:
    """Roughly what all images take when packed, from their headers."""
    total = 0
    for source in sources:
        for path in source.paths:
            try:
                with open_image(path) as file:
                    total += sum(file.decoded_bytes(plane) for plane in range(file.plane_count))
            except DataError:
                continue
    return total


def _close(entries: Iterable[_Entry]) -> None:
    for entry in entries:
        if entry.files is not None:
            entry.files.close()


def _check_planes(files: Sequence[ImageFile]) -> None:
    counts = {file.plane_count for file in files}
    if len(counts) > 1:
        raise DataError(
            f"the clean file has {files[0].plane_count} planes, the noisy one {files[1].plane_count}; both need as many"
        )


def _check_partners(samples: Sequence[Samples]) -> None:
    described = [f"{part.shape[1]} x {part.shape[0]} {sample_type(part)}" for part in samples]
    if len(set(described)) > 1:
        raise DataError(f"the clean image is {described[0]}, the noisy one {described[1]}; sizes and types must agree")


def _decode(
    files: Sequence[ImageFile], plane: int, name: str, sha256: "Future[str]", channels: int, min_side_px: int
) -> Decoded | Quarantined:
    try:
        pictures = [file.read(plane) for file in files]
        ready = []
        for picture in pictures:
            check_side(picture.samples, min_side_px)
            samples = in_channels(picture.samples, channels)
            ready.append(np.ascontiguousarray(samples, dtype=DTYPES[sample_type(samples)]))
        _check_partners(ready)
        # Submitted before this, so it is under way at least: waiting for it can't block the pool.
        digest = sha256.result()
    except (DataError, OSError) as error:
        return Quarantined(name, str(error))
    notes = tuple(dict.fromkeys(note for picture in pictures for note in picture.notes))
    return Decoded(name, digest, tuple(ready), tuple(map(samples_sha256, ready)), notes)
