"""An int8 variant is published when it keeps the budget, runs in integers and is faster; otherwise nothing is."""

import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from denoised.contract import GoldenPair, ModelContract
from denoised.noise import NoiseSpec
from denoised.seal import check_seal
from tests.tiny_models import dimmer
from tests.unit.training.export.small import packed_pairs, run_of
from tests.unit.training.run.tiny import CONV_DAE, packed
from training.data.pack import Pack
from training.errors import ExportError, RunError
from training.export import onnx_file
from training.export.int8_graph import Fusion, Quantiser, fusion_of
from training.export.judge import Judge, judged_conditions, judged_severities, largest_loss_db
from training.export.pictures import noisy_pictures
from training.export.publish import export
from training.export.quantize import quantize, within_budget
from training.export.speed import SpeedUp, speed_up

pytestmark = pytest.mark.training

NETWORK = CONV_DAE | {"widths": [16, 32], "middle_blocks": 2, "decoder_blocks": [1]}


def timed(ratio: float) -> Any:
    """A stand-in for a stopwatch."""

    def measure(*_files: bytes, channels: int, multiple_px: int) -> Sequence[SpeedUp]:
        assert (channels, multiple_px) == (1, 8)
        return [SpeedUp(64, 64, ratio, ratio - 0.1, ratio + 0.1, 1.0, 1.0 / ratio, 15)]

    return measure


@pytest.fixture(scope="module")
def source(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published float model."""
    folder = tmp_path_factory.mktemp("float")
    run = run_of(folder / "run", pack, network=NETWORK, spread=0.0001)
    return export(run, pack, folder / "store", version=None, calibration_crop_count=16).path.parent


@pytest.fixture(scope="module")
def crops(pack: Pack) -> list[np.ndarray]:
    pictures = noisy_pictures(
        pack,
        NoiseSpec.gaussian(0, 50),
        supervision="clean",
        held_out=False,
        count=20,
        severities=(0.0, 0.5, 1.0),
        multiple_px=8,
        least_px=64,
        most_px=64,
    )
    return [picture.noisy for picture in pictures]


# --- the graph --------------------------------------------------------------------------------------------------------


def test_quantised_convolutions_all_run_in_integers_and_sums_stay_in_floats(
    source: Path, crops: list[np.ndarray], tmp_path: Path
) -> None:
    content = (source / "model.onnx").read_bytes()
    quantiser = Quantiser(content, crops, tmp_path)
    int8 = quantiser.quantised(quantiser.candidates)

    fusion = fusion_of(int8, tmp_path)
    graph = onnx.load_from_string(int8).graph
    made_by = {output: node for node in graph.node for output in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}

    assert fusion.fused_count == fusion.quantised_count == len(quantiser.candidates)
    assert 0 < fusion.fused_count < fusion.total_count
    assert fusion_of(content, tmp_path) == Fusion(0, 0, fusion.total_count)
    for node in graph.node:
        if node.op_type == "Conv" and node.name in quantiser.candidates:
            activation, weight = (made_by[tensor] for tensor in node.input[:2])
            assert weights[activation.input[2]].data_type == onnx.TensorProto.UINT8
            assert weights[weight.input[0]].data_type == onnx.TensorProto.INT8
            # One scale for each output channel.
            assert list(weights[weight.input[1]].dims) == list(weights[weight.input[0]].dims[:1])
    # No sum reads a tensor that was rounded although it exists in floats.
    for node in (node for node in graph.node if node.op_type == "Add"):
        for tensor in node.input:
            maker = made_by.get(tensor)
            if maker is not None and maker.op_type == "DequantizeLinear":
                rounded = made_by[made_by[maker.input[0]].input[0]]
                assert rounded.op_type == "Conv"
                assert rounded.name in quantiser.candidates


def test_the_first_and_last_convolutions_and_the_noise_estimate_are_no_candidates(
    source: Path, crops: list[np.ndarray], tmp_path: Path
) -> None:
    content = (source / "model.onnx").read_bytes()
    names = Quantiser(content, crops, tmp_path).candidates
    graph = onnx.load_from_string(content).graph
    chosen = {node.input[1] for node in graph.node if node.name in names}
    assert {name.rpartition(".")[0].rpartition("network.")[2] for name in chosen} == {
        "encoder.0.0.first",
        "encoder.0.0.second",
        "down.0",
        "middle.0.first",
        "middle.0.second",
        "middle.1.first",
        "middle.1.second",
        "up.0",
        "decoder.0.0.first",
        "decoder.0.0.second",
    }


def test_the_noise_map_is_that_of_the_float_file_bit_for_bit(
    source: Path, crops: list[np.ndarray], tmp_path: Path
) -> None:
    content = (source / "model.onnx").read_bytes()
    quantiser = Quantiser(content, crops, tmp_path)
    int8 = quantiser.quantised(quantiser.candidates)
    ours, theirs = (onnx_file.run(onnx_file.session(each), noisy=crops[0]) for each in (int8, content))
    np.testing.assert_array_equal(ours["sigma_map"], theirs["sigma_map"])
    assert not np.array_equal(ours["denoised"], theirs["denoised"])


# --- the budget -------------------------------------------------------------------------------------------------------


class Harmful:
    """A quantiser and a judge in one: each convolution has a harm of its own, and harms add up."""

    def __init__(self, **harms: float) -> None:
        self.harms = harms
        self.candidates = tuple(harms)

    def quantised(self, names: Collection[str]) -> bytes:
        return ",".join(sorted(names)).encode()

    def excess(self, model_bytes: bytes) -> float:
        return sum(self.harms[name] for name in model_bytes.decode().split(","))


def test_what_keeps_the_budget_stays_whole() -> None:
    harmful = Harmful(a=0.3, b=0.2)
    assert within_budget(harmful, harmful) == (b"a,b", ())


def test_the_most_harmful_convolutions_go_back_to_floats_until_the_budget_is_kept() -> None:
    harmful = Harmful(a=0.3, b=2.0, c=0.2, d=0.9)
    assert within_budget(harmful, harmful) == (b"a,c", ("b", "d"))


def test_when_even_one_convolution_is_too_much_nothing_is_made() -> None:
    harmful = Harmful(a=1.5, b=2.0)
    with pytest.raises(ExportError, match=r"of 2 that were tried alone the mildest loses 1\.50 times that"):
        within_budget(harmful, harmful)


def test_a_network_without_candidates_is_refused() -> None:
    harmful = Harmful()
    with pytest.raises(ExportError, match="of 0 that were tried"):
        within_budget(harmful, harmful)


@pytest.mark.parametrize(("sigma", "limit"), [(5.0, 0.15), (15.0, 0.15), (25.0, 0.05), (50.0, 0.05)])
def test_weak_noise_may_lose_more_than_strong(sigma: float, limit: float) -> None:
    assert largest_loss_db(sigma) == limit


def test_losses_are_judged_at_the_published_noise_levels_as_far_as_the_range_has_them() -> None:
    assert list(judged_severities(NoiseSpec.gaussian(0, 55))) == [5.0, 15.0, 25.0, 50.0]
    assert list(judged_severities(NoiseSpec.gaussian(10, 30))) == [15.0, 25.0]
    assert judged_severities(NoiseSpec.gaussian(25, 25)) == {25.0: 0.5}
    assert judged_severities(NoiseSpec()) == {0.0: 0.5}


@pytest.mark.parametrize(("sigma", "limit"), [(4.0, 0.15), (30.0, 0.05)])
def test_recorded_noise_is_judged_once_by_the_level_that_it_has(sigma: float, limit: float, tmp_path: Path) -> None:
    pairs = packed_pairs(tmp_path, 6, sigma=sigma)
    (condition,) = judged_conditions(pairs, NoiseSpec.gaussian(0, 55), multiple_px=8)
    assert condition.label == "recorded"
    assert condition.sigma == pytest.approx(sigma, rel=0.15)
    assert largest_loss_db(condition.sigma) == limit
    assert len(condition.pictures) == len(pairs.held_out_images())


@pytest.mark.parametrize(
    ("make", "image_set", "compared"),
    [
        (
            lambda path: packed_pairs(path, 6, sigma=30.0),
            "held_out",
            r"clean held-out images; noise as recorded, (2|3)\d\.\d 8-bit levels \(root mean square\)",
        ),
        (
            lambda path: Pack(packed(path, [80])),
            "training",
            "clean training images, because none is held out; noise in 8-bit levels on mid grey",
        ),
    ],
    ids=["pairs", "nothing held out"],
)
def test_what_was_compared_is_told(
    make: Callable[[Path], Pack], image_set: str, compared: str, source: Path, tmp_path: Path
) -> None:
    content = (source / "model.onnx").read_bytes()
    metadata = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}
    pack = make(tmp_path)
    judge = Judge(content, pack, ModelContract.from_metadata(metadata))
    assert judge.image_set == image_set
    assert re.search(compared, judge.describe())
    assert judge.loss_db(judge.psnr_db(content)) == dict.fromkeys(judge.float_psnr_db, 0.0)
    assert judge.excess(content) == 0.0
    recorded = pack.manifest.supervision == "pairs"
    assert list(judge.float_psnr_db) == (["recorded"] if recorded else ["5", "15", "25", "50"])


# --- the whole verb ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_accurate_and_faster_variant_is_published_beside_the_float_file(
    source: Path, pack: Pack, tmp_path: Path
) -> None:
    version = Path(shutil.copytree(source, tmp_path / "store" / "tiny" / "1"))
    before = {path.name: path.read_bytes() for path in version.iterdir()}
    done = quantize(version, pack, calibration_crop_count=16, measure_speed=timed(1.7))

    assert done.exported.path == version / "model.int8.onnx"
    assert {path.name for path in version.iterdir()} == {*before, "model.int8.onnx", "README.int8.md"}
    assert all((version / name).read_bytes() == content for name, content in before.items())
    content = done.exported.path.read_bytes()
    check_seal(content)
    metadata = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}
    contract = ModelContract.from_metadata(metadata)
    assert contract == done.exported.contract
    assert (contract.name, contract.precision) == ("tiny", "int8")
    assert done.fusion.fused_count == done.fusion.quantised_count > 0
    assert set(done.loss_db) == {"5", "15", "25", "50"}
    assert all(loss <= largest_loss_db(float(label)) for label, loss in done.loss_db.items())
    assert list(contract.quality_db) == ["held_out"]
    card = (version / "README.int8.md").read_text(encoding="utf-8")
    assert card.startswith("# tiny, version 1, in int8\n")
    assert "PSNR in dB against clean held-out images; noise in 8-bit levels on mid grey:" in card
    assert "| 64 x 64 | 1.00 | 0.59 | 1.70 (1.60 to 1.80) |" in card
    assert f"{done.fusion.fused_count} of {done.fusion.total_count} convolutions" in card
    with pytest.raises(ExportError, match=r"README\.int8\.md exists, and nothing published is overwritten"):
        quantize(version, pack)


@pytest.mark.slow
def test_a_variant_that_is_not_faster_is_refused_with_the_figures(source: Path, pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"not faster.*64 x 64 takes 1\.11 ms against 1\.00 \(ratio 0\.90, quartiles"):
        quantize(source, pack, measure_speed=timed(0.9))
    assert {path.name for path in source.iterdir()} == {"model.onnx", "README.md"}


def test_a_damaged_source_is_refused(source: Path, pack: Pack, tmp_path: Path) -> None:
    content = bytearray((source / "model.onnx").read_bytes())
    content[1000] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    for named in (tmp_path, tmp_path / "model.onnx"):
        with pytest.raises(RunError, match="changed after it was sealed"):
            quantize(named, pack)


def test_a_missing_source_is_refused(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read .*nothing: No such file"):
        quantize(tmp_path / "nothing", pack)


def test_a_pack_without_clean_images_or_of_other_ones_is_refused(source: Path, tmp_path: Path) -> None:
    noisy = Pack(packed(tmp_path, [40] * 4, noisy_only=True))
    with pytest.raises(ExportError, match=r"noisy images alone.*not the one that it was trained on"):
        quantize(source, noisy)


@pytest.mark.slow
def test_a_network_with_a_code_is_not_quantised(source: Path, pack: Pack, tmp_path: Path) -> None:
    metadata = onnx.load_from_string((source / "model.onnx").read_bytes()).metadata_props
    contract = replace(
        ModelContract.from_metadata({item.key: item.value for item in metadata}),
        kind="fc_ae",
        capabilities=("denoise", "encode", "decode"),
        size_multiple_px=16,
        fixed_side_px=16,
        unit_edges_px=(16,),
        halo_px=0,
        sigma_map_scale_px=0,
        code_length=256,
        golden=GoldenPair.of(*[np.zeros((16, 16, 1), np.uint8)] * 2),
    )
    (tmp_path / "model.onnx").write_bytes(dimmer(contract, gain=0.5))
    with pytest.raises(ExportError, match="its kind is fc_ae"):
        quantize(tmp_path, pack)


# --- the stopwatch ----------------------------------------------------------------------------------------------------


def test_both_files_are_run_in_turn_on_every_shape(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.export.speed._SHAPES_PX", ((8, 8), (20, 30)))
    monkeypatch.setattr("training.export.speed._LEAST_TIME_S", 0.0)
    content = (source / "model.onnx").read_bytes()
    found = speed_up(content, content, channels=1, multiple_px=8)
    assert [(each.height_px, each.width_px, each.repeat_count) for each in found] == [(8, 8, 15), (24, 32, 15)]
    assert all(each.low <= each.ratio <= each.high for each in found)
