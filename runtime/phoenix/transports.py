"""An HTTP handler for socket mounts; requests to other paths go to the next handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from runtime.core.exits import Error
from runtime.http import messages as http
from runtime.http.body import BodyError
from runtime.phoenix import drainer, handshake, longpoll
from runtime.phoenix.endpoint import Endpoint
from runtime.phoenix.handshake import Candidate
from runtime.phoenix.mount import WEBSOCKET, Mounts, Route
from runtime.phoenix.request import TransportRequest, TransportResponse
from runtime.phoenix.socket import Socket
from runtime.phoenix.websocket_transport import WebSocketTransport

Answer = http.Response | None
Handler = Callable[[http.Request], Awaitable[Answer] | Answer]

_UNAVAILABLE: Final = TransportResponse(503)
# Messages are private to a user.
_PRIVATE: Final = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))


class SocketTransports:
    """An HTTP handler: `SocketTransports(handler, endpoint, mounts)`. The server also needs its `upgradable`."""

    def __init__(self, handler: Handler, endpoint: Endpoint, mounts: Mounts) -> None:
        self.handler = handler
        self.endpoint = endpoint
        self.mounts = mounts

    def upgradable(self, request: http.Request) -> bool:
        """True if a WebSocket can be opened at the path of the request."""
        found = self.mounts.match(request.path)
        return found is not None and found[0].transport == WEBSOCKET

    def handle(self, request: http.Request) -> Awaitable[Answer] | Answer:
        """The response of a mount or of the next handler."""
        found = self.mounts.match(request.path)
        if found is None:
            return self.handler(request)
        route, path_params = found
        if route.transport == WEBSOCKET:
            request.keep_alive = False  # a refused WebSocket client will not reuse the connection
            return self._websocket(route, path_params, request)
        return self._longpoll(route, path_params, request)

    __call__ = handle

    # ---- WebSocket

    def _websocket(self, route: Route, path_params: dict[str, str], request: http.Request) -> Any:
        candidate = handshake.check_websocket(route, path_params, TransportRequest(request))
        if isinstance(candidate, TransportResponse):
            return response_of(candidate)
        result = handshake.connect(candidate, self.endpoint)
        if isinstance(result, Socket | TransportResponse):
            return self._connected(candidate, result, request)
        return self._connect_later(candidate, result, request)

    async def _connect_later(
        self, candidate: Candidate, connecting: Any, request: http.Request
    ) -> http.Response:
        result = await handshake.within(connecting, candidate.route.options.connect_timeout)
        return self._connected(candidate, result, request)

    def _connected(
        self, candidate: Candidate, result: Socket | TransportResponse, request: http.Request
    ) -> http.Response:
        if isinstance(result, TransportResponse):
            return response_of(result, () if result.status == 500 else candidate.headers)
        upgrade = handshake.upgrade(candidate)
        if isinstance(upgrade, TransportResponse):
            return response_of(upgrade, candidate.headers)
        if not request.upgrade:  # not an upgrade for the server, because of its version or body
            return response_of(handshake.BAD_REQUEST, candidate.headers)
        try:
            sockets = drainer.whereis(self.endpoint.sockets)
        except Error:
            return response_of(_UNAVAILABLE, candidate.headers)
        transport = WebSocketTransport(result, candidate.route.options, upgrade.deflate, sockets)
        return http.Upgrade(101, headers=upgrade.fields, protocol=transport)

    # ---- LongPoll

    async def _longpoll(self, route: Route, path_params: dict[str, str], request: http.Request) -> Answer:
        async def read_body(limit: int) -> bytes | None:
            try:
                return await request.body.read(limit)
            except BodyError as error:
                if error.status == 413:
                    return None
                raise

        async def wait(answer: Awaitable[Any]) -> Any:
            return await while_connected(request, answer)

        asked = TransportRequest(request)
        candidate = handshake.check_longpoll(route, path_params, asked)
        try:
            response = await longpoll.handle(
                self.endpoint, candidate, asked.method, asked.values, read_body, wait
            )
        except ClientGone:
            return None
        return response_of(response)


class ClientGone(BaseException):
    """The client has disconnected. A BaseException, like a cancellation, so that handlers do not catch it."""


async def while_connected(request: http.Request, answer: Awaitable[Any]) -> Any:
    """Awaits a reply while the client is connected.

    Raises ClientGone if it disconnects: the messages are then for its next poll.
    """
    polling = asyncio.ensure_future(_await(answer))
    gone = request.disconnected()
    try:
        await asyncio.wait((polling, gone), return_when=asyncio.FIRST_COMPLETED)
        if polling.done():
            return polling.result()
        raise ClientGone
    finally:
        polling.cancel()


async def _await(answer: Awaitable[Any]) -> Any:
    return await answer


def response_of(response: TransportResponse, headers: tuple[tuple[str, str], ...] = ()) -> http.Response:
    """A TransportResponse as an HTTP response."""
    return http.Response(response.status, response.body, _encoded((*response.headers, *headers, *_PRIVATE)))


def _encoded(headers: tuple[tuple[str, str], ...]) -> http.Fields:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
