"""The conformance app: its socket, its mounts, its control route, and a server of it on a port of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import orjson
import uvicorn

from api.http.protocol import HttpProtocol
from api.sockets.endpoint import SocketsEndpoint
from api.sockets.longpoll_transport import Receive, Scope, Send, send_response
from runtime.otp import gen_server
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.phoenix import (
    Endpoint,
    Error,
    LongPollOptions,
    Mount,
    Mounts,
    Ok,
    Request,
    Response,
    Sockets,
    UserSocket,
    WebSocketOptions,
    drain,
    drainer,
)
from runtime.phoenix.presence import Presence
from runtime.phoenix.pubsub import PubSub
from runtime.phoenix.request import JSON_TYPE, error_response
from tests.phoenix.conformance_channels import PresenceChannel, RoomChannel

ROOMS = {
    "room:*": RoomChannel,
    "exact": RoomChannel,
    "assigned:*": (RoomChannel, {"assigns": {"origin": "channel-options"}}),
}


class ConformanceSocket(UserSocket):
    channels = {**ROOMS, "presence:*": PresenceChannel}

    def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        token = connect_info.get("auth_token")
        auth = params["auth"] if "auth" in params else params.get("token")
        user = None
        if token is not None:
            if token != "good-token":
                return Error()
            user = "from-auth-token"
        elif auth in ("ok", "badid"):
            user = params.get("user", "u1")
        elif auth == "error":
            return Error("rate_limited")
        elif auth == "raise":
            raise RuntimeError("connect raises")
        elif auth is not None:
            return Error()
        self.assigns.update(user_id="anonymous" if user is None else user, params=params, info=connect_info)
        self.assigns["auth"] = auth
        self.assigns["named"] = user is not None
        return Ok()

    def id(self) -> Any:
        if (
            self.assigns["named"]
            and self.assigns["auth"] == "badid"
            and self.assigns["info"].get("auth_token") is None
        ):
            return 42
        return f"user:{self.assigns['user_id']}" if self.assigns["named"] else None


class SmallSocket(ConformanceSocket):
    channels = {"room:*": RoomChannel}


def rate_limited(request: Request, reason: Any) -> Response:
    return Response(429, f"custom: {reason}".encode(), (("content-type", "text/plain; charset=utf-8"),))


INFO = (
    "peer_data",
    "x_headers",
    "uri",
    "user_agent",
    "trace_context_headers",
    "sec_websocket_headers",
    "session",
)
ORIGINS = ("//example.com", "https://*.example.org", "http://other.test:8080")

MOUNTS = (
    Mount(
        "/conformance",
        ConformanceSocket,
        WebSocketOptions(check_origin=False, connect_info=INFO),
        LongPollOptions(check_origin=False, window_ms=1000, connect_info=INFO),
        auth_token=True,
    ),
    Mount(
        "/conformance_origin",
        ConformanceSocket,
        WebSocketOptions(check_origin=ORIGINS),
        LongPollOptions(check_origin=ORIGINS, window_ms=1000),
    ),
    Mount("/conformance_idle", ConformanceSocket, WebSocketOptions(check_origin=False, timeout=1000)),
    Mount(
        "/conformance_small",
        SmallSocket,
        WebSocketOptions(check_origin=False, max_frame_size=1024, max_channels_per_transport=3),
        LongPollOptions(check_origin=False, window_ms=1000, max_channels_per_transport=3),
    ),
    Mount(
        "/conformance_sub",
        ConformanceSocket,
        WebSocketOptions(check_origin=False, subprotocols=("chat.v2", "chat.v1")),
    ),
    Mount(
        "/conformance_path/:tenant",
        ConformanceSocket,
        WebSocketOptions(path="/ws/:lang", check_origin=False, error_handler=rate_limited),
        LongPollOptions(path="/lp", check_origin=False, window_ms=1000),
    ),
    Mount("/conformance_deflate", ConformanceSocket, WebSocketOptions(check_origin=False, compress=True)),
)


class Control:
    """`POST /control/broadcast`; all else is 404."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) != ("POST", "/control/broadcast"):
            await send_response(send, error_response(404))
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            order = orjson.loads(body)
            payload = base64.b64decode(order["binary"]) if "binary" in order else order.get("payload", {})
            self.endpoint.broadcast(order["topic"], order["event"], payload)
        except Exception:
            await send_response(send, error_response(500))
            return
        await send_response(send, Response(200, b'{"ok":true}', (("content-type", JSON_TYPE),)))


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


_numbers = count(1)


class ConformanceServer:
    """One server with its own PubSub, Presence and sockets, on an ephemeral port of the running loop."""

    def __init__(self, mounts: Sequence[Mount] = MOUNTS, behind_proxy: bool = False) -> None:
        self.mounts = Mounts(mounts)
        self.behind_proxy = behind_proxy

    @property
    def sockets(self) -> Sockets:
        """The keeper of its sockets."""
        return drainer.whereis(self.endpoint.sockets)

    async def start(self, port: int = 0) -> int:
        """Listens on this port, or any; returns it."""
        prefix = f"conformance{next(_numbers)}"
        self.endpoint = Endpoint(f"{prefix}.pubsub", f"{prefix}.channels", f"{prefix}.sockets")
        self.pids = [
            await PubSub.start(name=self.endpoint.pubsub_name),
            await Presence.start(self.endpoint.pubsub_name, name=self.endpoint.pubsub_name + ".presence"),
            await DynamicSupervisor.start(name=self.endpoint.channels),
            await Sockets.start(name=self.endpoint.sockets),
        ]
        app = SocketsEndpoint(Control(self.endpoint), self.endpoint, self.mounts)
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            http=HttpProtocol,
            ws=app.ws,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=self.behind_proxy,
            timeout_graceful_shutdown=5,
        )
        self.server = _Uvicorn(config)
        self.serving = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.005)
        return self.server.servers[0].sockets[0].getsockname()[1]

    async def shutdown(self) -> None:
        """A graceful stop, as of SIGTERM: clients are drained, then the server ends."""
        await drain(self.endpoint.sockets)
        self.server.should_exit = True

    async def stop(self) -> None:
        """The end of a server that nobody plays with any more."""
        self.server.should_exit = True
        await self.serving
        for pid in reversed(self.pids):
            with contextlib.suppress(gen_server.Exit):
                await gen_server.stop(pid)
