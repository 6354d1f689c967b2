"""The request that a handler is given, and the response that it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec

from api.http.address import caller, canonical
from api.http.errors import ApiError, invalid
from api.http.principal import Principal
from api.http.router import Operation
from runtime.http import Response
from runtime.http import messages as http
from runtime.http.response_encoder import constant
from runtime.http.target import decoded

C = TypeVar("C")

Headers = http.Fields

encode = msgspec.json.Encoder(decimal_format="string").encode
JSON_TYPE = b"application/json"
JSON_HEADER = constant(b"content-type", JSON_TYPE)


class ApiRequest(Generic[C]):
    """One HTTP request as a handler gets it.

    `http` is the raw request, `body` and `query` are validated values. `principal`, the caller, has no value until it is known,
    which it is on operations that require a token. `context` is what the server's operations share; this package does not know
    its type (see api/context.py).
    """

    __slots__ = (
        "began",
        "body",
        "content_type",
        "context",
        "http",
        "lane_owner",
        "operation",
        "params",
        "principal",
        "query",
        "request_id",
        "token_error",
    )

    principal: Principal

    def __init__(self, context: C, http_request: http.Request, request_id: str) -> None:
        self.context = context
        self.http = http_request
        self.request_id = request_id
        self.began = 0.0  # time.perf_counter() at its start, if somebody listens to request events
        self.operation: Operation | None = None
        self.params: dict[str, Any] = {}
        self.body: Any = None
        self.query: Any = None
        self.content_type = ""
        self.lane_owner: str | None = None  # for whom it was admitted to its lane
        self.token_error: ApiError | None = None  # why there is no principal, if the token is optional

    @property
    def method(self) -> str:
        """The request method."""
        return self.http.method

    @property
    def path(self) -> str:
        """The percent-decoded path."""
        path = self.http.path
        return decoded(path).decode("utf-8", "replace") if "%" in path else path

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Header fields by lower-case name; fields of one name are joined."""
        return self.http.headers

    @property
    def has_principal(self) -> bool:
        """Whether the caller is known, and `principal` has a value: not before authentication, nor without a token."""
        return hasattr(self, "principal")

    @property
    def address(self) -> str:
        """The client's address, or the one that a trusted proxy forwarded."""
        client = self.http.client
        return canonical(client[0]) if client else "unknown"

    @property
    def caller(self) -> str:
        """The key that throttles count by: the address, or for IPv6 its /64."""
        client = self.http.client
        return caller(client[0]) if client else "unknown"

    def header(self, name: bytes) -> str | None:
        """A header's value by its lower-case name."""
        return self.http.header(name)


def query_pairs(raw: bytes) -> dict[str, str]:
    """The query's parameters. Raises ApiError 400 for text that is not UTF-8, 422 for a repeated name or a NUL."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        raise ApiError(400, "The query is malformed", code="malformed_query") from None
    read: dict[str, str] = {}
    for name, value in pairs:
        if "\x00" in name or "\x00" in value:
            raise invalid({name.replace("\x00", ""): "must not contain the NUL character"})
        if name in read:
            raise invalid({name: "must be given only once"})
        read[name] = value
    return read


def refuse_query(raw: str) -> None:
    """Raises ApiError 422 that names the parameters of an operation without any: ignored, they would seem to have an effect."""
    pairs = parse_qsl(raw[:MAX_SHOWN], keep_blank_values=True, errors="replace")
    if pairs:
        raise invalid(
            {name.replace("\x00", ""): "is unknown; there are no query parameters" for name, _ in pairs}
        )


MAX_SHOWN = 1000  # characters of an unexpected query that are named in the error


def json_response(value: Any, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
    """A JSON response with a value that msgspec can encode."""
    return Response(status, encode(value), [JSON_HEADER, *headers])


def no_content() -> Response:
    """A 204 response."""
    return Response(204, b"", [])
