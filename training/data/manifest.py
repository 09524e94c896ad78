"""What a pack holds, as data: written by ``prepare``, read by everything that trains or exports."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

from denoised._strict import read_dataclass
from denoised.contract import SampleLevels

VERSION: Final = 2

Supervision = Literal["clean", "pairs", "noisy"]


@dataclass(frozen=True, slots=True)
class PackedImage:
    """One image inside the pack: ``height_px * width_px * channels`` samples from ``offset_count`` on.

    Attributes:
        file: relative to the folder that was prepared; ``name#plane`` for a plane of a stack.
        sha256: of the source file.
        samples_sha256: of the samples as packed.
        noisy_samples_sha256: of the noisy partner's samples in the file beside it; empty without pairs.
        group: what it must not be separated from by the split: a folder, a specimen or a file.
        notes: what had to be done to the file to read it.
    """

    file: str
    sha256: str
    samples_sha256: str
    noisy_samples_sha256: str
    height_px: int
    width_px: int
    offset_count: int
    group: str
    held_out: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file, or a plane of one, that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """A test image that the pack holds as well, whole or in part.

    Attributes:
        test_file: relative to the test folder.
        file: the packed image.
        how: in words: a copy, a crop, how large.
    """

    test_file: str
    file: str
    how: str


@dataclass(frozen=True, slots=True)
class ComparedSet:
    """A folder of test images that the pack was compared with. Overlaps are here only where they were allowed."""

    folder: str
    image_count: int
    overlaps: tuple[Overlap, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a pack holds.

    Attributes:
        supervision: ``clean`` images, ``pairs`` with noisy partners, or ``noisy`` images without clean truth.
        levels: black and white of the whole set.
        levels_reason: where they come from.
        split_rule: how the held-out images were chosen.
    """

    version: int
    supervision: Supervision
    channels: int
    levels: SampleLevels
    levels_reason: str
    split_rule: str
    images: tuple[PackedImage, ...]
    quarantined: tuple[Quarantined, ...]
    test_sets: tuple[ComparedSet, ...]

    @property
    def digest(self) -> str:
        """Covers everything: the samples by their digests, their order and names, levels, split and findings."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def to_json(self) -> str:
        """Ends with the digest, so that an edited manifest is noticed."""
        return json.dumps(asdict(self) | {"digest": self.digest}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: no JSON, another version, missing or unknown keys, or it was changed by hand.
        """
        tree = json.loads(text)
        version = tree.get("version") if isinstance(tree, dict) else None
        if version != VERSION:
            raise ValueError(f"manifest version {version}, not {VERSION}")
        digest = tree.pop("digest", None)
        manifest = read_dataclass(cls, tree, where="the manifest")
        if manifest.digest != digest:
            raise ValueError("the manifest was changed after it was written")
        return manifest

    def _text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
