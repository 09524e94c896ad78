"""Which of a pack's images noise is read from, and their samples as it wants them: not clipped, channel by channel."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import PackedImage
from training.data.pack import Pack
from training.errors import DataError
from training.noise.blocks import Blocks, repeat_blocks, single_blocks

T = TypeVar("T")

# 64 megapixels tell as much as a thousand.
_MOST_PIXELS: Final = 64_000_000


class Planes:
    """A pack's images channel by channel, not clipped at black or white."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        levels = pack.manifest.levels
        self._black, self._range = levels.black, levels.white - levels.black
        is_float = levels.sample_type == "f32"
        lowest = levels.black if is_float else 0.0
        self.limits = ((lowest - self._black) / self._range, 1.0)

    def single(self, image: PackedImage) -> list[Blocks]:
        """The blocks of each channel."""
        low, high = self.limits
        return [single_blocks(plane, lowest=low, highest=high) for plane in self._units(image)]

    def repeat(self, one: PackedImage, other: PackedImage) -> list[Blocks]:
        """The blocks of each channel of two frames of one scene."""
        low, high = self.limits
        planes = zip(self._units(one), self._units(other), strict=True)
        return [repeat_blocks(*pair, lowest=low, highest=high) for pair in planes]

    def _units(self, image: PackedImage) -> list[NDArray[np.float32]]:
        is_pair = self._pack.manifest.supervision == "pairs"
        samples = self._pack.noisy_samples(image) if is_pair else self._pack.samples(image)
        planes = [samples[:, :, channel] for channel in range(samples.shape[2])]
        if len(planes) == 3 and np.array_equal(planes[0], planes[1]) and np.array_equal(planes[0], planes[2]):
            # A grey picture stored as colour has its noise once.
            planes = planes[:1]
        return [(plane.astype(np.float32) - np.float32(self._black)) / np.float32(self._range) for plane in planes]


def repeated_pairs(images: Sequence[PackedImage]) -> list[tuple[PackedImage, PackedImage]]:
    """Frames of one scene, two by two; each is used once, so that pairs tell independent things."""
    stacks: dict[str, list[PackedImage]] = {}
    for image in images:
        stacks.setdefault(image.file.rpartition("#")[0], []).append(image)
    singles = stacks.pop("", [])
    scenes = list(stacks.values()) or [singles]
    pairs = [pair for scene in scenes for pair in zip(scene[::2], scene[1::2], strict=False)]
    if not pairs:
        raise DataError(f"there are {len(images)} images; repeats of a still scene are two or more")
    for one, other in pairs:
        if (one.height_px, one.width_px) != (other.height_px, other.width_px):
            raise DataError(
                f"{one.file} and {other.file} differ in size; repeats of a still scene have one. Leave out --repeats "
                "if they show different things"
            )
    return pairs


def pixels_of(image: PackedImage) -> int:
    return image.height_px * image.width_px


def evenly_chosen(items: Sequence[T], pixels: Callable[[T], int]) -> Sequence[T]:
    """All of them, or every so many of very many."""
    return items[:: max(1, round(sum(pixels(item) for item in items) / _MOST_PIXELS))]
