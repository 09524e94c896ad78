"""The echo: a bare grpc.aio service that answers with the bytes that it got. What moving bytes costs, and no more.

A process of its own: it prints its port and ends when its standard input does.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Final

import grpc
import uvloop

SERVICE: Final = "denoised.bench.Echo"
_MESSAGE_BYTES: Final = 1024 * 1024 * 1024
_CONCURRENT_STREAMS: Final = 1024

Context = grpc.aio.ServicerContext[bytes, bytes]


async def _unary(request: bytes, _: Context) -> bytes:
    return request


async def _stream(requests: AsyncIterator[bytes], context: Context) -> None:
    async for request in requests:
        await context.write(request)


async def _serve() -> None:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", _CONCURRENT_STREAMS),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ]
    )
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Stream": grpc.stream_stream_rpc_method_handler(_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(_serve())
