"""A calibration is measured on the written file: other crops of the same images rank evenly among its quantiles."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as PillowImage
from skimage import data

pytest.importorskip("torch")

from denoised.calibration import Calibration
from denoised.contract import Capability, GoldenPair, Kind, ModelContract, Parity, SampleLevels, TilingError
from denoised.noise import NoiseSpec, keyed_rng
from denoised.seal import check_seal
from denoised.statistics import EnergyModel, Statistics, measure
from training.__main__ import main
from training.data.pack import Pack
from training.data.prepare import prepare
from training.errors import DataError, ExportError
from training.export import onnx_file
from training.export.calibrate import calibrate, measured_crops
from training.export.code_density import fit_code_density
from training.export.crops import batches, noisy_crops
from training.export.quantiles import PROBABILITIES, fit_quantiles
from training.export.recalibrate import recalibrate

pytestmark = pytest.mark.training

NOISE = NoiseSpec.gaussian(0.0, 50.0)
SIDE_PX = 8


def model(*, codes: int = 0, sigma: float | None = None) -> bytes:
    """A box blur of one channel, with a map of one noise level; with codes: a linear code, read back."""
    image: list[str | int | None] = ["batch", 1, SIDE_PX, SIDE_PX] if codes else ["batch", 1, "height", "width"]
    outputs = [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, image)]
    weights = {"kernel": np.full((1, 1, 3, 3), 1 / 9, dtype=np.float32)}
    nodes = [helper.make_node("Conv", ["noisy", "kernel"], ["denoised"], pads=[1, 1, 1, 1])]
    if codes:
        axes, _ = np.linalg.qr(keyed_rng(1).standard_normal((SIDE_PX * SIDE_PX, codes)))
        weights = {"axes": axes.astype(np.float32), "back": axes.T.astype(np.float32)}
        nodes = [
            helper.make_node("Flatten", ["noisy"], ["flat"]),
            helper.make_node("MatMul", ["flat", "axes"], ["mean"]),
            helper.make_node("MatMul", ["mean", "back"], ["values"]),
            helper.make_node("Reshape", ["values", "shape"], ["denoised"]),
        ]
        weights["shape"] = np.array([-1, 1, SIDE_PX, SIDE_PX], dtype=np.int64)
        outputs.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", codes]))
    if sigma is not None:
        weights |= {"nothing": np.zeros((1, 1, 1, 1), np.float32), "sigma": np.array(sigma, np.float32)}
        nodes += [
            helper.make_node("Mul", ["noisy", "nothing"], ["zeros"]),
            helper.make_node("Add", ["zeros", "sigma"], ["sigma_map"]),
        ]
        outputs.append(helper.make_tensor_value_info("sigma_map", TensorProto.FLOAT, image))
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("noisy", TensorProto.FLOAT, image)],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return made.SerializeToString()


def with_log_variance(model_bytes: bytes) -> bytes:
    made = onnx.load_from_string(model_bytes)
    made.graph.node.append(helper.make_node("Tanh", ["mean"], ["log_variance"]))
    output = helper.make_tensor_value_info("log_variance", TensorProto.FLOAT, None)
    made.graph.output.append(output)
    return made.SerializeToString()


def contract(*, codes: int = 0, calibration: Calibration | None = None) -> ModelContract:
    kind: Kind = "pca" if codes else "conv_dae"
    capabilities: tuple[Capability, ...] = ("denoise", "encode", "decode") if codes else ("denoise",)
    flat = np.full((SIDE_PX, SIDE_PX, 1), 128, dtype=np.uint8)
    return ModelContract(
        name="tiny",
        version="1",
        kind=kind,
        capabilities=capabilities,
        precision="fp32",
        summary="For tests.",
        channels=1,
        noise=NOISE,
        levels=SampleLevels(),
        size_multiple_px=SIDE_PX,
        fixed_side_px=SIDE_PX if codes else 0,
        unit_edges_px=(SIDE_PX,) if codes else (64,),
        halo_px=0 if codes else 8,
        receptive_field_px=3,
        sigma_map_scale_px=0,
        code_length=codes,
        gmac_per_megapixel=0.01,
        parity=Parity(0.0, 200.0),
        tiling=TilingError(0, 0.0),
        quality_db={},
        calibration=calibration or Calibration(),
        training_data_digest="1",
        run_config_digest="2",
        license="Apache-2.0",
        golden=GoldenPair.of(flat, flat),
    )


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photograph of one channel; with no other to train on, it is the one that is measured."""
    folder = tmp_path_factory.mktemp("photographs")
    PillowImage.fromarray(data.camera()).save(folder / "camera.png")  # type: ignore[no-untyped-call]  # scikit-image has no types
    target = tmp_path_factory.mktemp("pack")
    prepare(folder, target, channels=1, black=0.0, white=255.0)
    return target


@pytest.fixture(scope="module")
def pack(pack_folder: Path) -> Pack:
    return Pack(pack_folder)


def session(model_bytes: bytes) -> ort.InferenceSession:
    return onnx_file.session(model_bytes, thread_count=1)


def shares(calibration: Calibration, statistics: list[Statistics]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: np.array(
            [
                calibration.quantile_of(name, one.comparable()[name], one.sigma, tie_position=rng.random())
                for one in statistics
            ]
        )
        for name in calibration.quantiles
    }


def distance_from_uniform(values: np.ndarray) -> float:
    """Kolmogorov and Smirnov's."""
    ordered, steps = np.sort(values), np.arange(len(values) + 1) / len(values)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def test_other_crops_rank_evenly_among_the_quantiles(pack: Pack) -> None:
    blur = session(model())
    noise = NoiseSpec.gaussian(15.0, 40.0)
    calibration = calibrate(
        blur, pack, noise, supervision="clean", size_multiple_px=SIDE_PX, fixed_side_px=64, crop_count=500
    )
    others = measured_crops(
        blur,
        pack,
        noise,
        calibration.energy_model(),
        supervision="clean",
        size_multiple_px=SIDE_PX,
        fixed_side_px=64,
        crop_count=300,
        seed=7,
    )
    assert len(calibration.quantiles) == 11
    for name, values in shares(calibration, others).items():
        # Of eleven statistics with these numbers of crops, chance alone brings the farthest to 0.1.
        assert distance_from_uniform(values) < 0.13, name


def test_a_noise_map_below_zero_is_no_noise(pack: Pack) -> None:
    found = measured_crops(
        session(model(sigma=-0.001)),
        pack,
        NOISE,
        EnergyModel("gaussian"),
        supervision="clean",
        size_multiple_px=SIDE_PX,
        fixed_side_px=64,
        crop_count=2,
    )
    assert [statistics.sigma for statistics in found] == [0.0, 0.0]


def test_an_unusual_answer_ranks_at_the_end(pack: Pack) -> None:
    blur = session(model())
    calibration = calibrate(
        blur, pack, NOISE, supervision="clean", size_multiple_px=SIDE_PX, fixed_side_px=128, crop_count=96
    )
    correlated = NoiseSpec.from_json(
        '{"stages": [{"kind": "gaussian", "sigma_min": 40.0, "sigma_max": 40.0},'
        ' {"kind": "resize", "scale_min": 0.5, "scale_max": 0.5}]}'
    )
    others = measured_crops(
        blur,
        pack,
        correlated,
        calibration.energy_model(),
        supervision="clean",
        size_multiple_px=SIDE_PX,
        fixed_side_px=128,
        crop_count=20,
        seed=1,
    )
    assert np.median(shares(calibration, others)["neighbour_correlation"]) > 0.9


def test_it_is_a_function_of_the_seed_and_tells_progress(pack: Pack) -> None:
    blur = session(model())
    ticks: list[None] = []
    first = calibrate(
        blur,
        pack,
        NOISE,
        supervision="clean",
        size_multiple_px=SIDE_PX,
        crop_count=20,
        on_crop=lambda: ticks.append(None),
    )
    assert len(ticks) == 20
    assert calibrate(blur, pack, NOISE, supervision="clean", size_multiple_px=SIDE_PX, crop_count=20) == first
    assert calibrate(blur, pack, NOISE, supervision="clean", size_multiple_px=SIDE_PX, crop_count=20, seed=1) != first
    assert first.probabilities == PROBABILITIES
    assert len(first.sigmas) == 1


def test_the_scale_of_the_reconstruction_is_measured_unless_training_had_one(pack: Pack) -> None:
    blur = session(model())
    fixed = NoiseSpec.gaussian(25.0, 25.0)
    measured = calibrate(blur, pack, fixed, supervision="clean", size_multiple_px=SIDE_PX, crop_count=20)
    # Of nine values' mean the residual keeps 8/9 of the noise's variance; the rest of it is detail.
    assert measured.reconstruction_sigma > np.sqrt(8 / 9) * 25 / 255 * 0.95
    given = calibrate(
        blur, pack, fixed, supervision="clean", size_multiple_px=SIDE_PX, crop_count=20, reconstruction_sigma=0.2
    )
    assert given.reconstruction_sigma == 0.2
    rows = [one.quantiles["reconstruction_bits_per_pixel"][0] for one in (measured, given)]
    assert rows[0][len(rows[0]) // 2] < rows[1][len(rows[1]) // 2]


def test_a_code_is_calibrated_with_its_own_distribution(pack: Pack) -> None:
    linear = session(model(codes=4))
    calibration = calibrate(
        linear, pack, NOISE, supervision="clean", size_multiple_px=SIDE_PX, fixed_side_px=SIDE_PX, crop_count=500
    )
    density = calibration.energy_model().code_density
    assert density is not None
    assert density.mean.shape == (4,)
    assert {"compression_nats", "total_bits_per_pixel"} <= set(calibration.quantiles)
    others = measured_crops(
        linear,
        pack,
        NOISE,
        calibration.energy_model(),
        supervision="clean",
        size_multiple_px=SIDE_PX,
        fixed_side_px=SIDE_PX,
        crop_count=300,
        seed=3,
    )
    for name in ("compression_nats", "total_bits_per_pixel"):
        assert distance_from_uniform(shares(calibration, others)[name]) < 0.12


def test_a_code_with_a_posterior_needs_no_distribution(pack: Pack) -> None:
    variational = session(with_log_variance(model(codes=4)))
    calibration = calibrate(
        variational,
        pack,
        NOISE,
        supervision="clean",
        size_multiple_px=SIDE_PX,
        fixed_side_px=SIDE_PX,
        likelihood="bernoulli",
        crop_count=20,
    )
    assert calibration.code_mean_base64 == ""
    assert calibration.likelihood == "bernoulli"
    assert "total_bits_per_pixel" in calibration.quantiles


def test_images_that_the_model_cannot_take_are_refused(pack: Pack) -> None:
    with pytest.raises(DataError, match="1024 pixels on each side"):
        calibrate(session(model()), pack, NOISE, supervision="clean", size_multiple_px=1024, crop_count=2)


def test_crops_are_functions_of_their_number_and_batches_have_one_size(pack: Pack) -> None:
    sizes: dict[str, Any] = {"supervision": "clean", "size_multiple_px": 8, "fixed_side_px": 0, "seed": 0}
    few = list(noisy_crops(pack, NOISE, count=3, **sizes))
    more = list(noisy_crops(pack, NOISE, count=6, **sizes))
    assert all(np.array_equal(a, b) for a, b in zip(few, more, strict=False))
    assert all(crop.shape == (256, 256, 1) and crop.dtype == np.float32 for crop in more)
    small = [np.zeros((8, 8, 1), np.float32)] * 3 + [np.zeros((8, 16, 1), np.float32)] * 2
    assert [batch.shape for batch in batches(iter(small))] == [(3, 8, 8, 1), (2, 8, 16, 1)]
    assert [len(batch) for batch in batches(iter([np.zeros((256, 256, 1), np.float32)] * 2))] == [1, 1]


def test_recorded_noise_is_taken_as_it_is(pack: Pack, tmp_path: Path) -> None:
    for name, level in (("clean", 100), ("noisy", 140)):
        (tmp_path / name).mkdir()
        PillowImage.fromarray(np.full((32, 32), level, dtype=np.uint8)).save(tmp_path / name / "a.png")
    prepare(tmp_path / "clean", tmp_path / "pairs", channels=1, noisy_folder=tmp_path / "noisy", black=0.0, white=255.0)
    prepare(tmp_path / "noisy", tmp_path / "alone", channels=1, noisy_only=True, black=0.0, white=255.0)
    sizes: dict[str, Any] = {"size_multiple_px": 8, "fixed_side_px": 0, "count": 1, "seed": 0}
    pairs, alone = Pack(tmp_path / "pairs"), Pack(tmp_path / "alone")
    for recorded in (pairs, alone):
        (crop,) = noisy_crops(recorded, NOISE, supervision=recorded.manifest.supervision, **sizes)
        assert np.allclose(crop, 140 / 255)
    # What was learnt from decides: a run on the clean halves never saw the recorded noise.
    (crop,) = noisy_crops(pairs, NoiseSpec(), supervision="clean", **sizes)
    assert np.allclose(crop, 100 / 255)


# --- the fits


def test_a_trend_within_like_noise_is_no_spread() -> None:
    rng = np.random.default_rng(1)
    sigmas = rng.uniform(0, 50, 2000)
    grey = np.full((4, 4, 1), 0.5, dtype=np.float32)
    one = measure(grey, grey)
    statistics = [replace(one, sigma=sigma, removed_fraction=3 * sigma + rng.uniform(0, 1)) for sigma in sigmas]
    levels, quantiles = fit_quantiles(statistics)
    assert levels == tuple(sorted(levels))
    assert (levels[0], levels[-1]) == pytest.approx((sigmas.min(), sigmas.max()), rel=1e-4)
    calibration = Calibration(PROBABILITIES, levels, quantiles)
    for sigma in (5.0, 20.0, 33.0, 48.0):
        for share in (0.1, 0.5, 0.9):
            found = calibration.quantile_of("removed_fraction", 3 * sigma + share, sigma)
            assert found == pytest.approx(share, abs=0.12)


def test_a_code_density_is_that_of_the_codes() -> None:
    rng = np.random.default_rng(2)
    mixing = np.array([[3.0, 0, 0], [1.0, 0.8, 0], [0, 0, 0.01]])
    codes = (rng.standard_normal((5000, 3)) @ mixing.T + [1, 2, 3]).astype(np.float32)
    density = fit_code_density(codes)
    assert density.mean == pytest.approx([1, 2, 3], abs=0.15)
    distances = [density.squared_distance(code) for code in codes]
    assert np.mean(distances) == pytest.approx(3.0, rel=0.05)
    assert np.allclose(density.whitening, np.tril(density.whitening))


@pytest.mark.parametrize("length", [3, 200])
def test_units_that_never_move_and_few_images_still_have_a_density(length: int) -> None:
    codes = np.random.default_rng(3).standard_normal((20, length)).astype(np.float32)
    codes[:, 1] = 0.5
    density = fit_code_density(codes)
    assert np.isfinite(density.nats(codes[0]))
    assert density.whitening.ndim == (2 if length <= 128 else 1)
    assert np.isfinite(fit_code_density(np.ones((5, 2), np.float32)).nats(np.ones(2)))


# --- a published model


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A store's model.onnx with its card."""
    folder = tmp_path / "models" / "tiny" / "1"
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    path.write_bytes(onnx_file.with_metadata(model(), contract().to_metadata()))
    (folder / "README.md").write_text("# tiny, version 1\n\nFor tests.\n")
    return path


def test_a_model_is_calibrated_again_as_a_new_version(published: Path, pack: Pack) -> None:
    before = published.read_bytes()
    done = recalibrate(published, pack, crop_count=20)
    assert published.read_bytes() == before
    assert done.path == published.parent.parent / "2" / "model.onnx"
    check_seal(done.path.read_bytes())
    carried = ModelContract.from_metadata(session(done.path.read_bytes()).get_modelmeta().custom_metadata_map)
    assert carried == done.contract
    assert carried == replace(contract(), version="2", calibration=carried.calibration)
    assert not carried.calibration.is_empty
    graphs = [onnx.load_from_string(content).graph for content in (before, done.path.read_bytes())]
    assert graphs[0] == graphs[1]
    card = (done.path.parent / "README.md").read_text()
    assert card.startswith("# tiny, version 2\n")
    assert "20 crops" in card
    again = recalibrate(done.path, pack, crop_count=20, seed=5)
    assert again.path.parent.name == "3"
    assert again.contract.calibration.reconstruction_sigma == carried.calibration.reconstruction_sigma
    assert again.contract.calibration != carried.calibration


def test_an_int8_variant_comes_along_and_is_measured_by_itself(published: Path, pack: Pack) -> None:
    folder = published.parent
    metadata = replace(contract(), precision="int8").to_metadata()
    # It answers otherwise: with noise of its own level.
    (folder / "model.int8.onnx").write_bytes(onnx_file.with_metadata(model(sigma=0.1), metadata))
    (folder / "README.int8.md").write_text("# tiny, version 1 in int8\n")
    done = recalibrate(published, pack, crop_count=20)
    content = (done.path.parent / "model.int8.onnx").read_bytes()
    check_seal(content)
    carried = ModelContract.from_metadata(session(content).get_modelmeta().custom_metadata_map)
    assert (carried.precision, carried.version) == ("int8", "2")
    assert carried.calibration != done.contract.calibration
    assert (done.path.parent / "README.int8.md").read_text().startswith("# tiny, version 2 in int8\n")


def test_images_that_were_trained_on_are_measured_where_that_is_asked_for(pack: Pack) -> None:
    sizes: dict[str, Any] = {"supervision": "clean", "size_multiple_px": 8, "fixed_side_px": 0, "seed": 0, "count": 2}
    alone = list(noisy_crops(pack, NOISE, **sizes))
    everything = list(noisy_crops(pack, NOISE, of_all=True, **sizes))
    # The pack's only image is held out, so that it is all there is either way.
    assert all(np.array_equal(a, b) for a, b in zip(alone, everything, strict=True))


def test_the_graphs_of_a_code_come_along(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "1"
    folder.mkdir(parents=True)
    metadata = contract(codes=4).to_metadata()
    for name in ("model.onnx", "encoder.onnx", "decoder.onnx"):
        (folder / name).write_bytes(onnx_file.with_metadata(model(codes=4), metadata))
    done = recalibrate(folder / "model.onnx", pack, crop_count=20)
    for name in ("model.onnx", "encoder.onnx", "decoder.onnx"):
        content = (done.path.parent / name).read_bytes()
        check_seal(content)
        assert ModelContract.from_metadata(session(content).get_modelmeta().custom_metadata_map) == done.contract


def test_a_versions_directory_stands_for_its_model(published: Path, pack: Pack) -> None:
    assert recalibrate(published.parent, pack, crop_count=2).contract.version == "2"


def test_a_changed_file_is_not_calibrated(published: Path, pack: Pack) -> None:
    content = bytearray(published.read_bytes())
    content[60] ^= 1
    published.write_bytes(content)
    with pytest.raises(ExportError, match="changed after it was sealed"):
        recalibrate(published, pack, crop_count=2)


def test_a_file_outside_of_a_store_needs_one_to_be_named(published: Path, pack: Pack, tmp_path: Path) -> None:
    loose = tmp_path / "model.onnx"
    loose.write_bytes(published.read_bytes())
    with pytest.raises(ExportError, match="--to"):
        recalibrate(loose, pack, crop_count=2)
    done = recalibrate(loose, pack, store=tmp_path / "other", version="9", crop_count=2)
    assert done.path == tmp_path / "other" / "tiny" / "9" / "model.onnx"
    with pytest.raises(ExportError, match=r"no model\.onnx"):
        recalibrate(tmp_path / "missing" / "model.onnx", pack, crop_count=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"channels": 3, "white": 255.0}, "3 channels"), ({"channels": 1, "white": 200.0}, "--white 255")],
)
def test_a_pack_of_another_kind_is_refused(
    published: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "images").mkdir()
    PillowImage.fromarray(np.full((32, 32), 90, dtype=np.uint8)).save(tmp_path / "images" / "a.png")
    prepare(tmp_path / "images", tmp_path / "pack", black=0.0, **settings)
    with pytest.raises(DataError, match=message):
        recalibrate(published, Pack(tmp_path / "pack"), crop_count=2)


def test_the_verb_prints_where_the_new_version_is(
    published: Path, pack_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["training", "calibrate", str(published), "--data", str(pack_folder), "--crops", "10"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 0
    printed = capsys.readouterr().out
    assert str(published.parent.parent / "2" / "model.onnx") in printed
    assert "removed_fraction" in printed


def test_the_verb_refuses_a_count_without_quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "calibrate", "model.onnx", "--data", "pack", "--crops", "1"])
    with pytest.raises(SystemExit, match="2"):
        main()
