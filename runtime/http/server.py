"""An HTTP server as a supervised process.

It owns the listening sockets and all connections, and sweeps through the connections to end the slow ones. Start it under a
supervisor with `Server.start_link(handler, ...)`, or subclass it. The call `GetAddresses` returns a list of socket addresses.

When it ends, for any reason, its sockets and connections are closed, so a restarted server finds the port free. On an orderly
stop it accepts no more connections, gives open requests `grace` seconds to finish, and ends.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.core.eager_task import Runner
from runtime.core.pid import Pid
from runtime.http.accept_queue import AcceptQueue
from runtime.http.forwarded import Forwarded
from runtime.http.lingering_close import LingeringClose
from runtime.http.messages import Request, Response, UpgradedProtocol
from runtime.http.options import HttpOptions, ServerOptions
from runtime.http.transport import HttpProtocol
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer, Reply, Stop

Handler = Callable[[Request], Awaitable[Response | None] | Response | None]

BACKLOG: Final = 4096  # `AcceptQueue` drains it; a client that finds it full retries after a second
# Connections accepted in one turn of the loop: libuv accepts one for each descriptor of a listening socket. Those that are
# accepted, read and answered in a row cost less, as the code for it is in the processor's caches.
ACCEPTS: Final = 4
MAX_SWEEP_INTERVAL: Final = 1.0  # seconds
MIN_SWEEP_INTERVAL: Final = 0.02
QUIET: Final = 1.0  # seconds from the stop until idle connections are closed
_POLL: Final = 0.01


@dataclass(frozen=True, slots=True)
class GetAddresses:
    """A call that returns the addresses the server listens on."""


@dataclass(frozen=True, slots=True)
class _Sweep:
    pass


class Listener:
    """What the connections of a server share."""

    __slots__ = (
        "closing",
        "connections",
        "forwarded",
        "handler",
        "loop",
        "now",
        "options",
        "queues",
        "runner",
        "scheme",
        "servers",
        "upgraded",
    )

    def __init__(self, handler: Handler, options: HttpOptions, scheme: str = "http") -> None:
        self.handler = handler
        self.options = options
        self.scheme = scheme
        self.loop = asyncio.get_running_loop()
        self.runner = Runner(self.loop)
        self.now = self.loop.time
        self.forwarded = Forwarded(options.trusted_proxies) if options.trusted_proxies else None
        self.connections: set[HttpProtocol | LingeringClose] = set()
        self.upgraded: set[UpgradedProtocol] = set()  # not swept: their protocols have deadlines of their own
        self.servers: list[asyncio.Server] = []
        self.queues: list[AcceptQueue] = []
        self.closing = False

    def make(self) -> HttpProtocol:
        """The protocol of a new connection."""
        for queue in self.queues:
            queue.look(self.now())
        return HttpProtocol(self)

    async def listen(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Accepts connections from bound sockets."""
        for bound in sockets:
            if self.options.receive_buffer:
                # Accepted sockets inherit it. libuv reads a connection up to 32 times in a row while its buffer of 256,000 bytes
                # is filled: with kernel buffers that grow to megabytes, twenty fast senders blocked the loop for 0.3 s.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.options.receive_buffer)
            if bound.family == socket.AF_UNIX:
                server = await self.loop.create_unix_server(self.make, sock=bound, ssl=tls, backlog=BACKLOG)
                self.servers.append(server)
                continue
            if tls is None:
                self.queues.append(AcceptQueue(self, bound))
            for each in (bound, *(bound.dup() for _ in range(ACCEPTS - 1))):
                server = await self.loop.create_server(self.make, sock=each, ssl=tls, backlog=BACKLOG)
                self.servers.append(server)

    def interval(self) -> float:
        """Seconds between two sweeps."""
        options = self.options
        shortest = min(
            options.head_timeout, options.keepalive_timeout, options.body_timeout, options.send_timeout,
            options.lingering_timeout,
        )  # fmt: skip
        return min(max(shortest / 8, MIN_SWEEP_INTERVAL), MAX_SWEEP_INTERVAL)

    def sweep(self, now: float) -> None:
        """Ends the connections that are too slow."""
        for connection in tuple(self.connections):
            connection.tick(now)

    def all_connections(self) -> tuple[HttpProtocol | LingeringClose | UpgradedProtocol, ...]:
        """All open connections, upgraded or not."""
        return (*self.connections, *self.upgraded)

    def stop_listening(self) -> None:
        """Accepts no more connections."""
        if not self.closing:
            for queue in self.queues:
                queue.empty()  # what waits there would be lost with the socket
        self.closing = True
        for server in self.servers:
            server.close()

    async def finish(self, grace: float) -> None:
        """Gives open requests `grace` seconds to finish.

        A request may be on its way on a connection that looks idle, above all on a new one. So idle connections are kept for
        `QUIET` seconds, new ones longer (`transport.FRESH`), and a request on one is answered with "connection: close". Go's
        net/http does so for new ones.
        """
        self.stop_listening()
        await asyncio.sleep(0)  # what was accepted in this turn is among the connections in the next
        began = self.now()
        while self._waited_for():
            spent = self.now() - began
            if spent >= min(QUIET, grace / 2):
                await asyncio.sleep(0)  # a late loop has not read yet what came meanwhile
                for connection in self.all_connections():
                    connection.shutdown()
            if spent >= grace:
                break
            await asyncio.sleep(_POLL)

    def _waited_for(self) -> bool:
        return bool(self.connections or self.upgraded) or any(queue.busy for queue in self.queues)

    def abort(self) -> None:
        """Closes all sockets and connections at once."""
        self.closing = True
        self.stop_listening()
        for queue in self.queues:
            queue.close()
        for connection in self.all_connections():
            connection.abort()


class Server(GenServer):
    """Serves requests with a handler.

    Start it with `Server.start_link(handler, ServerOptions(...))`, or write a subclass whose `init` returns `self.serve(...)`.
    """

    def init(self, handler: Handler, options: ServerOptions | None = None) -> Any:
        return self.serve(handler, options or ServerOptions())

    async def serve(self, handler: Handler, options: ServerOptions) -> None:
        """Starts listening. Raises OSError if it cannot."""
        erlang.trap_exit(True)
        self.grace = options.grace
        tls = None if options.certificate is None else tls_context(options.certificate, options.key)
        self.sockets = open_sockets(options)
        self.listener = Listener(handler, options.http, "http" if tls is None else "https")
        # Also when the process is killed: `terminate` does not run then.
        listener, bound = self.listener, self.sockets
        self.on_exit(lambda _pid: _close(listener, bound))
        await self.listener.listen(self.sockets, tls)
        self._sweep_later()

    def _sweep_later(self) -> None:
        erlang.send_after(self.listener.interval() * 1000, self.pid, _Sweep())

    @property
    def addresses(self) -> list[Any]:
        """The addresses it listens on."""
        return [bound.getsockname() for bound in self.sockets]

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetAddresses():
                return Reply(self.addresses)
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case _Sweep():
                self.listener.sweep(self.listener.now())
                self._sweep_later()
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def terminate(self, reason: Any) -> None:
        """Gives open requests time to finish."""
        await self.listener.finish(self.grace)

    def format_status(self) -> Any:
        return {"addresses": self.addresses, "connections": len(self.listener.all_connections())}


def _close(listener: Listener, sockets: list[socket.socket]) -> None:
    listener.abort()
    for bound in sockets:
        bound.close()


def tls_context(certificate: str | Path, key: str | Path | None) -> ssl.SSLContext:
    """A context for TLS 1.2 and newer with this certificate, and only HTTP/1.1 in ALPN."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def open_sockets(options: ServerOptions) -> list[socket.socket]:
    """The listening sockets that the options ask for. Raises OSError."""
    if options.sockets is not None:
        return list(options.sockets)
    if options.unix is not None:
        return [bind_unix(options.unix)]
    return bind(options.host, options.port, options.reuse_port)


def bind(host: str | None, port: int, reuse_port: bool = False) -> list[socket.socket]:
    """Listening sockets for all addresses of a host (None or "": every address). Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _name, address in dict.fromkeys(found):
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            if sockets[0] is not bound and port == 0:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            bound.bind(address)
            bound.listen(BACKLOG)
            bound.setblocking(False)
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def bind_unix(path: str | Path) -> socket.socket:
    """A listening socket at a path; the stale socket of a killed server is replaced. Raises OSError."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        place = Path(path)
        if place.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) != 0:
                    place.unlink()
        bound.bind(str(path))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


async def addresses(server: Pid | str) -> list[Any]:
    """The addresses a server listens on."""
    return await gen_server.call(server, GetAddresses())
