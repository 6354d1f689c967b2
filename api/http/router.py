"""The routing table: the handler of each method and path, and its contract.

An `Operation` declares everything about one method of one path: who may call it, its query and body, its responses. api/app.py
enforces it and api/http/openapi.py describes it, so the two can't differ. Paths are templates like `/api/v1/tasks/{id:uuid}`; the
kinds of parameters are uuid, str, int, flag, and path (the rest of the path, with its slashes).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from api.http.decoder import Decoder
from api.http.errors import ApiError
from runtime.http import Response
from runtime.http.target import decoded

# Takes an api.http.request.ApiRequest. A handler that has nothing to wait for is a plain function.
Handler = Callable[[Any], Awaitable[Response] | Response]

USER, ADMIN, SERVICE = "user", "admin", "service"
ANYONE: frozenset[str] = frozenset({USER, ADMIN, SERVICE})
ADMINS: frozenset[str] = frozenset({ADMIN})
ADMINS_AND_SERVICES: frozenset[str] = frozenset({ADMIN, SERVICE})

JSON = "application/json"
ANYTHING = "*/*"
WORK, WRITE, SIGN_IN = "work", "write", "sign_in"  # lanes of admission
UUID_TEXT = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MAX_DECODED = 32  # path segments that are decoded one by one; no template has as many
REST = "\x00"  # stands for the segments after these; only a `path` parameter takes it
FLAG = re.compile("[a-z][a-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Param:
    """One `{name:kind}` of a path template."""

    name: str
    kind: str

    def read(self, text: str) -> Any:
        """The value, or None if the text is not of this kind."""
        match self.kind:
            case "uuid":
                return UUID(text) if UUID_TEXT.fullmatch(text) else None
            case "int":
                return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
            case _:
                return text if text and "\x00" not in text else None


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """An operation's response with one status (an OpenAPI Response Object): the type of its body, or a content type."""

    body: Any = None
    content_type: str = JSON
    description: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """An operation's error format: the type of the body, the response for an error, the status for wrong fields."""

    body: type[msgspec.Struct]
    response: Callable[[ApiError], Response]
    wrong_fields: int = 422


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path and its contract.

    `roles` None means that no token is required. Status 0 of `responses` stands for every status that is not listed. With
    `token_optional` the handler runs even if the token is missing or invalid; `request.token_error` says why. `body` and `query`
    decode msgspec structs; an operation without `query` refuses one, unless `any_query`. With `raw_body` the handler gets the
    bytes, which `body_schema` describes in OpenAPI. `body_types` are the media types of a body, JSON among them. `cors_any` lets
    every origin call. `errors` lists the error statuses besides those that follow from the rest (400, 401, 403, 413, 415, 422,
    500, 503); `error_format` replaces the API's error format. `lane` is the lane that must admit a request (api/http/lanes.py);
    None for what operators need under overload. `passes_body_on`: the body is forwarded unparsed, and only then may it be larger
    than JSON may be.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    roles: frozenset[str] | None
    responses: Mapping[int, ResponseSpec]
    body: Decoder | None = None
    query: Decoder | None = None
    request_headers: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    any_query: bool = False
    raw_body: bool = False
    body_schema: type[msgspec.Struct] | None = None
    body_types: tuple[str, ...] = (JSON,)
    cors_any: bool = False
    error_format: ErrorFormat | None = None
    token_optional: bool = False
    lane: str | None = WORK
    passes_body_on: bool = field(init=False)

    def __post_init__(self) -> None:
        assert JSON in self.body_types  # the application takes JSON without a look at them
        object.__setattr__(self, "passes_body_on", self.raw_body and self.body_schema is None)

    @property
    def takes_no_query(self) -> bool:
        """Whether a query is an error.

        Operations without a token tolerate one: probes and monitors add parameters of their own.
        """
        return self.query is None and self.roles is not None and not self.any_query

    @property
    def params(self) -> list[Param]:
        """The path's parameters, in order."""
        return [part for part in parse(self.path) if isinstance(part, Param)]


def parse(path: str) -> list[str | Param]:
    """The segments of a path template."""
    parts: list[str | Param] = []
    for segment in path.strip("/").split("/"):
        if segment.startswith("{"):
            name, _, kind = segment[1:-1].partition(":")
            parts.append(Param(name, kind or "str"))
        else:
            parts.append(segment)
    return parts


def _text(encoded: str) -> str:
    return decoded(encoded).decode("utf-8", "replace")


def _segments(path: str) -> list[str]:
    """The segments of a request's path, without one trailing slash. Other empty segments stay: they must match no template."""
    inner = path[1:-1] if path.endswith("/") else path[1:]
    return inner.split("/") if inner else []


class Routes:
    """The operations of one module, collected by decorators. `lane` is the default of those that name none."""

    def __init__(self, tag: str, lane: str | None = WORK) -> None:
        self.tag = tag
        self.lane = lane
        self.operations: list[Operation] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        summary: str,
        roles: frozenset[str] | None = ANYONE,
        body: type[msgspec.Struct] | None = None,
        query: type[msgspec.Struct] | None = None,
        responses: Mapping[int, Any],
        **rest: Any,
    ) -> Callable[[Handler], Handler]:
        """Adds the decorated handler. `responses` maps a status to a body type or a `ResponseSpec`."""
        rest.setdefault("lane", self.lane)

        def decorate(handler: Handler) -> Handler:
            self.operations.append(
                Operation(
                    method,
                    path,
                    handler,
                    summary,
                    self.tag,
                    roles,
                    {
                        code: a if isinstance(a, ResponseSpec) else ResponseSpec(a)
                        for code, a in responses.items()
                    },
                    Decoder(body) if body else None,
                    Decoder(query, lenient=roles is None) if query else None,
                    **rest,
                )
            )
            return handler

        return decorate

    def get(self, path: str, **rest: Any) -> Callable[[Handler], Handler]:
        """Adds a GET handler."""
        return self.add("GET", path, **rest)

    def post(self, path: str, **rest: Any) -> Callable[[Handler], Handler]:
        """Adds a POST handler."""
        return self.add("POST", path, **rest)

    def put(self, path: str, **rest: Any) -> Callable[[Handler], Handler]:
        """Adds a PUT handler."""
        return self.add("PUT", path, **rest)

    def patch(self, path: str, **rest: Any) -> Callable[[Handler], Handler]:
        """Adds a PATCH handler."""
        return self.add("PATCH", path, **rest)

    def delete(self, path: str, **rest: Any) -> Callable[[Handler], Handler]:
        """Adds a DELETE handler."""
        return self.add("DELETE", path, **rest)


class _Node:
    __slots__ = ("children", "methods", "param", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.param: list[tuple[Param, _Node]] = []
        self.rest: tuple[Param, _Node] | None = None
        self.methods: dict[str, Operation] = {}


Methods = dict[str, Operation]


class Router:
    """Finds the operations of a path: by one dictionary lookup for fixed paths, else by a tree of segments."""

    def __init__(self, routes: Sequence[Routes]) -> None:
        self.operations: list[Operation] = [operation for r in routes for operation in r.operations]
        self._fixed: dict[str, tuple[Methods, dict[str, Any]]] = {}
        self._root = _Node()
        for operation in self.operations:
            self._insert(operation)

    def _insert(self, operation: Operation) -> None:
        node = self._root
        parts = parse(operation.path)
        for part in parts:
            if isinstance(part, str):
                node = node.children.setdefault(part, _Node())
            elif part.kind == "path":
                if node.rest is None:
                    node.rest = (part, _Node())
                node = node.rest[1]
            else:
                for param, child in node.param:
                    if param == part:
                        node = child
                        break
                else:
                    child = _Node()
                    node.param.append((part, child))
                    node = child
        if operation.method in node.methods:
            raise ValueError(f"{operation.method} {operation.path} is defined twice")
        node.methods[operation.method] = operation
        if not any(isinstance(part, Param) for part in parts):
            self._fixed[operation.path] = node.methods, {}

    def find(self, path: str) -> tuple[Methods, dict[str, Any]] | None:
        """The operations of a path by method, and its parameters; None if no template matches.

        A path with percent-encoded characters is decoded segment by segment: an encoded slash is part of its segment, and must
        lead neither to another operation nor past a proxy's rules.
        """
        found = self._fixed.get(path)
        if found is not None:
            return found
        segments = _segments(path)
        if "%" not in path:
            return self._walk(self._root, segments, 0)
        rest = segments[MAX_DECODED:]
        found = self._walk(self._root, [*map(_text, segments[:MAX_DECODED]), *([REST] if rest else [])], 0)
        if found is not None and rest:
            for name, value in found[1].items():
                if isinstance(value, str) and value.endswith(REST):
                    found[1][name] = value[: -len(REST)] + _text("/".join(rest))
        return found

    def _walk(self, node: _Node, segments: list[str], at: int) -> tuple[Methods, dict[str, Any]] | None:
        if at == len(segments):
            if node.methods:
                return node.methods, {}
            if node.rest is not None:
                return node.rest[1].methods, {node.rest[0].name: ""}
            return None
        child = node.children.get(segments[at])
        if child is not None:
            found = self._walk(child, segments, at + 1)
            if found is not None:
                return found
        for param, below in node.param:
            value = param.read(segments[at])
            if value is not None:
                found = self._walk(below, segments, at + 1)
                if found is not None:
                    found[1][param.name] = value
                    return found
        if node.rest is not None:
            return node.rest[1].methods, {node.rest[0].name: "/".join(segments[at:])}
        return None
