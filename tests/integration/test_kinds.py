"""Models of other kinds than the shipped one: other levels, one size only, no noise map, not made for denoising."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from denoised import Client, NotSupportedError
from denoised.contract import MODEL_FILE, GoldenPair, ModelContract, SampleLevels
from denoised.noise import NoiseSpec
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration import harness
from tests.integration.harness import RunningService, connected
from tests.integration.oracle import Oracle
from tests.integration.pictures import file_request, png, raw_request, samples_of
from tests.integration.refusals import refused

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

from tests.tiny_models import SIGMA, dimmer, dimmer_halves

# Every network halves what it sees.
_GAIN = 0.5
_BLACK, _WHITE = 64, 4095
_SIDE_PX = 16


def twelve_bit(base: ModelContract) -> ModelContract:
    """Trained on grey 12-bit data in 16-bit files."""
    return replace(
        base,
        name="twelve-bit",
        channels=1,
        levels=SampleLevels("u16", float(_BLACK), float(_WHITE)),
        noise=NoiseSpec.gaussian(5.0, 50.0, quantise="u16"),
        golden=_blank(base.size_multiple_px, channels=1),
    )


def with_code(base: ModelContract) -> ModelContract:
    """An autoencoder for grey pictures of one size."""
    return replace(
        base,
        name="codes",
        kind="fc_ae",
        capabilities=("denoise", "encode", "decode"),
        channels=1,
        size_multiple_px=_SIDE_PX,
        fixed_side_px=_SIDE_PX,
        unit_edges_px=(_SIDE_PX,),
        halo_px=0,
        sigma_map_scale_px=0,
        code_length=_SIDE_PX**2,
        golden=_blank(_SIDE_PX, channels=1),
    )


def generator(base: ModelContract) -> ModelContract:
    """Makes pictures and cleans none."""
    return replace(with_code(base), name="dreams", kind="vae", capabilities=("encode", "decode", "generate"))


def _blank(side_px: int, *, channels: int) -> GoldenPair:
    picture = np.zeros((side_px, side_px, channels), np.uint8)
    return GoldenPair.of(picture, picture)


@pytest.fixture(scope="module")
def service(oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("kinds")
    for make in (twelve_bit, with_code, generator):
        contract = replace(make(oracle.contract), version="1")
        version = folder / "store" / contract.name / contract.version
        version.mkdir(parents=True)
        halves = dimmer_halves(contract, gain=_GAIN) if contract.code_length else {}
        for file_name, content in ({MODEL_FILE: dimmer(contract, gain=_GAIN)} | halves).items():
            (version / file_name).write_bytes(content)
    with harness.running(folder, models_dir=folder / "store", default_model="twelve-bit", lane_count=1) as service:
        yield service


@pytest.fixture
def kinds(service: RunningService) -> Iterator[DenoiseServiceStub]:
    with connected(service.grpc_target) as stub:
        yield stub


@pytest.fixture
def client(service: RunningService) -> Iterator[Client]:
    with Client(service.grpc_target) as client:
        yield client


@pytest.fixture
def twelve_bits() -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Even distances from black, so that halves are whole."""
    return (_BLACK + 2 * np.random.default_rng(1).integers(0, (_WHITE - _BLACK) // 2, (40, 50))).astype(np.uint16)


def halved(samples: Any, black: int = _BLACK) -> Any:
    return (black + (samples.astype(int) - black) // 2).astype(samples.dtype)


# --- levels -----------------------------------------------------------------------------------------------------------


def test_a_12_bit_picture_in_a_16_bit_file_comes_back_as_such(
    kinds: DenoiseServiceStub, twelve_bits: np.ndarray[Any, np.dtype[np.uint16]]
) -> None:
    response = kinds.Denoise(file_request(png(twelve_bits)))

    answer = samples_of(response.image)
    assert answer.dtype == np.uint16
    np.testing.assert_array_equal(answer, halved(twelve_bits))
    assert response.report == pb.NoiseReport(
        noise_sigma=float(np.float32(SIGMA * 255)), sigma_in_trained_range=True, clipped_sample_count=0
    )


def test_samples_beyond_the_model_s_white_are_clipped_and_counted(kinds: DenoiseServiceStub) -> None:
    response = kinds.Denoise(file_request(png(np.array([[60, 64, 4095, 4096, 65535]], np.uint16))))

    middle = _BLACK + (_WHITE - _BLACK) / 2
    np.testing.assert_allclose(samples_of(response.image), [[64, 64, middle, middle, middle]], atol=0.5)
    assert response.report.clipped_sample_count == 3


def test_raw_samples_without_levels_have_the_model_s_and_say_so(
    kinds: DenoiseServiceStub, twelve_bits: np.ndarray[Any, np.dtype[np.uint16]]
) -> None:
    raw = kinds.Denoise(raw_request(twelve_bits)).image.raw

    assert (raw.black_level, raw.white_level) == (_BLACK, _WHITE)
    np.testing.assert_array_equal(samples_of(pb.Image(raw=raw))[..., 0], halved(twelve_bits))


def test_the_request_s_levels_win(kinds: DenoiseServiceStub) -> None:
    samples = np.array([[0, 1000, 65534]], np.uint16)
    response = kinds.Denoise(raw_request(samples, fields={"white_level": 65535.0}))

    np.testing.assert_array_equal(samples_of(response.image)[..., 0], halved(samples, black=0))
    assert (response.image.raw.black_level, response.image.raw.white_level) == (0, 65535)
    assert response.report.clipped_sample_count == 0


def test_a_full_range_file_is_served_by_stating_its_levels(kinds: DenoiseServiceStub) -> None:
    samples = np.array([[0, 1000, 65534]], np.uint16)
    request = file_request(png(samples))
    request.image.encoded.white_level = 65535

    response = kinds.Denoise(request)

    np.testing.assert_array_equal(samples_of(response.image), halved(samples, black=0))
    assert response.report.clipped_sample_count == 0


def test_8_bit_images_keep_their_own_levels(kinds: DenoiseServiceStub) -> None:
    samples = np.array([[0, 64, 254]], np.uint8)

    np.testing.assert_array_equal(samples_of(kinds.Denoise(file_request(png(samples))).image), [[0, 32, 127]])


# --- one size, no noise map -------------------------------------------------------------------------------------------


def test_a_model_with_a_code_denoises_pictures_of_its_size(client: Client, service: RunningService) -> None:
    samples = (2 * np.random.default_rng(2).integers(0, 128, (_SIDE_PX, _SIDE_PX))).astype(np.uint8)
    found_before = service.metric("denoised_noise_sigma_levels_count")

    result = client.clean(samples, model="codes")

    np.testing.assert_array_equal(result.image, samples // 2)
    assert (result.noise_sigma, result.sigma_in_trained_range, result.clipped_sample_count) == (None, None, 0)
    assert (result.tile_count, result.model.name) == (1, "codes")
    assert service.metric("denoised_noise_sigma_levels_count") == found_before


def test_pictures_of_its_size_share_a_message(kinds: DenoiseServiceStub) -> None:
    pictures = [np.full((_SIDE_PX, _SIDE_PX), 2 * value, np.uint8) for value in range(5)]
    requests = [raw_request(picture, model="codes") for picture in pictures]

    results = kinds.DenoiseBatch(pb.DenoiseBatchRequest(requests=requests)).results

    assert [samples_of(result.response.image).max() for result in results] == list(range(5))


@pytest.mark.parametrize(("height_px", "width_px"), [(15, 16), (16, 17), (32, 32), (1, 1)])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_another_size_is_refused_with_both_sizes_and_the_remedy(
    kinds: DenoiseServiceStub, height_px: int, width_px: int, strength: float
) -> None:
    request = raw_request(np.zeros((height_px, width_px), np.uint8), model="codes", strength=strength)
    refusal = refused(lambda: kinds.Denoise(request))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "IMAGE_UNSUPPORTED")
    assert f"the image has {width_px} x {height_px} px" in refusal.message
    assert "takes images of 16 x 16 px only; scale or crop it" in refusal.message


# --- what a model is for ----------------------------------------------------------------------------------------------


def test_a_model_that_is_not_made_for_denoising_refuses_it(kinds: DenoiseServiceStub, client: Client) -> None:
    picture = np.zeros((_SIDE_PX, _SIDE_PX), np.uint8)
    refusal = refused(lambda: kinds.Denoise(raw_request(picture, model="dreams")))

    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "CAPABILITY_MISSING")
    assert "'dreams' can't denoise, it can encode, decode, generate" in refusal.message
    with pytest.raises(NotSupportedError) as caught:
        client.clean(picture, model="dreams")
    assert caught.value.reason == "CAPABILITY_MISSING"


def test_models_say_what_they_are_and_which_images_they_take(client: Client) -> None:
    codes, dreams, twelve = client.models()

    assert (codes.kind, codes.capabilities, codes.code_length) == ("fc_ae", ("denoise", "encode", "decode"), 256)
    assert (codes.fixed_side_px, twelve.fixed_side_px) == (_SIDE_PX, 0)
    assert dreams.capabilities == ("encode", "decode", "generate")
    assert (twelve.kind, twelve.precision, twelve.capabilities) == ("conv_dae", "fp32", ("denoise",))
    assert (twelve.sample_type, twelve.black_level, twelve.white_level) == ("u16", _BLACK, _WHITE)
    assert (codes.sample_type, codes.black_level, codes.white_level) == ("u8", 0, 255)
