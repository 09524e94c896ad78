"""Small images side by side: each is answered as if it had run alone, and fails alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from denoised.contract import ModelContract
from service import codec, tiling
from service.codec import SampleLayout, SampleType, raw_header
from service.engine import Engine, OnnxEngine
from service.errors import InvalidSamples, NonFiniteOutput
from service.image_tiles import WholeImage, noise_sigma_levels
from service.job import Geometry, Options, RawOrder
from service.lanes import Batch, Lane
from service.pixels import Scale
from service.registry import Model
from service.stack import Stack
from service.submission import Group
from service.types import Container, Data, Samples, Units

EDGE_PX = 16
COUNT = 5
BROKEN = 2
HWC, CHW = SampleLayout.HWC, SampleLayout.CHW
TYPES = {SampleType.U8: 255.0, SampleType.U16: 65535.0, SampleType.F32: 1.0}


@dataclass(frozen=True, eq=False)
class _Pack:
    """All of a stack."""

    tiles: Stack
    first: int
    count: int

    def is_wanted(self, now_s: float) -> bool:
        del now_s
        return True


class Smear:
    """Answers each value with one that depends on its neighbours in its own image."""

    def __init__(self, *, has_map: bool = False, breaks_on: float | None = None) -> None:
        self.run_count = 0
        self._has_map = has_map
        self._breaks_on = breaks_on

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        del lane
        self.run_count += 1
        denoised = units * np.float32(0.5)
        denoised[:, :, 1:] += units[:, :, :-1] * np.float32(0.25)
        denoised[:, :, :, 1:] += units[:, :, :, :-1] * np.float32(0.25)
        if self._breaks_on is not None:
            denoised[np.isclose(units[:, 0, 0, 0], self._breaks_on)] = np.nan
        sigma_maps = units.mean(axis=1, keepdims=True)[:, :, ::4, ::4] if self._has_map else None
        return denoised, sigma_maps


@pytest.fixture
def model(contract: ModelContract) -> Model:
    return Model(contract, "f00d", cast("OnnxEngine", None))


def order_of(
    model: Model,
    *,
    height_px: int = EDGE_PX,
    width_px: int = EDGE_PX,
    channel_count: int = 1,
    network_channel_count: int = 0,
    sample_type: SampleType = SampleType.U8,
    layout: SampleLayout = HWC,
    strength: float = 1.0,
    inner_levels: bool = False,
) -> RawOrder:
    header = raw_header(height_px=height_px, width_px=width_px, channel_count=channel_count, sample_type=sample_type)
    plan = tiling.plan(height_px=height_px, width_px=width_px, edges_px=(EDGE_PX,), halo_px=4, multiple_px=4)
    group = Group(model.key, network_channel_count or channel_count, EDGE_PX, EDGE_PX)
    black, white = (0.25, 0.75) if inner_levels else (0.0, 1.0)
    largest = TYPES[sample_type]
    order = RawOrder(
        model,
        Options(strength=strength, raw_layout=layout),
        Geometry(header, Container.RAW, plan, group),
        layout,
        Scale(black * largest, white * largest, clip=True),
    )
    assert order.is_small
    return order


def images_of(order: RawOrder) -> list[bytes]:
    """Noise, each image another; of colour, one is grey."""
    header = order.geometry.header
    rng = np.random.default_rng(3)
    largest = TYPES[next(kind for kind in TYPES if kind.dtype == codec.dtype_of(header))]
    shape = (COUNT, header.height_px, header.width_px, header.channels)
    values = rng.uniform(0.0, largest, shape)
    values[1] = values[1, :, :, :1]
    if largest > 1:
        values = np.rint(values)
    samples = values.astype(codec.dtype_of(header))
    if order.layout is CHW:
        samples = samples.transpose(0, 3, 1, 2)
    return [image.tobytes() for image in samples]


def alone(order: RawOrder, data: Data, engine: Smear) -> tuple[bytes, int, float | None]:
    """(samples, how many lay outside, noise level) of an image by itself."""
    samples = codec.view_raw(data, order.geometry.header, order.layout)
    target: Samples = np.empty_like(samples)
    image = WholeImage(samples, target, plan=order.geometry.plan, scale=order.scale, strength=order.options.strength)
    noisy = np.empty((1, order.geometry.group.channels, EDGE_PX, EDGE_PX), np.float32)
    image.read(0, 1, noisy)
    denoised, sigma_maps = engine.run(noisy, lane=0)
    image.write(0, 1, denoised, noisy, sigma_maps)
    return bytes(codec.raw_bytes(target, order.layout)), image.outside_count, image.noise_sigma


def through_a_lane(order: RawOrder, stack: Stack, engine: Smear, parts: Sequence[int]) -> Batch:
    """Runs the stack's units, in packs of so many each."""
    firsts = [sum(parts[:index]) for index in range(len(parts))]
    group = order.geometry.group
    batch = Batch(
        engine=cast("Engine", engine),
        engine_lane=0,
        shape=(group.channels, group.height_px, group.width_px),
        packs=[_Pack(stack, first, count) for first, count in zip(firsts, parts, strict=True)],
        unit_count=sum(parts),
        expected_s=1.0,
        sent_at_s=0.0,
    )
    Lane("by hand", clock=lambda: 0.0, on_done=lambda *_: None).run(batch)
    return batch


def assert_as_alone(
    order: RawOrder, stack: Stack, data: Sequence[bytes], indices: Sequence[int], **network: bool
) -> None:
    for index in indices:
        samples, outside_count, noise_sigma = alone(order, data[index], Smear(**network))
        assert bytes(stack.answer(index)) == samples
        assert stack.outside_counts[index] == outside_count
        mean_sigma = stack.mean_sigmas[index]
        assert (None if mean_sigma is None else noise_sigma_levels(mean_sigma)) == noise_sigma


@pytest.mark.parametrize("parts", [[COUNT], [2, 3], [1] * COUNT], ids=["as one", "in two packs", "one by one"])
@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("has_map", [False, True])
@pytest.mark.parametrize("sample_type", list(TYPES))
@pytest.mark.parametrize(("channel_count", "network_channel_count"), [(1, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("layout", [HWC, CHW])
def test_images_side_by_side_are_those_that_run_alone(
    model: Model,
    parts: list[int],
    strength: float,
    *,
    has_map: bool,
    sample_type: SampleType,
    channel_count: int,
    network_channel_count: int,
    layout: SampleLayout,
) -> None:
    order = order_of(
        model,
        channel_count=channel_count,
        network_channel_count=network_channel_count,
        sample_type=sample_type,
        layout=layout,
        strength=strength,
    )
    assert order.is_plain == (network_channel_count == 1 and sample_type is not SampleType.F32 and strength == 1.0)
    data, engine = images_of(order), Smear(has_map=has_map)
    stack = Stack(order, data)
    batch = through_a_lane(order, stack, engine, parts)
    assert batch.errors == [None] * COUNT
    assert engine.run_count == 1
    assert_as_alone(order, stack, data, range(COUNT), has_map=has_map)


@pytest.mark.parametrize("sample_type", list(TYPES))
@pytest.mark.parametrize("channel_count", [1, 3])
@pytest.mark.parametrize("layout", [HWC, CHW])
@pytest.mark.parametrize("size", [(EDGE_PX, EDGE_PX), (9, 13), (1, EDGE_PX), (3, 1)])
def test_samples_outside_the_levels_are_counted_and_small_images_filled_up_for_each_by_itself(
    model: Model, sample_type: SampleType, channel_count: int, layout: SampleLayout, size: tuple[int, int]
) -> None:
    order = order_of(
        model,
        height_px=size[0],
        width_px=size[1],
        channel_count=channel_count,
        sample_type=sample_type,
        layout=layout,
        inner_levels=True,
    )
    data = images_of(order)
    stack = Stack(order, data)
    batch = through_a_lane(order, stack, Smear(), [COUNT])
    assert batch.errors == [None] * COUNT
    assert_as_alone(order, stack, data, range(COUNT))
    if size == (EDGE_PX, EDGE_PX):
        assert len(set(stack.outside_counts)) > 1, "or a mix-up would not show"


@pytest.mark.parametrize("layout", [HWC, CHW])
@pytest.mark.parametrize("channel_count", [1, 3])
def test_an_image_with_nan_fails_alone_and_says_where(model: Model, channel_count: int, layout: SampleLayout) -> None:
    order = order_of(model, channel_count=channel_count, sample_type=SampleType.F32, layout=layout)
    data = images_of(order)
    broken = codec.view_raw(data[BROKEN], order.geometry.header, layout).copy(order="K")
    broken[7, 11, channel_count - 1] = np.nan
    data[BROKEN] = bytes(codec.raw_bytes(broken, layout))
    stack = Stack(order, data)
    batch = through_a_lane(order, stack, Smear(), [COUNT])
    error = batch.errors[BROKEN]
    assert isinstance(error, InvalidSamples)
    assert f"the first at row 7, column 11, channel {channel_count - 1};" in str(error)
    others = [index for index in range(COUNT) if index != BROKEN]
    assert [batch.errors[index] for index in others] == [None] * len(others)
    assert_as_alone(order, stack, data, others)


@pytest.mark.parametrize("sample_type", [SampleType.U8, SampleType.F32], ids=["joined", "apart"])
def test_an_image_that_the_network_answers_with_nan_fails_alone(model: Model, sample_type: SampleType) -> None:
    order = order_of(model, sample_type=sample_type)
    data = images_of(order)
    first = codec.view_raw(data[BROKEN], order.geometry.header, HWC)[0, 0, 0] / TYPES[sample_type]
    stack = Stack(order, data)
    batch = through_a_lane(order, stack, Smear(breaks_on=float(first)), [COUNT])
    assert isinstance(batch.errors[BROKEN], NonFiniteOutput)
    others = [index for index in range(COUNT) if index != BROKEN]
    assert [batch.errors[index] for index in others] == [None] * len(others)
    assert_as_alone(order, stack, data, others)


def test_answers_are_in_memory_of_their_own_and_have_the_length_of_the_samples(model: Model) -> None:
    order = order_of(model, sample_type=SampleType.U16, channel_count=3)
    data = images_of(order)
    stack = Stack(order, data)
    through_a_lane(order, stack, Smear(), [COUNT])
    answers = [stack.answer(index) for index in range(COUNT)]
    assert [len(answer) for answer in answers] == [len(image) for image in data]
    assert len({bytes(answer) for answer in answers}) == COUNT
