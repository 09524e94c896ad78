"""The images that a network is measured on: a folder of files, or the held-out part of a pack, one at a time.

Values are in 0..1 by the levels of the images that the network was made for. A network with a code takes one size;
from larger images it gets the middle. Nothing is resized: that would change the noise.
"""

import hashlib
from collections.abc import Iterator
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
_MOST_NAMED: Final = 20


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

    def digest(self) -> bytes:
        """SHA-256 of its name, size and pixels."""
        found = hashlib.sha256(f"{self.file}\0{self.clean.shape}".encode())
        for image in (self.clean, self.noisy):
            if image is not None:
                found.update(np.ascontiguousarray(image).data)
        return found.digest()


class ImageSet(Protocol):
    """Images in a fixed order."""

    @property
    def name(self) -> str: ...

    @property
    def has_pairs(self) -> bool: ...

    @property
    def left_out(self) -> tuple[str, ...]:
        """Those that can't be read, as far as they were tried, each with its reason."""
        ...

    def __len__(self) -> int:
        """How many there are, unreadable ones with them."""
        ...

    def __iter__(self) -> Iterator[Subject]: ...


class Folder:
    """All images below a folder, every plane of a stack, and their noisy forms below another folder.

    What can't be read is left out: a long measurement does not end at one damaged file among thousands. The others
    keep their places, and with them their noise.
    """

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
            DataError: no images, none that can be read, or some lack their noisy form.
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
        self._unreadable: dict[tuple[Path, int], str] = {}
        self._planes = [(path, plane) for path in paths for plane in range(self._plane_count(path))]
        self._require_readable()

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(self._unreadable[place] for place in sorted(self._unreadable))

    def __len__(self) -> int:
        return len(self._planes)

    def __iter__(self) -> Iterator[Subject]:
        for index, (path, plane) in enumerate(self._planes):
            relative = path.relative_to(self._folder)
            if (path, plane) in self._unreadable:
                continue
            try:
                name, clean, steps = self._read(path, plane)
                noisy = None if self._noisy_folder is None else self._read(self._noisy_folder / relative, plane)[1]
            except DataError as error:
                self._unreadable[path, plane] = f"{relative.as_posix()}: {error}"
                continue
            if noisy is not None and noisy.shape != clean.shape:
                raise DataError(f"{relative}: clean is {_size(clean)}, noisy is {_size(noisy)}; a pair has one size")
            yield _subject(name, index, clean, noisy, relative.parent.name, steps, self._side_px)
        self._require_readable()

    def _plane_count(self, path: Path) -> int:
        """Planes of a file; one that can't be read keeps the place of one."""
        try:
            with open_image(path) as file:
                return file.plane_count
        except DataError as error:
            self._unreadable[path, 0] = f"{path.relative_to(self._folder).as_posix()}: {error}"
            return 1

    def _require_readable(self) -> None:
        if len(self._unreadable) == len(self._planes):
            raise DataError(
                f"none of the {len(self._planes)} images in {self._folder} can be read, such as {self.left_out[0]}"
            )

    def _read(self, path: Path, plane: int) -> tuple[str, Image, float | None]:
        """(name, values in 0..1, sample values between black and white)."""
        with open_image(path) as file:
            samples = in_channels(file.read(plane).samples, self._channels)
            root = self._folder if path.is_relative_to(self._folder) else self._noisy_folder
            assert root is not None
            name = file.plane_name(path.relative_to(root).as_posix(), plane)
        levels = self._levels if sample_type(samples) == self._levels.sample_type else _whole_range(samples)
        return name, to_unit(samples, levels), _grid_steps(levels)


class HeldOut:
    """The images of a pack that training never sees."""

    left_out = ()

    def __init__(self, pack: Pack, *, side_px: int | None = None, name: str | None = None) -> None:
        """Raises DataError when nothing is held out."""
        self.name = name or _HELD_OUT
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


def left_out_notes(images: ImageSet) -> tuple[str, ...]:
    """What a report says of images that were not measured; of very many, the first."""
    if not images.left_out:
        return ()
    named = "; ".join(images.left_out[:_MOST_NAMED])
    more = len(images.left_out) - _MOST_NAMED
    rest = f"; and {more} more" if more > 0 else ""
    return (f"{len(images.left_out)} of {len(images)} images can't be read and were left out: {named}{rest}",)


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


def _size(image: Image) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
