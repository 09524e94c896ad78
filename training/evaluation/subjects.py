"""The images that a network is measured on: a folder of files, or the held-out part of a pack, one at a time.

Values are in 0..1 by the levels of the images that the network was made for. A network with a code takes one size;
from larger images it gets the middle. Nothing is resized: that would change the noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from denoised.contract import SampleLevels
from denoised.noise import Image
from training.data.files import find_images, open_image
from training.data.levels import to_unit
from training.data.pack import Pack
from training.data.samples import Samples, in_channels, sample_type
from training.errors import DataError

_HELD_OUT: Final = "held-out"


@dataclass(frozen=True, slots=True)
class Subject:
    """One image.

    Attributes:
        file: its name in the set.
        index: its place in sorted order, the key of its noise.
        clean: (H, W, C) in 0..1; of a set without clean truth, the image as it is.
        noisy: its recorded noisy form, where the set has pairs.
        label: name of the folder that it lies in, or "" at the top.
        grid_steps: sample values between black and white, or None for floats: what answers are rounded to.
    """

    file: str
    index: int
    clean: Image
    noisy: Image | None
    label: str
    grid_steps: float | None

    def delivered(self, image: Image) -> Image:
        """An image as a user would get it: clipped, and rounded to the samples of this one."""
        clipped = np.clip(image, 0.0, 1.0)
        if self.grid_steps is None:
            return clipped
        steps = np.float32(self.grid_steps)
        rounded: Image = np.rint(clipped * steps) / steps
        return rounded


class ImageSet(Protocol):
    """Images in a fixed order."""

    @property
    def name(self) -> str: ...

    @property
    def has_pairs(self) -> bool: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Subject]: ...


class Folder:
    """All images below a folder, every plane of a stack, and their noisy forms below another folder."""

    def __init__(
        self,
        folder: Path,
        *,
        channels: int,
        levels: SampleLevels,
        side_px: int | None = None,
        noisy_folder: Path | None = None,
        name: str | None = None,
    ) -> None:
        """Finds the files and reads their headers.

        Args:
            folder: of clean images, or of noisy ones where there are no clean ones.
            channels: of the network.
            levels: of the images that it was made for; samples of another type have the whole range of theirs.
            side_px: the only side that it takes, or None.
            noisy_folder: holds a noisy image of the same relative path for each.
            name: of the set; the folder's own when left out.

        Raises:
            DataError: no images, one can't be read, or some lack their noisy form.
        """
        self.name = name or folder.resolve().name or "images"
        self.has_pairs = noisy_folder is not None
        self._folder, self._noisy_folder = folder, noisy_folder
        self._channels, self._levels, self._side_px = channels, levels, side_px
        paths = find_images(folder)
        if noisy_folder is not None:
            missing = [path for path in paths if not (noisy_folder / path.relative_to(folder)).is_file()]
            if missing:
                raise DataError(
                    f"{len(missing)} of {len(paths)} images in {folder} have no noisy form in {noisy_folder}, "
                    f"such as {missing[0].relative_to(folder)}; both folders need the same names"
                )
        self._planes = [(path, plane) for path in paths for plane in range(self._plane_count(path))]

    def __len__(self) -> int:
        return len(self._planes)

    def __iter__(self) -> Iterator[Subject]:
        for index, (path, plane) in enumerate(self._planes):
            relative = path.relative_to(self._folder)
            name, clean, steps = self._read(path, plane)
            noisy = None if self._noisy_folder is None else self._read(self._noisy_folder / relative, plane)[1]
            if noisy is not None and noisy.shape != clean.shape:
                raise DataError(f"{relative}: clean is {_size(clean)}, noisy is {_size(noisy)}; a pair has one size")
            yield _subject(name, index, clean, noisy, relative.parent.name, steps, self._side_px)

    def _plane_count(self, path: Path) -> int:
        with _naming(path), open_image(path) as file:
            return file.plane_count

    def _read(self, path: Path, plane: int) -> tuple[str, Image, float | None]:
        """(name, values in 0..1, sample values between black and white)."""
        with _naming(path), open_image(path) as file:
            samples = in_channels(file.read(plane).samples, self._channels)
            root = self._folder if path.is_relative_to(self._folder) else self._noisy_folder
            assert root is not None
            name = file.plane_name(path.relative_to(root).as_posix(), plane)
        levels = self._levels if sample_type(samples) == self._levels.sample_type else _whole_range(samples)
        return name, to_unit(samples, levels), _grid_steps(levels)


class HeldOut:
    """The images of a pack that training never sees."""

    name = _HELD_OUT

    def __init__(self, pack: Pack, *, side_px: int | None = None) -> None:
        """Raises DataError when nothing is held out."""
        self.has_pairs = pack.manifest.supervision == "pairs"
        self._pack, self._side_px = pack, side_px
        self._images = pack.held_out_images()
        if not self._images:
            raise DataError("the pack holds no image out of training; prepare it with more images, or name a folder")

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Subject]:
        for index, image in enumerate(self._images):
            clean = self._pack.unit(image)
            noisy = self._pack.noisy_unit(image) if self.has_pairs else None
            label, steps = Path(image.file).parent.name, _grid_steps(self._pack.manifest.levels)
            yield _subject(image.file, index, clean, noisy, label, steps, self._side_px)


def _subject(
    file: str, index: int, clean: Image, noisy: Image | None, label: str, steps: float | None, side_px: int | None
) -> Subject:
    if side_px is not None:
        if min(clean.shape[:2]) < side_px:
            raise DataError(
                f"{file} is {_size(clean)}; the network takes {side_px} x {side_px} pixels: leave out smaller images"
            )
        top, left = ((side - side_px) // 2 for side in clean.shape[:2])
        window = slice(top, top + side_px), slice(left, left + side_px)
        clean, noisy = clean[window], None if noisy is None else noisy[window]
    return Subject(file, index, clean, noisy, label, steps)


def _whole_range(samples: Samples) -> SampleLevels:
    kind = sample_type(samples)
    return SampleLevels(kind, 0.0, {"u8": 255.0, "u16": 65535.0, "f32": 1.0}[kind])


def _grid_steps(levels: SampleLevels) -> float | None:
    return None if levels.sample_type == "f32" else levels.white - levels.black


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of a file name it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}; mend it or take it out of the folder") from error


def _size(image: Image) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
