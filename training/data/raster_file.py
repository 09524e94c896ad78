"""PNG, JPEG and WebP: opened by Pillow, 16-bit colour PNG decoded by imagecodecs."""

import logging
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.data.image_file import ImageFile, decoding
from training.data.samples import Picture, check_size, narrowed
from training.errors import DataError

_GREY_MODES: Final = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA_MODES: Final = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_USUAL_SUFFIXES: Final = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",)}

# Our own limit is checked before a decoder starts, with a reason and for all formats alike.
PillowImage.MAX_IMAGE_PIXELS = None
# Its debug lines name every chunk of every file.
logging.getLogger("PIL").setLevel(logging.WARNING)


class RasterFile(ImageFile):
    """One image. Of an animation the first frame is read: the others hardly differ from it."""

    def __init__(self, path: Path, format_name: str) -> None:
        """Reads the header.

        Raises:
            DataError: more pixels than MAX_PIXELS.
        """
        self.path = path
        self.plane_count = 1
        self._image = PillowImage.open(path, formats=(format_name,))
        try:
            check_size(self._image.height, self._image.width)
        except DataError:
            self._image.close()
            raise

    def decoded_bytes(self, plane: int) -> int:
        assert plane == 0
        # Four bytes a pixel is what Pillow keeps colour in, six what 16-bit colour takes.
        return self._image.width * self._image.height * (6 if self._is_deep() else 4)

    def close(self) -> None:
        self._image.close()

    def read(self, plane: int) -> Picture:
        assert plane == 0
        with decoding():
            values, notes = self._decoded()
            samples, more_notes = narrowed(values)
        return Picture(samples, (*self._name_notes(), *notes, *more_notes))

    def _is_deep(self) -> bool:
        # A 16-bit colour PNG opens as 8-bit "RGB"; only the decoder's raw mode tells.
        return any(";16" in str(tile.args) for tile in self._image.tile)

    def _name_notes(self) -> tuple[str, ...]:
        assert self._image.format is not None
        if self.path.suffix.lower() in _USUAL_SUFFIXES[self._image.format]:
            return ()
        return (f"is {self._image.format} whatever its name says",)

    def _decoded(self) -> tuple[NDArray[Any], tuple[str, ...]]:
        image = self._image
        mode = image.mode
        notes: list[str] = []
        if getattr(image, "n_frames", 1) > 1:
            notes.append(f"first of {image.n_frames} frames")  # type: ignore[attr-defined]  # animations alone have it
        if mode in {"CMYK", "YCCK"}:
            raise DataError(
                "CMYK inks have no one colour without their profile; convert the file to RGB with a colour-managed "
                "program"
            )
        if self._is_deep():
            deep = _deep_png(self.path, image)
            return deep[:, :, : 3 if deep.shape[2] > 2 else 1], ("alpha dropped",) if deep.shape[2] in {2, 4} else ()
        if mode in _ALPHA_MODES:
            notes.append("alpha dropped")
        if mode in {"P", "PA"}:
            notes.append("palette converted")
            if "transparency" in image.info:
                notes.append("alpha dropped")
        converted = image if mode in {"L", "RGB"} else image.convert("L" if mode in _GREY_MODES else "RGB")
        return np.atleast_3d(np.asarray(converted)), tuple(dict.fromkeys(notes))


def _deep_png(path: Path, image: PillowImage.Image) -> NDArray[Any]:
    """(H, W, C) of a PNG with 16 bits a sample.

    Pillow decodes the whole stream first, and checks every checksum, although it keeps 8 bits of colour: libpng's
    error path in imagecodecs leaks on each damaged file until the process dies, so that none may get there.
    """
    with PillowImage.open(path) as again:
        again.verify()
    image.load()
    return np.atleast_3d(imagecodecs.png_decode(path.read_bytes()))
