"""TIFF, BigTIFF, OME-TIFF and ImageJ stacks through tifffile, plane by plane.

A plane is what makes one image: a page, or within a page each slice of a volume and each sample of a multi-channel
microscope image. Colour is what the file calls colour; alpha, pyramid levels, thumbnails and masks are left out.
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
_ALPHAS: Final = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
# An RGBA image counts once in the limit of the pixels, as it does in any other format.
_SAMPLES_COUNTED_ONCE: Final = 4


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
            # (page, its samples) of the last page of several planes: decoded all at once, they are asked for in turn.
            self._decoded: tuple[int, NDArray[Any]] | None = None
        except BaseException:
            self._tiff.close()
            raise
        slice_count = 0 if self._volume is None else len(self._volume)
        self.plane_count = len(self._places) if self._volume is None else slice_count * _part_count(self._page(0))
        if complaints:
            self.defect = f"damaged after page {len(self._tiff.pages)} ({complaints[0]}); copy it again"
        if self.plane_count == 0:
            self.close()
            raise DataError(f"cannot be decoded: no page holds an image; {self.defect or 'delete it'}")

    def decoded_bytes(self, plane: int) -> int:
        with self._lock:
            if self._volume is not None:
                return int(self._volume[plane // _part_count(self._page(0))].nbytes)
            return int(self._page(self._places[plane][0]).nbytes)

    def close(self) -> None:
        self._volume = self._decoded = None
        self._tiff.close()

    def read(self, plane: int) -> Picture:
        with decoding(), self._lock:
            if self._volume is not None:
                page = self._page(0)
                slice_index, part = divmod(plane, _part_count(page))
                # A copy: what is mapped must not be read after the file was closed.
                values = np.array(self._volume[slice_index : slice_index + 1])
            else:
                page_index, part = self._places[plane]
                page = self._page(page_index)
                values = self._decoded_page(page_index)
            chosen, notes = _plane_of(values, page, part)
            samples, more_notes = narrowed(chosen, _bits(page))
            inverted, inversion_notes = _inverted(samples, page)
        return Picture(inverted, (*notes, *more_notes, *inversion_notes))

    def _decoded_page(self, index: int) -> NDArray[Any]:
        if self._decoded is not None and self._decoded[0] == index:
            return self._decoded[1]
        page = self._page(index)
        values = _decoded(page, self._tiff.filehandle.size)
        self._decoded = (index, values) if _part_count(page) > 1 else None
        return values

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
        """(slices, H, W, samples) mapped, for a stack that has one page although its samples go on behind it.

        ImageJ writes stacks beyond 4 GB like this.
        """
        if len(self._tiff.pages) != 1 or not (self._tiff.is_imagej or self._tiff.is_shaped):
            return None
        series, page = self._tiff.series[0], self._page(0)
        if series.dataoffset is None or series.size <= page.size or page.axes not in {"YX", "YXS"}:
            return None
        dtype = page.dtype
        assert dtype is not None
        _check_page_size(page)
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


def _bits(page: tifffile.TiffPage) -> int:
    """Of a sample; where they differ, as in 5-6-5 colour, tifffile scales them to whole bytes itself."""
    bits: Any = page.bitspersample
    return 8 if isinstance(bits, tuple) else int(bits)


def _channels(page: tifffile.TiffPage) -> list[int]:
    """Which samples of a grey page are images; the extra ones are the last, and alpha shows nothing."""
    first_extra = page.samplesperpixel - len(page.extrasamples)
    return [
        channel
        for channel in range(page.samplesperpixel)
        if channel == 0 or channel < first_extra or page.extrasamples[channel - first_extra] not in _ALPHAS
    ]


def _part_count(page: tifffile.TiffPage) -> int:
    """Planes within a page: the slices of a volume, times its channels unless they are colours."""
    count = int(page.imagedepth)
    if page.photometric in _GREYS and page.samplesperpixel <= _MOST_PARTS:
        count *= len(_channels(page))
    # Reading the one part of what claims more fails with the reason.
    return count if count <= _MOST_PARTS else 1


def _check_page_size(page: tifffile.TiffPage) -> None:
    """All slices and channels of a page are decoded at once."""
    times = page.imagedepth * max(1, page.samplesperpixel // _SAMPLES_COUNTED_ONCE)
    try:
        check_size(page.imagelength, page.imagewidth * times)
    except DataError as error:
        if times == 1:
            raise
        raise DataError(
            f"a page of {page.imagewidth} x {page.imagelength}, {page.imagedepth} slices and {page.samplesperpixel} "
            f"samples a pixel is read as one image: {error}"
        ) from error


def _decoded(page: tifffile.TiffPage, file_bytes: int) -> NDArray[Any]:
    """(slices, H, W, samples) of a page, still in the file's own type."""
    _check_page_size(page)
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise DataError(
            "CMYK inks have no one colour without their profile; convert the file to RGB with a colour-managed program"
        )
    is_subsampled = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in _JPEG_COMPRESSIONS
    if page.photometric not in (*_COLOURS, *_GREYS, tifffile.PHOTOMETRIC.PALETTE) or is_subsampled:
        name = getattr(page.photometric, "name", page.photometric)
        raise DataError(f"samples are {name}, which has no plain reading as grey or RGB; convert the file")
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if ends and max(ends) > file_bytes:
        raise DataError(f"cannot be decoded: truncated, {file_bytes} of {max(ends)} bytes are there; copy it again")
    # Axes are some of S (planar samples), Z, Y, X and S; all five are put in place.
    values = page.asarray(squeeze=False, maxworkers=1)
    planar, slices, height_px, width_px, contiguous = values.shape
    return np.moveaxis(values, 0, -1).reshape(slices, height_px, width_px, planar * contiguous)


def _plane_of(values: NDArray[Any], page: tifffile.TiffPage, part: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """(H, W, C) of one part of a page's (slices, H, W, samples)."""
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        assert page.colormap is not None
        colours = (np.moveaxis(page.colormap, 0, -1) >> 8).astype(np.uint8)
        return colours[values[part, :, :, 0]], ("palette converted",)
    if _is_colour(page):
        return values[part, :, :, :3], ("alpha dropped",) if values.shape[3] > 3 else ()
    channels = _channels(page)
    slice_index, index = divmod(part, len(channels))
    channel = channels[index]
    notes = ("alpha dropped",) if len(channels) < values.shape[3] else ()
    return values[slice_index, :, :, channel : channel + 1], notes


def _inverted(samples: Any, page: tifffile.TiffPage) -> tuple[Any, tuple[str, ...]]:
    """Samples with black at the low end."""
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return samples, ()
    if samples.dtype.kind == "f":
        raise DataError("float samples with white at zero have no known black; invert the file")
    # Fewer bits than eight were widened to as many.
    white = (1 << max(8, _bits(page))) - 1
    return samples.dtype.type(white) - samples, ("white was zero; inverted",)
