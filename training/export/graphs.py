"""Which graphs a network is written as: the whole, and for a network with a code its encoder and decoder too.

A graph is a module whose arguments and answers have names and sizes. Nothing in it is random: a variational encoder
takes its draw as an input, and the whole goes through the mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from denoised.contract import (
    CODE_NAME,
    DECODER_FILE,
    ENCODER_FILE,
    EPSILON_NAME,
    GENERATIVE_KINDS,
    IMAGE_OUTPUT_NAME,
    INPUT_NAME,
    LATENT_KINDS,
    LOG_VARIANCE_NAME,
    MEAN_NAME,
    MODEL_FILE,
    SIGMA_OUTPUT_NAME,
    Kind,
)
from training.networks import LatentNetwork, Network

BATCH: Final = "batch"
HEIGHT: Final = "height"
WIDTH: Final = "width"

# Nothing random, conditional or custom anywhere; nothing global in a network that is to be tiled.
_CONVOLUTIONAL_OPS: Final = frozenset(
    {
        "Conv",
        "Relu",
        "Clip",
        "Add",
        "Div",
        "Sub",
        "Mul",
        "Resize",
        "DepthToSpace",
        "ConvTranspose",
        "Constant",
        "Identity",
    }
)
_CODE_OPS: Final = frozenset({"Gemm", "MatMul", "Reshape", "Sigmoid", "Exp", "Slice"})
ALLOWED_OPS: Final[Mapping[Kind, frozenset[str]]] = {
    "conv_dae": _CONVOLUTIONAL_OPS,
    "conv_ae": _CONVOLUTIONAL_OPS | _CODE_OPS,
    "vae": _CONVOLUTIONAL_OPS | _CODE_OPS,
    "fc_ae": frozenset({"Gemm", "MatMul", "Add", "Relu", "Reshape", "Sigmoid"}),
    "pca": frozenset({"Gemm", "MatMul", "Add", "Sub", "Reshape"}),
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, and its sizes; a size that is free has a name."""

    name: str
    sizes: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What one file is from outside.

    Attributes:
        file_name: in the model's directory.
        allowed_ops: operators that the file may hold.
    """

    file_name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    allowed_ops: frozenset[str]


@dataclass(frozen=True, slots=True)
class Graph:
    """What is written to one file.

    Attributes:
        signature: of the file.
        module: takes the inputs in order and answers with a tuple of the outputs.
        size_multiple_px: what free heights and widths are multiples of.
    """

    signature: Signature
    module: nn.Module
    size_multiple_px: int


def graphs_of(network: Network, kind: Kind) -> tuple[Graph, ...]:
    """The whole first; then encoder and decoder where there is a code."""
    multiple_px, allowed = network.size_multiple_px, ALLOWED_OPS[kind]
    side: tuple[str | int, str | int] = (HEIGHT, WIDTH)
    if network.fixed_side_px is not None:
        side = (network.fixed_side_px, network.fixed_side_px)
    image = (BATCH, network.channels, *side)
    noisy, denoised = Port(INPUT_NAME, image), Port(IMAGE_OUTPUT_NAME, image)
    outputs = [denoised]
    if network.sigma_map_scale_px is not None:
        outputs.append(Port(SIGMA_OUTPUT_NAME, (BATCH, 1, "map_height", "map_width")))
    if kind not in LATENT_KINDS:
        return (Graph(Signature(MODEL_FILE, (noisy,), tuple(outputs), allowed), _Whole(network), multiple_px),)

    assert isinstance(network, LatentNetwork)
    numbers = (BATCH, network.code_length)
    mean, log_variance, code = (Port(name, numbers) for name in (MEAN_NAME, LOG_VARIANCE_NAME, CODE_NAME))
    whole_outputs: tuple[Port, ...] = (denoised, mean)
    encoder_inputs: tuple[Port, ...] = (noisy,)
    encoder_outputs: tuple[Port, ...] = (code,)
    encoder: nn.Module = _Encoder(network)
    if kind in GENERATIVE_KINDS:
        whole_outputs += (log_variance,)
        encoder_inputs += (Port(EPSILON_NAME, numbers),)
        encoder_outputs = (mean, log_variance, code)
        encoder = _DrawingEncoder(network)
    return (
        Graph(Signature(MODEL_FILE, (noisy,), whole_outputs, allowed), _Whole(network), multiple_px),
        Graph(Signature(ENCODER_FILE, encoder_inputs, encoder_outputs, allowed), encoder, multiple_px),
        Graph(Signature(DECODER_FILE, (code,), (denoised,), allowed), _Decoder(network), multiple_px),
    )


class _Whole(nn.Module):
    """Image to image, and whatever the network knows besides."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: Tensor) -> tuple[Tensor, ...]:
        answer = self.network(noisy)
        code = answer.code or ()
        return tuple(tensor for tensor in (answer.image, answer.sigma_map, *code) if tensor is not None)


class _Encoder(nn.Module):
    """Image to its code, where that is one."""

    def __init__(self, network: LatentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: Tensor) -> tuple[Tensor, ...]:
        return (self.network.encode(noisy).mean,)


class _DrawingEncoder(nn.Module):
    """Image and draw to the code's distribution and the code that was drawn."""

    def __init__(self, network: LatentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: Tensor, epsilon: Tensor) -> tuple[Tensor, ...]:
        code = self.network.encode(noisy)
        assert code.log_variance is not None
        return code.mean, code.log_variance, code.sample(epsilon)


class _Decoder(nn.Module):
    """Code to image."""

    def __init__(self, network: LatentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, code: Tensor) -> tuple[Tensor, ...]:
        return (self.network.decode(code),)
