"""An ASGI 3 application as a handler, so that a FastAPI or Starlette app shares the server's port.

HTTP scopes only; WebSockets belong to `runtime.phoenix`. Example:

    handler = asgi(app, otherwise=our_handler, prefix="/legacy")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

from runtime.http.body import BodyError
from runtime.http.messages import Request, Response
from runtime.http.target import decoded

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
Handler = Callable[[Request], Awaitable[Response | None] | Response | None]

_AHEAD: Final = 8  # pieces of a response that are queued before `send` waits
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"date"})


def asgi(app: App, otherwise: Handler | None = None, prefix: str = "") -> Handler:
    """A handler that passes requests below `prefix` to the application and all others to `otherwise`."""

    def handler(request: Request) -> Awaitable[Response | None] | Response | None:
        if otherwise is not None and not (request.path + "/").startswith(prefix + "/"):
            return otherwise(request)
        return _Cycle(app, request, prefix).answer()

    return handler


class _Cycle:
    """One request: the app runs in its own task, which may go on after the response."""

    def __init__(self, app: App, request: Request, prefix: str) -> None:
        self._app = app
        self._request = request
        self._prefix = prefix
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self._start: Message | None = None
        self._begun = asyncio.Event()
        self._body = aiter(request.body)

    def _scope(self) -> Message:
        request = self._request
        path = decoded(request.path).decode("utf-8", "replace")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.version,
            "method": request.method,
            "scheme": request.scheme,
            "path": path,
            "raw_path": request.path.encode("latin-1"),
            "query_string": request.query.encode("latin-1"),
            "root_path": self._prefix,
            "headers": request.fields,
            "client": request.client,
            "server": None,
        }

    async def answer(self) -> Response:
        """The response, once its head is known. Raises what the app raises before that."""
        running = asyncio.ensure_future(self._run())
        await self._begun.wait()
        if self._start is None:
            await running  # raises what the app raised
            raise RuntimeError("the ASGI application has ended without an answer")
        fields = [pair for pair in self._start.get("headers", ()) if pair[0].lower() not in _FRAMING]
        first = await self._pieces.get()
        if first is None:
            await running
            return Response(self._start["status"], b"", fields)
        if self._pieces.qsize() and self._pieces._queue[0] is None:  # type: ignore[attr-defined]
            return Response(self._start["status"], first, fields)
        return Response(self._start["status"], self._rest(first, running), fields)

    async def _rest(self, piece: bytes | None, running: asyncio.Future[None]) -> AsyncIterator[bytes]:
        try:
            while piece is not None:
                yield piece
                piece = await self._pieces.get()
        finally:
            if piece is not None:
                running.cancel()

    async def _run(self) -> None:
        try:
            await self._app(self._scope(), self._receive, self._send)
        finally:
            self._begun.set()
            await self._pieces.put(None)

    async def _receive(self) -> Message:
        try:
            async for piece in self._body:
                return {"type": "http.request", "body": piece, "more_body": not self._request.body.complete}
        except BodyError:
            return {"type": "http.disconnect"}
        if not self._ended:
            self._ended = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._request.disconnected()
        return {"type": "http.disconnect"}

    _ended = False

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._begun.set()
            if body := message.get("body"):
                await self._pieces.put(body)
            if not message.get("more_body"):
                await self._pieces.put(None)
