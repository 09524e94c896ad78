"""What a network makes of an image that is one unit of the service, asked in torch or in ONNX Runtime. Needs torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, ModelContract
from service import tiling
from training.networks import Network

Floats = NDArray[np.float32]
# (1, C, H, W) to the same.
Run = Callable[[Floats], Floats]

_LARGEST_DIFFERING_SHARE = 0.001


def in_torch(network: Network) -> Run:
    """The network itself."""

    def run(planes: Floats) -> Floats:
        with torch.no_grad():
            image: Floats = network(torch.from_numpy(planes)).image.numpy()
        return image

    return run


def in_onnx_runtime(model_bytes: bytes) -> Run:
    """A model file."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])

    def run(planes: Floats) -> Floats:
        image: Floats = session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: planes})[0]
        return image

    return run


def as_one_unit(run: Run, contract: ModelContract, unit: Floats) -> Floats:
    """(H, W, C) in 0..1 to the same, reflected up to the unit's size as the service does it."""
    height_px, width_px, _ = unit.shape
    plan = tiling.plan(
        height_px=height_px,
        width_px=width_px,
        edges_px=contract.unit_edges_px,
        halo_px=contract.halo_px,
        multiple_px=contract.size_multiple_px,
    )
    assert plan.tile_count == 1
    padding = ((0, plan.rows.edge_px - height_px), (0, plan.columns.edge_px - width_px), (0, 0))
    planes = np.ascontiguousarray(np.pad(unit, padding, mode="symmetric").transpose(2, 0, 1))[np.newaxis]
    answer: Floats = run(planes)[0].transpose(1, 2, 0)[:height_px, :width_px]
    return answer


def assert_same_levels(got: NDArray[Any], expected: NDArray[Any]) -> None:
    """At most one level apart, on at most a thousandth of the values: sums in another order round otherwise."""
    difference = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= _LARGEST_DIFFERING_SHARE * difference.size
