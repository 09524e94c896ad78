"""One DenoiseStream call in a test's hands, and the plug for tests that run on an event loop."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import grpc

from denoised.v1 import denoised_pb2 as pb
from tests.integration.harness import CHANNEL_OPTIONS, stub_of
from tests.integration.plug import Plug
from tests.integration.refusals import Refusal, refusal_of_status

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Chunked:
    """All that came back of an image in chunks: its data, how far it was said to be, and its outcome."""

    data: bytes
    progress: list[pb.Progress]
    result: pb.DenoiseResult

    @property
    def image(self) -> pb.Image:
        """The image of the outcome, which has no data, with the data of the chunks."""
        image = pb.Image()
        image.CopyFrom(self.result.response.image)
        content = getattr(image, str(image.WhichOneof("content")))
        assert not content.data
        content.data = self.data
        return image


def header_of(request: pb.DenoiseRequest, **fields: Any) -> tuple[pb.ImageHeader, bytes]:
    """What announces the request's image in chunks, and the bytes to send in them; ``fields`` replace others."""
    image = pb.Image()
    image.CopyFrom(request.image)
    content = getattr(image, str(image.WhichOneof("content")))
    data: bytes = content.data
    content.data = b""
    told: dict[str, Any] = {"image": image, "options": request.options, "size_bytes": len(data)}
    return pb.ImageHeader(**(told | fields)), data


def chunks_of(data: bytes, size_bytes: int = CHUNK_BYTES) -> Iterator[pb.ImageChunk]:
    for start in range(0, len(data), size_bytes):
        yield pb.ImageChunk(data=data[start : start + size_bytes], last=start + size_bytes >= len(data))


class Stream:
    """One DenoiseStream call, frame by frame."""

    def __init__(self, target: str, *, timeout_s: float | None = None) -> None:
        self._channel = grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        self.call = stub_of(self._channel).DenoiseStream(timeout=timeout_s)

    async def send(self, item_id: str, request: pb.DenoiseRequest | None = None, **frame: object) -> None:
        await self.call.write(pb.DenoiseStreamRequest(item_id=item_id, request=request, **frame))  # type: ignore[arg-type]

    async def send_chunked(
        self, item_id: str, request: pb.DenoiseRequest, *, chunk_bytes: int = CHUNK_BYTES, progress: bool = False
    ) -> None:
        """A whole image in chunks. Somebody must read meanwhile."""
        header, data = header_of(request, progress=progress)
        await self.send(item_id, header=header)
        for chunk in chunks_of(data, chunk_bytes):
            await self.send(item_id, chunk=chunk)

    async def chunked(self, item_id: str) -> Chunked:
        """All frames of one item up to its outcome; there must be no others on the stream."""
        parts, progress, is_last = [], [], False
        while True:
            answer = await self.frame()
            assert answer.item_id == item_id
            match answer.WhichOneof("frame"):
                case "chunk":
                    assert not is_last, "a chunk came after the last one"
                    parts.append(answer.chunk.data)
                    is_last = answer.chunk.last
                case "progress":
                    progress.append(answer.progress)
                case _:
                    assert is_last or not parts or answer.result.HasField("status")
                    return Chunked(b"".join(parts), progress, answer.result)

    async def clean_chunked(
        self, request: pb.DenoiseRequest, *, chunk_bytes: int = CHUNK_BYTES, progress: bool = False
    ) -> Chunked:
        """An image there and back."""
        sending = asyncio.create_task(self.send_chunked("image", request, chunk_bytes=chunk_bytes, progress=progress))
        answer = await self.chunked("image")
        await sending
        return answer

    async def end(self) -> None:
        """Half-closes: no more frames come."""
        await self.call.done_writing()

    async def frame(self) -> pb.DenoiseStreamResponse:
        answer = await self.call.read()
        assert answer is not grpc.aio.EOF, "the stream ended"
        frame: pb.DenoiseStreamResponse = answer
        return frame

    async def next(self) -> tuple[str, pb.DenoiseResult]:
        """The next frame, which must be an outcome."""
        frame = await self.frame()
        assert frame.WhichOneof("frame") == "result"
        return frame.item_id, frame.result

    async def rest(self) -> dict[str, pb.DenoiseResult]:
        """All answers until the server ends the stream; each id once."""
        answers = {}
        while (answer := await self.call.read()) is not grpc.aio.EOF:
            assert answer.item_id not in answers
            answers[answer.item_id] = answer.result
        assert await self.call.code() is grpc.StatusCode.OK
        return answers

    async def refusal(self, item_id: str) -> Refusal:
        """The next answer, which must be a refusal of this item."""
        answered_id, result = await self.next()
        assert answered_id == item_id
        assert not result.HasField("response")
        return refusal_of_status(result.status)

    async def close(self) -> None:
        await self._channel.close()


class HeldPlug:
    """The plug for tests on an event loop, which must go on turning while others wait."""

    def __init__(self, plug: Plug) -> None:
        self._held = plug.in_the_lane()
        self._plug = plug

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._held.__enter__)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.to_thread(self._held.__exit__, *error)  # type: ignore[arg-type]

    async def wait_queued(self, unit_count: int) -> None:
        await asyncio.to_thread(self._plug.wait_queued, unit_count)
