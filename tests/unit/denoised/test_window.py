"""The order of things in ``clean_many``, driven by numbers: no connection, no clock."""

from collections.abc import Callable

from google.rpc import code_pb2, status_pb2

from denoised import DeadlineExceededError, RetryPolicy, ServerUnavailableError
from denoised._order import ServerLimits
from denoised._window import (
    STREAM_SPAN_S,
    Alone,
    Close,
    Finish,
    Give,
    Open,
    Receive,
    Send,
    Sleep,
    StreamEnd,
    Take,
    Window,
)
from denoised.v1 import denoised_pb2 as pb

STEADY = RetryPolicy(first_pause_s=2.0)


def window(
    concurrency: int = 2, timeout_s: float | None = 30.0, limits: Callable[[], ServerLimits | None] = ServerLimits
) -> Window:
    return Window(target="t:1", policy=STEADY, concurrency=concurrency, timeout_s=timeout_s, options={}, limits=limits)


def answer(item_id: str) -> pb.DenoiseStreamResponse:
    response = pb.DenoiseResponse(image=pb.Image(encoded=pb.EncodedImage(data=b"clean")))
    return pb.DenoiseStreamResponse(item_id=item_id, result=pb.DenoiseResult(response=response))


def unavailable(item_id: str) -> pb.DenoiseStreamResponse:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="draining")
    return pb.DenoiseStreamResponse(item_id=item_id, result=pb.DenoiseResult(status=status))


def send_one(state: Window, now_s: float) -> Send:
    step = state.next_step(now_s)
    if isinstance(step, Take):
        state.add(b"noisy", now_s)
        step = state.next_step(now_s)
        if isinstance(step, Take):
            state.end_source()
            step = state.next_step(now_s)
    if isinstance(step, Open):
        step = state.next_step(now_s)
    assert isinstance(step, Send)
    return step


def test_one_image_goes_through_every_step_once() -> None:
    state = window()
    assert state.next_step(0.0) == Take()
    state.add(b"noisy", 0.0)
    assert state.next_step(0.0) == Take()
    state.end_source()
    opened = state.next_step(0.0)
    assert isinstance(opened, Open)
    assert opened.timeout_s > STREAM_SPAN_S + 30
    sent = state.next_step(1.0)
    assert isinstance(sent, Send)
    assert sent.frame.timeout.ToTimedelta().total_seconds() == 29
    assert isinstance(state.next_step(1.0), Receive)
    state.note(answer("0"), 2.0)
    given = state.next_step(2.0)
    assert isinstance(given, Give)
    assert given.outcome[1].image == b"clean"  # type: ignore[union-attr]
    assert state.next_step(2.0) == Close()
    assert state.next_step(2.0) == Finish()


def test_an_empty_source_opens_no_stream() -> None:
    state = window()
    state.end_source()
    assert state.next_step(0.0) == Finish()


def test_a_stream_takes_nothing_new_after_its_span_and_is_replaced_when_empty() -> None:
    state = window(concurrency=2, timeout_s=100)
    assert isinstance(state.next_step(0.0), Take)
    state.add(b"first", 0.0)
    assert isinstance(state.next_step(0.0), Take)
    state.add(b"second", 0.0)
    assert isinstance(state.next_step(0.0), Open)
    assert isinstance(state.next_step(0.0), Send)
    late_s = STREAM_SPAN_S + 1
    waiting = state.next_step(late_s)
    assert isinstance(waiting, Receive)
    assert waiting.wait_s > 1  # it waits for the first image's answer, and does not spin over the second
    state.note(answer("0"), late_s)
    assert isinstance(state.next_step(late_s), Give)
    assert isinstance(state.next_step(late_s), Take)
    state.end_source()
    assert state.next_step(late_s) == Close()
    assert isinstance(state.next_step(late_s), Open)
    resent = state.next_step(late_s)
    assert isinstance(resent, Send)
    assert resent.frame.item_id == "1"


def test_a_refused_item_waits_while_the_stream_stays_open() -> None:
    state = window()
    send_one(state, 0.0)
    state.note(unavailable("0"), 0.0)
    pause = state.next_step(0.0)
    assert isinstance(pause, Receive)
    assert 1.0 <= pause.wait_s <= 2.0
    assert isinstance(state.next_step(2.0), Send)


def test_a_lost_stream_is_slept_over_and_opened_again() -> None:
    state = window()
    send_one(state, 0.0)
    state.note(StreamEnd(None), 0.0)
    pause = state.next_step(0.0)
    assert isinstance(pause, Sleep)
    assert 1.0 <= pause.wait_s <= 2.0
    assert isinstance(state.next_step(2.0), Open)


def test_an_item_fails_when_the_tries_are_used_up() -> None:
    state = window(timeout_s=1000)
    for now_s in (0.0, 100.0, 200.0, 300.0):
        send_one(state, now_s)
        state.note(StreamEnd(None), now_s)
    given = state.next_step(300.0)
    assert isinstance(given, Give)
    assert isinstance(given.outcome[1], ServerUnavailableError)
    assert state.next_step(300.0) == Finish()


def test_a_silent_server_costs_an_item_its_deadline_and_a_late_answer_says_nothing() -> None:
    state = window(timeout_s=10)
    send_one(state, 0.0)
    waiting = state.next_step(0.0)
    assert isinstance(waiting, Receive)
    state.note(None, 9.0)
    assert isinstance(state.next_step(9.0), Receive)
    state.note(None, waiting.wait_s)
    given = state.next_step(waiting.wait_s)
    assert isinstance(given, Give)
    assert isinstance(given.outcome[1], DeadlineExceededError)
    state.note(answer("0"), 13.0)
    assert state.next_step(13.0) == Close()


def test_what_needs_chunks_goes_alone_while_the_stream_stays_open() -> None:
    state = window(limits=lambda: ServerLimits(300_000, 10**6, 10**6))
    state.add(b"small", 0.0)
    state.add(bytes(300_000), 0.0)
    state.end_source()
    assert isinstance(state.next_step(0.0), Open)
    assert isinstance(state.next_step(0.0), Send)
    alone = state.next_step(1.0)
    assert isinstance(alone, Alone)
    assert (alone.index, alone.timeout_s, alone.order.image.size_bytes) == (1, 29.0, 300_000)
    error = ServerUnavailableError("gone", reason="UNAVAILABLE", target="t:1")
    state.settle(1, error)
    assert state.next_step(2.0) == Give((1, error))
    assert isinstance(state.next_step(2.0), Receive)


def test_an_image_that_may_not_fit_goes_alone_until_the_limits_are_known() -> None:
    known: list[ServerLimits] = []
    state = window(limits=lambda: known[0] if known else None)
    for size_bytes in (5, 300_000, 300_000):
        state.add(bytes(size_bytes), 0.0)
    state.end_source()
    assert isinstance(state.next_step(0.0), Open)
    assert isinstance(state.next_step(0.0), Send)
    assert isinstance(state.next_step(0.0), Alone)
    known.append(ServerLimits(2**20, 10**6, 10**6))
    last = state.next_step(0.0)
    assert isinstance(last, Send)
    assert last.frame.item_id == "2"


def test_an_image_whose_time_is_over_still_has_some() -> None:
    state = window(timeout_s=5, limits=lambda: None)
    state.add(bytes(300_000), 0.0)
    state.end_source()
    alone = state.next_step(9.0)
    assert isinstance(alone, Alone)
    assert 0 < alone.timeout_s < 1


def test_without_a_timeout_the_stream_outlasts_the_largest_image_that_fits_a_message() -> None:
    state = window(timeout_s=None)
    state.add(b"noisy", 0.0)
    state.end_source()
    opened = state.next_step(0.0)
    assert isinstance(opened, Open)
    assert opened.timeout_s > STREAM_SPAN_S + 30 + 3 * 64
