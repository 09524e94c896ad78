"""Both clients against a real server: every test runs on ``Client`` and on ``AsyncClient``."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image as PillowImage

from denoised import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    DenoisedError,
    FileUnreadableError,
    ImageTooLargeError,
    InternalError,
    InvalidImageError,
    InvalidOptionError,
    NotSupportedError,
    OverloadedError,
    RetryPolicy,
    ServerUnavailableError,
    UnsupportedImageError,
)
from denoised._calls import channel_options, default_stream_count
from denoised.v1 import denoised_pb2 as pb
from tests.unit.denoised.conftest import Caller, Connect, Refusal, Server

BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED
DOWN = grpc.StatusCode.UNAVAILABLE
BAD = grpc.StatusCode.INVALID_ARGUMENT


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


# --- one image ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4)])
def test_an_array_comes_back_with_its_shape_type_and_values(caller: Caller, shape: tuple[int, ...], dtype: str) -> None:
    array = ramp(shape, dtype)
    image = caller.clean(array).image
    assert image.dtype == array.dtype
    np.testing.assert_array_equal(image, array)
    image[:] = 0  # the caller's own memory, not a read-only view of a message


def test_strides_and_byte_order_do_not_reach_the_server(caller: Caller, server: Server) -> None:
    array = ramp((6, 8, 3), ">u2")[::2, ::-1]
    image = caller.clean(array).image
    np.testing.assert_array_equal(image, array)
    assert image.dtype == array.dtype
    raw = server.service.requests[0].image.raw
    assert (raw.height_px, raw.width_px, raw.channel_count) == (3, 8, 3)
    assert raw.data == array.astype("<u2").tobytes()


def test_bytes_and_paths_give_the_bytes_of_a_file(caller: Caller, tmp_path: Path) -> None:
    path = tmp_path / "noisy.png"
    path.write_bytes(b"a file")
    for image in (b"a file", path, str(path)):
        assert caller.clean(image).image == b"cleaned:a file"


def test_options_travel_and_omitted_ones_stay_unset(caller: Caller, server: Server) -> None:
    caller.clean(b"x")
    caller.clean(
        b"x",
        model="cdae",
        model_version="2",
        strength=0.0,
        output_container="jpeg",
        jpeg_quality=80,
        timeout_s=5,
        service_class="bulk",
    )
    caller.clean(ramp((2, 2), "uint16"), black_level=64, white_level=4095)
    caller.clean(b"x", black_level=64, white_level=4095)
    plain, full, levels, file_levels = server.service.requests
    assert plain.options == pb.DenoiseOptions()
    assert not plain.options.HasField("strength")
    assert full.options == pb.DenoiseOptions(
        model="cdae",
        model_version="2",
        strength=0.0,
        output_container=pb.CONTAINER_JPEG,
        jpeg_quality=80,
        service_class=pb.SERVICE_CLASS_BULK,
    )
    assert full.options.HasField("strength")
    assert (levels.image.raw.black_level, levels.image.raw.white_level) == (64, 4095)
    assert file_levels.image.encoded == pb.EncodedImage(data=b"x", black_level=64, white_level=4095)
    assert not plain.image.encoded.HasField("white_level")


def test_a_result_says_what_the_server_said(caller: Caller) -> None:
    result = caller.clean(b"x")
    assert (result.noise_sigma, result.sigma_in_trained_range, result.clipped_sample_count) == (24.5, True, 7)
    assert (result.timings.compute_s, result.timings.total_s, result.timings.queue_s) == (0.25, 1.5, 0.0)
    assert (result.tile_count, result.shared_request_count, result.shared_client_count) == (4, 3, 2)
    assert (result.model.name, result.model.version, result.model.digest) == ("cdae", "2", "ab" * 32)


def test_noise_that_the_model_does_not_estimate_is_none_not_zero(caller: Caller, server: Server) -> None:
    server.service.noise_is_unknown = True
    result = caller.clean(b"x")
    assert (result.noise_sigma, result.sigma_in_trained_range, result.clipped_sample_count) == (None, None, 7)


def test_an_omitted_report_is_none_not_zero(caller: Caller, server: Server) -> None:
    server.service.report_is_omitted = True
    result = caller.clean(b"x", strength=0)
    assert (result.noise_sigma, result.sigma_in_trained_range, result.clipped_sample_count) == (None, None, None)


@pytest.mark.parametrize(
    ("image", "options", "kind", "words"),
    [
        (np.zeros((2, 2)), {}, UnsupportedImageError, "float64.*numpy.float32"),
        (np.zeros((3, 8, 8), "uint8"), {}, UnsupportedImageError, r"\(3, 8, 8\).*moveaxis"),
        (np.zeros(4, "uint8"), {}, UnsupportedImageError, r"\(4,\)"),
        (np.zeros((0, 4), "uint8"), {}, InvalidImageError, r"\(0, 4\)"),
        (12, {}, UnsupportedImageError, "int"),
        (Path("no") / "such.png", {}, FileUnreadableError, "such.png.*No such file"),
        (np.zeros((2, 2), "uint8"), {"output_container": "png"}, InvalidOptionError, "answered with an array"),
        (b"x", {"output_container": "webp"}, InvalidOptionError, "webp.*png, jpeg"),
        (b"x", {"service_class": "urgent"}, InvalidOptionError, "urgent.*interactive, normal, bulk"),
        (b"x", {"jpeg_quality": 10**12}, InvalidOptionError, "can't be sent"),
        (b"x", {"timeout_s": 0}, InvalidOptionError, "timeout_s is 0"),
        (b"x", {"timeout_s": float("nan")}, InvalidOptionError, "timeout_s is nan"),
    ],
)
def test_what_can_never_succeed_is_refused_unsent(
    caller: Caller, server: Server, image: Any, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        caller.clean(image, **options)
    assert server.service.requests == []


def test_an_answer_of_another_size_is_an_internal_error(caller: Caller, server: Server) -> None:
    server.service.answer = lambda _: pb.DenoiseResponse()
    with pytest.raises(InternalError, match="something else") as caught:
        caller.clean(ramp((2, 2), "uint8"))
    assert caught.value.reason == "ANSWER_MALFORMED"


def test_models_are_listed_in_the_servers_order(caller: Caller) -> None:
    models = caller.models()
    assert [(model.name, model.version, model.is_default) for model in models] == [
        ("cdae", "1", False),
        ("cdae", "2", True),
    ]
    assert (models[0].sigma_max, models[0].gmac_per_megapixel, models[0].license) == (55, 12.5, "Apache-2.0")


def test_a_model_says_what_it_is_and_which_images_it_takes(caller: Caller) -> None:
    any_size, one_size = caller.models()
    assert (any_size.kind, any_size.precision, any_size.fixed_side_px, any_size.code_length) == (
        *("conv_dae", "fp32", 0, 0),
    )
    assert (one_size.precision, one_size.fixed_side_px, one_size.code_length) == ("int8", 28, 32)
    assert (any_size.sample_type, any_size.black_level, any_size.white_level) == ("u16", 64.0, 4095.0)
    assert any_size.capabilities == ("denoise",), "a capability of a later server is left out"


# --- deadlines and retries ---------------------------------------------------------------------------------------


def test_every_try_has_a_deadline(caller: Caller, server: Server) -> None:
    server.service.script = deque([Refusal(DOWN), Refusal(DOWN)])
    caller.clean(b"x", timeout_s=20)
    assert len(server.service.remaining_s) == 3
    assert all(0 < remaining_s < 20.5 for remaining_s in server.service.remaining_s)


def test_a_deadline_that_is_not_named_grows_with_the_image(caller: Caller, server: Server) -> None:
    caller.clean(b"x")
    caller.clean(np.zeros((1000, 2000), "uint8"))
    caller.clean_many([b"x", np.zeros((1000, 2000), "uint8")])
    small_s, large_s = server.service.remaining_s[:2]
    assert 25 < small_s <= 30.5
    assert 31 < large_s <= 36.5
    small_s, large_s = sorted(server.service.item_timeouts_s)
    assert 25 < small_s <= 30
    assert 31 < large_s <= 36


def test_an_image_in_one_message_is_done_at_once(caller: Caller) -> None:
    shares: list[float] = []
    caller.clean(b"x", on_progress=shares.append)
    assert shares == [1.0]


@pytest.mark.parametrize(
    ("code", "reason", "retry_after_s", "tries"),
    [
        (DOWN, "", None, 4),
        (DOWN, "DRAINING", 0.0, 4),
        (BUSY, "QUEUE_FULL", 0.0, 4),
        (BUSY, "QUEUE_FULL", None, 1),
        (BUSY, "", None, 1),
        (BAD, "OPTION_INVALID", None, 1),
        (grpc.StatusCode.INTERNAL, "MODEL_FAILED", None, 1),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", None, 1),
    ],
)
def test_only_what_may_pass_is_tried_again(
    caller: Caller, server: Server, code: Any, reason: str, retry_after_s: float | None, tries: int
) -> None:
    server.service.script = deque([Refusal(code, reason=reason, retry_after_s=retry_after_s)] * 9)
    with pytest.raises(Exception, match="refused by the test"):
        caller.clean(b"x")
    assert len(server.service.requests) == tries


def test_a_pause_that_does_not_fit_the_deadline_is_not_begun(caller: Caller, server: Server) -> None:
    server.service.script = deque([Refusal(BUSY, reason="QUEUE_FULL", retry_after_s=3600.0)])
    with pytest.raises(OverloadedError) as caught:
        caller.clean(b"x", timeout_s=60)
    assert caught.value.retry_after_s == 3600.0
    assert len(server.service.requests) == 1


def test_a_server_that_never_answers_is_left_at_the_deadline(caller: Caller, server: Server) -> None:
    server.service.hold.clear()
    with pytest.raises(DeadlineExceededError):
        caller.clean(b"x", timeout_s=0.2)


def test_an_address_without_a_server_is_named(connect: Connect, silent_target: str) -> None:
    with pytest.raises(ServerUnavailableError, match=silent_target) as caught:
        connect(silent_target).clean(b"x")
    assert caught.value.target == silent_target


def test_each_client_has_its_own_connection(connect: Connect, server: Server) -> None:
    for _ in range(3):
        connect(server.target).clean(b"x")
    assert len(server.service.peers) == 3


def test_only_names_that_stand_for_many_addresses_get_round_robin() -> None:
    assert "round_robin" in dict(channel_options("dns:///denoised:50051"))["grpc.service_config"]
    assert "grpc.service_config" not in dict(channel_options("localhost:50051"))


@pytest.mark.parametrize(
    ("code", "text", "kind", "reason", "words"),
    [
        (DOWN, "failed to connect: Expected SETTINGS frame", ServerUnavailableError, "NOT_GRPC", "50051"),
        (DOWN, "errors resolving x:1", ServerUnavailableError, "NAME_UNKNOWN", "spelling"),
        (DOWN, "something new", ServerUnavailableError, "UNAVAILABLE", "something new"),
        (BUSY, "Received message larger than max (5 vs 4)", ImageTooLargeError, "RESOURCE_EXHAUSTED", "message_bytes"),
        (grpc.StatusCode.UNKNOWN, "Received HTTP status: 413", ImageTooLargeError, "RESOURCE_EXHAUSTED", "proxy"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", NotSupportedError, "UNIMPLEMENTED", "older"),
    ],
)
def test_what_others_than_the_service_say_is_explained(
    connect: Connect, server: Server, code: Any, text: str, kind: type[DenoisedError], reason: str, words: str
) -> None:
    server.service.script = deque([Refusal(code, text)])
    with pytest.raises(kind, match=words) as caught:
        connect(server.target, RetryPolicy(try_count=1)).clean(b"x")
    assert caught.value.reason == reason
    assert text in str(caught.value)


def test_a_budget_is_shared_by_the_calls_of_a_client(connect: Connect, server: Server) -> None:
    server.service.script = deque([Refusal(DOWN)] * 9)
    policy = RetryPolicy(first_pause_s=0, longest_pause_s=0, budget_share=0, budget_reserve=4)
    caller = connect(server.target, policy)
    for _ in range(3):
        with pytest.raises(ServerUnavailableError):
            caller.clean(b"x")
    assert len(server.service.requests) == 4 + 2 + 1


def test_a_limit_on_the_way_is_kept_by_chunks(server: Server) -> None:
    with pytest.raises(InvalidOptionError, match="message_bytes is 1000; chunks need"):
        Client(server.target, message_bytes=1000)
    server.service.limits = pb.Limits(message_bytes=2**24, image_pixels=10**8, chunked_image_pixels=10**8)
    server.service.uploads = deque([lambda frames, _: iter([pb.DenoiseStreamResponse() for _ in frames][:0])])
    once = RetryPolicy(try_count=1)
    with Client(server.target, retry=once, message_bytes=300_000) as client, pytest.raises(ServerUnavailableError):
        client.clean(bytes(400_000))
    assert [frame.header.size_bytes for frame in server.service.headers] == [400_000]


# --- images of Pillow's -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F"])
def test_a_pillow_image_comes_back_in_its_mode(caller: Caller, server: Server, mode: str) -> None:
    channel_count = {"LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
    dtype = {"I;16": "uint16", "F": "float32"}.get(mode, "uint8")
    samples = ramp((5, 7, channel_count) if channel_count > 1 else (5, 7), dtype)
    question = PillowImage.fromarray(samples)
    question.info = {"dpi": (300, 300), "icc_profile": b"profile"}
    assert question.mode == mode
    image = caller.clean(question).image
    assert (image.mode, image.size) == (mode, (7, 5))
    np.testing.assert_array_equal(np.asarray(image), samples)
    assert image.info == question.info
    assert server.service.requests[0].image.raw.channel_count == channel_count


@pytest.mark.parametrize(
    ("question", "mode"),
    [
        (PillowImage.new("1", (4, 3)), "L"),
        (PillowImage.new("P", (4, 3)), "RGB"),
        (PillowImage.new("I", (4, 3), 4095), "I"),
    ],
    ids=["1", "P", "I"],
)
def test_what_no_network_takes_becomes_what_it_shows(caller: Caller, question: PillowImage.Image, mode: str) -> None:
    image = caller.clean(question).image
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image), np.asarray(question.convert(mode)))


def test_a_transparent_colour_becomes_alpha(caller: Caller) -> None:
    question = PillowImage.new("RGB", (4, 3), (1, 2, 3))
    question.info["transparency"] = (1, 2, 3)
    image = caller.clean(question).image
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (1, 2, 3, 0)
    assert "transparency" not in image.info


def test_other_modes_and_damaged_files_are_refused_with_the_remedy(caller: Caller, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImageError, match=r"mode 'CMYK'.*convert\('RGB'\)"):
        caller.clean(PillowImage.new("CMYK", (4, 3)))
    with pytest.raises(UnsupportedImageError, match="mode 'I'"):
        caller.clean(PillowImage.new("I", (4, 3), 70_000))
    path = tmp_path / "cut.png"
    PillowImage.fromarray(ramp((99, 99), "uint8")).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with PillowImage.open(path) as image, pytest.raises(InvalidImageError, match="can't be read"):
        caller.clean(image)


# --- many images -------------------------------------------------------------------------------------------------


def test_many_images_each_come_back_once_under_their_index(caller: Caller, server: Server) -> None:
    server.service.batch_of = 3
    outcomes = caller.clean_many((bytes([number]) for number in range(51)), concurrency=6)
    assert {index: outcome.image for index, outcome in outcomes} == {  # type: ignore[union-attr]
        number: b"cleaned:" + bytes([number]) for number in range(51)
    }
    assert len(outcomes) == 51


def test_many_images_come_in_their_order_when_asked(caller: Caller, server: Server) -> None:
    server.service.batch_of = 3  # answered newest first
    outcomes = caller.clean_many((bytes([number]) for number in range(30)), concurrency=6, in_order=True)
    assert [index for index, _ in outcomes] == list(range(30))


def test_many_images_are_spread_over_as_many_streams_as_asked(caller: Caller, server: Server) -> None:
    outcomes = caller.clean_many([b"x"] * 24, concurrency=6, stream_count=3)
    assert sorted(index for index, _ in outcomes) == list(range(24))
    assert server.service.stream_count == 3


def test_one_stream_suits_one_address_and_several_suit_a_name() -> None:
    assert default_stream_count("localhost:50051") == default_stream_count("ipv4:10.0.0.1:50051") == 1
    assert default_stream_count("dns:///denoised:50051") == default_stream_count("ipv4:10.0.0.1:1,10.0.0.2:1") > 1


def test_no_more_images_are_under_way_than_asked_for(caller: Caller, server: Server) -> None:
    taken: list[int] = []

    def images() -> Iterator[bytes]:
        for number in range(20):
            taken.append(number)
            yield b"x"

    server.service.batch_of = 4
    index, _ = caller.first_of_many(images(), concurrency=4)
    assert index in range(4)
    assert len(taken) <= 5  # four under way, and one for the place that the answer made
    assert server.service.most_unanswered == 4


def test_a_bad_image_does_not_harm_the_others(caller: Caller, server: Server) -> None:
    server.service.script = deque([None, Refusal(BAD, reason="IMAGE_UNDECODABLE"), None])
    outcomes = dict(caller.clean_many([b"0", b"1", np.zeros((1, 1)), b"3"], concurrency=1))
    assert outcomes[0].image == b"cleaned:0"  # type: ignore[union-attr]
    assert isinstance(outcomes[1], InvalidImageError)
    assert isinstance(outcomes[2], UnsupportedImageError)
    assert outcomes[3].image == b"cleaned:3"  # type: ignore[union-attr]


def test_an_overloaded_server_gets_the_item_again(caller: Caller, server: Server) -> None:
    busy = Refusal(BUSY, reason="QUEUE_FULL", retry_after_s=0.0)
    server.service.script = deque([busy, busy, busy, None, busy, busy, busy, busy])
    outcomes = dict(caller.clean_many([b"0", b"1"], concurrency=1))
    assert outcomes[0].image == b"cleaned:0"  # type: ignore[union-attr]
    assert isinstance(outcomes[1], OverloadedError)
    assert len(server.service.requests) == 8


def test_items_of_a_broken_stream_go_over_a_new_one(caller: Caller, server: Server) -> None:
    server.service.stream_breaks = deque([Refusal(DOWN, reason="DRAINING")] * 2)
    outcomes = dict(caller.clean_many([b"0", b"1", b"2"], concurrency=3))
    assert {index: outcome.image for index, outcome in outcomes.items()} == {  # type: ignore[union-attr]
        0: b"cleaned:0",
        1: b"cleaned:1",
        2: b"cleaned:2",
    }


def test_every_item_and_every_stream_has_a_deadline(caller: Caller, server: Server) -> None:
    caller.clean_many([b"x"] * 3, timeout_s=7)
    assert all(0 < timeout_s <= 7 for timeout_s in server.service.item_timeouts_s)
    assert all(7 < remaining_s < 70 for remaining_s in server.service.remaining_s)


def test_an_unanswered_item_fails_alone_at_its_deadline(
    caller: Caller, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoised._window._GRACE_S", 0.0)
    server.service.batch_of = 2  # a lone item is answered when the client ends the stream, which is too late
    outcomes = dict(caller.clean_many([b"0"], timeout_s=0.2))
    assert isinstance(outcomes[0], DeadlineExceededError)


def test_leaving_early_cancels_the_stream(caller: Caller, server: Server) -> None:
    caller.first_of_many((b"x" for _ in range(1000)), concurrency=2)
    assert server.service.stream_ended.wait(timeout=30)


def test_the_callers_own_error_comes_through(caller: Caller, server: Server) -> None:
    def images() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        caller.clean_many(images(), concurrency=2)


def test_no_server_is_an_outcome_for_every_image(connect: Connect, silent_target: str) -> None:
    outcomes = dict(connect(silent_target).clean_many([b"0", b"1"]))
    assert [type(outcomes[index]) for index in (0, 1)] == [ServerUnavailableError] * 2


@pytest.mark.parametrize("option", [{"concurrency": 0}, {"stream_count": 0}, {"timeout_s": -1.0}])
def test_impossible_settings_are_refused_before_the_first_image(caller: Caller, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError, match=next(iter(option))):
        caller.clean_many([b"x"], **option)


async def test_images_may_come_from_an_async_generator(server: Server) -> None:
    async def images() -> AsyncIterator[bytes]:
        for number in range(10):
            await asyncio.sleep(0)
            yield bytes([number])

    async with AsyncClient(server.target) as client:
        indices = [index async for index, _ in client.clean_many(images(), concurrency=3)]
    assert sorted(indices) == list(range(10))


def test_a_closed_client_is_closed(server: Server) -> None:
    with Client(server.target) as client:
        client.clean(b"x")
    with pytest.raises(ValueError, match="closed"):
        client.clean(b"x")
