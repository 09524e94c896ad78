"""What a pack holds, as data."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackedImage:
    """One image inside the pack: ``height_px * width_px * channels`` bytes from ``offset_bytes`` on."""

    file: str
    sha256: str
    height_px: int
    width_px: int
    offset_bytes: int
    held_out: bool


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a pack holds. The digest covers the order, the names and the contents of the source files."""

    version: int
    channels: int
    images: tuple[PackedImage, ...]
    quarantined: tuple[Quarantined, ...]

    @property
    def digest(self) -> str:
        text = "\n".join(f"{image.sha256} {image.held_out} {image.file}" for image in self.images)
        return hashlib.sha256(text.encode()).hexdigest()
