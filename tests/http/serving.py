"""A server of `runtime.http` in the test's own loop, a handler that says what it has seen, and a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.http import Request, Response
from tests.support.server import PATIENCE

ASK = b"GET /here HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /here HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
LIMIT = 1000


async def echo(request: Request) -> Response:
    """Says what it has seen; reads a small body."""
    body = await request.body.read(LIMIT)
    seen = f"{request.scheme} {request.method} {request.path} {len(body)} {request.client is not None}"
    return Response(200, seen.encode())


def serving(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        engine = AsyncioEngine().start()
        try:
            async with asyncio.timeout(PATIENCE):
                await body()
        finally:
            await engine.stop()

    uvloop.run(main())


async def talk(data: bytes, *where: Any, **how: Any) -> bytes:
    """What a server at this address answers, up to its end."""
    reader, writer = await asyncio.open_connection(*where, **how)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def refuses(host: str, port: int) -> None:
    """Waits until nobody listens there."""
    while True:
        try:
            _reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)
