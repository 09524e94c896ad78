"""What a written file must fulfil before it may be served. Each check ends with an ExportError that says what is off.

The checks look at bytes and at ONNX Runtime's answers, never at the network's source: what passes here is what is
served. What is measured on a file besides (its halo, its reach) is in ``extent``.
"""

import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from denoised.contract import (
    CODE_NAME,
    COMPOSITION_TOLERANCE,
    DECODER_FILE,
    ENCODER_FILE,
    EPSILON_NAME,
    IMAGE_OUTPUT_NAME,
    INPUT_NAME,
    MODEL_FILE,
    ContractError,
    ModelContract,
    Parity,
)
from denoised.noise import NoiseSpec, keyed_rng
from denoised.seal import check_seal
from training.config import ConvDaeConfig
from training.data.manifest import Supervision
from training.errors import ExportError
from training.export import onnx_file
from training.export.graphs import BATCH, HEIGHT, WIDTH, Graph, Signature
from training.networks import Network
from training.run.published import network_in

_HIGHEST_IR_VERSION: Final = 10
_LARGEST_FILE_BYTES: Final = 64 * 1024 * 1024
_LARGEST_DIFFERENCE: Final = 1e-4
_LEAST_PARITY_DB: Final = 80.0
# A pixel, less than a block, odd, a strip, and larger than a unit is ever.
_PARITY_SIZES_PX: Final = ((1, 1), (8, 8), (17, 51), (33, 517), (640, 576))
_BATCHES: Final = (1, 2, 5)
_LARGEST_PARITY_PIXELS: Final = 640 * 576
_LARGEST_SHIFT_LEVELS: Final[Mapping[Supervision, int]] = {"clean": 1, "pairs": 3, "noisy": 3}
_FLAT_SIDE_PX: Final = 128
_GATE_KEY: Final = 2**33 + 1
_PATH: Final = re.compile(r"/|\\")


def check_structure(model: onnx.ModelProto, signature: Signature) -> None:
    """The graph is valid, one file, of the agreed opset, with the agreed ports, and has no operator but the allowed.

    Raises:
        ExportError: with everything that is off.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{signature.file_name} is no valid ONNX: {error}") from error
    problems = []
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    if opsets != [("", onnx_file.OPSET)]:
        problems.append(f"opset is {opsets}, not {onnx_file.OPSET}")
    if model.ir_version > _HIGHEST_IR_VERSION:
        problems.append(f"IR version is {model.ir_version}; at most {_HIGHEST_IR_VERSION} is read by older runtimes")
    if model.ByteSize() > _LARGEST_FILE_BYTES:
        problems.append(f"it has {model.ByteSize()} bytes; at most {_LARGEST_FILE_BYTES} are served: make it smaller")
    foreign = sorted({node.op_type for node in model.graph.node if node.op_type not in signature.allowed_ops})
    if foreign or any(node.domain for node in model.graph.node) or model.functions:
        problems.append(f"it has the operators {foreign}; allowed are {', '.join(sorted(signature.allowed_ops))}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        problems.append("weights lie outside it")
    for values, ports in ((model.graph.input, signature.inputs), (model.graph.output, signature.outputs)):
        found = [(v.name, tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values]
        if found != [(port.name, port.sizes) for port in ports]:
            problems.append(f"it has {found} where {[(port.name, port.sizes) for port in ports]} was promised")
    if problems:
        raise ExportError(f"{signature.file_name} is not servable: {'; '.join(problems)}")


def check_no_paths(model_bytes: bytes, *, private: Sequence[Path]) -> None:
    """Nothing in the file tells where it was made.

    Args:
        model_bytes: the file.
        private: directories that must not be named in it, beside those of the code and of Python.

    Raises:
        ExportError: it holds a path, a doc string or a note of the exporter.
    """
    model = onnx.load_from_string(model_bytes)
    own = (Path(__file__).resolve().parents[2], Path(sys.prefix), *(path.resolve() for path in private))
    named = [str(path) for path in own if len(path.parts) > 2 and str(path).encode() in model_bytes]
    graph = model.graph
    items: list[Any] = [*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info]
    named += [item.name for item in items if _PATH.search(item.name)]
    named += [text for item in (model, graph, *items) if (text := item.doc_string)]
    named += [f"{note.key}={note.value}" for item in (graph, *items) for note in item.metadata_props]
    if named:
        raise ExportError(f"the file tells about the machine that made it: {', '.join(named[:3])}")


def check_readable(model_bytes: bytes, config: ConvDaeConfig, network: Network) -> None:
    """Shape and weights can be read back from the file as they are, so that training can go on from it.

    Raises:
        ExportError: something else comes out of it.
    """
    try:
        read_config, weights = network_in(onnx.load_from_string(model_bytes))
    except ValueError as error:
        raise ExportError(f"{MODEL_FILE} can't be read back: {error}") from error
    own = network.state_dict()
    if read_config != config or any(not torch.equal(weights[name], value) for name, value in own.items()):
        raise ExportError(
            f"read back from {MODEL_FILE}, the network is {read_config!r}, perhaps with other weights; it was "
            f"{config!r}. The exporter must have folded something: use the locked release of torch"
        )


def check_parity(graph: Graph, model_bytes: bytes) -> Parity:
    """Compares ONNX Runtime with torch at every optimisation level, over batch sizes and image sizes.

    Differences of numbers beyond -1..1, such as codes, are relative to the largest of them.

    Raises:
        ExportError: they differ by more than float32 sums in another order can explain.
    """
    feeds = list(_parity_inputs(graph))
    names = [port.name for port in graph.signature.outputs]
    with torch.no_grad():
        expected = [
            [output.numpy() for output in graph.module(*(torch.from_numpy(array) for array in feed.values()))]
            for feed in feeds
        ]
    largest, worst, square_sum, count = 0.0, "", 0.0, 0
    for level in onnx_file.OPTIMISATION_LEVELS:
        session = onnx_file.session(model_bytes, level=level)
        for feed, wanted in zip(feeds, expected, strict=True):
            got = onnx_file.run(session, **feed)
            for name, want in zip(names, wanted, strict=True):
                error = (got[name] - want).astype(np.float64) / max(1.0, float(np.abs(want).max()))
                # A comparison with NaN is never true, and a NaN must not pass.
                difference = float(np.nan_to_num(np.abs(error), nan=np.inf).max())
                if difference > largest:
                    largest, worst = difference, f"{name} at {level.name}"
                square_sum, count = square_sum + float(np.square(error).sum()), count + error.size
    parity_db = 200.0 if square_sum == 0 else min(200.0, -10 * float(np.log10(square_sum / count)))
    if not (largest <= _LARGEST_DIFFERENCE and parity_db >= _LEAST_PARITY_DB):
        raise ExportError(
            f"{graph.signature.file_name}: ONNX Runtime differs from torch by up to {largest:.2e} in {worst} "
            f"({parity_db:.1f} dB over all); allowed are {_LARGEST_DIFFERENCE:.0e} and {_LEAST_PARITY_DB:.0f} dB"
        )
    return Parity(max_abs_difference=largest, psnr_db=round(parity_db, 1))


def check_composition(files: Mapping[str, bytes], *, channels: int, side_px: int, code_length: int) -> None:
    """Encoder and decoder, one behind the other, are the whole model.

    Raises:
        ExportError: they answer something else.
    """
    whole, encoder, decoder = (onnx_file.session(files[name]) for name in (MODEL_FILE, ENCODER_FILE, DECODER_FILE))
    noisy = keyed_rng(_GATE_KEY, 0).random((3, channels, side_px, side_px), dtype=np.float32)
    feed = {INPUT_NAME: noisy}
    if any(port.name == EPSILON_NAME for port in encoder.get_inputs()):
        feed[EPSILON_NAME] = np.zeros((len(noisy), code_length), dtype=np.float32)
    code = onnx_file.run(encoder, **feed)[CODE_NAME]
    answer = onnx_file.run(decoder, **{CODE_NAME: code})[IMAGE_OUTPUT_NAME]
    difference = float(np.abs(answer - onnx_file.run(whole, **{INPUT_NAME: noisy})[IMAGE_OUTPUT_NAME]).max())
    if not difference <= COMPOSITION_TOLERANCE:
        raise ExportError(
            f"{ENCODER_FILE} and {DECODER_FILE} differ from {MODEL_FILE} by {difference:.2e}; "
            f"allowed are {COMPOSITION_TOLERANCE:.0e}"
        )


def check_flat_pictures(
    session: ort.InferenceSession, supervision: Supervision, noise: NoiseSpec, *, channels: int, multiple_px: int
) -> None:
    """Black, white and grey keep their brightness, and grey gets no colour.

    Within one 8-bit level where clean images were the truth. Recorded noise may be lopsided near black and white, and
    pairs may differ in brightness; what was learnt from them may be three off. A network that learnt from noisy images
    alone has seen no picture without noise: it gets flat ones with the mildest of its noise, and must keep their mean,
    which clipping has moved near black and white as in all that it learnt from. For denoisers of photographs; a
    bottleneck of digits has never seen such pictures.

    Raises:
        ExportError: a level comes back darker, brighter or tinted.
    """
    side_px = -(-_FLAT_SIDE_PX // multiple_px) * multiple_px
    limit = _LARGEST_SHIFT_LEVELS[supervision]
    for level in range(0, 256, 5):
        flat = np.full((side_px, side_px, channels), level / 255, dtype=np.float32)
        if supervision == "noisy":
            flat = noise.at(0.0).apply(flat, keyed_rng(_GATE_KEY, 1, level)).image
        planes = np.ascontiguousarray(flat.transpose(2, 0, 1))
        shifts = rounded(image_of(session, planes[np.newaxis]))[0] - planes * 255
        if supervision == "noisy":
            shifts = shifts.mean(axis=(1, 2), keepdims=True)
        off = float(np.abs(shifts).max())
        tint = float((shifts.max(axis=0) - shifts.min(axis=0)).max())
        if not max(off, tint) <= limit:
            raise ExportError(
                f"a flat picture of level {level} comes back {off:.0f} levels off, its channels {tint:.0f} apart; at "
                f"most {limit} is allowed. Train longer, with weak noise in the range and generated pictures "
                "(data.synthetic_share)"
            )


def check_written(folder: Path, signatures: Sequence[Signature], contract: ModelContract) -> None:
    """The files on the disk are sealed, carry this contract, still have its graphs; the first makes the golden pair.

    Raises:
        ExportError: what was written is not what was measured.
    """
    for signature in signatures:
        model_bytes = (folder / signature.file_name).read_bytes()
        try:
            check_seal(model_bytes)
            metadata = onnx_file.session(model_bytes).get_modelmeta().custom_metadata_map
            carried = ModelContract.from_metadata(metadata)
        except ContractError as error:
            raise ExportError(f"{signature.file_name} was not written whole: {error}") from error
        if carried != contract:
            raise ExportError(f"{signature.file_name} carries another contract than the one that was measured")
        check_structure(onnx.load_from_string(model_bytes), signature)
    golden = contract.golden
    unit = golden.noisy().astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255)
    session = onnx_file.session((folder / signatures[0].file_name).read_bytes())
    answer = rounded(image_of(session, unit))[0].transpose(1, 2, 0)
    difference = int(np.abs(answer - golden.denoised().astype(np.float32)).max())
    if not difference <= golden.TOLERANCE_LEVELS:
        raise ExportError(f"{signatures[0].file_name} differs from its golden pair by {difference} levels")


def image_of(session: ort.InferenceSession, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image output for (N, C, H, W)."""
    (image,) = session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(noisy)})
    answer: NDArray[np.float32] = image
    return answer


def rounded(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """In 8-bit levels, as a service would write them."""
    levels: NDArray[np.float32] = np.rint(np.clip(image, 0, 1) * np.float32(255))
    return levels


def _parity_inputs(graph: Graph) -> list[dict[str, NDArray[np.float32]]]:
    """Uniform images, padded by reflection as the service pads them, and normal draws for everything else."""
    multiple_px = graph.size_multiple_px
    has_free_sides = any(HEIGHT in port.sizes for port in graph.signature.inputs)
    feeds = []
    for index, (batch, (height_px, width_px)) in enumerate(
        itertools.product(_BATCHES, _PARITY_SIZES_PX if has_free_sides else ((0, 0),))
    ):
        if batch * height_px * width_px > _LARGEST_PARITY_PIXELS:
            continue
        rng = keyed_rng(_GATE_KEY, 2, index)
        feed = {}
        for port in graph.signature.inputs:
            free = {BATCH: batch, HEIGHT: height_px, WIDTH: width_px}
            sizes = [free[size] if isinstance(size, str) else size for size in port.sizes]
            if port.name == INPUT_NAME:
                picture = rng.random(sizes, dtype=np.float32)
                padding = [(0, -side % multiple_px) for side in sizes[2:]]
                feed[port.name] = np.pad(picture, ((0, 0), (0, 0), *padding), mode="symmetric")
            else:
                feed[port.name] = rng.standard_normal(sizes, dtype=np.float32)
        feeds.append(feed)
    return feeds
