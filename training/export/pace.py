"""How much of the processor a network uses: its multiply-accumulates per second beside those of a plain chain.

A chain of 3x3 convolutions is the fastest that ONNX Runtime does with multiplications on a processor. Both are run in
turn in one process, so that the share is the network's alone: neither the machine nor what else it does is in it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, ModelContract
from denoised.noise import keyed_rng
from training.errors import ExportError
from training.export.onnx_file import OPSET
from training.export.speed import SpeedUp, speed_up

# The width and the grid on which the shipped networks spend most of their time: half the image's sides.
_WIDTH: Final = 64
_LAYER_COUNT: Final = 8
_IR_VERSION: Final = 10
_KEY: Final = 2**33 + 6


class Pace(NamedTuple):
    """How fast a network computes at one size, on one thread.

    Attributes:
        height_px, width_px: of the picture.
        time_ms: for it, median.
        gmac_per_s: of the network.
        chain_gmac_per_s: of the plain chain.
        share: the former over the latter, median over pairs of runs.
        low, high: its quartiles.
    """

    height_px: int
    width_px: int
    time_ms: float
    gmac_per_s: float
    chain_gmac_per_s: float
    share: float
    low: float
    high: float


def measure_pace(model_bytes: bytes, contract: ModelContract) -> Sequence[Pace]:
    """Runs a network and the chain in turn, on pictures of several sizes.

    Args:
        model_bytes: a file.
        contract: its own.

    Raises:
        ExportError: it takes images of one size alone.
    """
    if contract.fixed_side_px:
        raise ExportError(
            f"{contract.name} takes {contract.fixed_side_px} x {contract.fixed_side_px} pixels alone; the pace is "
            "measured of networks that take any size"
        )
    channels = contract.channels
    chain = chain_of_convolutions(channels)
    pairs = speed_up(chain, model_bytes, channels=channels, multiple_px=contract.size_multiple_px)
    return [_pace(pair, contract.gmac_per_megapixel, chain_gmac_per_megapixel(channels)) for pair in pairs]


def chain_gmac_per_megapixel(channels: int) -> float:
    """What :func:`chain_of_convolutions` costs."""
    inputs = [channels, *[_WIDTH] * (_LAYER_COUNT - 1)]
    return sum(9 * count * _WIDTH for count in inputs) / 4 / 1e3


def chain_of_convolutions(channels: int) -> bytes:
    """Convolutions of 3x3 with ReLU at half the image's sides, the first of them with stride 2, and nothing else."""
    rng = keyed_rng(_KEY)
    nodes, weights, name = [], [], INPUT_NAME
    for layer in range(_LAYER_COUNT):
        inputs = _WIDTH if layer else channels
        # He's scale keeps the values alive; numbers that die out into denormals would be slow.
        kernel: NDArray[np.float32] = rng.standard_normal((_WIDTH, inputs, 3, 3), dtype=np.float32)
        kernel *= np.float32(np.sqrt(2 / (9 * inputs)))
        weights.append(numpy_helper.from_array(kernel, f"weight{layer}"))
        output = IMAGE_OUTPUT_NAME if layer == _LAYER_COUNT - 1 else f"layer{layer}"
        nodes += [
            helper.make_node(
                "Conv", [name, f"weight{layer}"], [f"sum{layer}"], pads=[1] * 4, strides=[1 if layer else 2] * 2
            ),
            helper.make_node("Relu", [f"sum{layer}"], [output]),
        ]
        name = output
    ports = [
        helper.make_tensor_value_info(port, TensorProto.FLOAT, ["images", count, None, None])
        for port, count in ((INPUT_NAME, channels), (IMAGE_OUTPUT_NAME, _WIDTH))
    ]
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], weights)
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
    )
    return model.SerializeToString()


def _pace(pair: SpeedUp, gmac_per_megapixel: float, chain_gmac: float) -> Pace:
    # In GMAC per second: a thousandth of a megapixel in a thousandth of a second.
    kilopixels = pair.height_px * pair.width_px / 1e3
    relative = gmac_per_megapixel / chain_gmac
    return Pace(
        height_px=pair.height_px,
        width_px=pair.width_px,
        time_ms=pair.second_ms,
        gmac_per_s=gmac_per_megapixel * kilopixels / pair.second_ms,
        chain_gmac_per_s=chain_gmac * kilopixels / pair.first_ms,
        share=pair.ratio * relative,
        low=pair.low * relative,
        high=pair.high * relative,
    )
