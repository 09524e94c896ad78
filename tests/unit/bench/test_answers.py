"""The benchmark notices every answer that is wrong, missing, or should not have come."""

import pytest

from denoised.v1 import denoised_pb2 as pb
from tests.bench.answers import Checker
from tests.bench.jobs import AnswerKind, Job, Message, Outcome

_RIGHT = b"right"


def _response(data: bytes) -> pb.DenoiseResponse:
    return pb.DenoiseResponse(image=pb.Image(raw=pb.RawImage(data=data)))


def _failed(message: str) -> pb.DenoiseResult:
    result = pb.DenoiseResult()
    result.status.code = 13
    result.status.message = message
    return result


def _checked(kind: AnswerKind, expected: tuple[bytes | None, ...], answer: bytes) -> Outcome:
    message = Message(b"asked", expected)
    checker = Checker(Job("", "", kind, (message,), 1, 0))
    checker.check(message, answer)
    outcome = Outcome(latencies_s=[0.1])
    checker.write_to(outcome)
    return outcome


def test_right_answers_are_no_problem() -> None:
    unary = _checked("unary", (_RIGHT,), _response(_RIGHT).SerializeToString())
    frame = pb.DenoiseStreamResponse(item_id="0", result=pb.DenoiseResult(response=_response(_RIGHT)))

    assert unary.problems() == []
    assert _checked("stream", (_RIGHT,), frame.SerializeToString()).problems() == []
    assert _checked("echo", (_RIGHT,), b"asked").problems() == []


def test_a_file_is_compared_like_samples() -> None:
    answer = pb.DenoiseResponse(image=pb.Image(encoded=pb.EncodedImage(data=_RIGHT)))

    assert _checked("unary", (_RIGHT,), answer.SerializeToString()).problems() == []
    assert _checked("unary", (b"other",), answer.SerializeToString()).problems() == ["1 wrong answers"]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("unary", _response(b"wrong").SerializeToString()), ("unary", b""), ("echo", b"other bytes")],
)
def test_wrong_answers_are_counted(kind: AnswerKind, answer: bytes) -> None:
    assert _checked(kind, (_RIGHT,), answer).problems() == ["1 wrong answers"]


def test_each_image_of_a_batch_is_judged_by_itself() -> None:
    results = [pb.DenoiseResult(response=_response(data)) for data in (_RIGHT, b"wrong")]
    answer = pb.DenoiseBatchResponse(results=[*results, _failed("no room"), _failed("poisoned")])

    found = _checked("batch", (_RIGHT, _RIGHT, _RIGHT, None), answer.SerializeToString())

    assert found.wrong_count == 1
    assert found.failures == {"no room": 1}


def test_a_batch_with_too_few_results_is_a_failure() -> None:
    found = _checked("batch", (_RIGHT,), pb.DenoiseBatchResponse().SerializeToString())

    assert found.failures == {"0 results for 1 images": 1}


def test_what_must_be_refused_and_is_answered_is_wrong() -> None:
    assert _checked("unary", (None,), _response(_RIGHT).SerializeToString()).wrong_count == 1


def test_a_failed_call_counts_for_good_images_alone() -> None:
    messages = (Message(b"", (_RIGHT, None)), Message(b"", (None,)))
    checker = Checker(Job("", "", "unary", messages, 1, 0))
    outcome = Outcome(latencies_s=[0.1])

    for message in messages:
        checker.refused(message, "INTERNAL: broken")
    checker.write_to(outcome)

    assert outcome.problems() == ["1 x INTERNAL: broken"]
