"""Whether answers are right: the image of each against what ONNX Runtime alone made of it."""

from collections import Counter

from denoised.v1 import denoised_pb2 as pb
from tests.bench.jobs import Job, Message, Outcome


class Checker:
    """Counts what is wrong with the answers of one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._failures: Counter[str] = Counter()
        self._wrong_count = 0

    def check(self, message: Message, answer: bytes) -> None:
        """An answer that came."""
        if not self._job.are_checked:
            return
        if self._job.answer == "echo":
            self._wrong_count += answer != message.data
            return
        images = _images(self._job, answer)
        if len(images) != len(message.expected):
            self._failures[f"{len(images)} results for {len(message.expected)} images"] += 1
            return
        for got, wanted in zip(images, message.expected, strict=True):
            if isinstance(got, str):
                self._refused(wanted, got)
            else:
                self._wrong_count += got != wanted

    def refused(self, message: Message, what: str) -> None:
        """A call that ended with an error: right where every image in it must be refused."""
        for wanted in message.expected:
            self._refused(wanted, what)

    def write_to(self, outcome: Outcome) -> None:
        """Adds what was found."""
        outcome.failures = dict(self._failures)
        outcome.wrong_count = self._wrong_count

    def _refused(self, wanted: bytes | None, what: str) -> None:
        if wanted is not None:
            self._failures[what] += 1


def _images(job: Job, answer: bytes) -> list[bytes | str]:
    """The images of an answer: their samples or files, or the reason why there is none."""
    if job.answer == "unary":
        return [_data(pb.DenoiseResponse.FromString(answer))]
    if job.answer == "batch":
        results = list(pb.DenoiseBatchResponse.FromString(answer).results)
    else:
        results = [pb.DenoiseStreamResponse.FromString(answer).result]
    return [_data(result.response) if result.HasField("response") else result.status.message for result in results]


def _data(response: pb.DenoiseResponse) -> bytes:
    image = response.image
    return image.raw.data if image.WhichOneof("content") == "raw" else image.encoded.data
