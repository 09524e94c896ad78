"""Model files as the engine loads them: what is run, where, what is refused, and that a changed byte is noticed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from denoised.contract import GoldenPair, ModelContract
from denoised.seal import seal
from service.engine import WIDE_LANE, EngineOptions, ModelRefused, OnnxEngine, engine_options
from service.engine.sessions import open_session
from service.types import Units

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

from tests.tiny_models import SIGMA, dimmer

TWO_LANES = EngineOptions(lane_count=2, wide_thread_count=2, batch_pixel_count=64 * 64)
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


def loaded(folder: Path, model_bytes: bytes, options: EngineOptions = TWO_LANES) -> OnnxEngine:
    path = folder / "model.onnx"
    path.write_bytes(model_bytes)
    return OnnxEngine(path, options)


@pytest.mark.parametrize("lane", [0, 1, WIDE_LANE])
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


@pytest.mark.parametrize(
    ("cores", "lanes", "threads", "expected"),
    [
        (2, None, 1, (2, 1, 2)),
        (8, None, 1, (8, 1, 8)),
        (8, None, 3, (2, 3, 8)),
        (1, None, 1, (1, 1, 1)),
        (2, None, 4, (1, 4, 4)),
        (2, 3, 1, (3, 1, 2)),
    ],
)
def test_lanes_follow_from_the_cores_unless_they_are_set(
    cores: int, lanes: int | None, threads: int, expected: tuple[int, int, int]
) -> None:
    options = engine_options(cores, lane_count=lanes, threads_per_lane=threads, batch_pixel_count=1)
    assert (options.lane_count, options.threads_per_lane, options.wide_thread_count) == expected


def test_a_gpu_has_one_lane() -> None:
    options = engine_options(8, lane_count=None, threads_per_lane=1, batch_pixel_count=1, provider="cuda")
    assert options.lane_count == 1
    with pytest.raises(ValueError, match="2 lanes on a GPU would run its one session at the same time; set lane_count"):
        engine_options(8, lane_count=2, threads_per_lane=1, batch_pixel_count=1, provider="cuda")


@pytest.mark.parametrize("name", ["lane_count", "threads_per_lane", "wide_thread_count", "batch_pixel_count"])
def test_options_below_one_are_refused_by_name(name: str) -> None:
    counts = {"lane_count": 1, "threads_per_lane": 1, "wide_thread_count": 1, "batch_pixel_count": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        EngineOptions(**counts, provider="cpu")


@pytest.mark.parametrize(("height_px", "width_px", "count"), [(16, 16, 16), (32, 64, 2), (64, 64, 1), (512, 512, 1)])
def test_a_batch_holds_what_its_pixels_allow_and_at_least_one_unit(height_px: int, width_px: int, count: int) -> None:
    assert TWO_LANES.unit_count(height_px, width_px) == count


@pytest.mark.parametrize(
    "options",
    [
        TWO_LANES,
        EngineOptions(lane_count=3, threads_per_lane=2, wide_thread_count=4),
        EngineOptions(lane_count=2, threads_per_lane=2, wide_thread_count=2),
        EngineOptions(lane_count=1),
    ],
)
def test_all_lanes_answer_alike_when_they_run_at_once(
    tmp_path: Path, contract: ModelContract, options: EngineOptions
) -> None:
    """Each lane has its own input; an answer of another lane's would differ."""
    engine = loaded(tmp_path, dimmer(contract, gain=0.5), options)
    engine.check()
    inputs = np.random.default_rng(2).random((options.lane_count, 1, 3, 64, 64), np.float32)

    def run(lane: int) -> list[np.ndarray]:
        return [engine.run(inputs[lane], lane=lane)[0] for _ in range(20)]

    with ThreadPoolExecutor(options.lane_count) as lanes:
        answers = list(lanes.map(run, range(options.lane_count)))
    for lane, of_lane in enumerate(answers):
        for answer in of_lane:
            np.testing.assert_array_equal(answer, inputs[lane] * np.float32(0.5))
    np.testing.assert_array_equal(engine.run(inputs[0], lane=WIDE_LANE)[0], inputs[0] * np.float32(0.5))


def test_answers_stay_as_they_are_when_the_lane_and_its_input_are_used_again(
    tmp_path: Path, contract: ModelContract
) -> None:
    engine = loaded(tmp_path, dimmer(contract, gain=0.5))
    units = UNITS.copy()
    image, sigma_map = engine.run(units, lane=0)
    units[:] = 0
    engine.run(units, lane=0)
    del engine
    np.testing.assert_array_equal(image, UNITS * np.float32(0.5))
    assert sigma_map is not None
    np.testing.assert_array_equal(sigma_map, np.full((2, 1, 4, 8), SIGMA, np.float32))


def test_a_run_that_fails_raises_and_the_lane_goes_on(tmp_path: Path, contract: ModelContract) -> None:
    engine = loaded(tmp_path, dimmer(contract, gain=0.5))
    with pytest.raises(Exception, match="Got: 2 Expected: 3"):
        engine.run(np.zeros((1, 2, 16, 16), np.float32), lane=0)
    np.testing.assert_array_equal(engine.run(UNITS, lane=0)[0], UNITS * np.float32(0.5))


@pytest.mark.parametrize(
    ("batch_pixel_count", "side_px", "count", "most_px"),
    [
        pytest.param(64 * 64, 64, 1, 64 * 64, id="the largest unit fills the budget"),
        pytest.param(3 * 64 * 64, 64, 3, 3 * 64 * 64, id="several do"),
        pytest.param(32 * 32, 32, 1, 64 * 64, id="the largest unit is beyond it"),
        pytest.param(1, 16, 1, 64 * 64, id="every unit is"),
    ],
)
def test_warming_up_runs_the_most_pixels_on_each_lane_and_times_a_batch_within_the_budget(
    tmp_path: Path, contract: ModelContract, batch_pixel_count: int, side_px: int, count: int, most_px: int
) -> None:
    options = replace(TWO_LANES, batch_pixel_count=batch_pixel_count)
    engine = loaded(tmp_path, dimmer(contract, gain=0.5), options)
    run, largest_px = engine.run, {0: 0, 1: 0, WIDE_LANE: 0}

    def watched(units: Units, *, lane: int) -> tuple[Units, Units | None]:
        largest_px[lane] = max(largest_px[lane], units[:, 0].size)
        return run(units, lane=lane)

    with patch.object(engine, "run", watched):
        batch = engine.warm_up()
    assert (batch.height_px, batch.width_px, batch.count) == (side_px, side_px, count)
    assert batch.seconds > 0
    assert largest_px[0] == largest_px[1] == most_px


def test_a_gpu_that_this_runtime_cannot_use_is_refused_with_the_remedy(tmp_path: Path, contract: ModelContract) -> None:
    """With the onnxruntime for CPUs, as it is installed; it must not serve on a CPU without a word."""
    options = EngineOptions(lane_count=1, provider="cuda")
    with pytest.raises(
        ModelRefused,
        match=r"shall run on CUDAExecutionProvider, but .* has only: .*CPUExecutionProvider; .*service-gpu.*"
        "or set DENOISED_PROVIDER=cpu",
    ):
        loaded(tmp_path, dimmer(contract, gain=0.5), options)


def test_the_provider_in_use_is_the_one_that_was_asked_for(tmp_path: Path, contract: ModelContract) -> None:
    path = tmp_path / "model.onnx"
    session = open_session(path, dimmer(contract, gain=0.5), TWO_LANES, thread_count=1)
    assert session.get_providers()[0] == "CPUExecutionProvider"
