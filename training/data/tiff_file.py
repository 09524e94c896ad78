"""TIFF, BigTIFF, OME-TIFF and ImageJ stacks through tifffile, plane by plane.

A plane is what makes one image: a page, or within a page each slice of a volume and each sample of a multi-channel
microscope image. Colour is what the file calls colour; pyramid levels, thumbnails and masks are left out.
"""

import logging
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile
from numpy.typing import NDArray

from training.data.image_file import ImageFile, decoding
from training.data.samples import Picture, check_size, narrowed
from training.errors import DataError

_REDUCED_OR_MASK: Final = 1 | 4
# Slices times channels of one page; damaged headers claim billions.
_MOST_PARTS: Final = 1 << 16
_JPEG_COMPRESSIONS: Final = frozenset({6, 7, 33007, 34892})
_COLOURS: Final = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
_GREYS: Final = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)


class _Complaints(logging.Handler):
    """Collects what tifffile logs in place of raising: a chain of pages that breaks off, for one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._own = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        getattr(self._own, "messages", []).append(record.getMessage())

    def start(self) -> list[str]:
        """Messages that this thread causes from now on go into the list that it gets."""
        messages: list[str] = []
        self._own.messages = messages
        return messages


_COMPLAINTS: Final = _Complaints()
tifffile.logger().addHandler(_COMPLAINTS)
tifffile.logger().propagate = False


class TiffStack(ImageFile):
    """One TIFF file of any number of planes."""

    def __init__(self, path: Path) -> None:
        """Reads the chain of pages.

        Raises:
            DataError: no page holds an image.
        """
        self.path = path
        self._lock = threading.RLock()
        complaints = _COMPLAINTS.start()
        # A set of OME-TIFF files names its sisters; each of them is found on its own.
        self._tiff = tifffile.TiffFile(path, _multifile=False)
        self._tiff.pages.useframes = False
        try:
            # (page, plane within the page) of every plane, or none where the stack has no pages of its own.
            self._places = self._find_places()
            self._volume = self._find_volume()
        except BaseException:
            self._tiff.close()
            raise
        self.plane_count = len(self._places) if self._volume is None else len(self._volume)
        if complaints:
            self.defect = f"damaged after page {len(self._tiff.pages)} ({complaints[0]}); copy it again"
        if self.plane_count == 0:
            self.close()
            raise DataError(f"cannot be decoded: no page holds an image; {self.defect or 'delete it'}")

    def decoded_bytes(self, plane: int) -> int:
        with self._lock:
            if self._volume is not None:
                return int(self._volume[plane].nbytes)
            return int(self._page(self._places[plane][0]).nbytes)

    def close(self) -> None:
        self._volume = None
        self._tiff.close()

    def read(self, plane: int) -> Picture:
        with decoding(), self._lock:
            if self._volume is not None:
                page, values = self._page(0), np.array(self._volume[plane])
                notes: tuple[str, ...] = ()
            else:
                page_index, part = self._places[plane]
                page = self._page(page_index)
                values, notes = _decoded(page, part, self._tiff.filehandle.size)
            samples, more_notes = narrowed(values)
            inverted, inversion_notes = _inverted(samples, page)
        return Picture(inverted, (*notes, *more_notes, *inversion_notes))

    def _page(self, index: int) -> tifffile.TiffPage:
        page = self._tiff.pages[index]
        assert isinstance(page, tifffile.TiffPage)
        return page

    def _find_places(self) -> list[tuple[int, int]]:
        places = []
        for index in range(len(self._tiff.pages)):
            page = self._page(index)
            if int(page.subfiletype) & _REDUCED_OR_MASK or page.size == 0:
                continue
            places += [(index, part) for part in range(_part_count(page))]
        return places

    def _find_volume(self) -> NDArray[Any] | None:
        """(planes, H, W, C) mapped, for a stack that has one page although its samples go on behind it.

        ImageJ writes stacks beyond 4 GB like this.
        """
        if len(self._tiff.pages) != 1 or not (self._tiff.is_imagej or self._tiff.is_shaped):
            return None
        series, page = self._tiff.series[0], self._page(0)
        if series.dataoffset is None or series.size <= page.size or page.axes not in {"YX", "YXS"}:
            return None
        dtype = page.dtype
        assert dtype is not None
        check_size(page.imagelength, page.imagewidth)
        shape = (-1, page.imagelength, page.imagewidth, page.samplesperpixel)
        mapped = np.memmap(
            self.path,
            dtype=dtype.newbyteorder(self._tiff.byteorder),
            mode="r",
            offset=series.dataoffset,
            shape=(series.size,),
        )
        return mapped.reshape(shape)


def _is_colour(page: tifffile.TiffPage) -> bool:
    return page.photometric in _COLOURS and page.samplesperpixel >= 3


def _part_count(page: tifffile.TiffPage) -> int:
    """Planes within a page: the slices of a volume, times its channels unless they are colours."""
    count = int(page.imagedepth)
    if page.photometric in _GREYS:
        count *= int(page.samplesperpixel)
    # Reading the one part of what claims more fails with the reason.
    return count if count <= _MOST_PARTS else 1


def _decoded(page: tifffile.TiffPage, part: int, file_bytes: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """(H, W, C) of one plane of a page, still in the file's own type."""
    check_size(page.imagelength, page.imagewidth * page.imagedepth)
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise DataError(
            "CMYK inks have no one colour without their profile; convert the file to RGB with a colour-managed program"
        )
    is_palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
    is_subsampled = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in _JPEG_COMPRESSIONS
    if not (is_palette or page.photometric in (*_COLOURS, *_GREYS)) or is_subsampled:
        name = getattr(page.photometric, "name", page.photometric)
        raise DataError(f"samples are {name}, which has no plain reading as grey or RGB; convert the file")
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if ends and max(ends) > file_bytes:
        raise DataError(f"cannot be decoded: truncated, {file_bytes} of {max(ends)} bytes are there; copy it again")
    # Axes are some of S (planar samples), Z, Y, X and S; all five are put in place, then one plane is picked.
    values = page.asarray(squeeze=False, maxworkers=1)
    planar, slices, height_px, width_px, contiguous = values.shape
    values = np.moveaxis(values, 0, -1).reshape(slices, height_px, width_px, planar * contiguous)
    if is_palette:
        assert page.colormap is not None
        colours = (np.moveaxis(page.colormap, 0, -1) >> 8).astype(np.uint8)
        return colours[values[part, :, :, 0]], ("palette converted",)
    if _is_colour(page):
        return values[part, :, :, :3], ("alpha dropped",) if values.shape[3] > 3 else ()
    slice_index, channel = divmod(part, values.shape[3])
    return values[slice_index, :, :, channel : channel + 1], ()


def _inverted(samples: Any, page: tifffile.TiffPage) -> tuple[Any, tuple[str, ...]]:
    """Samples with black at the low end."""
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return samples, ()
    if samples.dtype.kind == "f":
        raise DataError("float samples with white at zero have no known black; invert the file")
    # Bilevel images were widened to 8 bits.
    white = 255 if page.bitspersample == 1 else (1 << int(page.bitspersample)) - 1
    return samples.dtype.type(white) - samples, ("white was zero; inverted",)
