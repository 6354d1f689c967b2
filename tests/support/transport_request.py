"""A request as a transport of Phoenix sees it, without a connection."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.http.messages import Request
from runtime.http.target import joined
from runtime.phoenix.request import TransportRequest


def transport_request(
    method: str,
    path: str,
    query: str,
    headers: Iterable[tuple[str, str]],
    scheme: str = "http",
    peer: tuple[str, int] | None = None,
) -> TransportRequest:
    """The request with these header fields, latin-1 with names in lower case."""
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    request = Request(method, path, query, fields, joined(fields, frozenset()))
    request.forwarded = (peer, scheme)
    return TransportRequest(request)
