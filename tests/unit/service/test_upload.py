"""Images in chunks through a stream, the real denoiser and a lane in the test's hands: what comes back, and when."""

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pytest
from google.rpc.code_pb2 import Code
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denoised.contract import ModelContract
from denoised.v1 import denoised_pb2 as pb
from service import codec
from service.image_tiles import BandedImage
from service.job import RawOrder
from service.lifecycle import State
from service.types import Container, Image
from tests.unit.service.streams import EDGE_PX, Call, Service, cancel, chunk, raw, turn

STEP_PX = EDGE_PX // 2
"""Rows that a row of tiles adds to the one before it."""
ROWS_HELD = 8
"""Rows of tiles at most that an upload has in memory, and as many answers."""
UNSENT_BYTES = 10_000
"""Of an answer, made and not read; less here than in the service."""
Frame = pb.DenoiseStreamRequest


@pytest.fixture
async def call(contract: ModelContract) -> Call:
    return Call(Service(contract))


@pytest.fixture
def little_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.chunks.UNSENT_MOST_BYTES", UNSENT_BYTES)


def noise(height_px: int, width_px: int, channel_count: int = 1) -> bytes:
    return np.random.default_rng(5).integers(0, 256, height_px * width_px * channel_count, np.uint8).tobytes()


def negative(data: bytes) -> bytes:
    """The network's answer."""
    return (255 - np.frombuffer(data, np.uint8)).tobytes()


def header(
    item_id: str,
    image: pb.Image,
    size_bytes: int | None = None,
    *,
    progress: bool = False,
    timeout_s: int = 0,
    **options: Any,
) -> Frame:
    samples = image.raw
    right_bytes = samples.height_px * samples.width_px * samples.channel_count
    frame = Frame(
        item_id=item_id,
        header=pb.ImageHeader(
            image=image,
            size_bytes=right_bytes if size_bytes is None else size_bytes,
            options=pb.DenoiseOptions(**options),
            progress=progress,
        ),
    )
    if timeout_s:
        frame.timeout.seconds = timeout_s
    return frame


def chunks(item_id: str, data: bytes, size_bytes: int = 100) -> list[Frame]:
    starts = range(0, len(data), size_bytes)
    return [chunk(item_id, data[at : at + size_bytes], last=at + size_bytes >= len(data)) for at in starts]


def png(height_px: int, width_px: int) -> bytes:
    samples = np.frombuffer(noise(height_px, width_px), np.uint8).reshape(height_px, width_px, 1)
    return bytes(codec.encode(Image(samples, None, 0.0, 255.0), Container.PNG, jpeg_quality=90))


def as_png() -> pb.Image:
    return pb.Image(encoded=pb.EncodedImage())


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [pb.SAMPLE_LAYOUT_HWC, pb.SAMPLE_LAYOUT_CHW], ids=["rows", "planes"])
@pytest.mark.parametrize("channel_count", [1, 3])
@pytest.mark.parametrize("chunk_bytes", [1, 37, 100_000])
async def test_the_answer_comes_in_chunks_and_then_the_result_without_data(
    call: Call, layout: pb.SampleLayout, channel_count: int, chunk_bytes: int
) -> None:
    data = noise(40, 21, channel_count)
    model = "grey" if channel_count == 1 else "colour"
    image = raw(40, 21, channel_count=channel_count, layout=layout)
    await call.send(header("a", image, model=model))
    for frame in chunks("a", data, chunk_bytes):
        await call.send(frame)
        await call.run_lane()
    await call.run_lane()
    await call.end()
    assert call.data("a") == negative(data)
    answer = call.result("a").response.image.raw
    assert (answer.data, answer.height_px, answer.width_px, answer.layout) == (b"", 40, 21, layout)
    assert call.codes == [Code.OK]
    assert await call.service.is_idle()


async def test_rows_leave_before_the_last_have_come(call: Call) -> None:
    data = noise(200, 16)
    frames = chunks("a", data, 16 * STEP_PX)
    await call.send(header("a", raw(200, 16)), *frames[:3])
    await call.run_lane()
    sent = b"".join(answer.chunk.data for answer in call.answers)
    assert sent
    assert sent == negative(data)[: len(sent)]
    for frame in frames[3:]:
        await call.send(frame)
        await call.run_lane()
    await call.end()
    assert call.data("a") == negative(data)


async def test_a_file_comes_back_as_a_file(call: Call) -> None:
    data = png(40, 21)
    await call.send(header("a", as_png(), len(data)), *chunks("a", data))
    await call.run_lane()
    await call.end()
    answer = call.data("a")
    decoded = codec.decode(answer, codec.sniff(answer, claimed=None))
    assert decoded.colour.tobytes() == negative(noise(40, 21))
    assert call.result("a").response.image.encoded.container == pb.CONTAINER_PNG
    assert await call.service.is_idle()


async def test_the_answer_s_chunks_are_no_larger_than_the_setting(contract: ModelContract) -> None:
    call = Call(Service(contract), chunk_bytes=64)
    data = noise(40, 21)
    for item_id, layout in (("rows", pb.SAMPLE_LAYOUT_HWC), ("planes", pb.SAMPLE_LAYOUT_CHW)):
        await call.send(header(item_id, raw(40, 21, layout=layout)), *chunks(item_id, data))
        await call.run_lane()
        assert call.data(item_id) == negative(data)
    await call.end()
    sizes = [len(answer.chunk.data) for answer in call.answers if answer.HasField("chunk")]
    assert max(sizes) == 64


@pytest.mark.parametrize("strength", [0.0, 1.0])
@pytest.mark.parametrize("layout", [pb.SAMPLE_LAYOUT_HWC, pb.SAMPLE_LAYOUT_CHW], ids=["rows", "planes"])
async def test_chunks_may_be_empty_and_an_image_is_over_with_its_last_one(
    call: Call, layout: pb.SampleLayout, strength: float
) -> None:
    """However fast the rest was worked on."""
    data = noise(20, 20)
    await call.send(header("a", raw(20, 20, layout=layout), strength=strength), chunk("a"), chunk("a", data))
    await call.run_lane()
    assert call.results() == []
    await call.send(chunk("a"), chunk("a", last=True))
    await call.run_lane()
    await call.end()
    assert call.data("a") == (negative(data) if strength else data)


@pytest.mark.parametrize(
    ("channel_count", "layout"),
    [(1, pb.SAMPLE_LAYOUT_HWC), (1, pb.SAMPLE_LAYOUT_CHW), (2, pb.SAMPLE_LAYOUT_HWC)],
    ids=["rows", "planes", "with alpha"],
)
async def test_strength_0_sends_samples_back_as_they_come_and_computes_nothing(
    call: Call, channel_count: int, layout: pb.SampleLayout
) -> None:
    """Those, too, that lie outside the levels and would be clipped."""
    data = noise(40, 21, channel_count)
    image = raw(40, 21, channel_count=channel_count, layout=layout, black_level=64.0, white_level=65.0)
    frames = chunks("a", data)
    await call.send(header("a", image, strength=0.0), *frames[:2])
    assert b"".join(answer.chunk.data for answer in call.answers) == data[:200]
    await call.send(*frames[2:])
    await call.end()
    assert call.data("a") == data
    response = call.result("a").response
    assert not response.HasField("report")
    assert response.model.name == "grey"
    assert await call.service.is_idle()


async def test_strength_0_sends_the_same_file_back(call: Call) -> None:
    data = png(9, 9)
    await call.send(header("a", as_png(), len(data), strength=0.0), *chunks("a", data, 7))
    await call.end()
    assert call.data("a") == data
    assert await call.service.is_idle()


async def test_two_images_whose_chunks_alternate_get_their_own_answers(call: Call) -> None:
    first, second = noise(40, 21), noise(40, 21)[::-1]
    await call.send(header("a", raw(40, 21)), header("b", raw(40, 21)))
    for pair in zip(chunks("a", first), chunks("b", second), strict=True):
        await call.send(*pair)
    await call.run_lane()
    await call.end()
    assert call.data("a") == negative(first)
    assert call.data("b") == negative(second)


async def test_whole_images_pass_an_image_whose_chunks_are_still_coming(call: Call) -> None:
    data = noise(40, 21)
    frames = chunks("a", data)
    whole = Frame(item_id="b", request=pb.DenoiseRequest(image=raw(40, 21, data=data)))
    await call.send(header("a", raw(40, 21)), frames[0], whole)
    await call.run_lane()
    assert call.result("b").response.image.raw.data == negative(data)
    await call.send(*frames[1:])
    await call.run_lane()
    await call.end()
    assert call.data("a") == negative(data)


# --- how far it is ----------------------------------------------------------------------------------------------------


async def test_progress_is_told_when_asked_for_and_ends_with_all(call: Call) -> None:
    data = noise(60, 21)
    for item_id, progress in (("told", True), ("not", False)):
        await call.send(header(item_id, raw(60, 21), progress=progress), *chunks(item_id, data))
        await call.run_lane()
        assert call.data(item_id) == negative(data)
    await call.end()
    told = [answer.progress for answer in call.answers if answer.HasField("progress")]
    assert {answer.item_id for answer in call.answers if answer.HasField("progress")} == {"told"}
    assert [p.done_tile_count for p in told] == sorted(p.done_tile_count for p in told)
    tile_count = call.result("told").response.batching.tile_count
    last = (told[-1].received_bytes, told[-1].done_tile_count, told[-1].tile_count)
    assert last == (len(data), tile_count, tile_count)
    assert len(told) > 1


# --- what is refused --------------------------------------------------------------------------------------------------


def assert_refused(call: Call, item_id: str, reason: str, text: str) -> None:
    assert call.reason(item_id) == reason
    assert text in call.result(item_id).status.message


@pytest.mark.parametrize("image", [raw(9, 9), as_png()], ids=["rows", "file"])
async def test_more_bytes_than_announced_are_refused_at_once(call: Call, image: pb.Image) -> None:
    await call.send(header("a", image, 81), chunk("a", bytes(80)), chunk("a", bytes(2)), chunk("a", last=True))
    assert_refused(call, "a", "CHUNKS_INVALID", "the chunks have 82 bytes; the header announced 81")
    await call.end()
    assert await call.service.is_idle()


@pytest.mark.parametrize("image", [raw(9, 9), as_png()], ids=["rows", "file"])
async def test_fewer_bytes_than_announced_are_refused_with_the_last(call: Call, image: pb.Image) -> None:
    await call.send(header("a", image, 81), chunk("a", bytes(80)))
    assert call.answers == []
    await call.send(chunk("a", last=True))
    assert_refused(call, "a", "CHUNKS_INVALID", "the chunks have 80 bytes in all; the header announced 81")
    await call.end()
    assert await call.service.is_idle()


@pytest.mark.parametrize("more", [[chunk("a", b"x")], [chunk("a")] * 3, [chunk("a"), chunk("a", last=True)]])
async def test_chunks_after_the_last_end_the_item_with_one_answer(call: Call, more: list[Frame]) -> None:
    await call.send(header("a", raw(40, 40)), *chunks("a", noise(40, 40)), *more)
    await call.run_lane()
    await call.end()
    assert_refused(call, "a", "CHUNKS_INVALID", "the image had its last chunk")
    assert await call.service.is_idle()


async def test_an_image_is_not_spared_for_the_sake_of_a_refused_one_before_it(call: Call) -> None:
    await call.send(header("a", raw(9, 9), 80))
    await call.send(header("a", raw(40, 40)), *chunks("a", noise(40, 40)), chunk("a"))
    await call.run_lane()
    await call.end()
    assert call.results() == [("a", Code.INVALID_ARGUMENT)] * 2


async def test_a_chunk_without_a_header_is_refused_once_and_the_rest_of_it_ignored(call: Call) -> None:
    await call.send(chunk("a", b"1"), chunk("a", b"2"), chunk("a", b"3", last=True))
    assert_refused(call, "a", "CHUNKS_INVALID", "send its header first")
    await call.send(chunk("a", b"4", last=True))
    assert [code for _, code in call.results()] == [Code.INVALID_ARGUMENT] * 2
    await call.end()


@pytest.mark.parametrize(
    ("frame", "reason", "text"),
    [
        (header("a", raw(9, 9, data=b"12")), "CHUNKS_INVALID", "image has 2 bytes of data"),
        (header("a", pb.Image(encoded=pb.EncodedImage(data=b"12")), 2), "CHUNKS_INVALID", "image has 2 bytes of data"),
        (header("a", raw(9, 9), 80), "CHUNKS_INVALID", "size_bytes is 80; the samples that the header describes have"),
        (header("a", as_png(), 0), "CHUNKS_INVALID", "size_bytes is 0"),
        (header("a", as_png(), -(10**15)), "CHUNKS_INVALID", "size_bytes is -1000000000000000"),
        (header("a", as_png(), 10**15), "IMAGE_TOO_LARGE", "1000000000000000 bytes"),
        (header("a", pb.Image(), 1), "IMAGE_UNDECODABLE", "no image"),
        (header("a", raw(9, 9), strength=2.0), "OPTION_INVALID", "strength is 2.0"),
    ],
)
async def test_a_header_that_promises_nothing_good_is_refused_and_its_chunks_ignored(
    call: Call, frame: Frame, reason: str, text: str
) -> None:
    await call.send(frame)
    assert_refused(call, "a", reason, text)
    await call.send(chunk("a", b"12"), chunk("a", b"3", last=True))
    assert len(call.answers) == 1
    assert await call.service.is_idle()
    data = noise(9, 9)
    await call.send(header("b", raw(9, 9)), *chunks("b", data))
    await call.run_lane()
    await call.end()
    assert call.data("b") == negative(data)


async def test_a_second_header_with_an_id_does_not_disturb_the_first_nor_do_its_chunks(call: Call) -> None:
    data = noise(40, 21)
    frames = chunks("a", data)
    await call.send(header("a", raw(40, 21)), frames[0], header("a", raw(5, 5)), *frames[1:])
    await call.send(*chunks("a", bytes(25), 10))
    await call.run_lane()
    await call.end()
    assert call.results() == [("a", Code.INVALID_ARGUMENT), ("a", Code.OK)]
    assert b"".join(a.chunk.data for a in call.answers if a.HasField("chunk")) == negative(data)
    assert await call.service.is_idle()


async def test_a_file_that_is_none_fails_with_its_last_chunk(call: Call) -> None:
    await call.send(header("a", as_png(), 3), chunk("a", b"abc", last=True))
    assert call.reason("a") == "IMAGE_UNDECODABLE"
    await call.end()
    assert await call.service.is_idle()


async def test_a_stream_that_ends_before_the_last_chunk_ends_its_images(call: Call) -> None:
    await call.send(header("rows", raw(9, 9)), chunk("rows", bytes(81)), header("file", as_png(), 9))
    await call.run_lane()
    await call.end()
    for item_id in ("rows", "file"):
        assert_refused(call, item_id, "CHUNKS_INVALID", "the stream ended before the image's last chunk")
    assert await call.service.is_idle()


async def test_as_many_images_as_items_may_be_open_and_further_ones_are_told_to_come_back(
    contract: ModelContract,
) -> None:
    """If they were let in, or waited for, the chunks of the others would never be read."""
    call = Call(Service(contract), items_in_flight=2)
    data = noise(20, 20)
    await call.send(*(header(item_id, raw(20, 20)) for item_id in "abc"))
    assert call.reason("c") == "QUEUE_FULL"
    await call.send(chunk("c", data, last=True), *chunks("a", data), *chunks("b", data))
    await call.run_lane()
    await call.send(header("c", raw(20, 20)), *chunks("c", data))
    await call.run_lane()
    await call.end()
    assert call.results() == [("c", Code.RESOURCE_EXHAUSTED), ("a", Code.OK), ("b", Code.OK), ("c", Code.OK)]
    assert await call.service.is_idle()


# --- taken back, too late, nobody there -------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [raw(40, 40), as_png()], ids=["rows", "file"])
async def test_of_an_image_taken_back_later_chunks_are_ignored(call: Call, image: pb.Image) -> None:
    frames = chunks("a", noise(40, 40))
    await call.send(header("a", image, 1600), *frames[:8], cancel("a"), *frames[8:])
    await call.run_lane()
    assert call.reason("a") == "CANCELLED"
    assert await call.service.is_idle()
    data = noise(20, 20)
    await call.send(header("a", raw(20, 20)), *chunks("a", data))
    await call.run_lane()
    await call.end()
    assert call.results() == [("a", Code.CANCELLED), ("a", Code.OK)]


@pytest.mark.usefixtures("little_unsent")
@pytest.mark.parametrize("layout", [pb.SAMPLE_LAYOUT_HWC, pb.SAMPLE_LAYOUT_CHW], ids=["rows", "planes"])
async def test_nothing_follows_the_result_of_an_image_taken_back_while_its_answer_waits_for_the_wire(
    contract: ModelContract, layout: pb.SampleLayout
) -> None:
    """Neither what was made of it, nor what would be."""
    call = Call(Service(contract), chunk_bytes=1000)
    height_px, width_px = UNSENT_BYTES // 100 + 5 * STEP_PX, 100
    call.wire.is_open.clear()
    await call.send(
        header("a", raw(height_px, width_px, layout=layout), progress=True), *chunks("a", noise(height_px, width_px))
    )
    await call.run_lane()
    await call.send(cancel("a"))
    assert call.service.admission.reserved_bytes == 0
    call.wire.is_open.set()
    await turn()
    await call.end()
    assert call.reason("a") == "CANCELLED"
    assert sum(not answer.HasField("result") for answer in call.answers) == 1, "the one that was being written"
    assert await call.service.is_idle()


@pytest.mark.parametrize(
    "frame",
    [
        header("a", raw(40, 40), timeout_s=5),
        header("a", raw(40, 40), timeout_s=5, strength=0.0),
        header("a", as_png(), 1600, timeout_s=5),
    ],
    ids=["rows", "untouched", "file"],
)
async def test_an_image_whose_chunks_stop_ends_at_its_deadline(
    call: Call, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", call.service.clock)
    await call.send(frame, chunk("a", bytes(100)))
    call.service.clock.now_s += 4.9
    await turn()
    assert call.results() == []
    assert call.service.admission.reserved_bytes > 0
    call.service.clock.now_s += 0.2
    await turn()
    assert call.reason("a") == "DEADLINE_EXCEEDED"
    assert await call.service.is_idle()
    await call.send(chunk("a", bytes(1500), last=True))
    await call.end()
    assert len(call.results()) == 1


async def test_an_answered_image_is_not_answered_again_at_its_deadline(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", call.service.clock)
    await call.send(header("a", raw(20, 20), timeout_s=5), *chunks("a", noise(20, 20)))
    await call.run_lane()
    await call.send(header("a", raw(20, 20), timeout_s=100))
    call.service.clock.now_s += 50.0
    await turn()
    assert call.results() == [("a", Code.OK)]
    await call.send(cancel("a"))
    await call.end()
    assert call.results() == [("a", Code.OK), ("a", Code.CANCELLED)]


async def test_a_deadline_that_passes_while_the_result_waits_for_the_wire_changes_nothing(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", call.service.clock)
    call.wire.is_open.clear()
    data = noise(20, 20)
    await call.send(header("a", raw(20, 20), timeout_s=5), *chunks("a", data))
    await call.run_lane()
    call.service.clock.now_s += 50.0
    await turn()
    call.wire.is_open.set()
    await call.end()
    assert call.data("a") == negative(data)
    assert call.codes == [Code.OK]


async def test_while_the_service_drains_an_image_in_chunks_is_taken_to_its_end(call: Call) -> None:
    data = noise(40, 21)
    frames = chunks("a", data)
    await call.send(header("a", raw(40, 21)), *frames[:2])
    call.service.lifecycle.enter(State.DRAINING)
    await call.send(header("b", raw(40, 21)), *chunks("b", data), *frames[2:])
    await call.run_lane()
    await call.end()
    assert call.reason("b") == "DRAINING"
    assert call.data("a") == negative(data)


async def test_a_client_that_goes_away_leaves_nothing_of_its_images(call: Call) -> None:
    frames = chunks("rows", noise(40, 40), 400)
    await call.send(header("rows", raw(40, 40)), *frames[:3], header("file", as_png(), 99), chunk("file", b"1"))
    await call.send(header("same", raw(40, 40), strength=0.0), chunk("same", b"1"))
    assert call.service.lane.waiting
    call.served.cancel()
    await turn()
    while call.service.lane.waiting:
        call.service.lane.turn()
    assert call.served.cancelled()
    assert await call.service.is_idle()


async def test_a_network_that_fails_on_a_row_ends_the_image_and_its_later_chunks_are_ignored(call: Call) -> None:
    samples = np.zeros((200, 16), np.float32)
    samples[10, 3] = np.nan
    frames = chunks("a", samples.tobytes(), 64 * STEP_PX)
    await call.send(header("a", raw(200, 16, sample_type=pb.SAMPLE_TYPE_F32), samples.nbytes), *frames[:4])
    await call.run_lane()
    assert_refused(call, "a", "SAMPLES_INVALID", "the first at row 10, column 3, channel 0")
    await call.send(*frames[4:])
    await call.run_lane()
    await call.end()
    assert len(call.results()) == 1
    assert await call.service.is_idle()


# --- how much is held -------------------------------------------------------------------------------------------------


async def test_while_the_network_is_behind_no_more_is_read(call: Call) -> None:
    height_px, width_px = 100 * STEP_PX, 16
    data = noise(height_px, width_px)
    frames = chunks("a", data, width_px * STEP_PX)
    await call.send(header("a", raw(height_px, width_px)), *frames)
    assert call.wire.read_count <= ROWS_HELD + 1
    read_count = call.wire.read_count
    call.service.lane.turn()
    await turn()
    assert read_count < call.wire.read_count <= read_count + ROWS_HELD
    await call.run_lane()
    await call.end()
    assert call.data("a") == negative(data)


@pytest.mark.usefixtures("little_unsent")
async def test_while_the_client_does_not_read_the_network_stops_and_nothing_more_is_read(call: Call) -> None:
    height_px, width_px = 80 * STEP_PX, 50
    row_bytes = width_px * STEP_PX
    call.wire.is_open.clear()
    data = noise(height_px, width_px)
    await call.send(header("a", raw(height_px, width_px)), *chunks("a", data, row_bytes))
    await call.run_lane()
    stopped_at = call.wire.read_count
    assert stopped_at * row_bytes <= UNSENT_BYTES + (ROWS_HELD + 2) * row_bytes
    assert call.service.lane.waiting == []
    call.wire.is_open.set()
    for _ in range(40):
        await call.run_lane()
    await call.end()
    assert call.data("a") == negative(data)
    assert await call.service.is_idle()


@pytest.mark.usefixtures("little_unsent")
async def test_what_goes_back_untouched_waits_for_the_client_too(call: Call) -> None:
    call.wire.is_open.clear()
    data = noise(8, UNSENT_BYTES)
    await call.send(header("a", raw(8, UNSENT_BYTES), strength=0.0), *chunks("a", data, 1000))
    # The header came before them, and one more is in hand.
    assert (call.wire.read_count - 2) * 1000 == UNSENT_BYTES
    call.wire.is_open.set()
    for _ in range(40):
        await turn()
    await call.end()
    assert call.data("a") == data


async def test_of_an_image_that_is_all_there_nothing_holds_up_the_stream(call: Call) -> None:
    """Though its rows still wait for the network."""
    height_px = 100 * STEP_PX
    await call.send(header("a", raw(height_px, 1)), chunk("a", noise(height_px, 1), last=True), cancel("a"))
    assert call.reason("a") == "CANCELLED"
    await call.run_lane()
    await call.end()
    assert await call.service.is_idle()


async def test_the_room_of_a_file_is_what_it_announced_until_it_is_an_image(call: Call) -> None:
    data = png(40, 21)
    await call.send(header("a", as_png(), len(data)))
    assert call.service.admission.reserved_bytes == len(data)
    await call.send(*chunks("a", data))
    assert call.service.admission.reserved_bytes > len(data)
    await call.run_lane()
    await call.end()
    assert await call.service.is_idle()


@pytest.mark.usefixtures("little_unsent")
@pytest.mark.parametrize("strength", [0.0, 1.0])
async def test_what_waits_for_the_client_of_an_answer_has_room_of_its_own(call: Call, strength: float) -> None:
    """Messages that have not left are copies, beside what the image itself holds."""
    height_px, width_px = 80 * STEP_PX, 50
    image = raw(height_px, width_px)
    recipe = call.recipes.of_header(header("a", image).header)
    order = recipe.order
    assert isinstance(order, RawOrder)
    held_bytes = BandedImage.held_bytes(order.geometry.header, order.geometry.plan) if strength else 0
    call.wire.is_open.clear()
    await call.send(header("a", image, strength=strength))
    assert call.service.admission.reserved_bytes >= held_bytes + UNSENT_BYTES
    await call.send(*chunks("a", noise(height_px, width_px), width_px * STEP_PX))
    await call.run_lane()
    call.wire.is_open.set()
    for _ in range(40):
        await call.run_lane()
    await call.end()
    assert await call.service.is_idle()


@pytest.mark.usefixtures("little_unsent")
@pytest.mark.parametrize("strength", [0.0, 1.0])
async def test_so_has_what_waits_of_a_file_until_its_result_has_left(call: Call, strength: float) -> None:
    data = png(200, 101)
    call.wire.is_open.clear()
    await call.send(header("a", as_png(), len(data), strength=strength), *chunks("a", data))
    await call.run_lane()
    samples_bytes = 200 * 101
    assert call.service.admission.reserved_bytes >= len(data) + UNSENT_BYTES + 2 * samples_bytes * bool(strength)
    call.wire.is_open.set()
    for _ in range(40):
        await turn()
    await call.end()
    assert call.data("a")
    assert await call.service.is_idle()


async def test_an_image_without_room_is_refused_with_its_header(contract: ModelContract) -> None:
    call = Call(Service(contract, memory_bytes=10_000))
    await call.send(header("a", as_png(), 9_000), header("b", as_png(), 2_000))
    assert call.reason("b") == "MEMORY_BUDGET"
    await call.send(cancel("a"))
    await call.end()
    assert await call.service.is_idle()


# --- whatever comes ---------------------------------------------------------------------------------------------------

_SIDE_PX = 20
_DATA = noise(_SIDE_PX, _SIDE_PX)
_id = st.sampled_from("abc")
_event = st.one_of(
    st.builds(lambda i, s: header(i, raw(_SIDE_PX, _SIDE_PX), strength=s), _id, st.sampled_from([0.0, 1.0])),
    st.builds(lambda i: header(i, as_png(), 40), _id),
    st.builds(lambda i, size: chunk(i, _DATA[:size]), _id, st.sampled_from([0, 40, 200, 400])),
    st.builds(lambda i, size: chunk(i, _DATA[:size], last=True), _id, st.sampled_from([0, 40, 200])),
    st.builds(cancel, _id),
    st.sampled_from(["lane", "turn", "reader sleeps", "reader wakes"]),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(_event, max_size=30), items_in_flight=st.integers(1, 3))
def test_whatever_a_client_sends_every_header_is_answered_once_and_nothing_is_left(
    contract: ModelContract, events: list[Frame | str], items_in_flight: int
) -> None:
    async def story() -> None:
        call = Call(Service(contract), items_in_flight=items_in_flight)
        headers: Counter[str] = Counter()
        for event in events:
            if isinstance(event, Frame):
                headers[event.item_id] += event.HasField("header")
                call.wire.frames.put_nowait(event.SerializeToString())
            elif event == "lane" and call.service.lane.waiting:
                call.service.lane.turn()
            elif event == "reader sleeps":
                call.wire.is_open.clear()
            elif event == "reader wakes":
                call.wire.is_open.set()
            else:
                await turn()
        call.wire.is_open.set()
        call.wire.frames.put_nowait(None)
        for _ in range(len(events) + 2):
            await call.run_lane()
        assert call.served.done()
        call.served.result()
        results = Counter(item_id for item_id, _ in call.results())
        # A chunk that belongs to no image is answered besides.
        assert all(results[item_id] >= count for item_id, count in headers.items())
        assert len(call.codes) == results.total()
        assert await call.service.is_idle()

    asyncio.run(story())
