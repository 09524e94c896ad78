"""Images in tiles: an image in bands is the whole image however it arrives, in the memory that it was let in with."""

import random
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import tiling
from service.codec import SampleType, raw_header
from service.errors import InvalidSamples
from service.image_tiles import BandedImage, TiledImage, WholeImage, noise_sigma_levels
from service.pixels import Scale
from service.types import ImageHeader, Samples, Units

TYPES = {SampleType.U8: 255.0, SampleType.U16: 65535.0, SampleType.F32: 1.0}


@dataclass(frozen=True)
class Case:
    """An image and how it is cut."""

    samples: Samples
    header: ImageHeader
    plan: tiling.TilePlan
    scale: Scale
    strength: float

    @property
    def channels(self) -> int:
        """Of the network."""
        return self.header.channels

    def whole(self) -> "tuple[WholeImage, Samples]":
        target = np.empty_like(self.samples)
        return WholeImage(self.samples, target, plan=self.plan, scale=self.scale, strength=self.strength), target

    def banded(self) -> BandedImage:
        return BandedImage(self.header, plan=self.plan, scale=self.scale, strength=self.strength)


def case_of(
    height_px: int,
    width_px: int,
    *,
    channel_count: int = 1,
    sample_type: SampleType = SampleType.U8,
    edges_px: tuple[int, ...] = (8,),
    halo_px: int = 2,
    strength: float = 1.0,
    clip: bool = True,
) -> Case:
    rng = np.random.default_rng(height_px * 1000 + width_px)
    values = rng.uniform(-0.2, 1.2, (height_px, width_px, channel_count)) * TYPES[sample_type]
    if sample_type is not SampleType.F32:
        values = np.rint(values.clip(0.0, TYPES[sample_type]))
    return Case(
        samples=values.astype(sample_type.dtype),
        header=raw_header(height_px=height_px, width_px=width_px, channel_count=channel_count, sample_type=sample_type),
        plan=tiling.plan(height_px=height_px, width_px=width_px, edges_px=edges_px, halo_px=halo_px, multiple_px=2),
        # Within the type's range, so that some samples lie outside.
        scale=Scale(0.1 * TYPES[sample_type], 0.9 * TYPES[sample_type], clip),
        strength=strength,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    halo_px = 2 * draw(st.integers(0, 3))
    largest_px = 2 * halo_px + 2 * draw(st.integers(1, 5))
    edges_px = tuple(sorted({largest_px, *draw(st.lists(st.sampled_from([2, 4, 8, 16]), max_size=2))}))
    if edges_px[-1] <= 2 * halo_px:
        edges_px = (largest_px,)
    return case_of(
        draw(st.one_of(st.integers(1, 12), st.integers(1, 90))),
        draw(st.one_of(st.integers(1, 3), st.integers(1, 24))),
        channel_count=draw(st.sampled_from([1, 3])),
        sample_type=draw(st.sampled_from(list(TYPES))),
        edges_px=edges_px,
        halo_px=halo_px,
        strength=draw(st.sampled_from([0.0, 0.3, 1.0])),
        clip=draw(st.booleans()),
    )


class Network:
    """Answers each value with one that depends on its neighbours above and to the left, and keeps what it saw."""

    def __init__(self, case: Case) -> None:
        self.seen: dict[int, Units] = {}
        self._shape = (1, case.channels, case.plan.rows.edge_px, case.plan.columns.edge_px)

    def run(self, image: TiledImage, index: int) -> None:
        noisy = np.empty(self._shape, np.float32)
        image.read(index, 1, noisy)
        assert index not in self.seen, "each tile runs once"
        self.seen[index] = noisy.copy()
        denoised = noisy * np.float32(0.5)
        denoised[:, :, 1:] += noisy[:, :, :-1] * np.float32(0.25)
        denoised[:, :, :, 1:] += noisy[:, :, :, :-1] * np.float32(0.25)
        image.write(index, 1, denoised, noisy, noisy.mean(axis=1, keepdims=True)[:, :, ::2, ::2])


def held(image: BandedImage) -> int:
    """Bytes of the rows and answers that are in memory."""
    return sum(band.samples.nbytes + band.answer.nbytes for band in image._bands.values())


def assert_same(banded: BandedImage, whole: WholeImage, seen: dict[int, Units], expected: dict[int, Units]) -> None:
    assert seen.keys() == expected.keys()
    for index, noisy in seen.items():
        np.testing.assert_array_equal(noisy, expected[index])
    assert banded.outside_count == whole.outside_count
    assert banded.noise_sigma == whole.noise_sigma


@settings(max_examples=100)
@given(case=cases(), dice=st.randoms(use_true_random=False))
def test_an_image_in_bands_is_the_whole_image_however_it_arrives_and_keeps_to_its_memory(
    case: Case, dice: random.Random
) -> None:
    """Fed, run and fetched in any order that is allowed; there is always something to do until all is fetched."""
    whole, target = case.whole()
    expected = Network(case)
    for index in range(case.plan.tile_count):
        expected.run(whole, index)

    banded, network = case.banded(), Network(case)
    samples, answer = case.samples.tobytes(), b""
    limit_bytes = BandedImage.held_bytes(case.header, case.plan)
    waiting: set[int] = set()
    offered_count, fetched_bytes = 0, 0
    while fetched_bytes < len(samples):
        steps = ["run"] * bool(waiting) + ["feed"] * (banded.wants_data and banded.received_bytes < len(samples))
        rows = banded.fetch() if not steps or dice.random() < 0.3 else None
        if rows is not None:
            answer += rows.tobytes()
            fetched_bytes = len(answer)
        elif steps and dice.choice(steps) == "run":
            index = dice.choice(sorted(waiting))
            waiting.discard(index)
            network.run(banded, index)
            banded.note_done(index)
        elif steps and "feed" in steps:
            size = 1 + dice.choice([0, 6, len(samples) // 9, len(samples)])
            chunk = samples[banded.received_bytes : banded.received_bytes + size]
            received_bytes = banded.received_bytes
            taken_bytes = banded.feed(chunk)
            assert 0 < taken_bytes <= len(chunk)
            assert banded.received_bytes == received_bytes + taken_bytes
            assert taken_bytes == len(chunk) or not banded.wants_data
        else:
            assert steps, "nothing can be done and the image is not"
        assert banded.available_count >= offered_count
        waiting.update(range(offered_count, banded.available_count))
        offered_count = banded.available_count
        assert held(banded) <= limit_bytes

    assert answer == target.tobytes()
    assert banded.fetch() is None
    assert banded.done_tile_count == case.plan.tile_count
    assert held(banded) == 0
    assert_same(banded, whole, network.seen, expected.seen)


@settings(max_examples=50)
@given(case=cases(), size=st.sampled_from([61, 500, 10**6]), fetches_late=st.booleans())
def test_a_loop_that_feeds_while_wanted_and_runs_what_is_available_always_ends(
    case: Case, size: int, *, fetches_late: bool
) -> None:
    banded, network = case.banded(), Network(case)
    samples, answer_bytes, done_count = case.samples.tobytes(), 0, 0
    while answer_bytes < len(samples):
        before = (banded.received_bytes, done_count, answer_bytes)
        while banded.wants_data and banded.received_bytes < len(samples):
            banded.feed(samples[banded.received_bytes : banded.received_bytes + size])
        while done_count < banded.available_count:
            network.run(banded, done_count)
            banded.note_done(done_count)
            done_count += 1
        while (rows := banded.fetch()) is not None:
            answer_bytes += rows.nbytes
            if fetches_late:
                break
        assert (banded.received_bytes, done_count, answer_bytes) != before


def test_without_fetching_a_few_rows_of_tiles_are_taken_in_and_fewer_worked_on() -> None:
    case = case_of(400, 20)
    banded, network = case.banded(), Network(case)
    samples = case.samples.tobytes()
    assert banded.feed(samples) < len(samples) // 4
    assert not banded.wants_data
    for index in range(banded.available_count):
        network.run(banded, index)
        banded.note_done(index)
    assert banded.feed(samples[banded.received_bytes :]) == 0
    rows_available = banded.available_count // case.plan.columns.span_count
    spans = [case.plan.rows.span(row) for row in range(case.plan.rows.span_count)]
    received_px = banded.received_bytes // 20
    assert 1 <= rows_available < sum(span.read_px + 8 <= received_px for span in spans)
    assert banded.fetch() is not None
    assert banded.feed(samples[banded.received_bytes :]) > 0
    assert banded.available_count == (rows_available + 1) * case.plan.columns.span_count


def test_memory_follows_the_width_and_not_the_height() -> None:
    short, tall, wide = case_of(200, 20), case_of(2000, 20), case_of(200, 200)
    held_bytes = BandedImage.held_bytes
    assert held_bytes(short.header, short.plan) == held_bytes(tall.header, tall.plan)
    assert held_bytes(wide.header, wide.plan) == 10 * held_bytes(short.header, short.plan)


@pytest.mark.parametrize("sigmas", [(0.1, 0.2, 0.6), (-0.002, 0.0, 0.001)])
def test_the_noise_level_is_the_mean_of_the_maps_by_the_pixels_that_tiles_own(
    sigmas: tuple[float, float, float],
) -> None:
    case = case_of(8, 17, edges_px=(8,), halo_px=2)
    image, _ = case.whole()
    assert case.plan.tile_count == 4
    all_sigmas = (*sigmas, sigmas[-1])
    units = np.zeros((4, 1, 8, 8), np.float32)
    maps = np.ones((4, 1, 2, 2), np.float32) * np.array(all_sigmas, np.float32).reshape(4, 1, 1, 1)
    image.write(0, 4, units, units, maps)
    # By hand: the first of 8 px owns 6, the next two 4 each, and the last what is left of 17.
    owned_px = [6, 4, 4, 3]
    mean = sum(s * w for s, w in zip(all_sigmas, owned_px, strict=True)) / 17
    assert image.noise_sigma == pytest.approx(max(0.0, mean) * 255.0, rel=1e-6)


def test_without_a_map_there_is_no_noise_level() -> None:
    image, _ = case_of(8, 17).whole()
    units = np.zeros((4, 1, 8, 8), np.float32)
    image.write(0, 4, units, units, None)
    assert image.noise_sigma is None


@pytest.mark.parametrize(("mean", "levels"), [(0.1, 25.5), (0.0, 0.0), (-0.01, 0.0)])
def test_no_noise_level_is_below_zero(mean: float, levels: float) -> None:
    assert noise_sigma_levels(mean) == pytest.approx(levels)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (30, 25), (59, 39), (7, 12)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found_where_it_is_in_the_whole_image(row: int, column: int, value: float) -> None:
    case = case_of(60, 40, channel_count=3, sample_type=SampleType.F32)
    case.samples[row, column, 2] = value
    whole, _ = case.whole()
    banded = case.banded()
    out = np.empty((1, 3, 8, 8), np.float32)
    samples = case.samples.tobytes()
    located = 0
    for index in range(case.plan.tile_count):
        while index >= banded.available_count:
            assert banded.feed(samples[banded.received_bytes :]) or banded.fetch() is not None
        row_span, column_span = case.plan.tile(index)
        sees = (
            row_span.read_px <= row < row_span.read_px + 8 and column_span.read_px <= column < column_span.read_px + 8
        )
        for image in (whole, banded):
            if sees:
                with pytest.raises(InvalidSamples, match=f"the first at row {row}, column {column}, channel 2;"):
                    image.read(index, 1, out)
                located += 1
            else:
                image.read(index, 1, out)
        banded.note_done(index)
    assert located >= 2


def test_several_tiles_read_and_written_at_once_are_those_one_by_one() -> None:
    case = case_of(30, 30, channel_count=3)
    one_by_one, target = case.whole()
    network = Network(case)
    for index in range(case.plan.tile_count):
        network.run(one_by_one, index)
    together, target_together = case.whole()
    count = case.plan.tile_count
    noisy = np.empty((count, 3, 8, 8), np.float32)
    together.read(0, count, noisy)
    for index in range(count):
        np.testing.assert_array_equal(noisy[index], network.seen[index][0])
    denoised: Any = noisy * np.float32(0.5)
    denoised[:, :, 1:] += noisy[:, :, :-1] * np.float32(0.25)
    denoised[:, :, :, 1:] += noisy[:, :, :, :-1] * np.float32(0.25)
    together.write(0, count, denoised, noisy, None)
    np.testing.assert_array_equal(target_together, target)
    assert together.outside_count == one_by_one.outside_count > 0


def test_samples_that_were_let_go_are_not_kept_alive() -> None:
    samples = np.zeros((8, 8, 3), np.uint8)
    plan = tiling.plan(height_px=8, width_px=8, edges_px=(8,), halo_px=0, multiple_px=2)
    image = WholeImage(samples, np.empty_like(samples), plan=plan, scale=Scale(0.0, 255.0, clip=True), strength=1.0)
    kept = weakref.ref(samples)
    del samples
    assert kept() is not None
    image.let_go()
    assert kept() is None
