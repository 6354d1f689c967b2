"""An HTTP server as a supervised process.

It owns the listening sockets and all connections, and sweeps through those for the ones that are too slow. Children
of a supervisor start it with `Server.start_link(handler, ...)`, or subclass it. Calls: `GetAddresses` -> a list of
socket addresses. If it ends, however that is, everything it has open is closed, and a restarted server finds the port
free. On an orderly stop it takes no new connections, lets those that are being answered finish for `grace` seconds,
then ends.
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

BACKLOG: Final = 4096  # `AcceptQueue` empties it; what finds it full would come again after a second
LONGEST_SWEEP: Final = 1.0  # seconds between two looks at all connections
SHORTEST_SWEEP: Final = 0.02
QUIET: Final = 1.0  # seconds from the stop until who asks nothing is let go
_POLL: Final = 0.01


@dataclass(frozen=True, slots=True)
class GetAddresses:
    """Asks where the server listens."""


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
        self.upgraded: set[UpgradedProtocol] = set()  # what became of others: no phase of theirs is swept
        self.servers: list[asyncio.Server] = []
        self.queues: list[AcceptQueue] = []
        self.closing = False

    def make(self) -> HttpProtocol:
        """A new connection."""
        for queue in self.queues:
            queue.look(self.now())
        return HttpProtocol(self)

    async def listen(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Takes connections from bound sockets."""
        for bound in sockets:
            if self.options.receive_buffer:
                # What is accepted inherits it. libuv reads a connection up to 32 times in a row while its buffer of 256,000 bytes
                # comes back full: with a kernel's buffer that grows to megabytes, twenty fast senders held the loop for 0.3 s.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.options.receive_buffer)
            create: Any = self.loop.create_server
            if bound.family == socket.AF_UNIX:
                create = self.loop.create_unix_server
            elif tls is None:
                self.queues.append(AcceptQueue(self, bound))
            self.servers.append(await create(self.make, sock=bound, ssl=tls, backlog=BACKLOG))

    def interval(self) -> float:
        """Seconds between two sweeps."""
        options = self.options
        shortest = min(
            options.head_timeout, options.keepalive_timeout, options.body_timeout, options.send_timeout,
            options.lingering_timeout,
        )  # fmt: skip
        return min(max(shortest / 8, SHORTEST_SWEEP), LONGEST_SWEEP)

    def sweep(self, now: float) -> None:
        """Ends the connections that are too slow."""
        for connection in tuple(self.connections):
            connection.tick(now)

    def all_connections(self) -> tuple[HttpProtocol | LingeringClose | UpgradedProtocol, ...]:
        """Everything that is open, before an upgrade and after it."""
        return (*self.connections, *self.upgraded)

    def stop_listening(self) -> None:
        """No new connections."""
        if not self.closing:
            for queue in self.queues:
                queue.empty()  # who waits there is lost with the socket
        self.closing = True
        for server in self.servers:
            server.close()

    async def finish(self, grace: float) -> None:
        """Lets what is under way finish for `grace` seconds.

        A request may be on its way on a connection that looks idle, above all on one that was just accepted. So those get
        `QUIET` seconds: what they still ask is answered with "connection: close". Go's net/http does this for new ones.
        """
        self.stop_listening()
        began = self.now()
        quiet = min(QUIET, grace / 2)
        while self._waited_for():
            spent = self.now() - began
            if spent >= quiet:
                for connection in self.all_connections():
                    connection.shutdown()
            if spent >= grace:
                break
            await asyncio.sleep(_POLL)

    def _waited_for(self) -> bool:
        return bool(self.connections or self.upgraded) or any(queue.busy for queue in self.queues)

    def abort(self) -> None:
        """Closes everything now."""
        self.closing = True
        self.stop_listening()
        for queue in self.queues:
            queue.close()
        for connection in self.all_connections():
            connection.abort()


class Server(GenServer):
    """Serves a handler.

    `Server.start_link(handler, ServerOptions(...))`, or a subclass whose `init` returns `self.serve(...)`.
    """

    def init(self, handler: Handler, options: ServerOptions | None = None) -> Any:
        return self.serve(handler, options or ServerOptions())

    async def serve(self, handler: Handler, options: ServerOptions) -> None:
        """Begins to listen. Raises OSError where it can't."""
        erlang.trap_exit(True)
        self.grace = options.grace
        tls = None if options.certificate is None else tls_context(options.certificate, options.key)
        self.sockets = open_sockets(options)
        self.listener = Listener(handler, options.http, "http" if tls is None else "https")
        # Ends with the process, even if it is killed: no `terminate` runs then.
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
        """Finishes what is under way."""
        await self.listener.finish(self.grace)

    def format_status(self) -> Any:
        return {"addresses": self.addresses, "connections": len(self.listener.all_connections())}


def _close(listener: Listener, sockets: list[socket.socket]) -> None:
    listener.abort()
    for bound in sockets:
        bound.close()


def tls_context(certificate: str | Path, key: str | Path | None) -> ssl.SSLContext:
    """TLS 1.2 and newer with this certificate, HTTP/1.1 alone by ALPN."""
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
    """A listening socket at a path; what a server that was killed has left there is replaced. Raises OSError."""
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
    """Where a server listens."""
    return await gen_server.call(server, GetAddresses())
