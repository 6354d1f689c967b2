"""Requests and answers as a handler sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from runtime.http.body import EMPTY, Body

Field = tuple[bytes, bytes]
Fields = list[Field]
Peer = tuple[str, int]


class RequestOrigin(Protocol):
    """The connection a request came on, as far as the request needs it."""

    scheme: str

    def peer(self) -> Peer | None:
        """Address and port of the other end."""
        ...

    def disconnected(self) -> asyncio.Future[None]:
        """Done when the other end has gone."""
        ...

    def body_wanted(self) -> None:
        """The handler waits for more of the body."""
        ...


class Request:
    """The head of a request, and its body.

    `path` and `query` are as they came, undecoded; of an absolute-form target only what follows the authority, which
    is then the Host. `fields` are the field lines in order, names in lower case; `headers` joins those of one name by
    ", ". `content_length` is None for a chunked body. `upgrade` is True if the client wants a WebSocket here and may
    have one. `forwarded` is what a trusted proxy says of client and scheme.
    """

    __slots__ = (
        "body", "content_length", "expects_continue", "fields", "forwarded", "headers", "keep_alive", "link", "method",
        "path", "query", "upgrade", "version",
    )  # fmt: skip

    link: RequestOrigin

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
        self.body: Body = EMPTY
        self.forwarded: tuple[Peer | None, str] | None = None

    def copy(self) -> Request:
        """The same head, on no connection yet and without its body."""
        return Request(
            self.method, self.path, self.query, self.fields, self.headers, self.version, self.keep_alive,
            self.content_length,
        )  # fmt: skip

    @property
    def client(self) -> Peer | None:
        """Where it came from, by what a trusted proxy says; None on a unix socket."""
        return self.link.peer() if self.forwarded is None else self.forwarded[0]

    @client.setter
    def client(self, client: Peer) -> None:
        """Of a request that has come on no connection."""
        self.forwarded = client, "http"

    @property
    def scheme(self) -> str:
        """http or https, by what a trusted proxy says."""
        return self.link.scheme if self.forwarded is None else self.forwarded[1]

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
