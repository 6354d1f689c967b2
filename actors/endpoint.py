"""The HTTP endpoint: the server of `runtime.http` with the settings in force and the application that supervisor.toml names.

On an orderly stop it accepts no new connections, closes sockets in batches, lets open requests finish for SHUTDOWN_GRACE_SECONDS,
then ends. However it ends, everything it has open is closed, and a restarted endpoint finds the port free.

Calls: `GetAddress` -> `Address`. Messages: `Change` of a session and `Guess` of another server, which it passes to the
application.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass
from math import ceil
from typing import Any

from actors import settings
from actors.guess_events import GUESSES, Guess
from actors.listening import open_sockets
from actors.loading import load
from actors.server_state import server_state
from actors.storage.change_events import Change, ChangesRead
from actors.storage.listener import FEED, OWN_SESSIONS
from runtime import CallRequest, Error, Reply, erlang
from runtime.http import HttpOptions, Server, ServerOptions
from runtime.phoenix import drainer, pubsub

log = logging.getLogger("bitnexus.endpoint")

PUBSUB = "pubsub"
SESSIONS = ("db:sessions", OWN_SESSIONS)
SOCKETS = "sockets"  # the registered name of the process that owns the connections
OWN_DESCRIPTORS = 128  # the database's connections, other nodes', files: no flood of clients may use them up
DRAINED_PER_SECOND = 1_000  # sockets closed at a stop; more if there are too many for the time it has


@dataclass(frozen=True, slots=True)
class GetAddress(CallRequest["Address"]):
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


class Endpoint(Server):
    """Serves the application that the factory `app` ("module:function") returns.

    The application may have these attributes: `handler` takes the requests (default: the application itself), `upgradable`,
    `refusal` and `sheddable` are options of the server, `session_changed` is called when a session has ended or a user's rights
    have changed, `guess_made` when another server of the cluster has checked a password, and `close` at the end. `preload` runs
    in a process of its own, once `session_changed` keeps what it reads up to date. `host` and `port` default to the settings in
    force.
    """

    def init(self, app: str, host: str | None = None, port: int | None = None) -> Any:
        current = settings.current()
        self.host = current.host if host is None else host
        # With PORT=0 a restarted server takes its predecessor's port, which clients know.
        self.port = (current.port if port is None else port) or server_state().port
        return self._open(app)

    async def _open(self, app: str) -> None:
        current = settings.current()
        application = load(app)()
        self.session_changed = getattr(application, "session_changed", None)
        self.guess_made = getattr(application, "guess_made", None)
        self.preload = getattr(application, "preload", None)
        if erlang.whereis(PUBSUB) is not None:
            for topic in SESSIONS if self.session_changed is not None else ():
                pubsub.subscribe(PUBSUB, topic)
            if self.guess_made is not None:
                pubsub.subscribe(PUBSUB, GUESSES)
            if self.preload is not None:
                pubsub.subscribe(PUBSUB, FEED)
                erlang.spawn(self.preload)  # after a restart; at the first start `ChangesRead` comes
        if (close := getattr(application, "close", None)) is not None:
            self.on_exit(lambda _pid: close())
        sockets = await open_sockets(self.host, self.port)
        self.port = server_state().port = sockets[0].getsockname()[1]
        chosen = {
            name: getattr(application, name)
            for name in ("upgradable", "refusal", "sheddable")
            if hasattr(application, name)
        }
        options = HttpOptions(
            max_connections=_most_connections(), trusted_proxies=tuple(current.trusted_proxies), **chosen
        )
        grace = current.shutdown_grace_seconds
        await self.serve(
            getattr(application, "handler", application),
            ServerOptions(sockets=sockets, grace=grace, http=options),
        )
        log.info("listening on %s", Address(self.host, self.port).url)

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetAddress():
                return Reply(Address(self.host, self.port))
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Change() if self.session_changed is not None:
                self.session_changed(message)
                return None
            case Guess() if self.guess_made is not None:
                self.guess_made(message)
                return None
            case ChangesRead() if self.preload is not None:
                erlang.spawn(self.preload)
                return None
        return super().handle_info(message)

    async def terminate(self, reason: Any) -> None:
        if hasattr(self, "listener"):
            # Before the drain: clients reconnect within milliseconds, and must reach another server.
            self.listener.stop_listening()
            await _drain(settings.current().shutdown_grace_seconds / 2)
            await super().terminate(reason)


def _most_connections() -> int:
    """As many as the process may have descriptors, but for what the server itself needs to go on. 0: no bound."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 0 if hard == resource.RLIM_INFINITY else max(hard - OWN_DESCRIPTORS, hard // 2)


async def _drain(seconds: float) -> None:
    """Closes all sockets within this time, in batches, since each client reconnects at once."""
    try:
        there = len(drainer.whereis(SOCKETS).transports)
    except Error:
        return
    per_second = max(DRAINED_PER_SECOND, ceil(there / seconds) if seconds else there)
    await drainer.drain(SOCKETS, per_second, 1000, seconds * 1000)
