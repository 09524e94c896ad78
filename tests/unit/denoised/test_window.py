"""The order of things in ``clean_many``, driven by numbers: no connection, no clock."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from google.rpc import code_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from denoised import DeadlineExceededError, RetryPolicy, ServerUnavailableError
from denoised._order import ServerLimits
from denoised._window import (
    MOST_ALONE,
    STREAM_SPAN_S,
    Alone,
    Answer,
    Close,
    Event,
    Finish,
    Give,
    Open,
    Send,
    Settled,
    Step,
    StreamEnd,
    Take,
    Wait,
    Window,
)
from denoised.retry import RetryBudget
from denoised.v1 import denoised_pb2 as pb

STEADY = RetryPolicy(first_pause_s=2.0)


def window(
    concurrency: int = 2,
    timeout_s: float | None = 30.0,
    limits: Callable[[], ServerLimits | None] = ServerLimits,
    stream_count: int = 1,
    *,
    is_ordered: bool = False,
    policy: RetryPolicy = STEADY,
) -> Window:
    return Window(
        target="t:1",
        policy=policy,
        budget=RetryBudget(policy),
        concurrency=concurrency,
        stream_count=stream_count,
        is_ordered=is_ordered,
        timeout_s=timeout_s,
        options={},
        limits=limits,
    )


def answer(item_id: str, stream: int = 1) -> Answer:
    response = pb.DenoiseResponse(image=pb.Image(encoded=pb.EncodedImage(data=b"clean")))
    return Answer(stream, pb.DenoiseStreamResponse(item_id=item_id, result=pb.DenoiseResult(response=response)))


def unavailable(item_id: str, stream: int = 1) -> Answer:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="draining")
    return Answer(stream, pb.DenoiseStreamResponse(item_id=item_id, result=pb.DenoiseResult(status=status)))


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
    assert sent.frame.timeout.ToTimedelta().total_seconds() == 30, "its time runs from when it is sent"
    assert isinstance(state.next_step(1.0), Wait)
    state.note(answer("0"), 2.0)
    given = state.next_step(2.0)
    assert isinstance(given, Give)
    assert given.outcome[1].image == b"clean"  # type: ignore[union-attr]
    assert state.next_step(2.0) == Close(1)
    assert state.next_step(2.0) == Finish()


def test_an_empty_source_opens_no_stream() -> None:
    state = window()
    state.end_source()
    assert state.next_step(0.0) == Finish()


def test_a_stream_takes_nothing_new_after_its_span_and_is_closed_when_empty() -> None:
    state = window(concurrency=2, timeout_s=100)
    state.add(b"first", 0.0)
    assert isinstance(state.next_step(0.0), Take)
    assert isinstance(state.next_step(0.0), Take)
    state.end_source()
    assert isinstance(state.next_step(0.0), Open)
    assert isinstance(state.next_step(0.0), Send)
    late_s = STREAM_SPAN_S + 1
    state.add(b"second", late_s)
    opened, sent = state.next_step(late_s), state.next_step(late_s)
    assert isinstance(opened, Open)
    assert isinstance(sent, Send)
    assert (opened.stream, sent.stream, sent.frame.item_id) == (2, 2, "1")
    assert isinstance(state.next_step(late_s), Wait)
    state.note(answer("0", stream=1), late_s)
    assert isinstance(state.next_step(late_s), Give)
    assert state.next_step(late_s) == Close(1)
    assert isinstance(state.next_step(late_s), Wait)


def test_images_are_spread_over_streams_and_the_idlest_gets_the_next() -> None:
    state = window(concurrency=9, stream_count=2)
    for _ in range(4):
        state.add(b"noisy", 0.0)
    state.end_source()
    steps = [state.next_step(0.0) for _ in range(6)]
    assert [type(step) for step in steps] == [Open, Send, Open, Send, Send, Send]
    assert [step.stream for step in steps if isinstance(step, Send)] == [1, 2, 1, 2]
    for item_id in ("1", "3"):
        state.note(answer(item_id, stream=2), 1.0)
        assert isinstance(state.next_step(1.0), Give)
    state.add(b"noisy", 1.0)
    sent = state.next_step(1.0)
    assert isinstance(sent, Send)
    assert sent.stream == 2


def test_an_answer_over_a_stream_that_was_lost_is_not_given_beside_the_second_one() -> None:
    state = window(stream_count=2)
    send_one(state, 0.0)
    state.note(StreamEnd(1, None), 0.0)
    send_one(state, 2.0)
    state.note(answer("0", stream=1), 2.0)
    assert isinstance(state.next_step(2.0), Wait)
    state.note(answer("0", stream=2), 2.0)
    assert isinstance(state.next_step(2.0), Give)
    state.note(StreamEnd(1, None), 2.0)
    assert state.next_step(2.0) == Close(2)
    assert state.next_step(2.0) == Finish()


def test_a_lost_stream_costs_one_retry_however_many_it_left_unanswered() -> None:
    state = window(concurrency=9, policy=RetryPolicy(budget_share=0, budget_reserve=1))
    for _ in range(9):
        state.add(b"noisy", 0.0)
    state.end_source()
    for stream in (1, 2):
        now_s = 10.0 * stream
        assert isinstance(state.next_step(now_s), Open)
        assert {type(state.next_step(now_s)) for _ in range(9)} == {Send}
        state.note(StreamEnd(stream, None), now_s)
    outcomes = [state.next_step(30.0) for _ in range(9)]
    assert all(isinstance(step, Give) and isinstance(step.outcome[1], ServerUnavailableError) for step in outcomes)
    assert state.next_step(30.0) == Finish()


def test_in_order_a_slow_image_holds_back_as_many_again_and_no_more() -> None:
    state = window(concurrency=2, is_ordered=True)
    sent: list[str] = []
    while not isinstance(step := state.next_step(0.0), Wait):
        if isinstance(step, Take):
            state.add(b"noisy", 0.0)
        elif isinstance(step, Send):
            sent.append(step.frame.item_id)
            if step.frame.item_id != "0":
                state.note(answer(step.frame.item_id), 0.0)
        assert not isinstance(step, Give)
    assert sent == ["0", "1", "2", "3"]
    state.end_source()
    state.note(answer("0"), 0.0)
    assert [state.next_step(0.0).outcome[0] for _ in range(4)] == [0, 1, 2, 3]  # type: ignore[union-attr]


@dataclass
class WildServer:
    """Answers, refuses and loses streams as it likes, and keeps what the window said to do."""

    data: st.DataObject
    state: Window
    now_s: float = 0.0
    streams: set[int] = field(default_factory=set)
    in_flight: list[tuple[int, str]] = field(default_factory=list)
    alone: list[int] = field(default_factory=list)

    def carry_out(self, step: Step) -> None:
        match step:
            case Open(number):
                self.streams.add(number)
            case Send(number, frame):
                assert number in self.streams
                self.in_flight.append((number, frame.item_id))
            case Alone(index):
                self.alone.append(index)
            case Close(number):
                self.streams.remove(number)
            case Wait(wait_s):
                self.do_something(wait_s)

    def do_something(self, wait_s: float) -> None:
        deeds = [self.answer, self.refuse, self.lose] * bool(self.in_flight) + [self.settle] * bool(self.alone)
        deed = self.data.draw(st.sampled_from([None, *deeds]))
        if deed is None:
            self.now_s += max(wait_s, 0.001)
            self.state.note(None, self.now_s)
        else:
            self.state.note(deed(), self.now_s)

    def answer(self) -> Event:
        number, item_id = self.draw_one()
        return answer(item_id, number)

    def refuse(self) -> Event:
        number, item_id = self.draw_one()
        return unavailable(item_id, number)

    def lose(self) -> Event:
        number, _ = self.draw_one()
        self.streams.discard(number)
        self.in_flight = [sent for sent in self.in_flight if sent[0] != number]
        return StreamEnd(number, None)

    def settle(self) -> Event:
        return Settled(self.alone.pop(), ServerUnavailableError("gone", reason="UNAVAILABLE", target="t:1"))

    def draw_one(self) -> tuple[int, str]:
        return self.in_flight.pop(self.data.draw(st.integers(0, len(self.in_flight) - 1)))


@pytest.mark.parametrize("is_ordered", [False, True])
@given(data=st.data(), concurrency=st.integers(1, 4), stream_count=st.integers(1, 3), image_count=st.integers(0, 12))
def test_whatever_happens_each_image_is_given_once(
    data: st.DataObject,
    concurrency: int,
    stream_count: int,
    image_count: int,
    is_ordered: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    policy = RetryPolicy(try_count=3, first_pause_s=0.5, longest_pause_s=0.5)
    limits = ServerLimits(300_000, 10**6, 10**6)
    state = window(concurrency, 30.0, lambda: limits, stream_count, is_ordered=is_ordered, policy=policy)
    server, given_indices, left_count = WildServer(data, state), [], image_count
    while not isinstance(step := state.next_step(server.now_s), Finish):
        if isinstance(step, Give):
            given_indices.append(step.outcome[0])
        elif not isinstance(step, Take):
            server.carry_out(step)
        elif left_count == 0:
            state.end_source()
        else:
            state.add(bytes(data.draw(st.sampled_from([1, 300_000]))), server.now_s)
            left_count -= 1
        # Those that were given up on are no longer counted.
        assert len(server.in_flight) + len(server.alone) <= concurrency or server.now_s > 30.0
        assert len(server.alone) <= MOST_ALONE
    assert sorted(given_indices) == list(range(image_count))
    assert not is_ordered or given_indices == sorted(given_indices)
    assert not server.streams


def test_a_refused_item_waits_while_the_stream_stays_open() -> None:
    state = window()
    send_one(state, 0.0)
    state.note(unavailable("0"), 0.0)
    pause = state.next_step(0.0)
    assert isinstance(pause, Wait)
    assert 1.0 <= pause.wait_s <= 2.0
    assert isinstance(state.next_step(2.0), Send)


def test_a_lost_stream_is_slept_over_and_opened_again() -> None:
    state = window()
    send_one(state, 0.0)
    state.note(StreamEnd(1, None), 0.0)
    pause = state.next_step(0.0)
    assert isinstance(pause, Wait)
    assert 1.0 <= pause.wait_s <= 2.0
    assert isinstance(state.next_step(2.0), Open)


def test_an_item_fails_when_the_tries_are_used_up() -> None:
    state = window(timeout_s=1000)
    for now_s in (0.0, 100.0, 200.0, 300.0):
        send_one(state, now_s)
        state.note(StreamEnd(round(now_s / 100) + 1, None), now_s)
    given = state.next_step(300.0)
    assert isinstance(given, Give)
    assert isinstance(given.outcome[1], ServerUnavailableError)
    assert state.next_step(300.0) == Finish()


def test_a_silent_server_costs_an_item_its_deadline_and_a_late_answer_says_nothing() -> None:
    state = window(timeout_s=10)
    send_one(state, 0.0)
    waiting = state.next_step(0.0)
    assert isinstance(waiting, Wait)
    state.note(None, 9.0)
    assert isinstance(state.next_step(9.0), Wait)
    state.note(None, waiting.wait_s)
    given = state.next_step(waiting.wait_s)
    assert isinstance(given, Give)
    assert isinstance(given.outcome[1], DeadlineExceededError)
    state.note(answer("0"), 13.0)
    assert state.next_step(13.0) == Close(1)


def test_what_needs_chunks_goes_alone_while_the_stream_stays_open() -> None:
    state = window(limits=lambda: ServerLimits(300_000, 10**6, 10**6))
    state.add(b"small", 0.0)
    state.add(bytes(300_000), 0.0)
    state.end_source()
    assert isinstance(state.next_step(0.0), Open)
    assert isinstance(state.next_step(0.0), Send)
    alone = state.next_step(1.0)
    assert isinstance(alone, Alone)
    assert (alone.index, alone.timeout_s, alone.order.image.size_bytes) == (1, 30.0, 300_000)
    error = ServerUnavailableError("gone", reason="UNAVAILABLE", target="t:1")
    state.note(Settled(1, error), 2.0)
    assert state.next_step(2.0) == Give((1, error))
    assert isinstance(state.next_step(2.0), Wait)


def test_an_image_that_may_not_fit_goes_alone_until_the_limits_are_known() -> None:
    known: list[ServerLimits] = []
    state = window(limits=lambda: known[0] if known else None)
    for size_bytes in (5, 300_000, 300_000):
        state.add(bytes(size_bytes), 0.0)
    state.end_source()
    assert isinstance(state.next_step(0.0), Open)
    assert isinstance(state.next_step(0.0), Send)
    assert isinstance(state.next_step(0.0), Alone)
    assert isinstance(state.next_step(0.0), Wait), "one learns them for all"
    known.append(ServerLimits(2**20, 10**6, 10**6))
    last = state.next_step(0.0)
    assert isinstance(last, Send)
    assert last.frame.item_id == "2"


def test_what_waits_for_its_turn_to_go_alone_loses_no_time() -> None:
    state = window(concurrency=9, timeout_s=5, limits=lambda: ServerLimits(300_000, 10**6, 10**6))
    for _ in range(MOST_ALONE + 1):
        state.add(bytes(300_000), 0.0)
    state.end_source()
    assert {type(state.next_step(0.0)) for _ in range(MOST_ALONE)} == {Alone}
    assert isinstance(state.next_step(0.0), Wait)
    state.note(Settled(0, ServerUnavailableError("gone", reason="UNAVAILABLE", target="t:1")), 9.0)
    assert isinstance(state.next_step(9.0), Give)
    alone = state.next_step(9.0)
    assert isinstance(alone, Alone)
    assert (alone.index, alone.timeout_s) == (MOST_ALONE, 5)


def test_without_a_timeout_the_stream_outlasts_the_largest_image_that_fits_a_message() -> None:
    state = window(timeout_s=None)
    state.add(b"noisy", 0.0)
    state.end_source()
    opened = state.next_step(0.0)
    assert isinstance(opened, Open)
    assert opened.timeout_s > STREAM_SPAN_S + 30 + 3 * 64
