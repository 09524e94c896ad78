"""Images in chunks: the answer of the whole image, memory that depends on its width alone, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc
import numpy as np
import pytest

from denoised.noise import keyed_rng
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration import harness
from tests.integration.conftest import FRUGAL
from tests.integration.harness import LIMIT_S, RunningService, connected, until
from tests.integration.oracle import Oracle
from tests.integration.pictures import Samples, file_request, jpeg, noisy, png, raw_image, raw_request, samples_of
from tests.integration.plug import Plug
from tests.integration.refusals import refusal_of_error, refusal_of_status
from tests.integration.streaming import HeldPlug, Stream, chunks_of, header_of

_SMALL = raw_request(noisy(1, 64, 64))
# Several rows and columns of tiles.
_SIDES_PX: Final = (900, 760)
# Ends in the middle of a row, of a pixel and of a sample.
_ODD_BYTES: Final = 100_003
# A few tiles below each other, of few pixels.
_TALL = raw_request(noisy(2, 1500, 64))
_TALL_TILE_COUNT: Final = 4
_HUGE_SIDE_PX: Final = 5000


@pytest.fixture
async def stream(served: RunningService) -> AsyncIterator[Stream]:
    stream = Stream(served.grpc_target)
    yield stream
    await stream.close()


@pytest.fixture
async def narrow_stream(narrow: RunningService) -> AsyncIterator[Stream]:
    stream = Stream(narrow.grpc_target)
    yield stream
    await stream.close()


@pytest.fixture(scope="module")
def huge() -> Samples:
    """25 megapixels, 100 MB of samples: a picture of which every part is another."""
    rng = keyed_rng(25)
    y, x = np.mgrid[0:_HUGE_SIDE_PX, 0:_HUGE_SIDE_PX].astype(np.float32) / 300
    waves = 0.5 + 0.3 * np.sin(x + y * y) * np.cos(2 * y - x)
    picture: Samples = np.clip(waves + 0.1 * rng.standard_normal(waves.shape, np.float32), 0, 1).astype(np.float32)
    return picture


def _of_type(picture: Samples, dtype: type[Any]) -> Samples:
    scaled: Samples = picture.astype(dtype)
    return scaled * dtype(257) if dtype is np.uint16 else scaled / dtype(255) if dtype is np.float32 else scaled


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
async def test_rows_in_chunks_get_the_answer_of_one_message(
    channels: int, dtype: type[Any], stream: Stream, stub: DenoiseServiceStub
) -> None:
    request = raw_request(_of_type(noisy(10, *_SIDES_PX, channels), dtype))

    answer = await stream.clean_chunked(request, chunk_bytes=_ODD_BYTES)

    whole = await asyncio.to_thread(stub.Denoise, request)
    assert whole.batching.tile_count > 2
    assert answer.image == whole.image
    assert answer.result.response.report == whole.report
    assert answer.result.response.model == whole.model
    assert answer.result.response.batching.tile_count == whole.batching.tile_count
    assert not answer.progress


@pytest.mark.parametrize(
    "request_",
    [
        raw_request(noisy(11, 90, 80), fields={"layout": pb.SAMPLE_LAYOUT_CHW}),
        raw_request(noisy(12, 90, 80, 4)),
        raw_request(noisy(13, 90, 80).astype(np.uint16), fields={"white_level": 4095.0}, strength=0.5),
        raw_request(noisy(14, 90, 80), output_container=pb.CONTAINER_PNG),
        raw_request(noisy(14, 90, 80), strength=0.0),
        file_request(png(noisy(15, 90, 80))),
        file_request(png(noisy(16, 90, 80, 4).astype(np.uint16) * 257)),
        file_request(jpeg(noisy(17, 90, 80))),
        file_request(jpeg(noisy(17, 90, 80)), output_container=pb.CONTAINER_RAW),
    ],
    ids=["CHW", "RGBA", "levels", "raw to PNG", "strength 0", "PNG", "PNG of 16 bits", "JPEG", "JPEG to raw"],
)
async def test_any_image_in_chunks_gets_the_answer_of_one_message(
    request_: pb.DenoiseRequest, stream: Stream, stub: DenoiseServiceStub
) -> None:
    answer = await stream.clean_chunked(request_, chunk_bytes=999)

    assert answer.image == (await asyncio.to_thread(stub.Denoise, request_)).image


async def test_progress_is_told_to_those_who_ask(stream: Stream) -> None:
    request = raw_request(noisy(18, *_SIDES_PX))

    answer = await stream.clean_chunked(request, chunk_bytes=_ODD_BYTES, progress=True)

    told = [(each.received_bytes, each.done_tile_count) for each in answer.progress]
    assert len(told) > 1
    assert told == sorted(told)
    assert {each.tile_count for each in answer.progress} == {answer.result.response.batching.tile_count}
    assert told[-1] == (len(request.image.raw.data), answer.progress[-1].tile_count)


async def test_whole_images_go_beside_chunks(stream: Stream, stub: DenoiseServiceStub) -> None:
    header, data = header_of(_TALL)
    first, *others = chunks_of(data, 100_000)
    await stream.send("tall", header=header)
    await stream.send("tall", chunk=first)
    await stream.send("small", _SMALL)
    while (frame := await stream.frame()).item_id != "small":
        assert frame.WhichOneof("frame") == "chunk"
    for chunk in others:
        await stream.send("tall", chunk=chunk)
    while (last := await stream.frame()).WhichOneof("frame") != "result":
        pass

    assert frame.result.response.image == (await asyncio.to_thread(stub.Denoise, _SMALL)).image
    assert (last.item_id, last.result.response.batching.tile_count) == ("tall", _TALL_TILE_COUNT)


@pytest.mark.slow
@pytest.mark.skipif(not harness.HAS_PEAK, reason="the peak of a process's memory is read from Linux's /proc")
async def test_an_image_larger_than_the_memory_goes_through(
    frugal: RunningService, light: Oracle, huge: Samples
) -> None:
    stream = Stream(frugal.grpc_target)
    frugal.forget_peak()
    before_bytes = frugal.peak_bytes()

    answer = await stream.clean_chunked(raw_request(huge))
    grown_bytes = frugal.peak_bytes() - before_bytes
    await stream.close()

    # One message would hold it three times.
    assert 3 * huge.nbytes > FRUGAL["memory_bytes"]
    assert grown_bytes < FRUGAL["memory_bytes"]
    denoised = samples_of(answer.image)[..., 0]
    assert denoised.shape == huge.shape
    margin_px, side_px = light.contract.halo_px, 300
    for top_px, left_px in ((0, 0), (152, 2472), (2500, 1112), (4700, 4700)):
        assert top_px % light.contract.size_multiple_px == left_px % light.contract.size_multiple_px == 0
        place = (slice(top_px, top_px + side_px), slice(left_px, left_px + side_px))
        part = np.clip(light.denoise(huge[place][..., np.newaxis]).image[..., 0], 0, 1)
        inside = (slice(margin_px, -margin_px), slice(margin_px, -margin_px))
        np.testing.assert_allclose(denoised[place][inside], part[inside], atol=1 / 255)


@pytest.mark.slow
@pytest.mark.skipif(not harness.HAS_PEAK, reason="the peak of a process's memory is read from Linux's /proc")
def test_who_sends_and_never_reads_is_held_up_and_ended_by_the_deadline(frugal: RunningService, huge: Samples) -> None:
    header, data = header_of(raw_request(huge))
    chunks = list(chunks_of(data))
    taken: list[int] = []

    def frames() -> Iterator[pb.DenoiseStreamRequest]:
        yield pb.DenoiseStreamRequest(item_id="deaf", header=header)
        for number, chunk in enumerate(chunks):
            yield pb.DenoiseStreamRequest(item_id="deaf", chunk=chunk)
            taken.append(number)

    frugal.forget_peak()
    before_bytes = frugal.peak_bytes()
    with connected(frugal.grpc_target) as stub:
        code = stub.DenoiseStream(frames(), timeout=5.0).code()

    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < len(taken) < len(chunks)
    assert frugal.peak_bytes() - before_bytes < FRUGAL["memory_bytes"]
    until(lambda: not frugal.not_at_rest(), "its room was free again")


async def test_an_image_that_never_comes_is_ended_by_its_own_deadline(narrow_stream: Stream) -> None:
    header, _ = header_of(_TALL)
    timeout = pb.DenoiseStreamRequest().timeout
    timeout.FromMilliseconds(50)
    await narrow_stream.send("idle", header=header, timeout=timeout)

    refusal = await narrow_stream.refusal("idle")

    assert (refusal.code, refusal.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("how", ["the item", "the call"])
async def test_what_is_taken_back_in_the_middle_does_not_run(
    how: str, narrow: RunningService, narrow_stream: Stream, plug: Plug
) -> None:
    header, data = header_of(_TALL)
    chunks = list(chunks_of(data, 50_000))
    dropped = narrow.metric("denoised_units_dropped_total", reason="cancelled")
    async with HeldPlug(plug):
        await narrow_stream.send("tall", header=header)
        for chunk in chunks[: len(chunks) * 2 // 3]:
            await narrow_stream.send("tall", chunk=chunk)
        await asyncio.to_thread(until, lambda: narrow.metric("denoised_queued_units") > 0, "its first tiles waited")
        if how == "the item":
            await narrow_stream.send("tall", cancel=pb.CancelItem())
            assert (await narrow_stream.refusal("tall")).code == "CANCELLED"
        else:
            narrow_stream.call.cancel()
        await asyncio.to_thread(until, lambda: narrow.metric("denoised_queued_units") == 0, "no tile waited")
    await asyncio.to_thread(until, lambda: not narrow.not_at_rest(), "its room was free again")

    assert narrow.metric("denoised_units_dropped_total", reason="cancelled") > dropped


def _bad_sequences() -> dict[str, tuple[list[dict[str, Any]], str, str]]:
    """Frames of one item, the field that is refused, and what is said about it."""
    header, data = header_of(_SMALL)
    file_header, file_data = header_of(file_request(png(noisy(1, 9, 9))))
    one = {"chunk": pb.ImageChunk(data=data[:1])}
    rest = {"chunk": pb.ImageChunk(data=data[1:], last=True)}
    short = {"chunk": pb.ImageChunk(data=data[1:-1], last=True)}
    long = {"chunk": pb.ImageChunk(data=data[1:] + b"0", last=True)}
    short_file = {"chunk": pb.ImageChunk(data=file_data[:-1], last=True)}
    full, _ = header_of(_SMALL, image=_SMALL.image)
    wrong, _ = header_of(_SMALL, size_bytes=len(data) - 1)
    return {
        "no header": ([one], "chunk", "send its header first"),
        "too few bytes": ([{"header": header}, one, short], "chunk.data", f"{len(data) - 1} bytes in all"),
        "too many bytes": ([{"header": header}, one, long], "chunk.data", f"announced {len(data)}"),
        "too few bytes of a file": ([{"header": file_header}, short_file], "chunk.data", f"announced {len(file_data)}"),
        "data in the header": ([{"header": full}, one, rest], "header.image", "leave it empty"),
        "a wrong size": ([{"header": wrong}, one, rest], "header.size_bytes", f"have {len(data)}"),
    }


@pytest.mark.parametrize("name", _bad_sequences())
async def test_chunks_in_disorder_are_refused_once_and_alone(
    name: str, narrow_stream: Stream, narrow_stub: DenoiseServiceStub
) -> None:
    frames, field, says = _bad_sequences()[name]
    for frame in frames:
        await narrow_stream.send("bad", **frame)
    await narrow_stream.send("good", _SMALL)
    await narrow_stream.end()
    answers = await narrow_stream.rest()

    refusal = refusal_of_status(answers["bad"].status)
    assert (refusal.code, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", "CHUNKS_INVALID", field)
    assert says in refusal.message
    assert answers["good"].response.image == (await asyncio.to_thread(narrow_stub.Denoise, _SMALL)).image


async def test_a_stream_that_ends_within_an_image_refuses_that_image(narrow_stream: Stream) -> None:
    header, data = header_of(_TALL)
    await narrow_stream.send("cut", header=header)
    await narrow_stream.send("cut", chunk=pb.ImageChunk(data=data[:1000]))
    await narrow_stream.end()

    refusal = refusal_of_status((await narrow_stream.rest())["cut"].status)

    assert (refusal.reason, refusal.field) == ("CHUNKS_INVALID", "chunk.last")


async def test_a_chunk_after_the_last_one_is_refused(narrow_stream: Stream, plug: Plug) -> None:
    header, data = header_of(_SMALL)
    async with HeldPlug(plug) as held:
        await narrow_stream.send("over", header=header)
        await narrow_stream.send("over", chunk=pb.ImageChunk(data=data, last=True))
        await held.wait_queued(1)
        await narrow_stream.send("over", chunk=pb.ImageChunk(data=b"0"))
        refusal = await narrow_stream.refusal("over")

    assert (refusal.reason, refusal.field) == ("CHUNKS_INVALID", "chunk")


async def test_an_image_that_is_refused_gets_one_answer_whatever_follows_of_it(narrow_stream: Stream) -> None:
    raw = raw_image(np.zeros((1, 1), np.uint8), height_px=20_000, width_px=20_000, data=b"")
    header = pb.ImageHeader(image=pb.Image(raw=raw), size_bytes=400_000_000)
    await narrow_stream.send("huge", header=header)
    for _ in range(3):
        await narrow_stream.send("huge", chunk=pb.ImageChunk(data=bytes(1000)))
    await narrow_stream.send("huge", chunk=pb.ImageChunk(data=bytes(1000), last=True))
    await narrow_stream.end()
    answers = await narrow_stream.rest()

    assert answers.keys() == {"huge"}
    assert refusal_of_status(answers["huge"].status).reason == "IMAGE_TOO_LARGE"


def test_a_stream_s_end_in_the_middle_leaves_nothing_behind(narrow: RunningService) -> None:
    header, data = header_of(_TALL)

    def frames() -> Iterator[pb.DenoiseStreamRequest]:
        yield pb.DenoiseStreamRequest(item_id="tall", header=header)
        yield pb.DenoiseStreamRequest(item_id="tall", chunk=pb.ImageChunk(data=data[: len(data) // 2]))
        until(lambda: narrow.metric("denoised_admitted_images") == 1, "the image was there")
        call.cancel()

    with connected(narrow.grpc_target) as stub:
        call = stub.DenoiseStream(frames(), timeout=LIMIT_S)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)

    assert refusal_of_error(caught.value).code == "CANCELLED"
    until(lambda: not narrow.not_at_rest(), "its room was free again")
