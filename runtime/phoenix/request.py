"""The HTTP request of a connection as the protocol sees it, and HTTP responses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from msgspec import Struct

from runtime.http.messages import Request
from runtime.phoenix import query
from runtime.phoenix.check_origin import MAX_DIGITS

CONNECT_INFO_KEYS: Final = (
    "peer_data",
    "trace_context_headers",
    "x_headers",
    "uri",
    "user_agent",
    "sec_websocket_headers",
    "session",
)

JSON_TYPE: Final = "application/json; charset=utf-8"
_TRACE: Final = ("traceparent", "tracestate")
_REASONS: Final = {400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Uri:
    """`%URI{}` of the request, for connect_info."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: str


class TransportRequest(Struct, frozen=True):
    """A request line and its header fields, in latin-1; names are lower case, `path` is raw.

    It reads an HTTP request, `raw`, and decodes a field or asks for the peer when that is wanted: of most requests few are.
    """

    raw: Request

    @property
    def method(self) -> str:
        return self.raw.method

    @property
    def path(self) -> str:
        return self.raw.path

    @property
    def query(self) -> str:
        return self.raw.query

    @property
    def scheme(self) -> str:
        return self.raw.scheme

    @property
    def peer(self) -> tuple[str, int] | None:
        """Address and port of the client; None on a Unix socket."""
        return self.raw.client

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """All fields in order."""
        return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw.fields])

    def first(self, name: bytes) -> bytes | None:
        """The value of the first field of a name, or None."""
        request = self.raw
        value = request.headers.get(name)
        if value is not None and len(request.headers) != len(request.fields):
            value = next(value for other, value in request.fields if other == name)
        return value

    def header(self, name: str) -> str | None:
        """As `first`, as text."""
        value = self.first(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def values(self, name: str) -> list[str]:
        """The values of all fields of a name."""
        key = name.encode("latin-1")
        return [value.decode("latin-1") for other, value in self.raw.fields if other == key]

    @property
    def host(self) -> str:
        """The host without its port."""
        return _split_host(self.header("host") or "")[0]

    @property
    def port(self) -> int | None:
        """The port of the Host header, else the default port of the scheme."""
        port = _split_host(self.header("host") or "")[1]
        return port if port is not None else (443 if self.scheme == "https" else 80)

    def query_params(self) -> dict[str, Any]:
        """`Plug.Conn.fetch_query_params/1`. Raises query.InvalidQuery."""
        return query.decode(self.raw.query)


def text(value: str) -> str:
    """A header value decoded as UTF-8; invalid bytes become surrogates."""
    return value if value.isascii() else value.encode("latin-1").decode("utf-8", "surrogateescape")


def _split_host(header: str) -> tuple[str, int | None]:
    host, separator, port = header.rpartition(":")
    if separator and port.isdecimal() and (not host.startswith("[") or host.endswith("]")):
        return host, int(port[:MAX_DIGITS])
    return header, None


class TransportResponse(Struct, frozen=True):
    """An HTTP response. The transport adds the content-length."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def error_response(status: int) -> TransportResponse:
    """Phoenix's ErrorJSON: `{"errors": {"detail": ...}}`."""
    body = orjson.dumps({"errors": {"detail": _REASONS[status]}})
    return TransportResponse(status, body, (("content-type", JSON_TYPE),))


def connect_info(request: TransportRequest, keys: tuple[str, ...]) -> dict[str, Any]:
    """`Phoenix.Socket.Transport.connect_info/4`: the parts of the request that a mount passes to `connect`.

    `keys` are from CONNECT_INFO_KEYS, as the options of a mount check. `session` is always None: there are no cookie sessions.
    """
    info: dict[str, Any] = {}
    for key in keys:
        match key:
            case "peer_data":
                address, port = request.peer or ("", 0)
                info[key] = {"address": address, "port": port}
            case "trace_context_headers":
                info[key] = _read(pair for pair in request.headers if pair[0] in _TRACE)
            case "x_headers":
                info[key] = _read(pair for pair in request.headers if pair[0].startswith("x-"))
            case "sec_websocket_headers":
                info[key] = _read(pair for pair in request.headers if pair[0].startswith("sec-websocket-"))
            case "uri":
                info[key] = Uri(request.scheme, request.host, request.port, request.path, request.query)
            case "user_agent":
                agent = request.header("user-agent")
                info[key] = None if agent is None else text(agent)
            case _:
                info[key] = None
    return info


def _read(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, text(value)) for name, value in fields]
