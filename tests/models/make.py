"""Makes the test networks S and M, and S for unclipped values: untrained, exported by training's own functions.

Their shapes are those of the two networks that other servers are measured with, so that figures compare. Weights are
random but small, so that an answer is its input and a small change: what a network of this cost answers, not what it
is good for. Run it again and the same files come out, but for what another torch or exporter does otherwise.

    PYTHONPATH=.:proto python -m tests.models.make
"""

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoised.calibration import Calibration
from denoised.contract import MODEL_FILE, ModelContract, SampleLevels
from denoised.noise import NoiseSpec, keyed_rng
from training.export import extent, gate, onnx_file
from training.export.graphs import Graph, graphs_of
from training.export.publish import LICENSE, capabilities_of, golden_pair
from training.export.store import publish
from training.networks import Answer, Network, macs_per_pixel

STORE: Final = Path(__file__).parent
VERSION: Final = "1"

_SEED: Final = 20
_KEY: Final = 2**34 + 1
# Of the last layer's weights: the change is of a few 8-bit levels.
_RESIDUAL_SCALE: Final = 0.02
_PICTURE_SIDE_PX: Final = 384
_PICTURE_COUNT: Final = 2
_NOISE: Final = NoiseSpec.gaussian(sigma_min=0.0, sigma_max=50.0)
# As of data whose values have no ends: what is sent reaches the network as it is, even if it makes that overflow.
_UNCLIPPED: Final = NoiseSpec.gaussian(sigma_min=0.0, sigma_max=50.0, clip=False, quantise="none")


class Small(Network):
    """S: grey, two convolutions of stride 2 to 64 channels, and back by nearest resize and convolution."""

    channels = 1
    size_multiple_px = 4

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()
        )
        self.up = nn.Conv2d(64, 32, 3, padding=1)
        self.last = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:
        x = F.relu(self.up(F.interpolate(self.down(noisy), scale_factor=2, mode="nearest")))
        return Answer(noisy - self.last(F.interpolate(x, scale_factor=2, mode="nearest")))


class Medium(Network):
    """M: a colour U-Net of three levels with 32, 64 and 128 channels; skips are stacked, as in the original."""

    channels = 3
    size_multiple_px = 4

    def __init__(self) -> None:
        super().__init__()
        self.first = _double(3, 32)
        self.second = _double(32, 64)
        self.third = _double(64, 128)
        self.second_up = _double(128 + 64, 64)
        self.first_up = _double(64 + 32, 32)
        self.last = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:
        first = self.first(noisy)
        second = self.second(F.max_pool2d(first, 2))
        x = self.third(F.max_pool2d(second, 2))
        x = self.second_up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), second], dim=1))
        x = self.first_up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), first], dim=1))
        return Answer(noisy - self.last(x))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is made, and which units it takes.

    Attributes:
        unit_edges_px: sides of units: what is measured, and little more, because memory grows with the largest.
    """

    name: str
    network: Callable[[], Network]
    unit_edges_px: tuple[int, ...]
    summary: str
    noise: NoiseSpec = _NOISE


RECIPES: Final = (
    Recipe("bench-s", Small, (28, 64, 128, 256), "S: an untrained grey network for measurements, 10 MFLOP at 28 x 28."),
    Recipe("bench-open", Small, (64, 128, 256), "S again, made for values without ends.", _UNCLIPPED),
    Recipe("bench-m", Medium, (64, 128, 256), "M: an untrained colour U-Net for measurements, 15 GFLOP at 256 x 256."),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=STORE, help="store that gets what it lacks (default: beside this)")
    arguments = parser.parse_args()
    for recipe in RECIPES:
        if (arguments.to / recipe.name / VERSION).exists():
            print(f"{recipe.name} is there already")
            continue
        path, contract = make(recipe, arguments.to)
        print(f"{path}: {contract.gmac_per_megapixel} GMAC/MP, halo {contract.halo_px} px, {contract.unit_edges_px}")


def make(recipe: Recipe, store: Path) -> tuple[Path, ModelContract]:
    """Writes ``<store>/<name>/1/``, checked as any export is.

    Raises:
        ExportError: it exists, or a check failed.
    """
    torch.manual_seed(_SEED)
    network = recipe.network()
    _settle(network)
    (graph,) = graphs_of(network, "conv_dae")
    # Stacked skips and pooling are what other people's U-Nets have; training's own networks do without.
    signature = replace(graph.signature, allowed_ops=graph.signature.allowed_ops | {"Concat", "MaxPool"})
    graph = Graph(signature, graph.module, graph.size_multiple_px)
    model = onnx_file.to_onnx(graph)
    gate.check_structure(model, signature)
    bare = model.SerializeToString()
    session = onnx_file.session(bare)
    halo_px, tiling = extent.measure_halo(session, _pictures(network), multiple_px=network.size_multiple_px)
    contract = ModelContract(
        name=recipe.name,
        version=VERSION,
        kind="conv_dae",
        capabilities=capabilities_of("conv_dae"),
        precision="fp32",
        summary=recipe.summary,
        channels=network.channels,
        noise=recipe.noise,
        levels=SampleLevels(),
        size_multiple_px=network.size_multiple_px,
        fixed_side_px=0,
        unit_edges_px=recipe.unit_edges_px,
        halo_px=halo_px,
        receptive_field_px=extent.measure_receptive_field(
            session, channels=network.channels, multiple_px=network.size_multiple_px
        ),
        sigma_map_scale_px=0,
        code_length=0,
        gmac_per_megapixel=round(macs_per_pixel(network) / 1e3, 2),
        parity=gate.check_parity(graph, bare),
        tiling=tiling,
        quality_db={},
        calibration=Calibration(),
        training_data_digest=hashlib.sha256(b"").hexdigest(),
        run_config_digest=hashlib.sha256(b"").hexdigest(),
        license=LICENSE,
        golden=golden_pair(
            session, recipe.noise, channels=network.channels, multiple_px=network.size_multiple_px, fixed_side_px=None
        ),
    )
    sealed = onnx_file.with_metadata(bare, contract.to_metadata())
    gate.check_no_paths(sealed, private=(store,))
    target = store / recipe.name / VERSION
    publish(target, {MODEL_FILE: sealed}, check=lambda folder: gate.check_written(folder, [signature], contract))
    return target / MODEL_FILE, contract


def _settle(network: Network) -> None:
    """He's scale in every layer, which keeps activations alive, and a last layer that changes little."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        assert convolution.bias is not None
        nn.init.uniform_(convolution.bias, -0.05, 0.05)
    with torch.no_grad():
        convolutions[-1].weight.mul_(_RESIDUAL_SCALE)


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU()
    )


def _pictures(network: Network) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Uniform noise: the hardest there is for a seam."""
    shape = (1, network.channels, _PICTURE_SIDE_PX, _PICTURE_SIDE_PX)
    return [keyed_rng(_KEY, index).random(shape, dtype=np.float32) for index in range(_PICTURE_COUNT)]


if __name__ == "__main__":
    main()
