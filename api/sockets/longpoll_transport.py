"""The longpoll transport as ASGI: reads the request, hands it to `runtime.phoenix.longpoll`, sends the
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from runtime.phoenix import handshake, longpoll
from runtime.phoenix.endpoint import Endpoint
from runtime.phoenix.mount import Route
from runtime.phoenix.request import Request, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def serve_longpoll(
    endpoint: Endpoint,
    route: Route,
    path_params: dict[str, str],
    request: Request,
    receive: Receive,
    send: Send,
) -> None:
    """Answers one request to a longpoll path."""

    async def read_body(limit: int) -> bytes | None:
        chunks: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def wait(answer: Awaitable[Any]) -> Any:
        # A client that went away must not take the messages that its next poll should get.
        polling = asyncio.ensure_future(_await(answer))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((polling, gone), return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                return polling.result()
            raise _ClientGone
        finally:
            polling.cancel()
            gone.cancel()

    candidate = handshake.check_longpoll(route, path_params, request)
    try:
        response = await longpoll.handle(endpoint, candidate, request.method, request.values, read_body, wait)
    except _ClientGone:
        return
    await send_response(send, response)


class _ClientGone(BaseException):
    """Nobody is there to be answered; like a cancellation, no business of the protocol's handlers."""


async def _await(answer: Awaitable[Any]) -> Any:
    return await answer


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, response: Response, headers: tuple[tuple[str, str], ...] = ()) -> None:
    """Sends a protocol answer over ASGI."""
    fields = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in (*response.headers, *headers)
    ]
    fields.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": fields})
    await send({"type": "http.response.body", "body": response.body})
