"""Each check of the gate passes a right file and refuses one that violates it, by a message that says what is off."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from denoised.calibration import Calibration
from denoised.contract import GoldenPair, ModelContract, Parity, SampleLevels, TilingError
from denoised.noise import NoiseSpec
from tests.unit.training.export.small import IMAGE, SIGNATURE, affine, box, identity, image_model
from training.errors import ExportError
from training.export import gate, onnx_file
from training.export.graphs import Graph, Port

pytestmark = pytest.mark.training

CLEAN = NoiseSpec.gaussian(0.0, 50.0)


# --- structure --------------------------------------------------------------------------------------------------------


def test_a_file_as_promised_passes() -> None:
    gate.check_structure(box(3), SIGNATURE)


def random_noise() -> onnx.ModelProto:
    nodes = [
        helper.make_node("RandomNormalLike", ["noisy"], ["draw"]),
        helper.make_node("Add", ["noisy", "draw"], ["denoised"]),
    ]
    return image_model(nodes)


def weights_outside() -> onnx.ModelProto:
    model = box(3)
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    return model


def other_name() -> onnx.ModelProto:
    model = identity()
    model.graph.node[0].output[0] = model.graph.output[0].name = "clean"
    return model


def too_large() -> onnx.ModelProto:
    model = box(3)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(17 * 2**20, np.float32), "ballast"))
    return model


def dangling() -> onnx.ModelProto:
    return image_model([helper.make_node("Identity", ["nothing"], ["denoised"])])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (random_noise, r"operators \['RandomNormalLike'\]; allowed are Add, Conv"),
        (lambda: image_model(identity().graph.node, opset=18), r"opset is \[\('', 18\)\], not 20"),
        (lambda: image_model(identity().graph.node, ir_version=11), "IR version is 11; at most 10"),
        (lambda: image_model(identity().graph.node, free=("batch",)), r"\('batch', 1, 2, 2\).*was promised"),
        (lambda: image_model(identity().graph.node, free=("height", "width")), r"\(2, 1, 'height', 'width'\)"),
        (other_name, "'clean'.*was promised"),
        (too_large, "bytes; at most"),
        (dangling, "is no valid ONNX"),
        (weights_outside, "is no valid ONNX|weights lie outside it"),
    ],
    ids=["random", "opset", "IR", "fixed sides", "fixed batch", "name", "size", "dangling", "external"],
)
def test_a_file_that_is_not_as_promised_is_refused(make: Callable[[], onnx.ModelProto], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        gate.check_structure(make(), SIGNATURE)


# --- paths ------------------------------------------------------------------------------------------------------------


def with_doc() -> onnx.ModelProto:
    model = identity()
    model.graph.node[0].doc_string = "a comment"
    return model


def with_note() -> onnx.ModelProto:
    model = identity()
    model.graph.node[0].metadata_props.add(key="stack_trace", value="line 3")
    return model


def with_path_as_name() -> onnx.ModelProto:
    model = identity()
    model.graph.node[0].name = "/home/somebody/network.py"
    return model


def with_path_in_metadata() -> onnx.ModelProto:
    model = identity()
    model.metadata_props.add(key="from", value="/secret/runs/mine")
    return model


@pytest.mark.parametrize("make", [with_doc, with_note, with_path_as_name, with_path_in_metadata])
def test_a_file_that_tells_about_the_machine_is_refused(make: Callable[[], onnx.ModelProto]) -> None:
    with pytest.raises(ExportError, match="tells about the machine that made it"):
        gate.check_no_paths(make().SerializeToString(), private=[Path("/secret/runs/mine")])


def test_a_plain_file_tells_nothing() -> None:
    gate.check_no_paths(box(3).SerializeToString(), private=[Path("/secret/runs/mine")])


# --- parity -----------------------------------------------------------------------------------------------------------


class Blur(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, noisy: Tensor) -> tuple[Tensor, ...]:
        return (self.layer(noisy),)


class DependsOnTheBatch(nn.Module):
    def forward(self, noisy: Tensor) -> tuple[Tensor, ...]:
        return (noisy * torch.ones(2, 1, 1, 1),)


def test_a_written_file_agrees_with_torch_and_a_changed_weight_does_not() -> None:
    torch.manual_seed(0)
    module = Blur()
    graph = Graph(replace(SIGNATURE, outputs=(Port("denoised", IMAGE),)), module, size_multiple_px=4)
    model_bytes = onnx_file.to_onnx(graph).SerializeToString()

    parity = gate.check_parity(graph, model_bytes)
    with torch.no_grad():
        module.layer.weight += 1e-3

    assert parity.max_abs_difference < 1e-6
    assert parity.psnr_db > 120
    with pytest.raises(ExportError, match=r"model\.onnx: ONNX Runtime differs from torch by up to .* in denoised"):
        gate.check_parity(graph, model_bytes)


def test_an_answer_that_is_no_number_never_passes_for_parity() -> None:
    module = Blur()
    graph = Graph(SIGNATURE, module, size_multiple_px=1)
    with pytest.raises(ExportError, match="differs from torch by up to inf"):
        gate.check_parity(graph, affine([float("nan")], [0.0]).SerializeToString())


def test_a_size_that_became_a_constant_is_refused() -> None:
    graph = Graph(SIGNATURE, DependsOnTheBatch(), size_multiple_px=1)
    with pytest.raises(Exception, match=r"constant 2|batch"):
        onnx_file.to_onnx(graph)


# --- flat pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_keeps_flat_pictures_passes(channels: int) -> None:
    session = onnx_file.session(affine([1.0] * channels, [0.5 / 255] * channels).SerializeToString())
    gate.check_flat_pictures(session, "clean", CLEAN, channels=channels, multiple_px=4)


def test_what_was_learnt_from_recorded_noise_may_be_further_off() -> None:
    session = onnx_file.session(affine([1.0], [2.5 / 255]).SerializeToString())
    gate.check_flat_pictures(session, "pairs", CLEAN, channels=1, multiple_px=4)
    with pytest.raises(ExportError, match=r"level 0 comes back 2 levels off.*at most 1 is allowed"):
        gate.check_flat_pictures(session, "clean", CLEAN, channels=1, multiple_px=4)


def test_a_network_of_noisy_images_keeps_what_clipping_makes_of_flat_ones() -> None:
    strong = NoiseSpec.gaussian(40.0, 60.0)
    # Clipping lifts black with noise of sigma 40 by 16 levels; what was learnt from is that bright.
    for offset, is_kept in ((0.0, True), (16 / 255, False)):
        session = onnx_file.session(affine([1.0], [offset]).SerializeToString())
        with nullcontext() if is_kept else pytest.raises(ExportError, match="levels off"):
            gate.check_flat_pictures(session, "noisy", strong, channels=1, multiple_px=4)


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        ([1.0] * 3, [2 / 255] * 3, r"level 0 comes back 2 levels off"),
        ([0.98] * 3, [0.0] * 3, "levels off"),
        ([1.0] * 3, [0.7 / 255, 0.0, -0.7 / 255], r"its channels 2 apart"),
        ([float("nan")] * 3, [0.0] * 3, "nan"),
    ],
    ids=["brighter", "darker", "tinted", "no number"],
)
def test_a_network_that_changes_flat_pictures_is_refused(scale: list[float], offset: list[float], message: str) -> None:
    session = onnx_file.session(affine(scale, offset).SerializeToString())
    with pytest.raises(ExportError, match=message):
        gate.check_flat_pictures(session, "clean", CLEAN, channels=3, multiple_px=4)


# --- what was written -------------------------------------------------------------------------------------------------


@pytest.fixture
def contract() -> ModelContract:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    return ModelContract(
        name="tiny",
        version="1",
        kind="conv_dae",
        capabilities=("denoise",),
        precision="fp32",
        summary="For tests.",
        channels=1,
        noise=CLEAN,
        levels=SampleLevels(),
        size_multiple_px=4,
        fixed_side_px=0,
        unit_edges_px=(64,),
        halo_px=8,
        receptive_field_px=1,
        sigma_map_scale_px=0,
        code_length=0,
        gmac_per_megapixel=0.0,
        parity=Parity(0.0, 200.0),
        tiling=TilingError(0, 0.0),
        quality_db={},
        calibration=Calibration(),
        training_data_digest="1",
        run_config_digest="2",
        license="Apache-2.0",
        golden=GoldenPair.of(picture, picture),
    )


def written(folder: Path, contract: ModelContract) -> bytes:
    content = onnx_file.with_metadata(identity().SerializeToString(), contract.to_metadata())
    (folder / "model.onnx").write_bytes(content)
    return content


def test_what_was_measured_is_what_lies_on_the_disk(contract: ModelContract, tmp_path: Path) -> None:
    written(tmp_path, contract)
    gate.check_written(tmp_path, [SIGNATURE], contract)


def test_a_byte_that_changed_on_its_way_to_the_disk_is_noticed(contract: ModelContract, tmp_path: Path) -> None:
    content = bytearray(written(tmp_path, contract))
    content[len(content) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.onnx was not written whole"):
        gate.check_written(tmp_path, [SIGNATURE], contract)


def test_another_contract_in_the_file_is_noticed(contract: ModelContract, tmp_path: Path) -> None:
    written(tmp_path, replace(contract, summary="Another."))
    with pytest.raises(ExportError, match="another contract"):
        gate.check_written(tmp_path, [SIGNATURE], contract)


def test_a_golden_pair_that_the_file_does_not_reproduce_is_noticed(contract: ModelContract, tmp_path: Path) -> None:
    noisy = contract.golden.noisy()
    wrong = replace(contract, golden=GoldenPair.of(noisy, noisy + np.uint8(2)))
    written(tmp_path, wrong)
    with pytest.raises(ExportError, match="differs from its golden pair by 2 levels"):
        gate.check_written(tmp_path, [SIGNATURE], wrong)
