"""Codes and images of both clients: what is sent, what comes back, and what is refused before anything is sent."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from denoised import (
    AsyncClient,
    Client,
    FileUnreadableError,
    InternalError,
    InvalidLatentError,
    InvalidOptionError,
    NotSupportedError,
    RetryPolicy,
    UnsupportedImageError,
)
from denoised.v1 import denoised_pb2 as pb
from tests.unit.denoised.conftest import Refusal
from tests.unit.denoised.latent_service import SIDE_PX, LatentService, latent_server

PICTURE = np.array([[0, 51], [102, 255]], np.uint8)
CODE = [0.5, -1.0, 2.0]


@pytest.fixture
def service() -> LatentService:
    return LatentService()


class Caller:
    """Calls a method of one of the clients by its name."""

    def __init__(self, target: str, *, on_a_loop: bool) -> None:
        self._target = target
        self._on_a_loop = on_a_loop

    def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        retry = RetryPolicy(first_pause_s=0.0, longest_pause_s=0.0)
        if not self._on_a_loop:
            with Client(self._target, retry=retry) as client:
                return getattr(client, method)(*arguments, **options)

        async def call() -> Any:
            async with AsyncClient(self._target, retry=retry) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(call())


@pytest.fixture(params=[False, True], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest, service: LatentService) -> Iterator[Caller]:
    with latent_server(service) as target:
        yield Caller(target, on_a_loop=request.param)


# --- what goes there and back ------------------------------------------------------------------------------------


def test_an_image_is_encoded_with_what_is_known_of_its_code(call: Caller, service: LatentService) -> None:
    result = call("encode", PICTURE, model="digits", model_version="3", service_class="bulk")
    np.testing.assert_array_equal(result.code, PICTURE.ravel() / np.float32(255))
    assert result.code.dtype == np.float32
    assert (result.prior_distance, result.prior_distance_limit, result.compression_nats) == (1.5, 8.0, 12.25)
    assert (result.model.name, result.model.version, result.timings.total_s) == ("digits", "3", 1.5)
    options = service.requests[0].options
    assert (options.model, options.model_version, options.service_class) == ("digits", "3", pb.SERVICE_CLASS_BULK)


def test_what_is_not_known_of_a_code_is_none(call: Caller, service: LatentService) -> None:
    service.has_prior = False
    result = call("encode", PICTURE)
    assert (result.prior_distance, result.prior_distance_limit, result.compression_nats) == (None, None, None)


def test_half_precision_gives_16_bit_numbers_and_takes_them(call: Caller, service: LatentService) -> None:
    code = call("encode", PICTURE, half_precision=True).code
    assert code.dtype == np.float16
    call("decode", code)
    assert service.requests[1].latent == pb.Latent(half_values=code.astype("<f2").tobytes())


@pytest.mark.parametrize("code", [CODE, tuple(CODE), np.array(CODE), np.array(CODE, ">f4")])
def test_any_row_of_numbers_is_a_code(call: Caller, service: LatentService, code: Any) -> None:
    result = call("decode", code, allow_out_of_distribution=True)
    np.testing.assert_array_equal(result.image, np.full((SIDE_PX, SIDE_PX), 7, np.uint8))
    assert list(service.requests[0].latent.values) == CODE
    assert service.requests[0].allow_out_of_distribution


@pytest.mark.parametrize(("name", "dtype"), [("u8", np.uint8), ("u16", np.uint16), ("f32", np.float32)])
def test_images_come_as_arrays_of_the_type_that_is_asked_for(call: Caller, name: str, dtype: Any) -> None:
    images = call("generate", 3, seed=5, sample_type=name).images
    assert [(image.dtype, image.shape, float(image.max())) for image in images] == [
        (np.dtype(dtype), (SIDE_PX, SIDE_PX), float(index)) for index in range(3)
    ]
    images[0][:] = 1  # the caller's own memory, not a read-only view of a message


def test_images_come_as_files_where_that_is_asked_for(call: Caller, service: LatentService) -> None:
    result = call("generate", 2, output_container="jpeg", jpeg_quality=80)
    assert result.images == (b"file 0", b"file 1")
    assert service.requests[0].picture == pb.PictureOptions(container=pb.CONTAINER_JPEG, jpeg_quality=80)


def test_generated_images_come_with_their_codes_and_the_seed_that_gives_them_again(
    call: Caller, service: LatentService
) -> None:
    result = call("generate", 2, temperature=0.5)
    assert result.seed == 42
    np.testing.assert_array_equal(result.codes, np.array([[0, 0.5], [1, 0.5]], np.float32))
    request = service.requests[0]
    assert (request.image_count, request.temperature, request.HasField("seed")) == (2, 0.5, False)


def test_ends_of_a_way_are_images_files_or_codes(call: Caller, service: LatentService, tmp_path: Path) -> None:
    path = tmp_path / "end.png"
    path.write_bytes(b"an image")
    result = call("interpolate", path, CODE, step_count=3)
    assert (len(result.images), len(result.codes), result.spherical) == (3, 3, True)
    request = service.requests[0]
    assert request.start.image.encoded.data == b"an image"
    assert list(request.stop.latent.values) == CODE
    call("interpolate", PICTURE, PICTURE)
    assert service.requests[1].start.image.raw.data == PICTURE.tobytes()
    assert not service.requests[1].HasField("step_count")


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [[], [[1.0, 2.0]], "three", [1.0, "two"], np.zeros((2, 2)), 1.0])
def test_what_is_no_row_of_numbers_is_refused_unsent(call: Caller, service: LatentService, code: Any) -> None:
    with pytest.raises(InvalidLatentError) as caught:
        call("decode", code)
    assert (caught.value.reason, caught.value.field) == ("LATENT_INVALID", "latent")
    assert not service.requests


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("generate", {"seed": 2**64}),
        ("generate", {"seed": -(2**64)}),
        ("generate", {"image_count": 1.5}),
        ("generate", {"temperature": "hot"}),
        ("generate", {"output_container": "gif"}),
        ("generate", {"sample_type": "u4"}),
        ("generate", {"jpeg_quality": 10**12}),
        ("generate", {"service_class": "soon"}),
        ("generate", {"model": 3}),
    ],
)
def test_what_no_message_can_hold_is_refused_unsent(
    call: Caller, service: LatentService, method: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOptionError):
        call(method, **options)
    assert not service.requests


def test_an_image_that_is_none_is_refused_unsent(call: Caller, service: LatentService, tmp_path: Path) -> None:
    with pytest.raises(FileUnreadableError):
        call("encode", tmp_path / "nothing.png")
    with pytest.raises(UnsupportedImageError):
        call("interpolate", PICTURE.astype(np.int64), CODE)
    assert not service.requests


@pytest.mark.parametrize("reason", ["LATENT_INVALID", "LATENT_OUT_OF_DISTRIBUTION"])
def test_a_code_that_the_server_refuses_is_an_error_of_its_own(
    call: Caller, service: LatentService, reason: str
) -> None:
    service.script.append(Refusal(grpc.StatusCode.INVALID_ARGUMENT, "too far", reason, "latent"))
    with pytest.raises(InvalidLatentError, match="too far") as caught:
        call("decode", CODE)
    assert (caught.value.reason, caught.value.field) == (reason, "latent")


def test_a_model_that_can_not_is_an_error_of_its_own(call: Caller, service: LatentService) -> None:
    service.script.append(Refusal(grpc.StatusCode.FAILED_PRECONDITION, "can't generate", "CAPABILITY_MISSING"))
    with pytest.raises(NotSupportedError, match="can't generate"):
        call("generate")


def test_what_is_temporary_is_sent_again(call: Caller, service: LatentService) -> None:
    refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "QUEUE_FULL", retry_after_s=0.0)
    service.script.extend([refusal, refusal])
    assert call("encode", PICTURE).code.size == PICTURE.size
    assert len(service.requests) == 3


def test_an_answer_that_is_no_image_is_an_internal_error(call: Caller, service: LatentService) -> None:
    service.answers_nonsense = True
    with pytest.raises(InternalError):
        call("decode", CODE)
