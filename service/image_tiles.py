"""Images in tiles, as lanes read and write them: whole ones in memory, and ones of which only some rows are there.

What is learnt on the way (clipped samples, the noise map's mean) is kept for each tile apart, so that lanes need no
lock. Everything is decided per tile, never from the whole image: the same image gives the same pixels however it
arrived.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from service import codec, pixels, tiling
from service.pixels import NonFiniteSamples, Scale
from service.types import Data, ImageHeader, Plane, Samples, Units

Observe = Callable[[tiling.TilePlan, int, Plane, Plane], None]
"""Told of a tile: the image's plan, its number, what the network saw and what it answered, (C, h, w) each."""

_LEVELS_8BIT = 255.0
# Rows of tiles that are worked on, or done and not fetched, at once. Two lanes never wait for each other at row ends
# with three; the fourth is what the client reads meanwhile.
_ROWS_AT_WORK = 4
# Rows of tiles that may have arrived beyond these.
_ROWS_AHEAD = 2


def mean_of_map(sigma_map: Plane) -> float:
    """The mean of a unit's noise map, in the network's 0..1."""
    return float(np.add.reduce(sigma_map, axis=None)) / sigma_map.size


def noise_sigma_levels(mean: float) -> float:
    """In 8-bit levels. On clean images a network's map may come out a little below zero; no noise level is."""
    return max(0.0, mean) * _LEVELS_8BIT


class TiledImage(ABC):
    """An image and the place for its answer. Tiles write disjoint parts of it."""

    def __init__(self, plan: tiling.TilePlan, *, scale: Scale, strength: float) -> None:
        self.plan = plan
        self.scale = scale
        self._strength = strength
        # Puts aside what a report is made of.
        self._observe: Observe | None = None
        self._outside_counts = [0] * plan.tile_count
        self._sigmas: list[float | None] = [None] * plan.tile_count

    def observed_by(self, observe: "Observe | None") -> None:
        """From now on ``observe`` is told of each tile that has run, in the lane's thread."""
        self._observe = observe

    @abstractmethod
    def window(self, index: int) -> Samples:
        """What tile ``index`` sees of the image, (h, w, C); less than the plan's edges at the border."""

    @abstractmethod
    def place(self, index: int) -> Samples:
        """Where tile ``index`` puts the pixels that it owns, (h, w, C)."""

    def read(self, first: int, count: int, out: Units) -> None:
        """See :class:`service.lanes.Tiles`."""
        for index in range(first, first + count):
            self._outside_counts[index] = self._read(index, out[index - first])

    def write(self, first: int, count: int, denoised: Units, noisy: Units, sigma_maps: Units | None) -> None:
        """See :class:`service.lanes.Tiles`."""
        for index in range(first, first + count):
            rows, columns = tiling.kept(self.plan, index)
            pixels.write_unit(
                denoised[index - first],
                noisy[index - first],
                self.place(index),
                top_px=rows.start,
                left_px=columns.start,
                strength=self._strength,
                scale=self.scale,
                grey=pixels.is_grey(self.window(index)),
            )
            if sigma_maps is not None:
                self._sigmas[index] = mean_of_map(sigma_maps[index - first])
            if self._observe is not None:
                self._observe(self.plan, index, noisy[index - first], denoised[index - first])

    def _read(self, index: int, out: Plane) -> int:
        counted = tiling.kept(self.plan, index)
        try:
            return pixels.read_unit(self.window(index), out, self.scale, counted=counted)
        except NonFiniteSamples:
            row, column = self.plan.tile(index)
            raise codec.nonfinite_samples(self.window(index), top_px=row.read_px, left_px=column.read_px) from None

    @property
    def outside_count(self) -> int:
        """Samples that lie outside black..white, once all tiles have run."""
        return sum(self._outside_counts)

    @property
    def noise_sigma(self) -> float | None:
        """Mean of the noise map in 8-bit levels, tiles counting by the pixels that they own; None without a map."""
        total = weight = 0.0
        for index, sigma in enumerate(self._sigmas):
            if sigma is None:
                return None
            row, column = self.plan.tile(index)
            pixel_count = (row.stop_px - row.keep_px) * (column.stop_px - column.keep_px)
            total += sigma * pixel_count
            weight += pixel_count
        return noise_sigma_levels(total / weight)


class WholeImage(TiledImage):
    """All samples are in memory."""

    def __init__(
        self, colour: Samples, target: Samples, *, plan: tiling.TilePlan, scale: Scale, strength: float
    ) -> None:
        """``colour`` and ``target`` are (H, W, C) of one type, C being 1 or 3."""
        super().__init__(plan, scale=scale, strength=strength)
        self._colour = colour
        self._target = target

    def let_go(self) -> None:
        """Keeps the samples alive no longer; once all tiles have run."""
        self._colour = _nothing_like(self._colour)

    def window(self, index: int) -> Samples:
        return tiling.window(self._colour, self.plan, index)

    def place(self, index: int) -> Samples:
        return tiling.owned(self._target, self.plan, index)


class _Band:
    """One row of tiles: the image's rows that it reads, from when they arrive, and those that it answers, once open."""

    __slots__ = ("_answer_row_count", "answer", "remaining_count", "samples", "start_byte", "stop_byte")

    def __init__(self, span: tiling.Span, header: ImageHeader, *, edge_px: int, tile_count: int) -> None:
        stop_px = min(span.read_px + edge_px, header.height_px)
        row_bytes = header.decoded_bytes // header.height_px
        self.start_byte, self.stop_byte = span.read_px * row_bytes, stop_px * row_bytes
        dtype = codec.dtype_of(header)
        self.samples: Samples = np.empty((stop_px - span.read_px, header.width_px, header.channels), dtype)
        self._answer_row_count = span.stop_px - span.keep_px
        self.answer: Samples = _nothing_like(self.samples)
        self.remaining_count = tile_count

    def open(self) -> None:
        """Makes the place for the answer."""
        self.answer = np.empty((self._answer_row_count, *self.samples.shape[1:]), self.samples.dtype)

    def note_done(self) -> None:
        """A tile has been written; after the last one only the answer is kept."""
        self.remaining_count -= 1
        if not self.remaining_count:
            self.samples = _nothing_like(self.samples)


class BandedImage(TiledImage):
    """An image whose rows arrive from top to bottom, are worked on as they come, and leave as they are done.

    It holds a few rows of tiles at a time, so its memory depends on the image's width alone. The owner feeds it while
    :attr:`wants_data`, lets the lanes work on the first :attr:`available_count` tiles, says of each that it is done,
    and fetches the rows of the answer.
    """

    def __init__(self, header: ImageHeader, *, plan: tiling.TilePlan, scale: Scale, strength: float) -> None:
        """``header`` is of samples in rows, 1 or 3 channels."""
        super().__init__(plan, scale=scale, strength=strength)
        self._header = header
        self._row_bytes = header.decoded_bytes // header.height_px
        self._bands: dict[int, _Band] = {}
        self._arrived_row_count = 0
        self._fetched_row_count = 0
        self._open_row_count = 0
        self.received_bytes = 0
        self.done_tile_count = 0

    @staticmethod
    def held_bytes(header: ImageHeader, plan: tiling.TilePlan) -> int:
        """The most that it holds: what its rows of tiles read, and the answers of those at work.

        The rows that were fetched last are counted too: whoever has them may keep them until the next are wanted.
        """
        rows, row_bytes = plan.rows, header.decoded_bytes // header.height_px
        if rows.span_count == 1:
            return 2 * rows.size_px * row_bytes
        step_px = rows.edge_px - 2 * rows.halo_px
        # The bytes that complete a row of tiles begin those that overlap it.
        overlapping_count = -(-rows.edge_px // step_px)
        band_count = min(_ROWS_AT_WORK + _ROWS_AHEAD + overlapping_count, rows.span_count)
        # The first and the last tile own one halo more than the others.
        answered_px = min((_ROWS_AT_WORK + 1) * step_px + 2 * rows.halo_px, rows.size_px)
        return (band_count * rows.edge_px + answered_px) * row_bytes

    @property
    def wants_data(self) -> bool:
        """Whether it has room for more."""
        return self._arrived_row_count < self._fetched_row_count + _ROWS_AT_WORK + _ROWS_AHEAD

    @property
    def available_count(self) -> int:
        """Tiles, from the first, whose rows are there and whose answers have a place."""
        return self._open_row_count * self.plan.columns.span_count

    def feed(self, data: Data) -> int:
        """Takes the next bytes of the samples, as many as there is room for; returns how many.

        ``data`` has never more than are left.
        """
        start, stop = self.received_bytes, min(self.received_bytes + len(data), self._room_until_byte())
        view = np.frombuffer(data, np.uint8)
        for row in range(self._arrived_row_count, self.plan.rows.span_count):
            if self.plan.rows.span(row).read_px * self._row_bytes >= stop:
                break
            band = self._band(row)
            first, last = max(start, band.start_byte), min(stop, band.stop_byte)
            if first < last:
                flat = band.samples.reshape(-1).view(np.uint8)
                flat[first - band.start_byte : last - band.start_byte] = view[first - start : last - start]
            if stop >= band.stop_byte:
                self._arrived_row_count = row + 1
        self.received_bytes = stop
        self._open_rows()
        return stop - start

    def note_done(self, index: int) -> None:
        """Tile ``index`` has been written."""
        self.done_tile_count += 1
        self._bands[self._row_of(index)].note_done()

    def fetch(self) -> Samples | None:
        """The next rows of the answer, from top to bottom and each once; None while they are not done."""
        band = self._bands.get(self._fetched_row_count)
        if band is None or band.remaining_count:
            return None
        del self._bands[self._fetched_row_count]
        self._fetched_row_count += 1
        self._open_rows()
        return band.answer

    def window(self, index: int) -> Samples:
        _, column = self.plan.tile(index)
        samples = self._bands[self._row_of(index)].samples
        return samples[:, column.read_px : column.read_px + self.plan.columns.edge_px]

    def place(self, index: int) -> Samples:
        _, column = self.plan.tile(index)
        return self._bands[self._row_of(index)].answer[:, column.keep_px : column.stop_px]

    def _room_until_byte(self) -> int:
        """Where in the samples the last row of tiles ends that there is room for."""
        rows = self.plan.rows
        row = self._fetched_row_count + _ROWS_AT_WORK + _ROWS_AHEAD - 1
        if row >= rows.span_count:
            return self._header.decoded_bytes
        return min(rows.span(row).read_px + rows.edge_px, self._header.height_px) * self._row_bytes

    def _open_rows(self) -> None:
        while self._open_row_count < min(self._arrived_row_count, self._fetched_row_count + _ROWS_AT_WORK):
            self._bands[self._open_row_count].open()
            self._open_row_count += 1

    def _row_of(self, index: int) -> int:
        return index // self.plan.columns.span_count

    def _band(self, row: int) -> _Band:
        band = self._bands.get(row)
        if band is None:
            rows, columns = self.plan.rows, self.plan.columns
            band = self._bands[row] = _Band(
                rows.span(row), self._header, edge_px=rows.edge_px, tile_count=columns.span_count
            )
        return band


def _nothing_like(samples: Samples) -> Samples:
    """No rows of such samples, and no hold on these."""
    return np.empty((0, *samples.shape[1:]), samples.dtype)
