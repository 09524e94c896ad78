"""Encoder and decoder beside a model: checked against the whole, and run so that no image sees its neighbours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from denoised.contract import DECODER_FILE, ENCODER_FILE, MODEL_FILE, GoldenPair, ModelContract
from denoised.seal import seal
from service.engine import WIDE_LANE, EngineOptions, ModelRefused, OnnxEngine, load_halves

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

from tests.tiny_models import dimmer, dimmer_halves

SIDE_PX = 8
LENGTH = SIDE_PX**2
TWO_LANES = EngineOptions(lane_count=2, wide_thread_count=2)
PICTURES = np.random.default_rng(1).random((5, 1, SIDE_PX, SIDE_PX), np.float32)


@pytest.fixture
def plain(contract: ModelContract) -> ModelContract:
    return replace(
        contract,
        kind="fc_ae",
        capabilities=("denoise", "encode", "decode"),
        channels=1,
        size_multiple_px=SIDE_PX,
        fixed_side_px=SIDE_PX,
        unit_edges_px=(SIDE_PX,),
        halo_px=0,
        sigma_map_scale_px=0,
        code_length=LENGTH,
        golden=GoldenPair.of(*[np.zeros((SIDE_PX, SIDE_PX, 1), np.uint8)] * 2),
    )


@pytest.fixture
def variational(plain: ModelContract) -> ModelContract:
    return replace(plain, kind="vae", capabilities=("denoise", "encode", "decode", "generate"))


def files_of(contract: ModelContract, *, gain: float = 0.5) -> dict[str, bytes]:
    return {MODEL_FILE: dimmer(contract, gain=gain)} | dimmer_halves(contract, gain=gain)


def write(folder: Path, files: dict[str, bytes]) -> OnnxEngine:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return OnnxEngine(folder / MODEL_FILE, TWO_LANES)


def test_a_deterministic_encoder_answers_with_its_code_alone(tmp_path: Path, plain: ModelContract) -> None:
    halves = load_halves(tmp_path, write(tmp_path, files_of(plain)), TWO_LANES)
    codes, log_variances = halves.encoder.run(PICTURES, lane=0)
    np.testing.assert_array_equal(codes, PICTURES.reshape(5, LENGTH))
    assert log_variances is None


def test_of_a_distribution_of_codes_its_mean_is_taken_and_its_spread_is_known(
    tmp_path: Path, variational: ModelContract
) -> None:
    halves = load_halves(tmp_path, write(tmp_path, files_of(variational)), TWO_LANES)
    codes, log_variances = halves.encoder.run(PICTURES, lane=0)
    np.testing.assert_array_equal(codes, PICTURES.reshape(5, LENGTH))
    np.testing.assert_array_equal(log_variances, np.full((5, LENGTH), -2.0, np.float32))


@pytest.mark.parametrize("lane", [0, 1, WIDE_LANE])
def test_every_lane_gives_the_bytes_that_an_image_gets_alone(
    tmp_path: Path, variational: ModelContract, lane: int
) -> None:
    decoder = load_halves(tmp_path, write(tmp_path, files_of(variational)), TWO_LANES).decoder
    codes = PICTURES.reshape(5, LENGTH)
    together, nothing = decoder.run(codes, lane=lane)
    assert nothing is None
    for index in range(5):
        alone, _ = decoder.run(codes[index : index + 1], lane=0)
        assert together[index].tobytes() == alone[0].tobytes()


def test_their_cost_is_measured(tmp_path: Path, plain: ModelContract) -> None:
    halves = load_halves(tmp_path, write(tmp_path, files_of(plain)), TWO_LANES)
    assert halves.encoder.seconds > 0
    assert halves.decoder.seconds > 0
    assert halves.encoder.digest != halves.decoder.digest


@pytest.mark.parametrize("name", [ENCODER_FILE, DECODER_FILE])
def test_a_half_that_is_missing_is_named_with_what_needs_it(tmp_path: Path, plain: ModelContract, name: str) -> None:
    files = files_of(plain)
    del files[name]
    whole = write(tmp_path, files)
    with pytest.raises(ModelRefused, match=f"{name} can't be read: .* it can denoise, encode, decode, which needs it"):
        load_halves(tmp_path, whole, TWO_LANES)


@pytest.mark.parametrize("name", [ENCODER_FILE, DECODER_FILE])
def test_a_half_with_one_changed_byte_is_refused(tmp_path: Path, plain: ModelContract, name: str) -> None:
    files = files_of(plain)
    damaged = bytearray(files[name])
    damaged[40] ^= 1
    whole = write(tmp_path, files | {name: bytes(damaged)})
    with pytest.raises(ModelRefused, match=f"{name}: the file was changed after it was sealed"):
        load_halves(tmp_path, whole, TWO_LANES)


@pytest.mark.parametrize("other", [{"version": "7"}, {"run_config_digest": "another run"}])
def test_a_half_of_another_export_is_refused(tmp_path: Path, plain: ModelContract, other: dict[str, str]) -> None:
    stray = dimmer_halves(replace(plain, **other), gain=0.5)[DECODER_FILE]  # type: ignore[arg-type]  # texts alone
    whole = write(tmp_path, files_of(plain) | {DECODER_FILE: stray})
    with pytest.raises(
        ModelRefused, match=r"decoder\.onnx is of .*, or of another export of it, .* copy the folder whole"
    ):
        load_halves(tmp_path, whole, TWO_LANES)


def test_halves_that_are_not_the_whole_are_refused_by_the_golden_pair(tmp_path: Path, plain: ModelContract) -> None:
    brighter = dimmer_halves(plain, gain=0.6)[DECODER_FILE]
    whole = write(tmp_path, files_of(plain) | {DECODER_FILE: brighter})
    with pytest.raises(ModelRefused, match=r"differ from the golden pair by \d+ levels; at most 1 is right"):
        load_halves(tmp_path, whole, TWO_LANES)


def test_halves_that_are_nearly_the_whole_are_refused_by_its_own_answer(tmp_path: Path, plain: ModelContract) -> None:
    slightly_brighter = dimmer_halves(plain, gain=0.5001)[DECODER_FILE]
    whole = write(tmp_path, files_of(plain) | {DECODER_FILE: slightly_brighter})
    with pytest.raises(ModelRefused, match=r"together differ from the whole network by .*; at most 1e-05 is right"):
        load_halves(tmp_path, whole, TWO_LANES)


def test_a_variational_encoder_without_its_spread_is_refused(tmp_path: Path, variational: ModelContract) -> None:
    plain_encoder = dimmer_halves(replace(variational, kind="conv_ae", capabilities=("encode", "decode")), gain=0.5)
    whole = write(tmp_path, files_of(variational) | {ENCODER_FILE: plain_encoder[ENCODER_FILE]})
    with pytest.raises(ModelRefused, match=r"encoder\.onnx has no output log_variance, mean, which vae promises"):
        load_halves(tmp_path, whole, TWO_LANES)


def test_a_code_of_another_length_than_promised_is_refused(tmp_path: Path, plain: ModelContract) -> None:
    whole = write(tmp_path, files_of(replace(plain, code_length=LENGTH)))
    whole.contract = replace(whole.contract, code_length=LENGTH - 1)
    with pytest.raises(
        ModelRefused, match=f"answers with \\({LENGTH},\\) numbers and its contract promises {LENGTH - 1}"
    ):
        load_halves(tmp_path, whole, TWO_LANES)


def test_a_seal_alone_does_not_make_a_model(tmp_path: Path, plain: ModelContract) -> None:
    files = files_of(plain)
    whole = write(tmp_path, files | {DECODER_FILE: seal(files[DECODER_FILE].replace(b"Reshape", b"Reshap_"))})
    with pytest.raises(
        ModelRefused, match=r"decoder\.onnx: the file holds the operator 'Reshap_', which is not served"
    ):
        load_halves(tmp_path, whole, TWO_LANES)
