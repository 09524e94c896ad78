"""How far a network looks is measured on its file: halo and receptive field."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from denoised.noise import keyed_rng
from tests.unit.training.export.small import box, identity, image_model
from training.errors import ExportError
from training.export import onnx_file
from training.export.extent import measure_halo, measure_receptive_field, unit_edges_px

pytestmark = pytest.mark.training


def with_global_mean() -> onnx.ModelProto:
    nodes = [
        helper.make_node("GlobalAveragePool", ["noisy"], ["mean"]),
        helper.make_node("Add", ["noisy", "mean"], ["denoised"]),
    ]
    return image_model(nodes)


def noise(side_px: int) -> np.ndarray:
    return keyed_rng(side_px).random((1, 1, side_px, side_px), dtype=np.float32)


@pytest.mark.parametrize("size_px", [1, 3, 9, 33])
def test_the_receptive_field_of_a_square_mean_is_the_square(size_px: int) -> None:
    session = onnx_file.session(box(size_px).SerializeToString())
    assert measure_receptive_field(session, channels=1, multiple_px=4) == size_px


def test_a_network_that_sees_everything_has_no_receptive_field() -> None:
    session = onnx_file.session(with_global_mean().SerializeToString())
    assert measure_receptive_field(session, channels=1, multiple_px=4) == 0


@pytest.mark.parametrize(("size_px", "halo_px"), [(3, 4), (7, 4), (9, 4), (17, 8), (33, 16)])
def test_the_halo_is_the_next_multiple_that_covers_what_a_tile_lacks(size_px: int, halo_px: int) -> None:
    session = onnx_file.session(box(size_px).SerializeToString())
    found_px, error = measure_halo(session, [noise(384)], multiple_px=4)
    assert found_px == halo_px
    assert error.max_levels <= 1
    assert error.differing_share <= 0.001


def test_a_pointwise_network_needs_the_least_halo() -> None:
    found_px, error = measure_halo(onnx_file.session(identity().SerializeToString()), [noise(384)], multiple_px=8)
    assert (found_px, error.max_levels, error.differing_share) == (8, 0, 0.0)


class _ShiftedAtTheBorder:
    """A stand-in for a session whose answer depends on how far the image's border is: nothing can be tiled."""

    def run(self, _names: object, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        noisy = inputs["noisy"]
        return [noisy * (1 + noisy.shape[2] / 100)]


def test_a_global_operation_is_refused_because_no_halo_hides_it() -> None:
    image = np.full((1, 3, 320, 320), 0.1, dtype=np.float32)
    with pytest.raises(ExportError, match="global operation"):
        measure_halo(_ShiftedAtTheBorder(), [image], multiple_px=8)


def test_the_units_of_a_halo_of_40_cut_common_sides_without_a_rest() -> None:
    """By hand: n tiles that overlap by 80 pixels, in multiples of 8."""
    edges_px = unit_edges_px(halo_px=40, multiple_px=8)
    assert edges_px == (64, 96, 128, 192, 256, 320, 384, 448, 512, 552, 664, 704, 736)
    assert (552 * 2 - 80, 664 * 5 - 4 * 80, 736 * 3 - 2 * 80) == (1024, 3000, 2048)
    assert 704 * 16 - 15 * 80 == 10_064


@given(multiple_px=st.sampled_from([1, 2, 4, 8, 16, 32]), halo_count=st.integers(0, 16))
def test_units_fit_every_halo_and_multiple(multiple_px: int, halo_count: int) -> None:
    """The contract's rules, and what the largest unit may cost: memory and a lane's time follow its pixels."""
    halo_px = multiple_px * min(halo_count, 128 // multiple_px)
    edges_px = unit_edges_px(halo_px=halo_px, multiple_px=multiple_px)
    assert list(edges_px) == sorted(set(edges_px))
    assert all(edge % multiple_px == 0 for edge in edges_px)
    assert 2 * halo_px < edges_px[-1] < 900
    for side_px, count in ((1024, 2), (2048, 3)):
        assert any(0 <= edge * count - 2 * halo_px * (count - 1) - side_px < count * multiple_px for edge in edges_px)
