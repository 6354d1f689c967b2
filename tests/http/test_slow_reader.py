"""A client that does not take its last answer is not waited for longer than one that does not take another."""

from __future__ import annotations

import asyncio

import pytest

from runtime.http.messages import Response
from runtime.http.options import HttpOptions
from runtime.http.server import Listener
from runtime.http.transport import HttpProtocol


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_an_answer_that_is_not_taken_ends_the_connection(connection: bytes) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = Listener(lambda _: Response(200, bytes(32 << 20), []), HttpOptions())
        server = await loop.create_server(lambda: HttpProtocol(listener), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + connection + b"\r\n\r\n")
        await reader.read(1)
        now = loop.time()
        async with asyncio.timeout(30):
            while listener.connections:
                listener.sweep(now)
                now += HttpOptions().send_timeout + (32 << 20) / HttpOptions().send_rate
                await asyncio.sleep(0)
        writer.close()
        server.close()

    asyncio.run(main())


def test_a_lingering_close_does_not_cut_an_answer_that_is_being_taken() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = Listener(lambda _: Response(200, bytes(32 << 20), []), HttpOptions())
        server = await loop.create_server(lambda: HttpProtocol(listener), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1024)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        listener.sweep(loop.time() + HttpOptions().lingering_timeout + 1)
        async with asyncio.timeout(30):
            assert len(await reader.readexactly(32 << 20)) == 32 << 20
        writer.close()
        server.close()

    asyncio.run(main())
