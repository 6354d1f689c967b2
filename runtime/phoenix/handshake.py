"""The handshake: the checks of `Phoenix.Transports.WebSocket` and `LongPoll`, in Phoenix's order.

Sans-IO, except for the connect callback, which may be a coroutine. Each step returns the next state or a `TransportResponse` that
refuses the client.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import re
from time import monotonic
from types import CoroutineType
from typing import Any, Final

from msgspec import Struct

from runtime.http import response_encoder
from runtime.http.messages import Fields
from runtime.http.target import has_token
from runtime.phoenix.deflate import Deflate
from runtime.phoenix.deflate import negotiate as negotiate_deflate
from runtime.phoenix.endpoint import Endpoint
from runtime.phoenix.messages import Accept, Refuse
from runtime.phoenix.mount import Route, WebSocketOptions
from runtime.phoenix.query import InvalidQuery
from runtime.phoenix.request import TransportRequest, TransportResponse, connect_info, error_response, text
from runtime.phoenix.serializer import negotiate
from runtime.phoenix.socket import Socket

AUTH_TOKEN_PREFIX: Final = "base64url.bearer.phx."  # noqa: S105 - not a token
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# RFC 6455 4.2.1: "a base64-encoded value that, when decoded, is 16 bytes in length".
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_UPGRADE: Final = response_encoder.constant(b"upgrade", b"websocket")
_CONNECTION: Final = response_encoder.constant(b"connection", b"Upgrade")
# With complete padding or none.
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?")

FORBIDDEN: Final = TransportResponse(403)
BAD_REQUEST: Final = TransportResponse(400)

_log = logging.getLogger("runtime.phoenix")
_silent_until = 0.0
_unlogged = 0


class Candidate(Struct):
    """A client that has passed the checks of the transport; the connect callback comes next."""

    route: Route
    request: TransportRequest
    params: dict[str, Any]
    info: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


def check_websocket(
    route: Route, path_params: dict[str, str], request: TransportRequest
) -> Candidate | TransportResponse:
    """Checks method, query, origin, auth token and subprotocols of a WebSocket request."""
    headers = request.raw.headers
    if request.raw.method != "GET":
        return BAD_REQUEST
    options: WebSocketOptions = route.options
    try:
        params = request.query_params()
    except InvalidQuery:
        return error_response(400)
    if path_params:
        params.update(path_params)
    if b"origin" in headers and not _origin_allowed(route, request):
        return FORBIDDEN
    offered = request.header("sec-websocket-protocol") if b"sec-websocket-protocol" in headers else None
    token: str | None = None
    accepted: tuple[str, ...] | None = options.subprotocols or None
    if route.mount.auth_token:
        accepted = ("phoenix", *options.subprotocols)
        if offered is not None:
            tokens, others = _split_protocols(offered)
            if len(tokens) == 1:
                token = _decode_token(tokens[0])
                if token is None:
                    return error_response(500)
                offered = ", ".join(others) if others else None
    out: tuple[tuple[str, str], ...] = ()
    if accepted is not None and offered is not None:
        wanted = [part.strip() for part in offered.split(",")]
        chosen = next((protocol for protocol in accepted if protocol in wanted), None)
        if chosen is None:
            return FORBIDDEN
        out = (("sec-websocket-protocol", chosen),)
    info = connect_info(request, options.connect_info) if options.connect_info else {}
    if route.mount.auth_token:
        info["auth_token"] = token
    return Candidate(route, request, params, info, out)


def check_longpoll(
    route: Route, path_params: dict[str, str], request: TransportRequest
) -> Candidate | TransportResponse:
    """Checks query and origin of a longpoll request, before its method."""
    try:
        params = {**request.query_params(), **path_params}
    except InvalidQuery:
        return error_response(400)
    if not _origin_allowed(route, request):
        return FORBIDDEN
    info = connect_info(request, route.options.connect_info)
    if route.mount.auth_token:
        sent = request.header("x-phoenix-authtoken")
        info["auth_token"] = None if sent is None else text(sent)
    return Candidate(route, request, params, info)


def _origin_allowed(route: Route, request: TransportRequest) -> bool:
    origin = request.header("origin")
    if origin is None:
        return True
    if route.origins.allows(origin, request.scheme, request.host, request.port):
        return True
    _log.info("refused a socket at %s: origin %r is not allowed by check_origin", request.path, origin)
    return False


def _split_protocols(header: str) -> tuple[list[str], list[str]]:
    tokens: list[str] = []
    others: list[str] = []
    for part in header.split(","):
        protocol = part.strip()
        if protocol.startswith(AUTH_TOKEN_PREFIX):
            tokens.append(protocol[len(AUTH_TOKEN_PREFIX) :])
        elif protocol:
            others.append(protocol)
    return tokens, others


def _decode_token(encoded: str) -> str | None:
    # `Base.decode64/2` with `padding: false`. Despite the prefix the alphabet is the standard one, as of btoa.
    if not _BASE64.fullmatch(encoded):
        return None
    text = encoded.rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "surrogateescape")


def connect(candidate: Candidate, endpoint: Endpoint) -> Any:
    """`Phoenix.Socket.__connect__/3`: an accepted Socket or a TransportResponse; a coroutine if `connect` is one."""
    options = candidate.route.options
    try:
        vsn = candidate.params.get("vsn")
        if vsn is not None and not isinstance(vsn, str):  # `vsn[]=2.0.0`
            return FORBIDDEN
        serializer = negotiate("1.0.0" if vsn is None else vsn, options.serializers)
        if serializer is None:
            return FORBIDDEN
        socket = candidate.route.mount.socket(
            endpoint, serializer, options.max_channels_per_transport, options.join_timeout
        )
        result = socket.connect(candidate.params, candidate.info)
        if type(result) is CoroutineType:
            return _connect_later(candidate, socket, result)
        return _connected(candidate, socket, result)
    except Exception as error:
        return _raised(candidate, error)


async def _connect_later(candidate: Candidate, socket: Socket, coro: Any) -> Socket | TransportResponse:
    try:
        return _connected(candidate, socket, await coro)
    except Exception as error:
        return _raised(candidate, error)


def _raised(candidate: Candidate, error: Exception) -> TransportResponse:
    # A refused client reconnects at once, again and again: one traceback a second is enough for the log.
    global _silent_until, _unlogged
    now = monotonic()
    if now < _silent_until:
        _unlogged += 1
    else:
        name = candidate.route.mount.socket.__name__
        _log.error("%s.connect failed (%d more since the last)", name, _unlogged, exc_info=error)
        _silent_until, _unlogged = now + 1, 0
    return error_response(500)


def _connected(candidate: Candidate, socket: Socket, result: Any) -> Socket | TransportResponse:
    match result:
        case Accept():
            socket_id = socket.id()
            if socket_id is None or type(socket_id) is str:
                socket.socket_id = socket_id
                return socket
            _log.error("%s.id returned %r, expected a string or None", type(socket).__name__, socket_id)
        case Refuse(None):
            pass
        case Refuse(reason):
            handler = getattr(candidate.route.options, "error_handler", None)
            if handler is not None:
                return handler(candidate.request, reason)
        case _:
            _log.error("%s.connect returned %r, expected Accept() or Refuse()", type(socket).__name__, result)
    return FORBIDDEN


class WebSocketUpgrade(Struct, frozen=True):
    """The header fields of the 101 response, and the negotiated compression."""

    fields: Fields
    deflate: Deflate | None


def upgrade(candidate: Candidate) -> WebSocketUpgrade | TransportResponse:
    """Checks the upgrade itself, after the client was accepted: a WebSocketUpgrade (101) or a 400."""
    request = candidate.request
    problem = _upgrade_problem(request, candidate.route.options.validate_key)
    if problem is not None:
        return TransportResponse(400, problem.encode(), (("content-type", "text/plain; charset=utf-8"),))
    key = request.first(b"sec-websocket-key") or b""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    fields = [_UPGRADE, _CONNECTION, (b"sec-websocket-accept", binascii.b2a_base64(digest, newline=False))]
    fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in candidate.headers]
    deflate = None
    if candidate.route.options.compress:
        deflate = negotiate_deflate(request.values("sec-websocket-extensions"))
        if deflate is not None:
            fields.append((b"sec-websocket-extensions", deflate.header.encode("latin-1")))
    return WebSocketUpgrade(fields, deflate)


def _upgrade_problem(request: TransportRequest, validate_key: bool) -> str | None:
    headers = request.raw.headers
    if b"host" not in headers:
        return "'host' header is absent"
    for name, token in ((b"connection", b"upgrade"), (b"upgrade", b"websocket")):
        if not has_token(headers.get(name, b""), token):
            field = name.decode()
            return f"'{field}' header must contain '{token.decode()}', got {_listed(request.values(field))}"
    key = headers.get(b"sec-websocket-key")
    if key is None:
        return "'sec-websocket-key' header is absent"
    if validate_key and not _KEY.fullmatch(key):
        return "'sec-websocket-key' header must hold 16 bytes in base64, once"
    if headers.get(b"sec-websocket-version") != b"13":
        versions = _listed(request.values("sec-websocket-version"))
        return f"'sec-websocket-version' header must equal '13', got {versions}"
    return None


def _listed(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


async def within(connecting: Any, timeout: int | None) -> Socket | TransportResponse:
    """Awaits a connect callback; 403 if it takes longer than `timeout` ms."""
    try:
        async with asyncio.timeout(None if timeout is None else timeout / 1000):
            return await connecting
    except TimeoutError:
        _log.warning("a connect callback took longer than %s ms", timeout)
        return FORBIDDEN
