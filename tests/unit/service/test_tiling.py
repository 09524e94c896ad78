"""Tiles by numbers: they cover the image once, see their halo, cost the least, and change no pixel."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import tiling
from service.tiling import AxisPlan, Span, TilePlan
from service.types import Samples

# As in shipped models: a multiple, a halo, and edges up to one that fits 512 pixels and the halo.
MULTIPLE_PX, HALO_PX = 8, 24
EDGES_PX = (64, 96, 128, 192, 256, 320, 384, 448, 512, 536)


@dataclass(frozen=True)
class Rules:
    """What a contract says of units, legal by construction."""

    multiple_px: int
    halo_px: int
    edges_px: tuple[int, ...]

    def axis(self, size_px: int) -> AxisPlan:
        return tiling.plan_axis(size_px, edges_px=self.edges_px, halo_px=self.halo_px, multiple_px=self.multiple_px)

    def plan(self, height_px: int, width_px: int) -> TilePlan:
        return tiling.plan(
            height_px=height_px,
            width_px=width_px,
            edges_px=self.edges_px,
            halo_px=self.halo_px,
            multiple_px=self.multiple_px,
        )

    def spans(self, size_px: int) -> list[Span]:
        axis = self.axis(size_px)
        return [axis.span(index) for index in range(axis.span_count)]

    def padded_px(self, size_px: int) -> int:
        return -(-size_px // self.multiple_px) * self.multiple_px


SHIPPED = Rules(MULTIPLE_PX, HALO_PX, EDGES_PX)


@st.composite
def rules(draw: st.DrawFn, *, most_units: int = 24) -> Rules:
    multiple_px = draw(st.sampled_from([1, 2, 4, 8]))
    edges = draw(st.sets(st.integers(1, most_units), min_size=1, max_size=5))
    halo = draw(st.integers(0, (max(edges) - 1) // 2))
    return Rules(multiple_px, halo * multiple_px, tuple(sorted(edge * multiple_px for edge in edges)))


@settings(max_examples=300)
@given(rules(), st.integers(1, 3000))
@example(SHIPPED, 1)
@example(SHIPPED, 512)
@example(SHIPPED, 513)
@example(SHIPPED, 536)
@example(SHIPPED, 537)
@example(SHIPPED, 3000)
def test_a_plan_covers_the_axis_once_with_aligned_reads_that_hold_their_halo(of: Rules, size_px: int) -> None:
    spans, edge_px = of.spans(size_px), of.axis(size_px).edge_px
    assert edge_px in of.edges_px
    owned = [(span.keep_px, span.stop_px) for span in spans]
    assert owned[0][0] == 0
    assert owned[-1][1] == size_px
    assert all(before[1] == after[0] for before, after in itertools.pairwise(owned)), "no gap and no overlap"
    for index, span in enumerate(spans):
        assert span.keep_px < span.stop_px, "every tile owns something"
        assert span.read_px % of.multiple_px == 0
        assert span.read_px >= 0
        assert span.read_px <= span.keep_px
        assert span.stop_px <= span.read_px + edge_px
        if len(spans) > 1:
            assert span.read_px + edge_px <= of.padded_px(size_px), "the network's padding falls outside the image"
        if index > 0:
            assert span.keep_px - span.read_px >= of.halo_px
        if index < len(spans) - 1:
            assert span.read_px + edge_px - span.stop_px >= of.halo_px


@settings(max_examples=300)
@given(rules(), st.integers(1, 3000))
def test_no_other_edge_reads_fewer_pixels_and_of_equal_ones_the_largest_wins(of: Rules, size_px: int) -> None:
    costs = {
        edge_px: count * edge_px
        for edge_px in of.edges_px
        if (count := _fewest_tiles(of.padded_px(size_px), edge_px=edge_px, halo_px=of.halo_px)) is not None
    }
    plan = of.axis(size_px)
    least = min(costs.values())
    assert plan.span_count * plan.edge_px == least
    assert plan.edge_px == max(edge_px for edge_px, cost in costs.items() if cost == least)


def _fewest_tiles(padded_px: int, *, edge_px: int, halo_px: int) -> int | None:
    """By walking: each tile begins as far right as its halo allows; None when it can't move at all."""
    count, end_px = 1, edge_px
    while end_px < padded_px:
        if edge_px - 2 * halo_px <= 0:
            return None
        end_px += edge_px - 2 * halo_px
        count += 1
    return count


@pytest.mark.parametrize(
    ("size_px", "edge_px", "tile_count"),
    [(1, 64, 1), (64, 64, 1), (65, 96, 1), (512, 512, 1), (513, 536, 1), (536, 536, 1), (1024, 536, 2)],
)
def test_common_sizes_get_the_tiles_that_the_design_promises(size_px: int, edge_px: int, tile_count: int) -> None:
    plan = SHIPPED.axis(size_px)
    assert (plan.edge_px, plan.span_count) == (edge_px, tile_count)


def test_a_plan_counts_its_tiles_row_by_row() -> None:
    rows = AxisPlan(size_px=12, edge_px=8, halo_px=2, last_read_px=4, span_count=2)
    columns = AxisPlan(size_px=40, edge_px=16, halo_px=2, last_read_px=24, span_count=3)
    plan = TilePlan(rows, columns)
    assert plan.tile_count == 6
    assert plan.tile_pixel_count == 128
    assert plan.tile(0) == (Span(0, 0, 6), Span(0, 0, 14))
    assert plan.tile(2) == (Span(0, 0, 6), Span(24, 26, 40))
    assert plan.tile(3) == (Span(4, 6, 12), Span(0, 0, 14))


def test_the_plan_of_a_size_is_made_once() -> None:
    assert SHIPPED.plan(300, 777) is SHIPPED.plan(300, 777)


def test_the_longest_image_is_planned_without_making_its_tiles() -> None:
    axis = SHIPPED.axis(10**15)
    assert axis.span(axis.span_count - 1).stop_px == 10**15
    assert axis.span(10**12).keep_px == axis.span(10**12 - 1).stop_px


@given(rules(), st.integers(1, 400), st.integers(1, 400))
def test_rows_and_columns_are_planned_apart(of: Rules, height_px: int, width_px: int) -> None:
    assert of.plan(height_px, width_px) == TilePlan(of.axis(height_px), of.axis(width_px))


def _picture(height_px: int, width_px: int, channels: int, dtype: Any, seed: int) -> Samples:
    values = np.random.default_rng(seed).integers(0, 250, (height_px, width_px, channels))
    return cast("Samples", values.astype(dtype))


@settings(max_examples=150)
@given(
    of=rules(most_units=8),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150), st.sampled_from([1, 3])),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_that_nobody_changed_make_the_same_image(
    of: Rules, size: tuple[int, int, int], dtype: Any, seed: int
) -> None:
    image = _picture(*size, dtype, seed)
    plan = of.plan(*size[:2])
    target = np.full_like(image, 255)
    for index in range(plan.tile_count):
        tile = tiling.window(image, plan, index)
        assert tile.shape[0] <= plan.rows.edge_px
        assert tile.shape[1] <= plan.columns.edge_px
        tiling.owned(target, plan, index)[...] = tile[tiling.kept(plan, index)]
    np.testing.assert_array_equal(target, image)


@given(of=rules(most_units=8), height_px=st.integers(1, 60), width_px=st.integers(1, 60))
def test_every_pixel_is_written_by_exactly_one_tile(of: Rules, height_px: int, width_px: int) -> None:
    plan = of.plan(height_px, width_px)
    times: NDArray[np.float32] = np.zeros((height_px, width_px, 1), np.float32)
    for index in range(plan.tile_count):
        owned = tiling.owned(times, plan, index)
        assert owned.size > 0
        owned += 1
    assert (times == 1).all()


@given(of=rules(), height_px=st.integers(1, 200), width_px=st.integers(1, 200))
def test_halo_and_padding_are_what_is_computed_besides_the_image(of: Rules, height_px: int, width_px: int) -> None:
    plan = of.plan(height_px, width_px)
    image: Samples = np.zeros((height_px, width_px, 1), np.uint8)
    seen_count = sum(tiling.window(image, plan, index).size for index in range(plan.tile_count))
    assert plan.halo_pixel_count == seen_count - image.size
    assert plan.padding_pixel_count == plan.tile_count * plan.tile_pixel_count - seen_count


def test_what_a_tile_reads_and_owns_are_views_and_cost_no_memory() -> None:
    image = _picture(64, 64, 3, np.uint8, 0)
    plan = Rules(4, 4, (32,)).plan(64, 64)
    assert np.shares_memory(tiling.window(image, plan, 0), image)
    assert np.shares_memory(tiling.owned(image, plan, 0), image)


def _box(samples: NDArray[np.float32], radius_px: int) -> NDArray[np.float32]:
    """Sum over a square, zero beyond the array as in a network's own padding; whole numbers, so sums are exact."""
    height_px, width_px, _ = samples.shape
    padded = np.pad(samples, ((radius_px, radius_px), (radius_px, radius_px), (0, 0)))
    total = np.zeros_like(samples)
    for row in range(2 * radius_px + 1):
        for column in range(2 * radius_px + 1):
            total += padded[row : row + height_px, column : column + width_px]
    return total


def _tiled(image: NDArray[np.float32], plan: TilePlan, radius_px: int) -> NDArray[np.float32]:
    target = np.full_like(image, np.nan)
    for index in range(plan.tile_count):
        tile = cast("NDArray[np.float32]", tiling.window(image, plan, index))
        missing = (plan.rows.edge_px - tile.shape[0], plan.columns.edge_px - tile.shape[1])
        mirrored = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        tiling.owned(target, plan, index)[...] = _box(mirrored, radius_px)[tiling.kept(plan, index)]
    return target


# Most draws of size and rules make a single tile, which proves nothing here.
@settings(max_examples=80, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    of=rules(most_units=7),
    size=st.tuples(st.integers(2, 90), st.integers(2, 90)),
    radius_px=st.integers(0, 6),
    seed=st.integers(0, 2**32 - 1),
)
@example(of=Rules(4, 4, (12,)), size=(50, 61), radius_px=4, seed=0)
@example(of=Rules(8, 0, (16,)), size=(33, 64), radius_px=0, seed=0)
@example(of=Rules(1, 2, (5,)), size=(11, 9), radius_px=2, seed=0)
def test_a_filter_no_wider_than_the_halo_sees_no_tiles(
    of: Rules, size: tuple[int, int], radius_px: int, seed: int
) -> None:
    """Tiled and whole answers are equal bit for bit, borders included."""
    plan = of.plan(*size)
    assume(radius_px <= of.halo_px)
    assume(min(plan.rows.span_count, plan.columns.span_count) > 1)
    image = cast("NDArray[np.float32]", _picture(*size, 1, np.float32, seed))
    missing = [of.padded_px(size_px) - size_px for size_px in size]
    whole = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(_tiled(image, plan, radius_px), _box(whole, radius_px)[: size[0], : size[1]])


def test_a_filter_wider_than_the_halo_does_see_tiles() -> None:
    """Else the test above would prove nothing."""
    of = Rules(4, 4, (16,))
    image = cast("NDArray[np.float32]", _picture(40, 40, 1, np.float32, 0))
    assert not np.array_equal(_tiled(image, of.plan(40, 40), 5), _box(image, 5))


@pytest.mark.parametrize("edges_px", [(8, 64), (16, 64)], ids=["less than the halos", "no more than the halos"])
def test_an_edge_that_its_halos_use_up_serves_small_images_alone(edges_px: Sequence[int]) -> None:
    of = Rules(8, 8, tuple(edges_px))
    assert of.axis(edges_px[0]).edge_px == edges_px[0]
    assert of.axis(edges_px[0] + 1).edge_px == 64
