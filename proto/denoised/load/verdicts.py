"""Which of eight outcomes an image had. Pure; every image that was offered has exactly one.

ok         the right answer, in time
late       an answer after the deadline, or word that the deadline passed
refused    the service said that it is too busy or not ready, and gave a reason
cancelled  taken back by us
wrong      an answer that is not the one that the same image got alone
failed     any other status: bad arguments, internal errors
lost       nothing said what became of it: the connection or stream ended, or no word ever came
not sent   we never sent it: our own limit of images in flight, or we were behind by more than the deadline
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from denoised.v1 import denoised_pb2 as pb


class Outcome(StrEnum):
    """What became of an image; in the order in which tables show them."""

    OK = "ok"
    LATE = "late"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    WRONG = "wrong"
    FAILED = "failed"
    LOST = "lost"
    NOT_SENT = "not sent"


# What the service took on and did not give up: the latency that callers see is theirs.
ADMITTED: Final = (Outcome.OK, Outcome.LATE, Outcome.WRONG)
MUST_BE_ZERO: Final = (Outcome.WRONG, Outcome.FAILED, Outcome.LOST)

ANSWERED_LATE: Final = "ANSWERED_LATE"
NO_ANSWER: Final = "NO_ANSWER"
NO_ANSWER_IN_TIME: Final = "NO_ANSWER_IN_TIME"
NOT_READ_IN_TIME: Final = "NOT_READ_IN_TIME"
DIFFERENT_ANSWER: Final = "DIFFERENT_ANSWER"
IN_FLIGHT_LIMIT: Final = "IN_FLIGHT_LIMIT"
GENERATOR_BEHIND: Final = "GENERATOR_BEHIND"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one image.

    Attributes:
        code: name of the gRPC status, such as ``OK``; empty when there was none at all.
        reason: the service's own reason; empty when the status is not the service's.
        answer: the ``DenoiseResponse``, serialised or not, when the code is OK.
        detail: what the status says to people.
    """

    code: str
    reason: str = ""
    answer: bytes | pb.DenoiseResponse | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome and why; ``reason`` is empty for ok and cancelled."""

    outcome: Outcome
    reason: str = ""


def judge(reply: Reply, *, is_in_time: bool, is_right: bool, was_taken_back: bool) -> Verdict:
    """The outcome of an image that was sent.

    Args:
        reply: what came back.
        is_in_time: whether it came before the deadline, which runs from when the image was due to be sent.
        is_right: whether an OK answer passed its check.
        was_taken_back: whether we cancelled it.
    """
    if reply.code == "OK":
        return _judge_answer(is_in_time=is_in_time, is_right=is_right)
    match reply.code:
        case "CANCELLED" if was_taken_back:
            return Verdict(Outcome.CANCELLED)
        case "DEADLINE_EXCEEDED":
            # Without a reason it is our own gRPC library that ended the call, which it does at the deadline.
            return Verdict(Outcome.LATE, reply.reason or NO_ANSWER_IN_TIME)
        case "RESOURCE_EXHAUSTED" | "UNAVAILABLE" if reply.reason:
            return Verdict(Outcome.REFUSED, reply.reason)
        case "UNAVAILABLE" | "CANCELLED" | "INTERNAL" | "" if not (reply.code and reply.reason):
            # The service gives all its own statuses a reason; these come from a connection or stream that broke.
            return Verdict(Outcome.LOST, reply.reason or reply.code or NO_ANSWER)
    return Verdict(Outcome.FAILED, reply.reason or reply.code)


def _judge_answer(*, is_in_time: bool, is_right: bool) -> Verdict:
    if not is_right:
        return Verdict(Outcome.WRONG, DIFFERENT_ANSWER)
    return Verdict(Outcome.OK) if is_in_time else Verdict(Outcome.LATE, ANSWERED_LATE)
