"""Decides which tiles an image is cut into, and which parts of image and answer a tile stands for. Pure.

The rule is Open Image Denoise's: a tile reads ``halo_px`` beyond the pixels that it owns on inner sides, and the
last tile of an axis is pushed inside the image, so the network's own zero padding falls where it would without
tiles. Owned spans are disjoint and cover the image, so results are copied, never blended.

A plan depends on the image's size and the model's contract alone: the same image gives the same pixels on every
machine. It holds the rule and no tiles, so it costs the same for every size, and plans of recent sizes are kept.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from service.types import Samples

_KEPT_PLANS = 4096


class Span(NamedTuple):
    """One tile along one axis. A tuple, because every unit of work makes some.

    Attributes:
        read_px: the first pixel that it reads; it reads the plan's edge from there, beyond the image by reflection.
        keep_px: the first pixel that it owns.
        stop_px: one past the last pixel that it owns.
    """

    read_px: int
    keep_px: int
    stop_px: int


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """The tiles along one axis.

    Attributes:
        size_px: length of the image.
        edge_px: pixels that each tile reads.
        halo_px: pixels that a tile reads beyond its own on inner sides.
        last_read_px: the first pixel that the last tile reads.
        span_count: how many tiles there are.
    """

    size_px: int
    edge_px: int
    halo_px: int
    last_read_px: int
    span_count: int

    @property
    def read_px_count(self) -> int:
        """Pixels of the image that all tiles read together, those that several read counting for each."""
        return (self.span_count - 1) * self.edge_px + min(self.edge_px, self.size_px - self.last_read_px)

    def span(self, index: int) -> Span:
        """Tile ``index``. The first and the last own one halo more than the others."""
        step_px = self.edge_px - 2 * self.halo_px
        is_last = index == self.span_count - 1
        return Span(
            read_px=self.last_read_px if is_last else index * step_px,
            keep_px=index * step_px + self.halo_px if index else 0,
            stop_px=self.size_px if is_last else (index + 1) * step_px + self.halo_px,
        )


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The tiles of an image: every row span with every column span, row by row."""

    rows: AxisPlan
    columns: AxisPlan

    @property
    def tile_count(self) -> int:
        return self.rows.span_count * self.columns.span_count

    @property
    def tile_pixel_count(self) -> int:
        """Pixels that one tile reads, and the network computes."""
        return self.rows.edge_px * self.columns.edge_px

    @property
    def halo_pixel_count(self) -> int:
        """Pixels of the image that tiles read and do not own."""
        return self.rows.read_px_count * self.columns.read_px_count - self.rows.size_px * self.columns.size_px

    @property
    def padding_pixel_count(self) -> int:
        """Pixels beyond the image's border that tiles compute, because they have the plan's edges."""
        return self.tile_count * self.tile_pixel_count - self.rows.read_px_count * self.columns.read_px_count

    def tile(self, index: int) -> tuple[Span, Span]:
        """(row span, column span) of tile ``index``."""
        row, column = divmod(index, self.columns.span_count)
        return self.rows.span(row), self.columns.span(column)


@lru_cache(_KEPT_PLANS)
def plan(*, height_px: int, width_px: int, edges_px: tuple[int, ...], halo_px: int, multiple_px: int) -> TilePlan:
    """The cheapest plan, in pixels computed, for an image; see :func:`plan_axis`."""
    return TilePlan(
        rows=plan_axis(height_px, edges_px=edges_px, halo_px=halo_px, multiple_px=multiple_px),
        columns=plan_axis(width_px, edges_px=edges_px, halo_px=halo_px, multiple_px=multiple_px),
    )


def plan_axis(size_px: int, *, edges_px: tuple[int, ...], halo_px: int, multiple_px: int) -> AxisPlan:
    """The allowed edge, and the spans of that edge, that read the fewest pixels in all.

    Args:
        size_px: length of the image along the axis, at least 1.
        edges_px: allowed lengths, ascending; multiples of ``multiple_px``, the largest more than twice the halo.
        halo_px: pixels that a tile reads beyond its own on inner sides; a multiple of ``multiple_px``.
        multiple_px: reads start at multiples of this.

    Of equally cheap edges the largest wins, because it makes the fewest tiles.
    """
    padded_px = -(-size_px // multiple_px) * multiple_px
    candidates = [
        (count * edge_px, -edge_px, count)
        for edge_px in edges_px
        if (count := _tile_count(padded_px, edge_px=edge_px, halo_px=halo_px)) is not None
    ]
    _, negative_edge_px, count = min(candidates)
    edge_px = -negative_edge_px
    return AxisPlan(
        size_px=size_px,
        edge_px=edge_px,
        halo_px=halo_px,
        last_read_px=max(0, padded_px - edge_px),
        span_count=count,
    )


def _tile_count(padded_px: int, *, edge_px: int, halo_px: int) -> int | None:
    """Tiles of one edge that cover an axis, or None when halos leave them nothing of their own."""
    if edge_px >= padded_px:
        return 1
    step_px = edge_px - 2 * halo_px
    if step_px <= 0:
        return None
    # The first and the last tile own one halo more than the others; the last must begin after the others' reads.
    return 1 + -(-(padded_px - edge_px) // step_px)


def window(samples: Samples, tile_plan: TilePlan, index: int) -> Samples:
    """What tile ``index`` reads of (H, W, C) samples, as far as there are any: a view of at most (edge, edge, C)."""
    row, column = tile_plan.tile(index)
    return samples[
        row.read_px : row.read_px + tile_plan.rows.edge_px, column.read_px : column.read_px + tile_plan.columns.edge_px
    ]


def owned(samples: Samples, tile_plan: TilePlan, index: int) -> Samples:
    """The pixels of (H, W, C) samples that tile ``index`` owns: a view; those of all tiles cover the image once."""
    row, column = tile_plan.tile(index)
    return samples[row.keep_px : row.stop_px, column.keep_px : column.stop_px]


def kept(tile_plan: TilePlan, index: int) -> tuple[slice, slice]:
    """Rows and columns of :func:`owned` as they are counted inside the tile."""
    row, column = tile_plan.tile(index)
    return (
        slice(row.keep_px - row.read_px, row.stop_px - row.read_px),
        slice(column.keep_px - column.read_px, column.stop_px - column.read_px),
    )
