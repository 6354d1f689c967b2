"""The WebSocket transport on uvicorn: our class for its `ws=` setting, one object per connection.

It answers the handshake and moves bytes between the asyncio transport and the connection's process; the
protocol is `runtime.phoenix`. Frames go straight to the transport, so a broadcast costs a write per socket
and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from http import HTTPStatus
from typing import Any, ClassVar, Final

from runtime.core.exits import Error
from runtime.phoenix import drainer, handshake, longpoll
from runtime.phoenix.drainer import Sockets
from runtime.phoenix.endpoint import Endpoint
from runtime.phoenix.handshake import Candidate
from runtime.phoenix.mount import WEBSOCKET, Mounts, Route
from runtime.phoenix.request import Request, Response, error_response
from runtime.phoenix.socket import UserSocket
from runtime.phoenix.websocket import WebSocketConnection

_UNAVAILABLE: Final = Response(503)
_FORWARDED: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HIGH_WATER: Final = 64 * 1024  # bytes in the write buffer from which on asyncio tells us about it


class WebSocketProtocol(asyncio.Protocol):
    """One connection, from the upgrade request to the end. Made by uvicorn; see `websocket_protocol`."""

    __slots__ = ("_connecting", "_connection", "_connections", "_sockets", "_transport", "_trusted", "write")

    endpoint: ClassVar[Endpoint]
    mounts: ClassVar[Mounts]

    def __init__(self, config: Any, server_state: Any, app_state: Any = None, _loop: Any = None) -> None:
        self._connections: set[Any] = server_state.connections
        # uvicorn corrects what an app sees of a request behind a proxy; this one no app sees.
        self._trusted: Any = getattr(config.loaded_app, "trusted_hosts", ())
        self._connection: WebSocketConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._sockets: Sockets | None = None
        self._transport: asyncio.Transport = None  # type: ignore[assignment]

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self.write = self._transport.write
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._connection is not None:
            if not self._connection.closing:
                self._connection.data_received(data)
        elif self._connecting is None and not self._transport.is_closing():
            self._release_http()
            self._handshake(_parse_head(data, self._transport, self._trusted))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._sockets is not None:
            self._sockets.unlinger(self)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None and not self._connection.closing:
            self._connection.peer_closed()
        self._connection = None

    def eof_received(self) -> None:
        """The peer will send no more: asyncio closes the transport."""

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_paused = True

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_paused = False

    def shutdown(self) -> None:
        """uvicorn stops: whoever was not drained leaves now."""
        if self._connection is not None and not self._connection.closing:
            drainer.send_away(self._connection)
        elif self._connection is None:
            self._transport.close()

    # ---- the handshake

    def _release_http(self) -> None:
        # uvicorn's HTTP protocol and its parser refer to each other and would wait for the garbage collector.
        http = self._transport.get_protocol()
        if http is not self and hasattr(http, "parser"):
            http.parser = http.cycle = http.flow = None

    def _handshake(self, request: Request) -> None:
        found = self.mounts.match(request)
        if found is None:
            self._refuse(error_response(404))
            return
        if found[0].transport != WEBSOCKET:  # an Upgrade header means nothing there
            self._connecting = asyncio.get_running_loop().create_task(self._longpoll(*found, request))
            return
        candidate = handshake.check_websocket(*found, request)
        if isinstance(candidate, Response):
            self._refuse(candidate)
            return
        result = handshake.connect(candidate, self.endpoint)
        if isinstance(result, UserSocket | Response):
            self._connected(candidate, result)
        else:
            self._transport.pause_reading()
            self._connecting = asyncio.get_running_loop().create_task(self._connect_later(candidate, result))

    async def _connect_later(self, candidate: Candidate, connecting: Coroutine[Any, Any, Any]) -> None:
        result = await handshake.within(connecting, candidate.route.options.connect_timeout)
        self._connecting = None
        if not self._transport.is_closing():
            self._connected(candidate, result)
            self._transport.resume_reading()

    async def _longpoll(self, route: Route, path_params: dict[str, str], request: Request) -> None:
        candidate = handshake.check_longpoll(route, path_params, request)
        method, headers = request.method, request.values
        response = await longpoll.handle(self.endpoint, candidate, method, headers, _no_body, _simply)
        self._refuse(response)

    def _connected(self, candidate: Candidate, result: UserSocket | Response) -> None:
        if isinstance(result, Response):
            self._refuse(result, candidate.headers)
            return
        upgrade = handshake.upgrade(candidate)
        if isinstance(upgrade, Response):
            self._refuse(upgrade, candidate.headers)
            return
        try:
            sockets = drainer.whereis(self.endpoint.sockets)
        except Error:
            self._refuse(_UNAVAILABLE)
            return
        options = candidate.route.options
        if options.max_buffer < 2 * _HIGH_WATER:
            self._transport.set_write_buffer_limits(high=options.max_buffer // 2)
        self._transport.write(_head(101, upgrade.headers) + b"\r\n")
        self._sockets = sockets
        self._connection = WebSocketConnection(result, self, options, upgrade.deflate)
        sockets.open(self._connection)

    def _refuse(self, response: Response, headers: tuple[tuple[str, str], ...] = ()) -> None:
        if response.status == 500:
            headers = ()
        self._transport.write(response_bytes(response, headers))
        self._transport.close()

    # ---- the connection's IO

    def buffered(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport.is_closing():
            return
        self.resume_reading()
        # Closing while bytes of the peer are unread would reset the connection, and the close frame could be
        # lost.
        if self._transport.can_write_eof():
            self._transport.write_eof()
            if self._sockets is not None:
                self._sockets.linger(self)
        else:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


async def _no_body(limit: int) -> bytes | None:
    return b""


async def _simply(answer: Awaitable[Any]) -> Any:
    return await answer


def websocket_protocol(endpoint: Endpoint, mounts: Mounts) -> type[WebSocketProtocol]:
    """The class to hand to uvicorn as `ws=`: serves the WebSocket mounts of an endpoint."""
    return type(
        "MountedWebSocketProtocol",
        (WebSocketProtocol,),
        {"endpoint": endpoint, "mounts": mounts, "__slots__": ()},
    )


def _parse_head(data: bytes, transport: asyncio.Transport, trusted: Any) -> Request:
    # uvicorn has parsed the request already and hands it on in its plainest form.
    lines = data.decode("latin-1").split("\r\n")
    method, target, _version = lines[0].split(" ", 2)
    path, _, query = target.partition("?")
    headers = tuple(
        (name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)
    )
    peer = transport.get_extra_info("peername")
    scheme = "https" if transport.get_extra_info("sslcontext") else "http"
    if peer and peer[0] in trusted:
        scheme = _FORWARDED.get(dict(headers).get("x-forwarded-proto", ""), scheme)
    return Request(method, path, query.partition("#")[0], headers, scheme, tuple(peer[:2]) if peer else None)


def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in headers),
        "",
    ]
    return "\r\n".join(lines).encode("latin-1")


def response_bytes(response: Response, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole HTTP answer that ends the connection."""
    fields = (
        *response.headers,
        *headers,
        ("content-length", str(len(response.body))),
        ("connection", "close"),
    )
    return _head(response.status, fields) + b"\r\n" + response.body
