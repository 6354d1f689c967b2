"""The HTTP request of a connection as the protocol sees it, and HTTP responses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from msgspec import Struct

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
    """A request line and its header fields, in latin-1; names are lower case, `path` is raw."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    scheme: str = "http"
    peer: tuple[str, int] | None = None

    def header(self, name: str) -> str | None:
        """The value of the first field of a name, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def values(self, name: str) -> list[str]:
        """The values of all fields of a name."""
        return [value for key, value in self.headers if key == name]

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
        return query.decode(self.query)


def text(value: str) -> str:
    """A header value decoded as UTF-8; invalid bytes become surrogates."""
    return value if value.isascii() else value.encode("latin-1").decode("utf-8", "surrogateescape")


def _split_host(header: str) -> tuple[str, int | None]:
    host, separator, port = header.rpartition(":")
    if separator and port.isdecimal() and (not host.startswith("[") or host.endswith("]")):
        return host, int(port[:MAX_DIGITS])
    return header, None


@dataclass(frozen=True, slots=True)
class TransportResponse:
    """An HTTP response. The transport adds the content-length."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = field(default=())


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
