"""One image in chunks: the frames to send, and what to make of the answers, which come back in chunks as well.

Pure state: it neither sends nor waits. ``Client`` and ``AsyncClient`` open a stream for the image alone, send its
frames and note its answers at the same time, as the protocol demands. In memory are the caller's image, the answer, and
a few chunks on their way.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from denoised import _failures
from denoised._calls import duration, stream_ended
from denoised._images import Assembly
from denoised._order import Order
from denoised.errors import DenoisedError
from denoised.results import CleanResult, InspectResult, clean_result, inspect_result
from denoised.v1 import denoised_pb2 as pb

OnProgress = Callable[[float], None]

# The stream carries nothing else.
_ITEM_ID: Final = "image"


class Upload:
    """One try; another one begins anew with another upload."""

    def __init__(
        self, order: Order, *, chunk_bytes: int, timeout_s: float, target: str, on_progress: OnProgress | None
    ) -> None:
        self._order = order
        self._chunk_bytes = chunk_bytes
        self._timeout_s = timeout_s
        self._target = target
        self._on_progress = on_progress
        self._answer = Assembly(order.image.form)
        self._received_bytes = 0
        self._done_tile_share = 0.0
        self._told_share = 0.0
        self._outcome: CleanResult[Any] | InspectResult | DenoisedError | None = None

    def frames(self) -> Iterator[pb.DenoiseStreamRequest]:
        """What to send, in order. Ends early when the image has been refused."""
        image = self._order.image
        yield pb.DenoiseStreamRequest(
            item_id=_ITEM_ID,
            header=pb.ImageHeader(
                options=self._order.options,
                size_bytes=image.size_bytes,
                image=image.header,
                progress=self._on_progress is not None,
            ),
            timeout=duration(self._timeout_s),
        )
        left_bytes = image.size_bytes
        for data in image.chunks(self._chunk_bytes):
            if self._outcome is not None:
                return
            left_bytes -= len(data)
            yield pb.DenoiseStreamRequest(item_id=_ITEM_ID, chunk=pb.ImageChunk(data=data, last=left_bytes == 0))

    def note(self, answer: pb.DenoiseStreamResponse) -> None:
        """Takes the next answer.

        Raises:
            InternalError: it does not fit the request.
        """
        match answer.WhichOneof("frame"):
            case "chunk":
                self._answer.add(answer.chunk.data)
            case "progress":
                self._received_bytes = answer.progress.received_bytes
                if answer.progress.tile_count > 0:
                    self._done_tile_share = answer.progress.done_tile_count / answer.progress.tile_count
            case "result":
                self._settle(answer.result)
        self._tell()

    def end(self, error: DenoisedError) -> None:
        """The stream broke; that does not matter any more when the image has been answered."""
        if self._outcome is None:
            self._outcome = error

    def result(self) -> CleanResult[Any] | InspectResult:
        """What became of the image, once the stream has ended; the latter where its options ask for the report alone.

        Raises:
            DenoisedError: why there is none.
        """
        outcome = self._outcome or stream_ended(self._target)
        if isinstance(outcome, DenoisedError):
            raise outcome
        return outcome

    def _settle(self, result: pb.DenoiseResult) -> None:
        if result.status.code != 0:
            self._outcome = _failures.from_status(result.status, target=self._target)
        elif self._order.options.report_only:
            self._outcome = inspect_result(result.response)
        else:
            self._outcome = clean_result(result.response, self._answer.finish(result.response.image))

    def _tell(self) -> None:
        """Half of the way is there, half is back; of a file nobody knows how long the answer will be."""
        if self._on_progress is None or isinstance(self._outcome, DenoisedError):
            return
        share = 1.0
        if self._outcome is None:
            size_bytes = self._order.image.size_bytes
            back = self._answer.size_bytes / size_bytes if self._order.image.form is not None else 0.0
            there = max(self._received_bytes / size_bytes, back)
            share = (there + max(self._done_tile_share, back)) / 2
        if share > self._told_share:
            self._told_share = share
            self._on_progress(share)
