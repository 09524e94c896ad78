"""Image folders to packed pixels, and packed pixels to training samples.

``prepare`` reads every file once, before step 0, and writes one memory-mappable file of 8-bit pixels with a
manifest; whatever can't be read is listed, never silently replaced. Samples are a pure function of
(seed, epoch, index).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from denoised.noise import NoiseSpec, keyed_rng
from training.errors import DataError
from training.synthetic import draw_picture

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})
PIXELS_FILE: Final = "pixels.u8"
MANIFEST_FILE: Final = "manifest.json"
_MANIFEST_VERSION: Final = 1
# One image in this many is kept out of training, for the figures that a run reports while it goes.
_HELD_OUT_EVERY: Final = 20
# ITU-R BT.601 luma, the weights that JPEG uses.
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)


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


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by path.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder} holds no images; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def read_image(path: Path, *, channels: int, min_side_px: int = 1) -> NDArray[np.uint8]:
    """(H, W, channels) uint8.

    Raises:
        DataError: the file can't be decoded, has more than 8 bits a sample, or a side shorter than ``min_side_px``.
    """
    try:
        with PillowImage.open(path) as image:
            if min(image.size) < min_side_px:
                raise DataError(f"{image.width} x {image.height}; at least {min_side_px} pixels a side are needed")
            # A 16-bit colour PNG opens as 8-bit "RGB"; only the decoder's raw mode tells.
            if image.mode.startswith(("I", "F")) or any(";16" in str(tile.args) for tile in image.tile):
                raise DataError(f"{image.mode} samples have more than 8 bits; convert the file to 8 bits")
            return np.atleast_3d(np.asarray(image.convert("RGB" if channels == 3 else "L")))
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}") from error


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
    manifest = Manifest(_MANIFEST_VERSION, channels, tuple(images), tuple(quarantined))
    partial = target / (MANIFEST_FILE + ".partial")
    partial.write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
    partial.replace(target / MANIFEST_FILE)
    return manifest


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
    if tree["version"] != _MANIFEST_VERSION:
        raise ValueError(f"manifest version {tree['version']}, not {_MANIFEST_VERSION}")
    return Manifest(
        tree["version"],
        tree["channels"],
        tuple(PackedImage(**image) for image in tree["images"]),
        tuple(Quarantined(**entry) for entry in tree["quarantined"]),
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Training samples.

    Attributes:
        noisy, clean: (N, C, h, w) float32 in 0..1.
        sigma: (N,) float32, each sample's noise level in 0..1 units (8-bit levels / 255).
    """

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    sigma: NDArray[np.float32]


class CropSampler:
    """Draws noisy/clean crops; each is a pure function of (seed, epoch, index)."""

    def __init__(
        self,
        pack: Pack,
        noise: NoiseSpec,
        *,
        seed: int,
        crop_px: int,
        samples_per_epoch: int,
        synthetic_share: float = 0.0,
    ) -> None:
        """``synthetic_share`` of the samples are generated pictures in place of crops."""
        self._pack = pack
        self._synthetic_share = synthetic_share
        self._noise = noise
        self._seed = seed
        self._crop_px = crop_px
        self._samples_per_epoch = samples_per_epoch
        self._images = [i for i in pack.training_images() if min(i.height_px, i.width_px) >= crop_px]
        if not self._images:
            raise DataError(f"no training image has {crop_px} pixels on each side; use smaller crops or larger images")
        areas = np.array([image.height_px * image.width_px for image in self._images], dtype=np.float64)
        self._probabilities = areas / areas.sum()

    def sample(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """(noisy, clean, sigma) of sample ``number`` of the whole run: two (h, w, C) crops, sigma in 8-bit levels."""
        epoch, index = divmod(number, self._samples_per_epoch)
        rng = keyed_rng(self._seed, epoch, index)
        if rng.random() < self._synthetic_share:
            clean = draw_picture(rng, side_px=self._crop_px, channels=self._pack.manifest.channels)
        else:
            clean = self._draw_crop(rng)
        grey = rng.random() < self._noise.grey_share
        if grey and clean.shape[2] == 3:
            luma = np.rint(clean @ _LUMA * 255.0) / np.float32(255.0)
            clean = np.repeat(luma[:, :, None], 3, axis=2)
        sigma = self._noise.draw_sigma(rng)
        return self._noise.apply(clean, sigma=sigma, rng=rng, same_in_all_channels=grey), clean, sigma

    def _draw_crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A place in a photograph, flipped and turned at random; photographs count by their area."""
        image = self._images[rng.choice(len(self._images), p=self._probabilities)]
        top = int(rng.integers(image.height_px - self._crop_px + 1))
        left = int(rng.integers(image.width_px - self._crop_px + 1))
        crop = self._pack.pixels(image)[top : top + self._crop_px, left : left + self._crop_px]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        crop = np.rot90(crop, int(rng.integers(4)))
        return crop.astype(np.float32) / np.float32(255.0)

    def batch(self, step: int, batch_size: int) -> Batch:
        """The samples of one optimisation step."""
        samples = [self.sample(step * batch_size + slot) for slot in range(batch_size)]
        return Batch(
            noisy=np.stack([noisy for noisy, _, _ in samples]).transpose(0, 3, 1, 2),
            clean=np.stack([clean for _, clean, _ in samples]).transpose(0, 3, 1, 2),
            sigma=np.array([sigma / 255.0 for _, _, sigma in samples], dtype=np.float32),
        )

    def batches(self, start: int, stop: int, batch_size: int, *, ahead: int = 4) -> Iterator[Batch]:
        """Batches of steps ``start`` to ``stop``, made ahead of time by one thread."""
        with ThreadPoolExecutor(1, thread_name_prefix="samples") as executor:
            pending = [executor.submit(self.batch, step, batch_size) for step in range(start, min(start + ahead, stop))]
            for step in range(start, stop):
                batch = pending.pop(0).result()
                if step + ahead < stop:
                    pending.append(executor.submit(self.batch, step + ahead, batch_size))
                yield batch
