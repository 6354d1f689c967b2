"""The HTTP server as a supervised actor: uvicorn on a socket that this process owns.

Named in supervisor.toml with the application it serves, so that it need not know what that is. The
listening sockets and the open connections are held by a linked process: however this one ends, they are
closed and a restarted endpoint finds the port free. On an orderly stop it takes no new connections, sends the
sockets away bit by bit, lets open requests finish for SHUTDOWN_GRACE_SECONDS, then ends.

Calls: `GetAddress` -> `Address`. Timers: `Tick`, once a second, for the Date header. `Change`s of sessions go to the application.
"""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import uvicorn

from actors import settings
from actors.listening import EndpointError, open_sockets
from actors.node import node
from actors.storage.change_events import Change
from actors.storage.listener import OWN_SESSIONS
from runtime.core.exits import Error
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer, Reply, Stop
from runtime.phoenix import drainer, pubsub

log = logging.getLogger("bitnexus.endpoint")

TICK_MS = 1000
KEEP_ALIVE_SECONDS = 75
PUBSUB = "pubsub"
SESSIONS = ("db:sessions", OWN_SESSIONS)
SOCKETS = "sockets"  # the registered name of their keeper
DRAINED_PER_SECOND = 1_000  # sockets sent away at a stop, or more if there are too many for its time


@dataclass(frozen=True, slots=True)
class GetAddress:
    """Asks where the server listens."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tick:
    """A second has passed."""


class Endpoint(GenServer):
    """Serves the ASGI application that `app` ("module:factory") makes; its attributes `http` and `ws`, if it
    has them, are the protocol classes of HTTP and WebSocket connections, and `session_changed` is told of each
    session that has ended and each user whose rights have changed. `host` and `port` default to the settings in force."""

    def init(self, app: str, host: str | None = None, port: int | None = None) -> Any:
        erlang.trap_exit(True)
        self.app_name = app
        current = settings.current()
        self.host = current.host if host is None else host
        # With PORT=0 a restarted server takes the port that its predecessor was given: clients know it.
        self.port = (current.port if port is None else port) or node().port
        return self._start()

    async def _start(self) -> None:
        current = settings.current()
        application = named(self.app_name)()
        self.session_changed = getattr(application, "session_changed", None)
        if self.session_changed is not None and erlang.whereis(PUBSUB) is not None:
            for topic in SESSIONS:
                pubsub.subscribe(PUBSUB, topic)
        self.sockets = await open_sockets(self.host, self.port)
        self.port = node().port = self.sockets[0].getsockname()[1]
        config = uvicorn.Config(
            application,
            http=getattr(application, "http", "httptools"),
            ws=getattr(application, "ws", "none"),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(current.trusted_proxies),
            forwarded_allow_ips=list(current.trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=current.shutdown_grace_seconds,
        )
        config.load()
        self.server = uvicorn.Server(config)
        self.server.lifespan = config.lifespan_class(config)
        self.holder = erlang.spawn_link(_hold, self.server, self.sockets, application)
        await self.server.startup(self.sockets)
        await self._tick()
        log.info("listening on %s", Address(self.host, self.port).url)

    async def _tick(self) -> None:
        await self.server.on_tick(0)
        erlang.send_after(TICK_MS, erlang.self_(), Tick())

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetAddress():
                return Reply(Address(self.host, self.port))
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Tick():
                return self._tick()
            case Change():
                self.session_changed(message)
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def terminate(self, reason: Any) -> None:
        if (server := getattr(self, "server", None)) is not None:
            # First of all: who is sent away is back within milliseconds, and must find another server.
            for listening in server.servers:
                listening.close()
            await _drain(settings.current().shutdown_grace_seconds / 2)
            await server.shutdown(self.sockets)


async def _drain(seconds: float) -> None:
    """Sends the sockets away one by one, all within this time: each client connects again at once."""
    try:
        there = len(drainer.whereis(SOCKETS).transports)
    except Error:
        return
    per_second = max(DRAINED_PER_SECOND, ceil(there / seconds) if seconds else there)
    await drainer.drain(SOCKETS, per_second, 1000, seconds * 1000)


def named(name: str) -> Callable[..., Any]:
    """What a "module:attribute" of supervisor.toml names. Raises EndpointError, one line."""
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EndpointError(f"supervisor.toml: endpoint: {name}: {error}") from None
    if not hasattr(found, attribute):
        raise EndpointError(f"supervisor.toml: endpoint: {name}: the module has no {attribute!r}")
    return getattr(found, attribute)


async def _hold(server: uvicorn.Server, sockets: list[socket.socket], application: Any) -> None:
    """Lives as long as the endpoint; its end closes whatever is open."""
    try:
        await erlang.receive(lambda _message: False)
    finally:
        for listening in getattr(server, "servers", []):
            listening.close()
        for bound in sockets:
            bound.close()
        for connection in list(server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        close = getattr(application, "close", None)
        if close is not None:
            close()
