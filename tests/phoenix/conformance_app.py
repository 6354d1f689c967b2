"""The conformance app: its socket, its mounts, its control route, and a server of it on a port of its own."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any

import orjson

from runtime import http
from runtime.http.server import addresses
from runtime.otp import gen_server
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.phoenix import (
    Accept,
    Endpoint,
    LongPollOptions,
    Mount,
    Mounts,
    Refuse,
    Socket,
    Sockets,
    TransportRequest,
    TransportResponse,
    WebSocketOptions,
    drain,
    drainer,
)
from runtime.phoenix.presence import Presence
from runtime.phoenix.pubsub import PubSub
from runtime.phoenix.request import JSON_TYPE, error_response
from runtime.phoenix.transports import SocketTransports, response_of
from tests.phoenix.conformance_channels import PresenceChannel, RoomChannel

ROOMS = {
    "room:*": RoomChannel,
    "exact": RoomChannel,
    "assigned:*": (RoomChannel, {"assigns": {"origin": "channel-options"}}),
}


class ConformanceSocket(Socket):
    channels = {**ROOMS, "presence:*": PresenceChannel}

    def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        token = connect_info.get("auth_token")
        auth = params["auth"] if "auth" in params else params.get("token")
        user = None
        if token is not None:
            if token != "good-token":
                return Refuse()
            user = "from-auth-token"
        elif auth in ("ok", "badid"):
            user = params.get("user", "u1")
        elif auth == "error":
            return Refuse("rate_limited")
        elif auth == "raise":
            raise RuntimeError("connect raises")
        elif auth is not None:
            return Refuse()
        self.assigns.update(user_id="anonymous" if user is None else user, params=params, info=connect_info)
        self.assigns["auth"] = auth
        self.assigns["named"] = user is not None
        return Accept()

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


def rate_limited(request: TransportRequest, reason: Any) -> TransportResponse:
    return TransportResponse(
        429, f"custom: {reason}".encode(), (("content-type", "text/plain; charset=utf-8"),)
    )


INFO = (
    "peer_data",
    "x_headers",
    "uri",
    "user_agent",
    "trace_context_headers",
    "sec_websocket_headers",
    "session",
)
# What Phoenix and Bandit 1.12.5 allow, instead of our bounds.
websocket = partial(
    WebSocketOptions,
    max_message_size=8_000_000,
    max_inflated=8_000_000,
    free_of_ratio=0,
    max_buffer=64_000_000,
    max_messages_per_second=None,
    validate_key=False,
)
longpoll = partial(
    LongPollOptions, window_ms=1000, max_body=8_000_000, max_buffer=64_000_000, max_messages_per_second=None
)
ORIGINS = ("//example.com", "https://*.example.org", "http://other.test:8080")

MOUNTS = (
    Mount(
        "/conformance",
        ConformanceSocket,
        websocket(check_origin=False, connect_info=INFO),
        longpoll(check_origin=False, connect_info=INFO),
        auth_token=True,
    ),
    Mount(
        "/conformance_origin",
        ConformanceSocket,
        websocket(check_origin=ORIGINS),
        longpoll(check_origin=ORIGINS),
    ),
    Mount("/conformance_idle", ConformanceSocket, websocket(check_origin=False, timeout=1000)),
    Mount(
        "/conformance_small",
        SmallSocket,
        websocket(check_origin=False, max_frame_size=1024, max_channels_per_transport=3),
        longpoll(check_origin=False, max_channels_per_transport=3),
    ),
    Mount(
        "/conformance_sub",
        ConformanceSocket,
        websocket(check_origin=False, subprotocols=("chat.v2", "chat.v1")),
    ),
    Mount(
        "/conformance_path/:tenant",
        ConformanceSocket,
        websocket(path="/ws/:lang", check_origin=False, error_handler=rate_limited),
        longpoll(path="/lp", check_origin=False),
    ),
    Mount("/conformance_deflate", ConformanceSocket, websocket(check_origin=False, compress=True)),
)


class Control:
    """`POST /control/broadcast`; all else is 404."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def __call__(self, request: http.TransportRequest) -> http.TransportResponse:
        if (request.method, request.path) != ("POST", "/control/broadcast"):
            return response_of(error_response(404))
        try:
            order = orjson.loads(await request.body.read(8_000_000))
            payload = base64.b64decode(order["binary"]) if "binary" in order else order.get("payload", {})
            self.endpoint.broadcast(order["topic"], order["event"], payload)
        except Exception:
            return response_of(error_response(500))
        return response_of(TransportResponse(200, b'{"ok":true}', (("content-type", JSON_TYPE),)))


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
        transports = SocketTransports(Control(self.endpoint), self.endpoint, self.mounts)
        options = http.HttpOptions(
            upgradable=transports.upgradable, trusted_proxies=("127.0.0.1",) if self.behind_proxy else ()
        )
        self.server = await http.Server.start(
            transports, http.ServerOptions(port=port, grace=5, http=options)
        )
        ((_host, bound),) = await addresses(self.server)
        return bound

    @property
    def connections(self) -> Sequence[Any]:
        """Its open connections."""
        return self.server.cell.actor.listener.all_connections()

    async def shutdown(self) -> None:
        """A graceful stop, as of SIGTERM: clients are drained, then the server ends."""
        await drain(self.endpoint.sockets)
        await self._end(self.server)

    async def stop(self) -> None:
        """The end of a server that nobody plays with any more."""
        for pid in (self.server, *reversed(self.pids)):
            await self._end(pid)

    async def _end(self, pid: Any) -> None:
        with contextlib.suppress(gen_server.Exit):
            await gen_server.stop(pid)
