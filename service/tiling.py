"""Decides which tiles an image is cut into, reads them and puts their results back. Pure NumPy.

The rule is Open Image Denoise's: a tile reads ``halo_px`` beyond the pixels that it owns on inner sides, and the
last tile of an axis is pushed inside the image, so the network's own zero padding falls where it would without
tiles. Owned spans are disjoint and cover the image, so results are copied, never blended.

A plan depends on the image's size and the model's contract alone: the same image gives the same pixels on every
machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from service.types import Samples


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis.

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
    """All tiles along one axis; each reads ``edge_px`` pixels."""

    edge_px: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The tiles of an image: every row span with every column span, row by row."""

    rows: AxisPlan
    columns: AxisPlan

    @property
    def tile_count(self) -> int:
        return len(self.rows.spans) * len(self.columns.spans)

    @property
    def tile_pixel_count(self) -> int:
        """Pixels that one tile reads, and the network computes."""
        return self.rows.edge_px * self.columns.edge_px

    def tile(self, index: int) -> tuple[Span, Span]:
        """(row span, column span) of tile ``index``."""
        row, column = divmod(index, len(self.columns.spans))
        return self.rows.spans[row], self.columns.spans[column]


def plan(*, height_px: int, width_px: int, edges_px: Sequence[int], halo_px: int, multiple_px: int) -> TilePlan:
    """The cheapest plan, in pixels computed, for an image; see :func:`plan_axis`."""
    return TilePlan(
        rows=plan_axis(height_px, edges_px=edges_px, halo_px=halo_px, multiple_px=multiple_px),
        columns=plan_axis(width_px, edges_px=edges_px, halo_px=halo_px, multiple_px=multiple_px),
    )


def plan_axis(size_px: int, *, edges_px: Sequence[int], halo_px: int, multiple_px: int) -> AxisPlan:
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
    step_px = edge_px - 2 * halo_px
    spans = []
    keep_px = 0
    for index in range(count):
        is_last = index == count - 1
        read_px = max(0, padded_px - edge_px) if is_last else index * step_px
        stop_px = size_px if is_last else read_px + edge_px - halo_px
        spans.append(Span(read_px=read_px, keep_px=keep_px, stop_px=stop_px))
        keep_px = stop_px
    return AxisPlan(edge_px=edge_px, spans=tuple(spans))


def _tile_count(padded_px: int, *, edge_px: int, halo_px: int) -> int | None:
    """Tiles of one edge that cover an axis, or None when halos leave them nothing of their own."""
    if edge_px >= padded_px:
        return 1
    step_px = edge_px - 2 * halo_px
    if step_px <= 0:
        return None
    # The first and the last tile own one halo more than the others; the last must begin after the others' reads.
    return 1 + -(-(padded_px - edge_px) // step_px)


def read_tile(samples: Samples, tile_plan: TilePlan, index: int) -> Samples:
    """What tile ``index`` sees of (H, W, C) samples: (edge, edge, C), reflected beyond the image's border."""
    row, column = tile_plan.tile(index)
    height_px, width_px = tile_plan.rows.edge_px, tile_plan.columns.edge_px
    window = samples[row.read_px : row.read_px + height_px, column.read_px : column.read_px + width_px]
    missing = (height_px - window.shape[0], width_px - window.shape[1])
    if missing == (0, 0):
        return window
    return cast("Samples", np.pad(window, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric"))


def write_tile(target: Samples, tile_plan: TilePlan, index: int, result: Samples) -> None:
    """Copies the pixels that tile ``index`` owns from its (edge, edge, C) result into the (H, W, C) target."""
    row, column = tile_plan.tile(index)
    target[row.keep_px : row.stop_px, column.keep_px : column.stop_px] = result[
        row.keep_px - row.read_px : row.stop_px - row.read_px,
        column.keep_px - column.read_px : column.stop_px - column.read_px,
    ]
