"""Requests and answers as a handler sees them, and the bytes of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from runtime.http.body import Body

Fields = list[tuple[bytes, bytes]]
Peer = tuple[str, int]

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_LINES: Final = {code: b"HTTP/1.1 %d %b\r\n" % (code, reason) for code, reason in _REASONS.items()}
_BODILESS: Final = (204, 304)
_NO_SECOND: Final = -1


class Link(Protocol):
    """The connection a request came on, as far as the request needs it."""

    def peer(self) -> Peer | None:
        """Address and port of the other end."""
        ...

    def disconnected(self) -> asyncio.Future[None]:
        """Done when the other end has gone."""
        ...


class Request:
    """The head of a request, and its body.

    `path` and `query` are as they came, undecoded; of an absolute-form target only what follows the authority, which
    is then the Host. `fields` are the field lines in order, names in lower case; `headers` joins those of one name by
    ", ". `upgrade` is True if the client wants a WebSocket here and may have one.
    """

    __slots__ = (
        "body", "client", "content_length", "expects_continue", "fields", "headers", "keep_alive", "link", "method", "path",
        "query", "scheme", "upgrade", "version",
    )  # fmt: skip

    body: Body
    link: Link

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        fields: Fields,
        headers: dict[bytes, bytes] | None = None,
        version: str = "1.1",
        keep_alive: bool = True,
        content_length: int | None = 0,
    ) -> None:
        """`content_length` is None for a chunked body."""
        self.method = method
        self.path = path
        self.query = query
        self.fields = fields
        self.headers = dict(fields) if headers is None else headers
        self.version = version
        self.keep_alive = keep_alive
        self.content_length = content_length
        self.expects_continue = False
        self.upgrade = False
        self.scheme = "http"
        self.client: Peer | None = None  # where it came from, by what a trusted proxy says

    def header(self, name: bytes) -> str | None:
        """A field's value by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def disconnected(self) -> asyncio.Future[None]:
        """Done when the client has gone. Whoever waits for it need not answer."""
        return self.link.disconnected()


class Response:
    """Status, whole body and field lines of an answer; its length is the connection's business.

    The body may be an async iterator of bytes: it is sent as it comes, chunked.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, body: bytes | AsyncIterator[bytes] = b"", headers: Fields | None = None
    ) -> None:
        self.status = status
        self.body: Any = body
        self.headers: Fields = [] if headers is None else headers


class Upgrade(Response):
    """101: after it the connection belongs to `protocol`, which is given the transport and what has come behind the head."""

    __slots__ = ("protocol",)

    def __init__(self, headers: Fields, protocol: UpgradedProtocol) -> None:
        super().__init__(101, b"", headers)
        self.protocol = protocol


class UpgradedProtocol(asyncio.Protocol):
    """What a connection is after its upgrade. The server ends it with the rest: `connections` is where it is found."""

    __slots__ = ("connections",)

    connections: set[Any]

    def connection_lost(self, exc: Exception | None) -> None:
        """From asyncio."""
        self.connections.discard(self)

    def shutdown(self) -> None:
        """The server stops."""
        raise NotImplementedError

    def abort(self) -> None:
        """Ends the connection now."""
        raise NotImplementedError


_date = (_NO_SECOND, b"")


def date_line() -> bytes:
    """The Date field (RFC 9110 6.6.1), made once a second."""
    global _date
    second = int(time())
    if _date[0] != second:
        _date = (second, b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n")
    return _date[1]


def head(status: int, fields: Fields, *lines: bytes) -> bytes:
    """The head of an answer. `lines` are whole field lines with their CRLF. Raises ValueError for a field that would
    break it.
    """
    first = _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    whole = b"".join([first, *[b"%b: %b\r\n" % pair for pair in fields], *lines, b"\r\n"])
    count = len(fields) + len(lines) + 2
    if whole.count(b"\n") != count or whole.count(b"\r") != count or b"\0" in whole:
        raise ValueError("a field of an answer holds CR, LF or NUL")
    return whole


def length_line(response: Response) -> bytes | None:
    """The Content-Length line; None where the answer has none (RFC 9110 8.6)."""
    if response.status in _BODILESS or response.status < 200:
        return None
    return b"content-length: %d\r\n" % len(response.body)


def has_body(status: int) -> bool:
    """False for the statuses that end with their head."""
    return status >= 200 and status not in _BODILESS
