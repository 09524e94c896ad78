"""Packed images, memory-mapped."""

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import Manifest, PackedImage, Quarantined
from training.errors import DataError

PIXELS_FILE: Final = "pixels.u8"
MANIFEST_FILE: Final = "manifest.json"
MANIFEST_VERSION: Final = 1


class Pack:
    """Packed images, memory-mapped: what is not looked at needs no memory."""

    def __init__(self, folder: Path) -> None:
        """Opens what :func:`prepare` wrote.

        Raises:
            DataError: no manifest, another version, or a pixel file of another length.
        """
        try:
            self.manifest = _read_manifest(folder / MANIFEST_FILE)
            self._pixels = np.memmap(folder / PIXELS_FILE, dtype=np.uint8, mode="r")
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise DataError(
                f"{folder} holds no packed images ({error}); make it with: python -m training prepare"
            ) from error
        expected_bytes = sum(i.height_px * i.width_px for i in self.manifest.images) * self.manifest.channels
        if self._pixels.size != expected_bytes:
            raise DataError(
                f"{folder / PIXELS_FILE} has {self._pixels.size} bytes, not {expected_bytes}; prepare it again"
            )

    def pixels(self, image: PackedImage) -> NDArray[np.uint8]:
        """(H, W, C) uint8, a view of the mapped file."""
        shape = (image.height_px, image.width_px, self.manifest.channels)
        size = image.height_px * image.width_px * self.manifest.channels
        return self._pixels[image.offset_bytes : image.offset_bytes + size].reshape(shape)

    def training_images(self) -> tuple[PackedImage, ...]:
        return tuple(image for image in self.manifest.images if not image.held_out)

    def held_out_images(self) -> tuple[PackedImage, ...]:
        return tuple(image for image in self.manifest.images if image.held_out)


def _read_manifest(path: Path) -> Manifest:
    tree = json.loads(path.read_text(encoding="utf-8"))
    if tree["version"] != MANIFEST_VERSION:
        raise ValueError(f"manifest version {tree['version']}, not {MANIFEST_VERSION}")
    return Manifest(
        tree["version"],
        tree["channels"],
        tuple(PackedImage(**image) for image in tree["images"]),
        tuple(Quarantined(**entry) for entry in tree["quarantined"]),
    )
