"""The socket mounts in front of an ASGI app: requests to their paths stop here, all others go on.

WebSocket upgrades never arrive: uvicorn hands them to `websocket_transport` before any app sees them. What
comes to a WebSocket path here is a request that is no upgrade; it gets the answer that Phoenix gives it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from api.sockets.longpoll_transport import Receive, Scope, Send, send_response, serve_longpoll
from api.sockets.websocket_transport import WebSocketProtocol, websocket_protocol
from runtime.phoenix import handshake
from runtime.phoenix.endpoint import Endpoint
from runtime.phoenix.mount import WEBSOCKET, Mounts, Route
from runtime.phoenix.request import Request, Response
from runtime.phoenix.socket import UserSocket

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class SocketsEndpoint:
    """An ASGI app: `SocketsEndpoint(app, endpoint, mounts)`; give its `ws` to uvicorn as `ws=`."""

    def __init__(self, app: App, endpoint: Endpoint, mounts: Mounts) -> None:
        self.app = app
        self.endpoint = endpoint
        self.mounts = mounts
        self.ws: type[WebSocketProtocol] = websocket_protocol(endpoint, mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = request_of(scope)
            found = self.mounts.match(request)
            if found is not None:
                route, path_params = found
                if route.transport == WEBSOCKET:
                    response, headers = await self._no_upgrade(route, path_params, request)
                    await send_response(send, response, headers)
                else:
                    await serve_longpoll(self.endpoint, route, path_params, request, receive, send)
                return
        await self.app(scope, receive, send)

    async def _no_upgrade(
        self, route: Route, path_params: dict[str, str], request: Request
    ) -> tuple[Response, tuple[tuple[str, str], ...]]:
        candidate = handshake.check_websocket(route, path_params, request)
        if isinstance(candidate, Response):
            return candidate, ()
        result: Any = handshake.connect(candidate, self.endpoint)
        if not isinstance(result, UserSocket | Response):
            result = await handshake.within(result, route.options.connect_timeout)
        if isinstance(result, Response):
            return result, () if result.status == 500 else candidate.headers
        upgrade = handshake.upgrade(candidate)
        return (upgrade if isinstance(upgrade, Response) else handshake.BAD_REQUEST), candidate.headers


def request_of(scope: Scope) -> Request:
    """The request of an ASGI scope."""
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1").strip()) for name, value in scope["headers"]
    )
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    client = scope.get("client")
    return Request(
        scope["method"],
        path,
        scope["query_string"].decode("latin-1"),
        headers,
        scope.get("scheme", "http"),
        tuple(client[:2]) if client else None,
    )
