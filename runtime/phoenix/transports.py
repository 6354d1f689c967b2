"""The socket mounts in front of an HTTP handler: requests to their paths stop here, all others go on to it."""

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
_OWN: Final = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
)  # messages are somebody's own


class SocketTransports:
    """An HTTP handler: `SocketTransports(handler, endpoint, mounts)`. A server needs its `upgradable` as well."""

    def __init__(self, handler: Handler, endpoint: Endpoint, mounts: Mounts) -> None:
        self.handler = handler
        self.endpoint = endpoint
        self.mounts = mounts

    def upgradable(self, request: http.Request) -> bool:
        """Whether a WebSocket may be opened at this path."""
        found = self.mounts.match(request.path)
        return found is not None and found[0].transport == WEBSOCKET

    def handle(self, request: http.Request) -> Awaitable[Answer] | Answer:
        """The answer, of a socket or of the handler behind."""
        found = self.mounts.match(request.path)
        if found is None:
            return self.handler(request)
        route, path_params = found
        if route.transport == WEBSOCKET:
            request.keep_alive = False  # whoever is refused here is no HTTP client that goes on
            return self._websocket(route, path_params, request)
        return self._longpoll(route, path_params, request)

    __call__ = handle

    # ---- WebSocket

    def _websocket(self, route: Route, path_params: dict[str, str], request: http.Request) -> Any:
        candidate = handshake.check_websocket(route, path_params, request_of(request))
        if isinstance(candidate, TransportResponse):
            return answer_of(candidate)
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
            return answer_of(result, () if result.status == 500 else candidate.headers)
        upgrade = handshake.upgrade(candidate)
        if isinstance(upgrade, TransportResponse):
            return answer_of(upgrade, candidate.headers)
        if not request.upgrade:  # it says so and can't be one: by its version or a body
            return answer_of(handshake.BAD_REQUEST, candidate.headers)
        try:
            sockets = drainer.whereis(self.endpoint.sockets)
        except Error:
            return answer_of(_UNAVAILABLE, candidate.headers)
        transport = WebSocketTransport(result, candidate.route.options, upgrade.deflate, sockets)
        return http.Upgrade(_encoded(upgrade.headers), transport)

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

        asked = request_of(request)
        candidate = handshake.check_longpoll(route, path_params, asked)
        try:
            response = await longpoll.handle(
                self.endpoint, candidate, asked.method, asked.values, read_body, wait
            )
        except ClientGone:
            return None
        return answer_of(response)


class ClientGone(BaseException):
    """Nobody is there to be answered; like a cancellation, no business of the protocol's handlers."""


async def while_connected(request: http.Request, answer: Awaitable[Any]) -> Any:
    """Waits for an answer as long as the client is there.

    Raises ClientGone: a client that went away must not take the messages that its next poll should get.
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


def request_of(request: http.Request) -> TransportRequest:
    """An HTTP request as the Phoenix protocol reads it."""
    fields = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.fields])
    return TransportRequest(
        request.method, request.path, request.query, fields, request.scheme, request.client
    )


def answer_of(response: TransportResponse, headers: tuple[tuple[str, str], ...] = ()) -> http.Response:
    """A protocol answer over HTTP."""
    return http.Response(response.status, response.body, _encoded((*response.headers, *headers, *_OWN)))


def _encoded(headers: tuple[tuple[str, str], ...]) -> http.Fields:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
