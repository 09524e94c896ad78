"""Packed images, memory-mapped: what is not looked at needs no memory.

A pack is a folder with a manifest and one file of samples in their own type, image after image; for pairs a second
file with the noisy partners at the same places.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from denoised.contract import SampleType
from training.data.levels import to_unit
from training.data.manifest import Manifest, PackedImage
from training.data.samples import DTYPES, Samples
from training.errors import DataError

MANIFEST_FILE: Final = "manifest.json"

_ALL: Final = slice(None)


def samples_file(kind: SampleType, *, noisy: bool = False) -> str:
    """Name of a pack's file of samples."""
    return f"{'noisy' if noisy else 'samples'}.{kind}"


@dataclass(frozen=True, slots=True)
class _Identity:
    """Tells a file from the one that another preparation puts in its place."""

    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Pack:
    """Packed images. May be sent to other processes: each maps the files for itself, when it first reads."""

    def __init__(self, folder: Path) -> None:
        """Opens what :func:`training.data.prepare.prepare` wrote.

        Raises:
            DataError: no manifest, another version, or a file of another length.
        """
        self._folder = folder
        self._maps: dict[str, NDArray[Any]] = {}
        try:
            self.manifest = Manifest.from_json((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            self._found = {path.name: _Identity.of(path.stat()) for path in self._sample_paths()}
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder} holds no packed images ({error}); make it with: python -m training prepare"
            ) from error
        dtype = DTYPES[self.manifest.levels.sample_type]
        last = max(self.manifest.images, key=lambda image: image.offset_count)
        expected_bytes = (last.offset_count + self._count(last)) * dtype.itemsize
        for name, found in self._found.items():
            if found.size_bytes != expected_bytes:
                raise DataError(f"{folder / name} has {found.size_bytes} bytes, not {expected_bytes}; prepare it again")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def training_images(self) -> tuple[PackedImage, ...]:
        return tuple(image for image in self.manifest.images if not image.held_out)

    def held_out_images(self) -> tuple[PackedImage, ...]:
        return tuple(image for image in self.manifest.images if image.held_out)

    def samples(self, image: PackedImage) -> Samples:
        """(H, W, C) in the pack's own type, a view of the mapped file."""
        return self._view(image, noisy=False)

    def noisy_samples(self, image: PackedImage) -> Samples:
        """The noisy partner of :meth:`samples`; of pairs alone."""
        assert self.manifest.supervision == "pairs"
        return self._view(image, noisy=True)

    def unit(self, image: PackedImage, rows: slice = _ALL, columns: slice = _ALL) -> NDArray[np.float32]:
        """(h, w, C) float32 of a window, black at 0 and white at 1, clipped there."""
        return to_unit(self.samples(image)[rows, columns], self.manifest.levels)

    def noisy_unit(self, image: PackedImage, rows: slice = _ALL, columns: slice = _ALL) -> NDArray[np.float32]:
        """The noisy partner of :meth:`unit`; of pairs alone."""
        return to_unit(self.noisy_samples(image)[rows, columns], self.manifest.levels)

    def verify(self, on_image: Callable[[PackedImage], None] = lambda _: None) -> None:
        """Reads every sample and compares digests, so that one changed byte is noticed.

        Raises:
            DataError: an image that is not what was packed.
        """
        for image in self.manifest.images:
            views = [(self.samples(image), image.samples_sha256)]
            if self.manifest.supervision == "pairs":
                views.append((self.noisy_samples(image), image.noisy_samples_sha256))
            for samples, expected in views:
                if samples_sha256(samples) != expected:
                    raise DataError(
                        f"the samples of {image.file} in {self._folder} have changed since they were packed; prepare "
                        "the pack again"
                    )
            on_image(image)

    def _sample_paths(self) -> list[Path]:
        kind = self.manifest.levels.sample_type
        kinds = (False, True) if self.manifest.supervision == "pairs" else (False,)
        return [self._folder / samples_file(kind, noisy=noisy) for noisy in kinds]

    def _count(self, image: PackedImage) -> int:
        return image.height_px * image.width_px * self.manifest.channels

    def _view(self, image: PackedImage, *, noisy: bool) -> Samples:
        name = samples_file(self.manifest.levels.sample_type, noisy=noisy)
        if name not in self._maps:
            mapped = self._mapped(name)
            # A plain array over the same memory: slices of a memmap cost ten times as much.
            self._maps[name] = np.asarray(mapped).view(np.ndarray)
        flat = self._maps[name][image.offset_count : image.offset_count + self._count(image)]
        return flat.reshape(image.height_px, image.width_px, self.manifest.channels)

    def _mapped(self, name: str) -> NDArray[Any]:
        """The file that was there when the pack was opened: the manifest says nothing about another one."""
        path = self._folder / name
        try:
            with path.open("rb") as file:
                is_same = _Identity.of(os.fstat(file.fileno())) == self._found[name]
                if is_same:
                    return np.memmap(file, dtype=DTYPES[self.manifest.levels.sample_type], mode="r")
        except OSError as error:
            raise DataError(f"{path} cannot be read any more ({error}); prepare it again") from error
        raise DataError(f"{path} was replaced after the pack was opened; open the pack again")


def samples_sha256(samples: Samples) -> str:
    """Digest of samples as they lie in the pack's file."""
    return hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()
