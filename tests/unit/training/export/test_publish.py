"""An export is published whole or not at all, and everything that its contract claims was measured on the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")

import onnxruntime as ort

from denoised.contract import ModelContract
from denoised.noise import NoiseSpec, keyed_rng
from training.config import ConvDaeConfig, DataConfig, LossConfig, OptimiserConfig, RunConfig
from training.data.pack import Pack
from training.data.prepare import prepare
from training.errors import ExportError
from training.evaluation.measure import evaluate, load_network
from training.export import onnx_file
from training.export.publish import export, measure_halo
from training.run.directory import RunDir
from training.run.loop import train

pytestmark = pytest.mark.training

_SIDE_PX = 320


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth pictures with edges, as files."""
    folder = tmp_path_factory.mktemp("photographs")
    rows, columns = np.mgrid[0:_SIDE_PX, 0:_SIDE_PX] / _SIDE_PX
    for index in range(3):
        rng = keyed_rng(index)
        planes = [0.5 + 0.4 * np.sin(rng.uniform(5, 40) * rows + rng.uniform(5, 40) * columns) for _ in range(3)]
        PillowImage.fromarray((np.stack(planes, axis=2) * 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def pack(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("pack")
    prepare(photographs, folder, channels=3, min_side_px=64)
    return Pack(folder)


@pytest.fixture(scope="module")
def run_dir(photographs: Path, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A few careful steps: the network is still close to the identity, and every weight has moved."""
    config = RunConfig(
        name="tiny-test",
        summary="For tests.",
        network=ConvDaeConfig(
            widths=(16, 16), encoder_blocks=(0,), middle_blocks=1, decoder_blocks=(0,), estimator_width=16
        ),
        noise=NoiseSpec(kind="gaussian", sigma_min=0, sigma_max=50),
        data=DataConfig(crop_px=32, batch_size=2),
        optimiser=OptimiserConfig(steps=6, learning_rate=1e-5, warmup_steps=2, precision="fp32"),
        loss=LossConfig(image="log_mse"),
        checkpoint_every_steps=3,
    )
    run = RunDir(tmp_path_factory.mktemp("runs") / "tiny")
    run.create(config)
    train(config, pack, run, resume=False, show_progress=False)
    _, network = load_network(run)
    run.save_evaluation(evaluate(network, photographs, channels=3, sigmas=[25.0]))
    return run


def test_the_published_file_carries_a_contract_that_was_measured(run_dir: RunDir, pack: Pack, tmp_path: Path) -> None:
    exported = export(run_dir, pack, tmp_path, version=None)
    assert exported.path == tmp_path / "tiny-test" / "1" / "model.onnx"
    session = ort.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    contract = ModelContract.from_metadata(session.get_modelmeta().custom_metadata_map)
    assert contract == exported.contract
    assert contract.name == "tiny-test"
    assert contract.training_data_digest == pack.manifest.digest
    assert contract.unit_edges_px[-1] == 512 + contract.halo_px
    assert contract.parity.max_abs_difference < 1e-4
    assert contract.tiling.max_levels <= 1
    (figures,) = contract.quality_db.values()
    assert set(figures) == {"25"}
    golden = contract.golden
    unit = golden.noisy().astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255)
    image = session.run(["denoised"], {"noisy": unit})[0][0]
    answer = np.rint(np.clip(image, 0, 1) * 255).transpose(1, 2, 0)
    np.testing.assert_allclose(answer, golden.denoised(), atol=1)


def test_the_card_states_the_runs_own_figures(run_dir: RunDir, pack: Pack, tmp_path: Path) -> None:
    exported = export(run_dir, pack, tmp_path, version="4")
    card = (exported.path.parent / "README.md").read_text(encoding="utf-8")
    (evaluation,) = run_dir.load_evaluations()
    assert evaluation.table() in card
    assert f"{exported.contract.gmac_per_megapixel} GMAC" in card
    assert "tiny-test, version 4" in card


def test_the_file_names_no_path_of_this_machine(run_dir: RunDir, pack: Pack, tmp_path: Path) -> None:
    content = export(run_dir, pack, tmp_path, version=None).path.read_bytes()
    assert str(run_dir.path).encode() not in content
    assert b"site-packages" not in content
    assert b".py" not in content


def test_a_version_is_never_overwritten_and_the_next_one_is_free(run_dir: RunDir, pack: Pack, tmp_path: Path) -> None:
    export(run_dir, pack, tmp_path, version=None)
    with pytest.raises(ExportError, match="never overwritten"):
        export(run_dir, pack, tmp_path, version="1")
    with pytest.raises(ExportError, match="whole number"):
        export(run_dir, pack, tmp_path, version="latest")
    assert export(run_dir, pack, tmp_path, version=None).path.parent.name == "2"


def test_a_failed_check_leaves_nothing_in_the_store(
    run_dir: RunDir, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network that misses the parity limit is hard to train on purpose; the limit is moved instead.
    monkeypatch.setattr(onnx_file, "_LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(ExportError, match="differs from torch"):
        export(run_dir, pack, tmp_path, version=None)
    assert not any(tmp_path.rglob("*.onnx"))


class _ShiftedAtTheBorder:
    """A stand-in for a session whose answer depends on how far the image's border is: nothing can be tiled."""

    def run(self, _names: object, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        noisy = inputs["noisy"]
        return [noisy * (1 + noisy.shape[2] / 100), noisy[:, :1]]


def test_a_global_operation_is_refused_because_no_halo_hides_it() -> None:
    image = np.full((1, 3, 320, 320), 0.1, dtype=np.float32)
    with pytest.raises(ExportError, match="global operation"):
        measure_halo(_ShiftedAtTheBorder(), [image], multiple_px=8)
