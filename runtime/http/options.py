"""The limits of a server, by name. Defaults are Bandit's and Cowboy's where they have one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runtime.http.messages import Request, Response

# RFC 9110 and 6265 define these with one value; Idempotency-Key is a single item by its draft.
SINGLE_FIELDS: Final = frozenset(
    {
        b"authorization", b"content-length", b"content-location", b"content-range", b"content-type", b"date",
        b"expect", b"from", b"host", b"idempotency-key", b"if-modified-since", b"if-range",
        b"if-unmodified-since", b"last-modified", b"max-forwards", b"origin", b"proxy-authorization", b"range",
        b"referer", b"retry-after", b"transfer-encoding", b"user-agent",
    }
)  # fmt: skip


def refusal(status: int, reason: str) -> Response:
    """The answer to what is no request: the reason as plain text."""
    return Response(status, reason.encode(), [(b"content-type", b"text/plain; charset=utf-8")])


def all_but_upgrades(request: Request) -> bool:
    """An upgrade is one request for all that its socket does after it, and a client that is refused one comes back at once."""
    return not request.upgrade


def nothing_mounted(_request: Request) -> bool:
    """No path takes WebSockets."""
    return False


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What a connection may do. Times are seconds, sizes bytes.

    max_target: path and query; reading them costs more than the rest. max_head: request line and fields; also what a
    chunked body may have beside its data (sizes, extensions, trailer fields). max_fields: field lines of a head, and of
    a trailer. max_ahead: requests parsed and not answered. max_buffered: bytes of bodies, of all these together, that
    wait for a handler before reading pauses. max_drained: what is read and dropped of a body that the handler left, so
    that the connection can go on; a longer one ends it. max_lingering: what is read and dropped of a connection that is
    to be closed. max_connections: open at once; the next is closed (0: no bound). receive_buffer: SO_RCVBUF of every
    connection, which bounds what one may have waiting in the kernel; Linux takes it twice (0: the kernel decides, up to
    megabytes). single_fields: those that make a request wrong if they come twice.

    head_timeout: from the first byte of a head to its last, and from the connection to the first head.
    keepalive_timeout: between requests. body_timeout, body_rate: a body must be there within body_timeout and one
    second for each body_rate bytes that came. send_timeout, send_rate: the same for the peer that takes an answer.
    lingering_time, lingering_timeout: how long, in all and without a byte, a connection that is to be closed goes on reading
    what its peer still sends.

    upgradable: says of a WebSocket request whether its path takes sockets; elsewhere an Upgrade is ignored (RFC 9110
    7.8). refusal: makes the answer for what is no request. sheddable: says of the first request of a connection whether
    it may be refused with 503 when more connections come than can be served; by itself all but upgrades. trusted_proxies:
    whose X-Forwarded-For and -Proto are believed.
    """

    max_target: int = 10_000
    max_head: int = 65_536
    max_fields: int = 100
    max_ahead: int = 8
    max_buffered: int = 65_536
    max_drained: int = 65_536
    max_lingering: int = 32 << 20
    max_connections: int = 0
    receive_buffer: int = 65_536
    single_fields: frozenset[bytes] = SINGLE_FIELDS
    head_timeout: float = 20.0
    keepalive_timeout: float = 75.0
    body_timeout: float = 20.0
    body_rate: float = 500.0
    send_timeout: float = 30.0
    send_rate: float = 500.0
    lingering_time: float = 30.0
    lingering_timeout: float = 5.0
    upgradable: Callable[[Request], bool] = nothing_mounted
    refusal: Callable[[int, str], Response] = refusal
    sheddable: Callable[[Request], bool] = all_but_upgrades
    trusted_proxies: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and how a server listens: on `sockets` if they are given, else at `unix` (a path), else on `host` and `port`.

    host: None or "" is every address, IPv4 and IPv6. reuse_port: SO_REUSEPORT, so that several processes share the port.
    certificate, key: PEM files; with them it speaks TLS. grace: seconds that what is under way may take at a stop.
    """

    host: str | None = "127.0.0.1"
    port: int = 0
    sockets: Sequence[socket.socket] | None = None
    unix: str | Path | None = None
    reuse_port: bool = False
    certificate: str | Path | None = None
    key: str | Path | None = None
    grace: float = 10.0
    http: HttpOptions = field(default_factory=HttpOptions)
