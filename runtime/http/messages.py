"""Requests and responses as a handler sees them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from msgspec import Struct, field

from runtime.http.body import EMPTY, Body

Field = tuple[bytes, bytes]
Fields = list[Field]
Peer = tuple[str, int]


class RequestOrigin(Protocol):
    """What a request needs of its connection."""

    scheme: str

    def peer(self) -> Peer | None:
        """Address and port of the peer."""
        ...

    def disconnected(self) -> asyncio.Future[None]:
        """A future that is done when the peer has disconnected."""
        ...

    def body_wanted(self) -> None:
        """The handler is waiting for more of the body."""
        ...


class Request(Struct, eq=False):
    """The head of a request, and its body.

    `path` and `query` are not decoded; of an absolute-form target they are what follows the authority, which replaces
    Host. `fields` are the field lines in order, names in lower case; `headers` joins those of one name by ", ".
    `content_length` is None for a chunked body. `upgrade` is True if the client asks for a WebSocket on a path that
    accepts one. `forwarded` holds client and scheme as reported by a trusted proxy.
    """

    method: str
    path: str
    query: str
    fields: Fields
    headers: dict[bytes, bytes]
    version: str = "1.1"
    keep_alive: bool = True
    content_length: int | None = 0
    expects_continue: bool = False
    upgrade: bool = False
    body: Body = EMPTY
    forwarded: tuple[Peer | None, str] | None = None
    link: RequestOrigin = None  # type: ignore[assignment] - set by the `Pipeline`

    def copy(self) -> Request:
        """Another request with the same attributes."""
        return self.__copy__()  # type: ignore[attr-defined] - Struct defines it in C

    @property
    def client(self) -> Peer | None:
        """Address and port of the client, as reported by a trusted proxy if there is one; None on a Unix socket."""
        return self.link.peer() if self.forwarded is None else self.forwarded[0]

    @client.setter
    def client(self, client: Peer) -> None:
        """Sets the client of a request that has no connection."""
        self.forwarded = client, "http"

    @property
    def scheme(self) -> str:
        """`http` or `https`, as reported by a trusted proxy if there is one."""
        return self.link.scheme if self.forwarded is None else self.forwarded[1]

    def header(self, name: bytes) -> str | None:
        """The value of a field by its lower-case name, None if it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def disconnected(self) -> asyncio.Future[None]:
        """A future that is done when the client has disconnected. The handler may then return None."""
        return self.link.disconnected()


class Response(Struct, eq=False):
    """Status, body and fields of a response; the connection adds Content-Length.

    The body may be an async iterator of bytes: it is then sent as it comes, chunked.
    """

    status: int
    body: Any = b""  # bytes, or an AsyncIterator of them
    headers: Fields = field(default_factory=list)


class Upgrade(Response, eq=False, kw_only=True):
    """A response of status 101: `protocol` then gets the transport and the bytes behind the head."""

    protocol: UpgradedProtocol


class UpgradedProtocol(asyncio.Protocol):
    """The protocol of a connection after its upgrade. The server keeps it in `connections`, to end it when it stops."""

    __slots__ = ("connections",)

    connections: set[Any]

    def connection_lost(self, exc: Exception | None) -> None:
        """From asyncio."""
        self.connections.discard(self)

    def shutdown(self) -> None:
        """The server is stopping: ends the connection in an orderly way."""
        raise NotImplementedError

    def abort(self) -> None:
        """Ends the connection now."""
        raise NotImplementedError
