"""Options of a server and of its connections. Defaults are Bandit's and Cowboy's where they have one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runtime.http.messages import Request, Response

# Fields with a single value, by RFC 9110, RFC 6265 and Idempotency-Key's draft.
SINGLE_FIELDS: Final = frozenset(
    {
        b"authorization", b"content-length", b"content-location", b"content-range", b"content-type", b"date",
        b"expect", b"from", b"host", b"idempotency-key", b"if-modified-since", b"if-range",
        b"if-unmodified-since", b"last-modified", b"max-forwards", b"origin", b"proxy-authorization", b"range",
        b"referer", b"retry-after", b"transfer-encoding", b"user-agent",
    }
)  # fmt: skip


def refusal(status: int, reason: str) -> Response:
    """The response to a request that cannot be served: the reason as plain text."""
    return Response(status, reason.encode(), [(b"content-type", b"text/plain; charset=utf-8")])


def all_but_upgrades(request: Request) -> bool:
    """Spares upgrades: one is a single request for a long-lived socket, and a refused client retries at once."""
    return not request.upgrade


def nothing_mounted(_request: Request) -> bool:
    """No path accepts WebSockets."""
    return False


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits of a connection. Times are seconds, sizes bytes.

    Sizes and counts:
        max_target: path and query, which cost more to parse than fields do.
        max_head: request line and fields; also chunk sizes, chunk extensions and trailer fields of a chunked body.
        max_fields: field lines of a head, and of a trailer section.
        max_ahead: pipelined requests that are parsed before they are answered.
        max_buffered: unread bodies of these requests, in all; beyond it reading pauses.
        max_drained: the rest of a body the handler did not read that is dropped to keep the connection; a longer one ends it.
        max_lingering: data dropped during a lingering close.
        max_connections: open connections; another one is closed at once (0: no limit).
        receive_buffer: SO_RCVBUF of each connection, which Linux doubles (0: the kernel decides, up to megabytes).
        single_fields: fields that make a request invalid if they come twice.

    Times and rates:
        head_timeout: from the first byte of a head to its last, and from the connection to its first head.
        keepalive_timeout: between two requests.
        body_timeout, body_rate: a body must arrive within body_timeout plus one second per body_rate bytes received.
        send_timeout, send_rate: likewise for the peer's reading of a response.
        lingering_time, lingering_timeout: duration of a lingering close, in all and since the last byte.

    Callbacks:
        upgradable: True if the path of a WebSocket request accepts one; otherwise its Upgrade is ignored (RFC 9110 7.8).
        refusal: makes the response, from status and reason, to a request that cannot be served. That of a 503 is sent many times.
        sheddable: True if the first request of a connection may be refused with 503 under overload, judged by method, path, query
            and `upgrade`.

    trusted_proxies: addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are trusted, or `*`.
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
    """Where a server listens: on `sockets` if given, else at `unix` (a path), else on `host` and `port`.

    host: None or "" means all addresses, IPv4 and IPv6. reuse_port: SO_REUSEPORT, so that several processes share the port.
    certificate, key: PEM files; with them the server speaks TLS. grace: seconds to finish open requests when it stops.
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
