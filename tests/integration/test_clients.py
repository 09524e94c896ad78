"""The public clients against the real service: what a Python program sees."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from denoised import (
    AsyncClient,
    CleanResult,
    Client,
    DeadlineExceededError,
    DenoisedError,
    ImageTooLargeError,
    InvalidImageError,
    InvalidOptionError,
    InvalidRequestError,
    ModelUnknownError,
    OverloadedError,
    RetryPolicy,
    UnsupportedImageError,
    _failures,
)
from denoised._order import build_order
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration.bad_requests import png_header
from tests.integration.harness import RunningService, connected, running, until
from tests.integration.oracle import Oracle
from tests.integration.pictures import Samples, file_of, file_request, jpeg, noisy, opened, png, raw_request, samples_of
from tests.integration.plug import Plug

_DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"


@pytest.fixture
def client(served: RunningService) -> Iterator[Client]:
    with Client(served.grpc_target, retry=RetryPolicy(try_count=1)) as client:
        yield client


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (40, 50, 4)])
def test_an_array_comes_back_as_an_array_alike(
    shape: tuple[int, ...], dtype: type[Any], client: Client, stub: DenoiseServiceStub
) -> None:
    picture: Samples = noisy(1, 40, 50, 4).astype(dtype)[..., : (*shape, 1)[2]].reshape(shape)
    if dtype is np.float32:
        picture /= 255

    result = client.clean(picture)

    assert (result.image.shape, result.image.dtype) == (shape, picture.dtype)
    np.testing.assert_array_equal(
        np.atleast_3d(result.image), samples_of(stub.Denoise(raw_request(picture)).image), strict=True
    )


def test_bytes_and_paths_come_back_as_the_bytes_of_a_file(
    client: Client, stub: DenoiseServiceStub, oracle: Oracle, tmp_path: Path
) -> None:
    data = png(noisy(2, 90, 40))
    path = tmp_path / "noisy.png"
    path.write_bytes(data)

    from_bytes, from_path = client.clean(data), client.clean(path)

    assert from_bytes.image == from_path.image == stub.Denoise(file_request(data)).image.encoded.data
    assert from_bytes.model.digest == oracle.digest
    assert from_bytes.noise_sigma is not None
    assert opened(client.clean(data, output_container="jpeg").image).format == "JPEG"
    assert client.clean(data, strength=0.0).image == data


def test_both_clients_give_the_same_answers_to_many_images(served: RunningService, client: Client) -> None:
    pictures = [noisy(seed, 20 + seed, 70 - seed) for seed in range(30)]

    async def ask() -> dict[int, CleanResult[Any] | DenoisedError]:
        async with AsyncClient(served.grpc_target) as asking:
            return {index: outcome async for index, outcome in asking.clean_many(pictures)}

    waited = asyncio.run(ask())
    blocked = dict(client.clean_many(pictures, concurrency=5))

    for index, picture in enumerate(pictures):
        expected = client.clean(picture).image
        for outcome in (waited[index], blocked[index]):
            assert isinstance(outcome, CleanResult)
            np.testing.assert_array_equal(outcome.image, expected)


@pytest.mark.parametrize(
    ("image", "options", "error", "field"),
    [
        (b"", {}, InvalidImageError, "image.encoded.data"),
        (png(noisy(1, 9, 9))[:-9], {}, InvalidImageError, "image.encoded.data"),
        (file_of(opened(png(noisy(1, 9, 9))), "GIF"), {}, UnsupportedImageError, "image.encoded.data"),
        (png_header(50_000, 50_000), {}, ImageTooLargeError, "image.encoded.data"),
        (bytes(17 * 2**20), {}, InvalidImageError, "image.encoded.data"),
        (np.broadcast_to(np.uint8(0), (12_000, 12_000)), {}, ImageTooLargeError, "image.raw"),
        (np.full((4, 4), np.nan, np.float32), {}, InvalidImageError, "image.raw.data"),
        (noisy(1, 9, 9), {"strength": 1.1}, InvalidOptionError, "options.strength"),
        (noisy(1, 9, 9), {"model": "no-such"}, ModelUnknownError, ""),
    ],
    ids=[
        "empty",
        "cut",
        "GIF",
        "too large",
        "too large for a message",
        "too large for chunks",
        "NaN",
        "strength 1.1",
        "unknown model",
    ],
)
def test_a_refusal_is_an_exception_that_names_the_field_and_harms_no_other_image(
    image: Any, options: dict[str, Any], error: type[InvalidRequestError], field: str, client: Client
) -> None:
    good = noisy(3, 30, 30)
    with pytest.raises(error) as caught:
        client.clean(image, **options)

    assert caught.value.field == field
    np.testing.assert_array_equal(client.clean(good).image, client.clean(good).image)


def test_a_bad_image_among_many_fails_alone(client: Client) -> None:
    good = noisy(4, 30, 30)
    outcomes = dict(client.clean_many([good, b"no image", good]))

    assert isinstance(outcomes[1], InvalidImageError)
    for index in (0, 2):
        outcome = outcomes[index]
        assert isinstance(outcome, CleanResult)
        np.testing.assert_array_equal(outcome.image, client.clean(good).image)


def test_the_models_say_what_they_are_for(client: Client, oracle: Oracle) -> None:
    default = next(model for model in client.models() if model.is_default)

    assert (default.name, default.version, default.digest) == (
        oracle.contract.name,
        oracle.contract.version,
        oracle.digest,
    )


@pytest.mark.parametrize(
    "send", [Client.clean, lambda client, image: next(client.clean_many([image]))[1]], ids=["clean", "clean_many"]
)
def test_a_client_that_finds_the_queue_full_comes_back_and_is_answered(
    send: Callable[[Client, Samples], CleanResult[Samples]], narrow: RunningService, plug: Plug
) -> None:
    large = [raw_request(noisy(seed, 250, 250)) for seed in range(4)]
    picture = noisy(5, 60, 60)
    with (
        Client(narrow.grpc_target, retry=RetryPolicy(try_count=100, longest_pause_s=0.25)) as client,
        connected(narrow.grpc_target) as stub,
        ThreadPoolExecutor(1) as pool,
    ):
        expected = client.clean(picture).image
        refused = narrow.metric("denoised_refusals_total", reason="QUEUE_FULL")
        with plug.in_the_lane():
            calls = [stub.Denoise.future(request) for request in large]
            plug.wait_queued(len(calls))
            result = pool.submit(send, client, picture)
            until(lambda: narrow.metric("denoised_refusals_total", reason="QUEUE_FULL") > refused, "it was refused")
            for call in calls:
                call.result()

        np.testing.assert_array_equal(result.result().image, expected)


@pytest.mark.parametrize(
    "picture",
    [
        noisy(1, 1300, 1400),
        noisy(2, 1050, 1000, 4),
        noisy(3, 1600, 1500, 1)[..., 0].astype(np.uint16) * np.uint16(200),
        (noisy(4, 1400, 640) / np.float32(255))[::2, ::-1],
        png(noisy(5, 900, 1000)),
        jpeg(noisy(6, 1000, 1300)),
    ],
    ids=["8 bits", "alpha", "16 bits", "float, mirrored", "PNG", "JPEG"],
)
def test_an_image_in_chunks_gets_the_answer_that_it_gets_whole(
    picture: Samples | bytes, served: RunningService, narrow: RunningService
) -> None:
    """Longer than a message of the narrow service, but not of the wide one."""
    shares: list[float] = []

    async def ask() -> CleanResult[Any]:
        async with AsyncClient(narrow.grpc_target) as asking:
            return await asking.clean(picture)

    uploads = narrow.metric("denoised_requests_total", method="DenoiseStream.item", code="OK")
    with Client(served.grpc_target) as wide, Client(narrow.grpc_target) as client:
        whole = wide.clean(picture, service_class="bulk")
        in_chunks = client.clean(picture, on_progress=shares.append)
        among = dict(client.clean_many([picture, noisy(7, 30, 30)]))[0]
    waited = asyncio.run(ask())

    for result in (in_chunks, waited, among):
        assert isinstance(result, CleanResult)
        np.testing.assert_array_equal(result.image, whole.image)
        assert result.noise_sigma == pytest.approx(whole.noise_sigma)
        assert (result.tile_count, result.model) == (whole.tile_count, whole.model)
    assert narrow.metric("denoised_requests_total", method="DenoiseStream.item", code="OK") == uploads + 4
    assert shares == sorted(set(shares))
    assert (len(shares) > 2, shares[-1]) == (True, 1.0)


@pytest.mark.parametrize(
    "image",
    [np.broadcast_to(np.uint8(0), (11_000, 12_000)), png_header(12_000, 11_000)],
    ids=["samples", "file"],
)
def test_what_is_too_large_for_chunks_is_refused_here_as_the_server_refuses_it(
    image: Samples | bytes, client: Client, stub: DenoiseServiceStub
) -> None:
    with pytest.raises(ImageTooLargeError, match="132000000 pixels, the limit is 128000000") as here:
        client.clean(image)

    order = build_order(image)
    header = pb.ImageHeader(image=order.image.header, size_bytes=order.image.size_bytes)
    frames = [pb.DenoiseStreamRequest(item_id="a", header=header)]
    if isinstance(image, bytes):  # whose size the server knows when all has come
        frames.append(pb.DenoiseStreamRequest(item_id="a", chunk=pb.ImageChunk(data=image, last=True)))
    (answer,) = stub.DenoiseStream(iter(frames))
    there = _failures.from_status(answer.result.status, target="")

    assert isinstance(there, ImageTooLargeError)
    assert (here.value.reason, here.value.field) == (there.reason, there.field)


def test_a_file_of_more_pixels_than_a_message_may_carry_is_served_in_chunks(tmp_path: Path) -> None:
    data = png(noisy(8, 300, 400))
    with (
        running(tmp_path, image_pixels=100_000, chunked_image_pixels=120_000) as service,
        Client(service.grpc_target) as client,
        connected(service.grpc_target) as stub,
    ):
        with pytest.raises(grpc.RpcError, match="120000 pixels, the limit is 100000"):
            stub.Denoise(file_request(data))
        assert opened(client.clean(data).image).size == (400, 300)


def test_an_upload_whose_time_is_over_leaves_nothing_behind(narrow: RunningService, plug: Plug) -> None:
    """What it leaves behind fails the fixture."""
    with (
        Client(narrow.grpc_target, retry=RetryPolicy(try_count=1)) as client,
        plug.in_the_lane(),
        pytest.raises((DeadlineExceededError, OverloadedError)),
    ):
        client.clean(noisy(1, 1300, 1400), timeout_s=0.05)


def test_the_example_of_a_large_image_runs(
    narrow: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = _DOCUMENT.read_text(encoding="utf-8").partition("## Large images")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    scan = noisy(3, 1600, 1500, 1)[..., 0].astype(np.uint16) * np.uint16(200)
    np.save(tmp_path / "scan.npy", scan)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"np": np, "Client": partial(Client, narrow.grpc_target)}

    exec(code, names)

    assert names["result"].image.shape == scan.shape
    assert capsys.readouterr().out.splitlines()[-1] == "100%"
