"""One DenoiseStream call in a test's hands, and the plug for tests that run on an event loop."""

import asyncio
from typing import Self

import grpc

from denoised.v1 import denoised_pb2 as pb
from tests.integration.harness import CHANNEL_OPTIONS, stub_of
from tests.integration.plug import Plug
from tests.integration.refusals import Refusal, refusal_of_status


class Stream:
    """One DenoiseStream call, frame by frame."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        self.call = stub_of(self._channel).DenoiseStream()

    async def send(self, item_id: str, request: pb.DenoiseRequest | None = None, **frame: object) -> None:
        await self.call.write(pb.DenoiseStreamRequest(item_id=item_id, request=request, **frame))  # type: ignore[arg-type]

    async def end(self) -> None:
        """Half-closes: no more frames come."""
        await self.call.done_writing()

    async def next(self) -> tuple[str, pb.DenoiseResult]:
        answer = await self.call.read()
        assert answer is not grpc.aio.EOF, "the stream ended"
        return answer.item_id, answer.result

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
