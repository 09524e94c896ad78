"""Every kind of network is published whole or not at all, and what its contract claims was measured on the files."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from denoised.contract import DECODER_FILE, ENCODER_FILE, MODEL_FILE, Kind, ModelContract
from denoised.noise import keyed_rng
from denoised.seal import check_seal
from tests.unit.training.export.small import CONV_AE, FC_AE, packed_pairs, run_of
from tests.unit.training.run.tiny import CONV_DAE, ENERGY, PCA, VAE, packed
from training.__main__ import main
from training.data.pack import Pack
from training.errors import ExportError
from training.evaluation.estimates import DEFINITIONS, Estimates, NoReference
from training.evaluation.scores import Evaluation, Score
from training.evaluation.session import origin_of
from training.evaluation.store import save_estimates, save_evaluation
from training.export import gate
from training.export.card import model_card
from training.export.evidence import Evidence
from training.export.extent import unit_edges_px
from training.export.publish import Exported, export
from training.networks import LatentNetwork
from training.run.directory import RunDir
from training.run.trained import load_trained

pytestmark = pytest.mark.training

SCORES = (Score("noisy", "a.png", 25.0, 20.5), Score("network", "a.png", 25.0, 28.125, 0.8, 0.5, 24.0))
EVALUATION = Evaluation("waves", "PSNR as everywhere", SCORES, noise="white noise")
KINDS: dict[Kind, dict[str, Any]] = {"conv_ae": CONV_AE, "fc_ae": FC_AE, "vae": VAE, "pca": PCA}
OTHER_WEIGHTS: dict[str, dict[str, Any] | None] = {
    "of-another-step": {"step": 2},
    "of-the-best": {"weights": "best"},
    "of-other-images": {"training_data_digest": "f" * 64},
    "of-nobody-knows": None,
}
ESTIMATES = NoReference(
    "frames", DEFINITIONS, 12.5, (Estimates("a.png", 12.5, 0.875, 0.01, 0.02, 0.0, 30, None, None),)
)
FLOAT = np.float32


def run_session(path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.fixture(scope="module")
def denoiser(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Random weights close to the identity."""
    run = run_of(tmp_path_factory.mktemp("runs") / "tiny", pack, network=CONV_DAE, spread=0.0001, summary="For tests.")
    ours = origin_of(load_trained(run))
    save_evaluation(run, replace(EVALUATION, origin=ours))
    for name, other in OTHER_WEIGHTS.items():
        save_evaluation(
            run, replace(EVALUATION, image_set=name, origin=None if other is None else replace(ours, **other))
        )
    save_estimates(run, replace(ESTIMATES, image_set="frames", origin=ours))
    save_estimates(run, replace(ESTIMATES, image_set="old-frames", origin=replace(ours, step=9)))
    return run


@pytest.fixture(scope="module")
def notes() -> list[str]:
    """What the user was told while ``exported`` was made."""
    return []


@pytest.fixture(scope="module")
def exported(denoiser: RunDir, pack: Pack, tmp_path_factory: pytest.TempPathFactory, notes: list[str]) -> Exported:
    store = tmp_path_factory.mktemp("store")
    return export(denoiser, pack, store, version="4", calibration_crop_count=16, on_note=notes.append)


# --- the denoiser -----------------------------------------------------------------------------------------------------


def test_the_published_file_carries_a_contract_that_was_measured(exported: Exported, pack: Pack) -> None:
    session = ort.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    contract = ModelContract.from_metadata(session.get_modelmeta().custom_metadata_map)
    assert contract == exported.contract
    assert (contract.name, contract.version, contract.kind, contract.precision) == ("tiny", "4", "conv_dae", "fp32")
    assert contract.capabilities == ("denoise",)
    assert contract.levels == pack.manifest.levels
    assert contract.training_data_digest == pack.manifest.digest
    assert contract.unit_edges_px == unit_edges_px(halo_px=contract.halo_px, multiple_px=contract.size_multiple_px)
    assert 3 <= contract.receptive_field_px < 200
    assert contract.parity.max_abs_difference < 1e-4
    assert contract.tiling.max_levels <= 1
    assert contract.quality_db == {"waves": {"25": 28.12}}
    assert contract.calibration.quantiles
    golden = contract.golden
    unit = golden.noisy().astype(FLOAT).transpose(2, 0, 1)[np.newaxis] / FLOAT(255)
    image = session.run(["denoised"], {"noisy": unit})[0][0]
    answer = np.rint(np.clip(image, 0, 1) * 255).transpose(1, 2, 0)
    np.testing.assert_allclose(answer, golden.denoised(), atol=1)


def test_the_file_is_sealed_of_the_agreed_version_and_tells_no_path(exported: Exported, denoiser: RunDir) -> None:
    content = exported.path.read_bytes()
    model = onnx.load_from_string(content)
    check_seal(content)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    assert model.ir_version <= 10
    for text in (str(denoiser.path), "site-packages", ".py", "/home", "stack_trace"):
        assert text.encode() not in content


def test_the_card_states_the_runs_own_figures(exported: Exported) -> None:
    card = (exported.path.parent / "README.md").read_text(encoding="utf-8")
    assert "tiny, version 4" in card
    assert EVALUATION.table() in card
    assert f"{exported.contract.gmac_per_megapixel} GMAC for a megapixel, in fp32; tier tiny, whose limit is 3." in card
    assert "widths [16, 16]" in card
    assert f"sees {exported.contract.receptive_field_px} x" in card
    assert "sigma 5 to 50 8-bit levels" in card


def test_only_what_was_measured_on_the_exported_weights_is_told_and_the_rest_is_named(
    exported: Exported, denoiser: RunDir, notes: list[str]
) -> None:
    card = (exported.path.parent / "README.md").read_text(encoding="utf-8")
    assert list(exported.contract.quality_db) == ["waves"]
    assert not [name for name in (*OTHER_WEIGHTS, "old-frames") if name in card]
    assert [re.findall("'(.*?)'", note) for note in notes] == [
        [name] for name in (*sorted(OTHER_WEIGHTS), "old-frames")
    ]
    assert all("python -m training evaluate" in note for note in notes)
    assert "the last weights, of step 2" in next(note for note in notes if "of-another-step" in note)
    assert "Exported are the weights of step 1, the last that were saved." in card


def test_the_card_tells_estimates_as_such(exported: Exported) -> None:
    card = (exported.path.parent / "README.md").read_text(encoding="utf-8")
    assert "`frames`, 1 noisy images, estimated without clean ones. Estimates without clean truth." in card
    assert "| removed | 0.875 |" in card


def test_estimates_alone_are_an_evaluation_too(denoiser: RunDir, exported: Exported, pack: Pack) -> None:
    trained = load_trained(denoiser)
    only = model_card(exported.contract, trained, Evidence([], [ESTIMATES]), pack.manifest, parent=None)
    assert "| removed | 0.875 |" in only
    assert "Not evaluated" not in only
    assert "Not evaluated" in model_card(exported.contract, trained, Evidence([], []), pack.manifest, parent=None)


@pytest.mark.slow
def test_a_run_on_clean_halves_of_pairs_is_measured_with_the_noise_that_it_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded noise is not what it was made for, whatever the pack holds besides."""
    pairs = packed_pairs(tmp_path, 6, sigma=20.0)
    monkeypatch.setattr(Pack, "noisy_unit", lambda *_: pytest.fail("recorded noise was taken"))
    run = run_of(tmp_path / "run", pairs, network=CONV_DAE, spread=0.0001)
    exported = export(run, pairs, tmp_path / "store", version=None, calibration_crop_count=8)
    assert exported.contract.calibration.sigmas


# --- networks with a code ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stores(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, tuple[RunDir, Exported]]:
    """Every kind with a code, published."""
    made = {}
    for kind, network in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        changes: dict[str, Any] = {"loss": ENERGY} if kind == "vae" else {}
        run = run_of(folder / "run", pack, network=network, name=kind.replace("_", "-"), **changes)
        made[kind] = (run, export(run, pack, folder / "store", version=None, calibration_crop_count=24))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_network_with_a_code_is_three_files_with_one_contract(
    kind: Kind, stores: dict[Kind, tuple[RunDir, Exported]]
) -> None:
    _, exported = stores[kind]
    contract = exported.contract
    assert {path.name for path in exported.path.parent.iterdir()} == {
        MODEL_FILE,
        ENCODER_FILE,
        DECODER_FILE,
        "README.md",
    }
    for name in (MODEL_FILE, ENCODER_FILE, DECODER_FILE):
        content = (exported.path.parent / name).read_bytes()
        check_seal(content)
        metadata = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}
        assert ModelContract.from_metadata(metadata) == contract
    assert (contract.fixed_side_px, contract.unit_edges_px, contract.halo_px) == (16, (16,), 0)
    assert (contract.code_length, contract.receptive_field_px, contract.sigma_map_scale_px) == (4, 0, 0)
    assert ("generate" in contract.capabilities) == (kind == "vae")
    assert {"encode", "decode"} <= set(contract.capabilities)
    card = (exported.path.parent / "README.md").read_text(encoding="utf-8")
    assert "Exactly 16 x 16 pixels" in card
    assert "code of 4 numbers" in card


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_encoder_decoder_and_whole_are_the_network_of_the_run(
    kind: Kind, stores: dict[Kind, tuple[RunDir, Exported]]
) -> None:
    run, exported = stores[kind]
    folder = exported.path.parent
    network = load_trained(run).network
    assert isinstance(network, LatentNetwork)
    noisy = keyed_rng(1).random((3, 1, 16, 16), dtype=FLOAT)
    epsilon = keyed_rng(2).standard_normal((3, 4), dtype=FLOAT)
    with torch.no_grad():
        code = network.encode(torch.from_numpy(noisy))
        whole = network(torch.from_numpy(noisy)).image.numpy()
        drawn = code.sample(torch.from_numpy(epsilon))
        decoded = network.decode(drawn).numpy()

    answer = run_session(folder / MODEL_FILE, noisy=noisy)
    draw = {"epsilon": epsilon} if kind == "vae" else {}
    encoded = run_session(folder / ENCODER_FILE, noisy=noisy, **draw)

    np.testing.assert_allclose(answer["denoised"], whole, atol=1e-5)
    np.testing.assert_allclose(answer["mean"], code.mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(encoded["code"], drawn.numpy(), atol=1e-5)
    np.testing.assert_allclose(run_session(folder / DECODER_FILE, code=encoded["code"])["denoised"], decoded, atol=1e-5)
    assert ("log_variance" in answer) == ("log_variance" in encoded) == (kind == "vae")


@pytest.mark.slow
def test_halves_that_do_not_make_the_whole_are_refused(stores: dict[Kind, tuple[RunDir, Exported]]) -> None:
    folder = stores["pca"][1].path.parent
    files = {name: (folder / name).read_bytes() for name in (MODEL_FILE, ENCODER_FILE, DECODER_FILE)}
    gate.check_composition(files, channels=1, side_px=16, code_length=4)
    files[DECODER_FILE] = (stores["fc_ae"][1].path.parent / DECODER_FILE).read_bytes()
    with pytest.raises(ExportError, match=r"encoder\.onnx and decoder\.onnx differ from model\.onnx by"):
        gate.check_composition(files, channels=1, side_px=16, code_length=4)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_pack_that_the_run_was_not_trained_on_is_refused(denoiser: RunDir, tmp_path: Path) -> None:
    other = Pack(packed(tmp_path / "other", [40] * 4))
    with pytest.raises(ExportError, match="the pack holds other images"):
        export(denoiser, other, tmp_path / "store", version=None)
    assert not (tmp_path / "store").exists()


def test_an_existing_version_is_refused_before_any_work(exported: Exported, denoiser: RunDir, pack: Pack) -> None:
    steps: list[str] = []
    with pytest.raises(ExportError, match="never overwritten"):
        export(denoiser, pack, exported.path.parents[2], version="4", on_step=steps.append)
    assert not steps


def test_a_store_that_cannot_be_written_is_refused_before_any_work(
    denoiser: RunDir, pack: Pack, tmp_path: Path
) -> None:
    steps: list[str] = []
    (tmp_path / "store").write_text("a file in the way")
    with pytest.raises(ExportError, match=r"cannot write to .*--to"):
        export(denoiser, pack, tmp_path / "store", version=None, on_step=steps.append)
    assert not steps


@pytest.mark.parametrize("verb", ["export", "calibrate"])
@pytest.mark.parametrize("version", ["0", "-3", "next"])
def test_the_verbs_refuse_what_is_no_version_at_once(
    verb: str, version: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["training", verb, "somewhere", "--data", "pack", "--to", "store", "--version", version]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"{version!r} is no version; give a whole number from 1" in capsys.readouterr().err


def test_a_network_that_fails_a_check_leaves_nothing_in_the_store(pack: Pack, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", pack, network=CONV_DAE, spread=0.2)
    with pytest.raises(ExportError, match="flat picture of level"):
        export(run, pack, tmp_path / "store", version=None)
    assert not (tmp_path / "store").exists()


def test_a_file_that_changes_on_its_way_to_the_disk_leaves_nothing_in_the_store(
    denoiser: RunDir, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = gate.check_written

    def after_a_flipped_bit(folder: Path, signatures: Any, contract: ModelContract) -> None:
        content = bytearray((folder / MODEL_FILE).read_bytes())
        content[len(content) // 3] ^= 1
        (folder / MODEL_FILE).write_bytes(content)
        check(folder, signatures, contract)

    monkeypatch.setattr(gate, "check_written", after_a_flipped_bit)
    with pytest.raises(ExportError, match="was not written whole"):
        export(denoiser, pack, tmp_path / "store", version=None, calibration_crop_count=8)
    assert not list((tmp_path / "store").rglob("*"))


def test_a_contract_can_be_replaced_without_touching_the_graph(exported: Exported) -> None:
    """What other tools of the package rely on: metadata are all that differs between two versions."""
    from training.export import onnx_file

    before = onnx.load_from_string(exported.path.read_bytes())
    renewed = replace(exported.contract, version="5")
    after = onnx.load_from_string(onnx_file.with_metadata(exported.path.read_bytes(), renewed.to_metadata()))
    assert after.graph == before.graph
    assert after.metadata_props != before.metadata_props
