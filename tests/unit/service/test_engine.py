"""Model files as the engine loads them: what is run, what is refused, and that one changed byte is noticed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from denoised.contract import GoldenPair, ModelContract
from denoised.seal import seal
from service.engine import EngineOptions, ModelRefused, OnnxEngine

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

from tests.tiny_models import SIGMA, dimmer

TWO_LANES = EngineOptions(lane_count=2, threads_per_lane=1)
UNITS = np.random.default_rng(1).random((2, 3, 16, 32), np.float32)


@pytest.fixture
def code_contract(contract: ModelContract) -> ModelContract:
    """Of an autoencoder that takes pictures of one size."""
    return replace(
        contract,
        kind="fc_ae",
        capabilities=("denoise", "encode", "decode"),
        size_multiple_px=16,
        fixed_side_px=16,
        unit_edges_px=(16,),
        halo_px=0,
        sigma_map_scale_px=0,
        code_length=16 * 16 * 3,
        golden=GoldenPair.of(*[np.zeros((16, 16, 3), np.uint8)] * 2),
    )


def loaded(folder: Path, model_bytes: bytes) -> OnnxEngine:
    path = folder / "model.onnx"
    path.write_bytes(model_bytes)
    return OnnxEngine(path, TWO_LANES)


@pytest.mark.parametrize("lane", [0, 1])
def test_a_network_with_a_noise_map_answers_with_it(tmp_path: Path, contract: ModelContract, lane: int) -> None:
    engine = loaded(tmp_path, dimmer(contract, gain=0.5))
    engine.check()
    image, sigma_map = engine.run(UNITS, lane=lane)
    np.testing.assert_array_equal(image, UNITS * np.float32(0.5))
    assert sigma_map is not None
    np.testing.assert_array_equal(sigma_map, np.full((2, 1, 4, 8), SIGMA, np.float32))


def test_a_network_with_a_code_answers_with_the_image_alone(tmp_path: Path, code_contract: ModelContract) -> None:
    engine = loaded(tmp_path, dimmer(code_contract, gain=0.5))
    engine.check()
    units = UNITS[..., :16]
    image, sigma_map = engine.run(units, lane=0)
    np.testing.assert_array_equal(image, units * np.float32(0.5))
    assert sigma_map is None


def test_a_network_of_one_size_has_one_shape_to_warm_up(tmp_path: Path, code_contract: ModelContract) -> None:
    assert list(loaded(tmp_path, dimmer(code_contract, gain=0.5)).unit_shapes()) == [(16, 16)]


def test_an_output_that_the_contract_promises_and_the_file_lacks_is_named(
    tmp_path: Path, contract: ModelContract
) -> None:
    model_bytes = dimmer(replace(contract, sigma_map_scale_px=0), gain=0.5)
    lying = model_bytes.replace(b"denoised.sigma_map_scale_px\x12\x010", b"denoised.sigma_map_scale_px\x12\x014")
    assert lying != model_bytes
    with pytest.raises(ModelRefused, match=r"model\.onnx has no output sigma_map, which its contract promises"):
        loaded(tmp_path, seal(lying))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_one_changed_byte_anywhere_is_noticed(tmp_path: Path, contract: ModelContract, share: float) -> None:
    damaged = bytearray(dimmer(contract, gain=0.5))
    damaged[round(share * (len(damaged) - 1))] ^= 0x01
    with pytest.raises(ModelRefused, match=r"model\.onnx: the file (was changed after it was sealed|carries no whole)"):
        loaded(tmp_path, bytes(damaged))


def test_a_changed_weight_is_noticed_although_the_file_would_load(tmp_path: Path, contract: ModelContract) -> None:
    model_bytes = dimmer(contract, gain=0.5)
    weight = np.float32(0.5).tobytes()
    assert model_bytes.count(weight) == 1
    damaged = model_bytes.replace(weight, np.float32(0.5078125).tobytes())
    with pytest.raises(ModelRefused, match="the file was changed after it was sealed"):
        loaded(tmp_path, damaged)
    assert loaded(tmp_path, seal(damaged)).run(UNITS, lane=0)[0] == pytest.approx(UNITS * 0.5078125)
