"""Image folders to packed pixels.

``prepare`` reads every file once, before step 0, and writes one memory-mappable file of 8-bit pixels with a
manifest; whatever can't be read is listed, never silently replaced.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from training.data.files import find_images, read_image
from training.data.manifest import Manifest, PackedImage, Quarantined
from training.data.pack import MANIFEST_FILE, MANIFEST_VERSION, PIXELS_FILE
from training.errors import DataError

# One image in this many is kept out of training, for the figures that a run reports while it goes.
_HELD_OUT_EVERY: Final = 20


def prepare(
    folder: Path,
    target: Path,
    *,
    channels: int,
    min_side_px: int,
    on_file: Callable[[Path], None] = lambda _: None,
) -> Manifest:
    """Audits and packs all images below ``folder`` into ``target``.

    Args:
        folder: searched recursively.
        target: made when missing; the manifest is written last, so a broken-off run leaves no valid pack.
        channels: 1 or 3.
        min_side_px: smaller images are quarantined.
        on_file: called after each file, for progress.

    Raises:
        DataError: no usable image.
    """
    paths = find_images(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / MANIFEST_FILE).unlink(missing_ok=True)
    images: list[PackedImage] = []
    quarantined: list[Quarantined] = []
    offset_bytes = 0
    with (target / PIXELS_FILE).open("wb") as pack:
        for path in paths:
            name = path.relative_to(folder).as_posix()
            try:
                pixels = read_image(path, channels=channels, min_side_px=min_side_px)
            except DataError as error:
                quarantined.append(Quarantined(name, str(error)))
            else:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                held_out = len(images) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
                images.append(PackedImage(name, digest, pixels.shape[0], pixels.shape[1], offset_bytes, held_out))
                pack.write(pixels.tobytes())
                offset_bytes += pixels.size
            on_file(path)
        pack.flush()
        os.fsync(pack.fileno())
    if not images:
        raise DataError(f"none of the {len(paths)} images in {folder} can be used; first: {quarantined[0].reason}")
    manifest = Manifest(MANIFEST_VERSION, channels, tuple(images), tuple(quarantined))
    partial = target / (MANIFEST_FILE + ".partial")
    partial.write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
    partial.replace(target / MANIFEST_FILE)
    return manifest
