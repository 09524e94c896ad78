"""How far a network looks is measured on its file: halo and receptive field."""

import numpy as np
import onnx
import pytest
from onnx import helper

from denoised.noise import keyed_rng
from tests.unit.training.export.small import box, identity, image_model
from training.errors import ExportError
from training.export import onnx_file
from training.export.extent import measure_halo, measure_receptive_field

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
