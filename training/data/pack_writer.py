"""Writes a pack's files so that a broken-off preparation leaves neither half a pack nor a spoilt older one."""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Self

import numpy as np

from denoised.contract import SampleType
from training.data.manifest import Manifest
from training.data.pack import MANIFEST_FILE, samples_file
from training.data.samples import DTYPES, Samples, sample_type
from training.errors import DataError

_PARTIAL: Final = ".partial"


class PackWriter:
    """Appends images to one stream per sample type; at the end one type is kept and put in place.

    An older pack in the same folder stays whole until then, and what has it mapped keeps reading it.
    """

    def __init__(self, folder: Path, needed_bytes: Callable[[], int]) -> None:
        """Makes the folder.

        Args:
            folder: of the pack.
            needed_bytes: asked when the disk is full, for the message.
        """
        self._folder = folder
        self._needed_bytes = needed_bytes
        self._streams: dict[str, IO[bytes]] = {}
        self._counts: dict[SampleType, int] = {}
        with self._disk():
            folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Removes whatever was not committed."""
        for name, stream in self._streams.items():
            with suppress(OSError):
                stream.close()
            self._partial(name).unlink(missing_ok=True)
        self._partial(MANIFEST_FILE).unlink(missing_ok=True)

    def append(self, samples: Sequence[Samples]) -> int:
        """Writes an image, or an image and its noisy partner of the same shape and type; answers its offset_count."""
        kind = sample_type(samples[0])
        offset_count = self._counts.get(kind, 0)
        with self._disk():
            for part, noisy in zip(samples, (False, True), strict=False):
                name = samples_file(kind, noisy=noisy)
                if name not in self._streams:
                    self._streams[name] = self._partial(name).open("wb")
                self._streams[name].write(np.ascontiguousarray(part).data)
        self._counts[kind] = offset_count + samples[0].size
        return offset_count

    def view(self, kind: SampleType, offset_count: int, shape: tuple[int, int, int]) -> Samples:
        """What was appended, mapped."""
        name = samples_file(kind)
        with self._disk():
            self._streams[name].flush()
        view: Samples = np.memmap(
            self._partial(name), DTYPES[kind], mode="r", offset=offset_count * DTYPES[kind].itemsize, shape=shape
        )
        return view

    def commit(self, manifest: Manifest) -> None:
        """Puts the samples of the manifest's type in place, then the manifest."""
        kind = manifest.levels.sample_type
        kept = [samples_file(kind, noisy=noisy) for noisy in (False, True)]
        with self._disk():
            for name in [name for name in kept if name in self._streams]:
                self._streams[name].flush()
                os.fsync(self._streams[name].fileno())
                self._streams[name].close()
            text = self._partial(MANIFEST_FILE)
            with text.open("w", encoding="utf-8") as file:
                file.write(manifest.to_json())
                file.flush()
                os.fsync(file.fileno())
            # From here on the old pack is gone; the new one counts once its manifest is there.
            (self._folder / MANIFEST_FILE).unlink(missing_ok=True)
            for name in [name for name in kept if name in self._streams]:
                self._partial(name).replace(self._folder / name)
                del self._streams[name]
            text.replace(self._folder / MANIFEST_FILE)
            for other in DTYPES:
                for noisy in (False, True):
                    name = samples_file(other, noisy=noisy)
                    if other != kind or (noisy and manifest.supervision != "pairs"):
                        (self._folder / name).unlink(missing_ok=True)

    def _partial(self, name: str) -> Path:
        return self._folder / (name + _PARTIAL)

    def _disk(self) -> "_Disk":
        return _Disk(self._folder, self._needed_bytes)


class _Disk:
    """Turns a write that failed into a DataError with the bytes that are missing."""

    def __init__(self, folder: Path, needed_bytes: Callable[[], int]) -> None:
        self._folder = folder
        self._needed_bytes = needed_bytes

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DataError(
                f"no room for the pack in {self._folder}: it needs about {self._needed_bytes():,} bytes; free as many, "
                "or name a folder on another disk with --to"
            ) from error
        raise DataError(f"cannot write the pack to {self._folder}: {error}; name another folder with --to") from error
