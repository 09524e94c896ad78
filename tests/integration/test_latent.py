"""Codes over gRPC with the demonstration models: what comes back is what the files make, in any batch and process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, MODEL_FILE
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from service.demo.latent.__main__ import MODELS_DIR
from service.demo.latent.digits import SIDE_PX, held_out_digits
from service.demo.latent.scenes import AUTOENCODER, GENERATOR
from tests.integration import harness
from tests.integration.harness import RunningService, connected
from tests.integration.pictures import png
from tests.integration.refusals import refused

MODELS: Final = (GENERATOR, AUTOENCODER)
FLOATS: Final = pb.PictureOptions(sample_type=pb.SAMPLE_TYPE_F32)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("latent")
    with harness.running(folder, models_dir=MODELS_DIR, default_model=GENERATOR, lane_count=2) as service:
        yield service


@pytest.fixture
def stub(service: RunningService) -> Iterator[DenoiseServiceStub]:
    with connected(service.grpc_target) as stub:
        yield stub
    harness.until(lambda: not service.not_at_rest(), "queue, ledger and lanes were empty again")


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    return held_out_digits().pictures


def image_of(digit: NDArray[np.uint8]) -> pb.Image:
    return pb.Image(
        raw=pb.RawImage(
            data=digit.tobytes(),
            sample_type=pb.SAMPLE_TYPE_U8,
            height_px=digit.shape[0],
            width_px=digit.shape[1],
            channel_count=1,
        )
    )


def floats_of(image: pb.Image) -> NDArray[np.float32]:
    return np.frombuffer(image.raw.data, "<f4").reshape(SIDE_PX, SIDE_PX)


def whole(model: str, digit: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What ``model.onnx`` makes of it, clipped as its contract says."""
    (path,) = (MODELS_DIR / model).glob(f"*/{MODEL_FILE}")
    feed = {INPUT_NAME: (digit.astype(np.float32) / np.float32(255))[np.newaxis, np.newaxis]}
    (answer,) = ort.InferenceSession(str(path)).run([IMAGE_OUTPUT_NAME], feed)
    clipped: NDArray[np.float32] = np.clip(answer[0, 0], 0, 1)
    return clipped


def options(model: str) -> pb.LatentOptions:
    return pb.LatentOptions(model=model)


@pytest.mark.parametrize("model", MODELS)
def test_encode_then_decode_is_the_whole_model(stub: DenoiseServiceStub, digits: NDArray[np.uint8], model: str) -> None:
    for digit in digits[:10]:
        encoded = stub.Encode(pb.EncodeRequest(image=image_of(digit), options=options(model)))
        decoded = stub.Decode(pb.DecodeRequest(latent=encoded.latent, options=options(model), picture=FLOATS))
        np.testing.assert_allclose(floats_of(decoded.image), whole(model, digit), rtol=0, atol=1e-5)
        assert 0 < encoded.prior_distance < encoded.prior_distance_limit
        assert encoded.HasField("compression_nats")
        assert encoded.model.name == decoded.model.name == model


@pytest.mark.parametrize("model", MODELS)
def test_a_code_in_half_precision_gives_nearly_the_same_image(
    stub: DenoiseServiceStub, digits: NDArray[np.uint8], model: str
) -> None:
    encoded = stub.Encode(pb.EncodeRequest(image=image_of(digits[0]), options=options(model), half_precision=True))
    decoded = stub.Decode(pb.DecodeRequest(latent=encoded.latent, options=options(model), picture=FLOATS))
    assert len(encoded.latent.half_values) == 2 * 8
    np.testing.assert_allclose(floats_of(decoded.image), whole(model, digits[0]), atol=0.01)


def test_a_file_has_the_code_of_its_samples(stub: DenoiseServiceStub, digits: NDArray[np.uint8]) -> None:
    file = pb.Image(encoded=pb.EncodedImage(data=png(digits[3])))
    from_file, from_samples = (stub.Encode(pb.EncodeRequest(image=each)) for each in (file, image_of(digits[3])))
    assert from_file.latent == from_samples.latent


@pytest.mark.parametrize("model", MODELS)
def test_a_way_begins_and_ends_at_what_its_ends_decode_to(
    stub: DenoiseServiceStub, digits: NDArray[np.uint8], model: str
) -> None:
    ends = [stub.Encode(pb.EncodeRequest(image=image_of(digit), options=options(model))).latent for digit in digits[:2]]
    way = stub.Interpolate(
        pb.InterpolateRequest(
            start=pb.InterpolationEnd(image=image_of(digits[0])),
            stop=pb.InterpolationEnd(latent=ends[1]),
            step_count=9,
            options=options(model),
            picture=FLOATS,
        )
    )
    assert way.spherical == (model == GENERATOR)
    assert (way.latents[0], way.latents[-1]) == (ends[0], ends[1])
    steps = np.stack([floats_of(image) for image in way.images])
    for step, digit in ((steps[0], digits[0]), (steps[-1], digits[1])):
        np.testing.assert_allclose(step, whole(model, digit), atol=1e-5)
    # Smooth: no step is as long as half of the way.
    assert np.abs(np.diff(steps, axis=0)).mean(axis=(1, 2)).max() < 0.5 * np.abs(steps[-1] - steps[0]).mean()


# --- one seed, the same bytes ----------------------------------------------------------------------------------------


def drawn(count: int, seed: int) -> pb.GenerateRequest:
    return pb.GenerateRequest(image_count=count, seed=seed, picture=FLOATS)


def bytes_of(response: pb.GenerateResponse) -> list[tuple[bytes, tuple[float, ...]]]:
    return [
        (image.raw.data, tuple(latent.values)) for image, latent in zip(response.images, response.latents, strict=True)
    ]


def test_generate_gives_the_same_bytes_alone_among_32_others_and_in_another_process(
    stub: DenoiseServiceStub, service: RunningService, digits: NDArray[np.uint8], tmp_path: Path
) -> None:
    alone = bytes_of(stub.Generate(drawn(8, seed=5)))
    assert len(set(alone)) == 8

    async def among_others() -> list[Any]:
        async with grpc.aio.insecure_channel(service.grpc_target, harness.CHANNEL_OPTIONS) as channel:
            busy = harness.stub_of(channel)
            calls: list[Any] = []
            for number in range(32):
                calls.append(busy.Generate(drawn(1 + number % 8, seed=5 if number % 2 else number)))
                calls.append(busy.Encode(pb.EncodeRequest(image=image_of(digits[number]))))
            return await asyncio.gather(*calls)

    answers = asyncio.run(among_others())
    batches = service.metrics()
    for number, answer in enumerate(answers[::2]):
        if number % 2:
            assert bytes_of(answer) == alone[: 1 + number % 8]
    # Images did share batches.
    assert batches.value("denoised_batch_units_sum") > batches.value("denoised_batch_units_count")
    # Another process, with other lanes.
    with (
        harness.running(tmp_path, models_dir=MODELS_DIR, default_model=GENERATOR, lane_count=1) as other,
        connected(other.grpc_target) as other_stub,
    ):
        assert bytes_of(other_stub.Generate(drawn(8, seed=5))) == alone


def test_a_seed_that_the_server_chose_gives_the_same_images_again(stub: DenoiseServiceStub) -> None:
    first = stub.Generate(pb.GenerateRequest(image_count=2, picture=FLOATS))
    again = stub.Generate(drawn(2, seed=first.seed))
    assert bytes_of(first) == bytes_of(again)


@pytest.mark.parametrize("container", [pb.CONTAINER_PNG, pb.CONTAINER_JPEG])
def test_images_come_as_files_where_that_is_asked_for(stub: DenoiseServiceStub, container: pb.Container) -> None:
    response = stub.Generate(pb.GenerateRequest(image_count=3, picture=pb.PictureOptions(container=container)))
    starts = {pb.CONTAINER_PNG: b"\x89PNG", pb.CONTAINER_JPEG: b"\xff\xd8"}
    assert all(image.encoded.data.startswith(starts[container]) for image in response.images)
    assert all(image.encoded.container == container for image in response.images)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_is_refused_says_what_why_and_what_to_do(stub: DenoiseServiceStub, digits: NDArray[np.uint8]) -> None:
    far = pb.DecodeRequest(latent=pb.Latent(values=[50.0] * 8))
    refusal = refused(lambda: stub.Decode(far))
    assert (refusal.code, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", "LATENT_OUT_OF_DISTRIBUTION", "latent")
    assert "141.4 standard deviations" in refusal.message
    far.allow_out_of_distribution = True
    assert stub.Decode(far).image.raw.data
    refusal = refused(lambda: stub.Decode(pb.DecodeRequest(latent=pb.Latent(values=[0.0] * 7))))
    assert (refusal.reason, refusal.field) == ("LATENT_INVALID", "latent.values")
    refusal = refused(lambda: stub.Generate(pb.GenerateRequest(options=options(AUTOENCODER))))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "CAPABILITY_MISSING")
    refusal = refused(lambda: stub.Generate(pb.GenerateRequest(image_count=65)))
    assert (refusal.reason, refusal.field) == ("OPTION_INVALID", "image_count")
    wide = pb.EncodeRequest(image=image_of(np.hstack([digits[0]] * 2)))
    assert refused(lambda: stub.Encode(wide)).reason == "IMAGE_UNSUPPORTED"
    unknown = pb.GenerateRequest(options=pb.LatentOptions(model=GENERATOR, model_version="99"))
    assert refused(lambda: stub.Generate(unknown)).reason == "MODEL_UNKNOWN"


def test_bytes_that_are_no_message_are_refused_as_such(service: RunningService) -> None:
    with grpc.insecure_channel(service.grpc_target) as channel:
        call: Any = channel.unary_unary("/denoised.v1.DenoiseService/Decode")
        assert refused(lambda: call(b"\xff\xff")).reason == "MESSAGE_INVALID"


def test_models_and_limits_are_listed(stub: DenoiseServiceStub) -> None:
    listed = stub.ListModels(pb.ListModelsRequest())
    can = {model.reference.name: set(model.capabilities) for model in listed.models}
    assert can == {
        AUTOENCODER: {pb.CAPABILITY_DENOISE, pb.CAPABILITY_ENCODE, pb.CAPABILITY_DECODE},
        GENERATOR: {pb.CAPABILITY_DENOISE, pb.CAPABILITY_ENCODE, pb.CAPABILITY_DECODE, pb.CAPABILITY_GENERATE},
    }
    assert (listed.limits.generated_image_count, listed.limits.interpolation_step_count) == (64, 64)


def test_calls_are_counted_by_model_and_method(stub: DenoiseServiceStub, service: RunningService) -> None:
    labels = {"model": GENERATOR, "version": "1", "method": "Generate"}
    before = service.metric("denoised_latent_images_total", **labels)
    stub.Generate(drawn(5, seed=1))
    assert service.metric("denoised_latent_images_total", **labels) == before + 5
    assert service.metric("denoised_requests_total", method="Generate", code="OK") >= 1


def test_a_call_that_its_client_gives_up_leaves_nothing_behind(stub: DenoiseServiceStub) -> None:
    """The fixture waits until the ledger is empty."""
    for _ in range(5):
        call = stub.Generate.future(drawn(64, seed=2))
        call.cancel()


def test_a_deadline_that_can_not_be_met_is_refused_or_ends_the_call(stub: DenoiseServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Generate(drawn(64, seed=1), timeout=1e-6)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
