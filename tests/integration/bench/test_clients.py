"""The clients' process against the echo: everything that was sent is accounted for."""

from collections.abc import Iterator

import pytest

from tests.bench.bench import echo_job
from tests.bench.figures import MeasurementFailed
from tests.bench.jobs import ClosedLoop, Job, Message, OpenLoop
from tests.bench.payload import Sample, frames, picture, raw_request
from tests.bench.peers import Clients, Peer, clients, echo

_TOTAL = 50


@pytest.fixture(scope="module")
def bare() -> Iterator[Peer]:
    with echo() as peer:
        yield peer


@pytest.fixture(scope="module")
def process() -> Iterator[Clients]:
    with clients() as running:
        yield running


def _messages() -> tuple[Message, ...]:
    return tuple(Message(bytes([index]) * 1000, (None,)) for index in range(3))


def test_a_closed_loop_sends_its_total_and_no_more(bare: Peer, process: Clients) -> None:
    outcome = process.run(ClosedLoop(echo_job(bare, _messages(), client_count=4), total=_TOTAL))

    assert outcome.problems() == []
    assert outcome.message_count == len(outcome.ended_s) == _TOTAL
    assert outcome.cpu_s > 0
    assert max(outcome.ended_s) <= outcome.wall_s


def test_calls_that_are_taken_back_are_counted_and_nothing_is_lost(bare: Peer, process: Clients) -> None:
    loop = ClosedLoop(
        echo_job(bare, _messages(), client_count=4), total=_TOTAL, cancelled_share=0.5, cancelled_within_s=0.0
    )

    outcome = process.run(loop)

    assert outcome.cancelled_count == _TOTAL / 2
    assert outcome.message_count + outcome.cancelled_count == _TOTAL
    assert outcome.failures == {}


def test_a_stream_keeps_every_frame_in_flight_until_its_window_closes(bare: Peer, process: Clients) -> None:
    sample = Sample(raw_request("any", picture(8, 8, 1, 0)), None)
    job = echo_job(bare, frames([sample], 5), client_count=2, is_stream=True)

    outcome = process.run(ClosedLoop(job, is_stream=True, seconds=0.2))

    assert outcome.problems() == []


def test_an_open_loop_answers_for_each_arrival(bare: Peer, process: Clients) -> None:
    job = echo_job(bare, _messages(), client_count=2)

    outcome = process.run(OpenLoop(job, rate_per_s=200.0, seconds=0.5, deadline_s=10.0))

    assert outcome.problems() == []
    assert outcome.refused_s == []
    assert outcome.late_count == 0


def test_a_job_without_any_answer_says_what_came_instead(bare: Peer, process: Clients) -> None:
    unknown = Job(bare.target, "/nobody/Serves", "unary", (Message(b"", (b"answer",)),), 1, bare.pid)

    with pytest.raises(MeasurementFailed, match="no answer within the window; 3 x UNIMPLEMENTED"):
        process.run(ClosedLoop(unknown, total=3))
