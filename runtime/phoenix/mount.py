"""Socket mounts: paths, socket classes, transports and their options (`Phoenix.Endpoint.socket/3`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from runtime.phoenix.check_origin import CheckOrigin, OriginPolicy
from runtime.phoenix.frames import FREE_OF_RATIO
from runtime.phoenix.request import CONNECT_INFO_KEYS, TransportRequest, TransportResponse
from runtime.phoenix.serializer import SERIALIZERS, Serializer

if TYPE_CHECKING:
    from runtime.phoenix.socket import Socket

ErrorHandler = Callable[[TransportRequest, Any], TransportResponse]

WEBSOCKET: Final = "websocket"
LONGPOLL: Final = "longpoll"

# A person causes a few messages a second, a page that loads some dozens; more than ten times that is a runaway program. As many
# cost some percent of a CPU per socket.
MESSAGES_PER_SECOND: Final = 1_000
# Bytes; the worst JSON of this size takes 25 ms to parse, in one turn of the loop.
MAX_MESSAGE: Final = 1_000_000


def _check_keys(keys: Sequence[str]) -> None:
    for key in keys:
        if key not in CONNECT_INFO_KEYS:
            raise ValueError(f"connect_info: {key!r} is none of {', '.join(CONNECT_INFO_KEYS)}")


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """Options of the WebSocket transport. Up to `compress` names and defaults are Phoenix's; the others are extensions.

    path: below the path of the mount. timeout: ms without data from the client before the socket is closed (None: no timeout).
    max_frame_size: bytes of a frame with its header (0: no bound). subprotocols: the accepted values of
    `sec-websocket-protocol`. error_handler: builds the response if connect refuses with a reason. compress: negotiate
    permessage-deflate.

    max_message_size: bytes of one message in all its fragments, since it is read in one turn of the loop; a frame may
    have no more either. max_inflated: the same for one that came compressed, where a few KB may become as much.
    max_inflate_ratio: how many times its bytes on the wire a compressed message of more than `free_of_ratio` bytes may
    be, else 1009 (Bandit's name and default; None: no bound). Bandit has no `free_of_ratio`: there it is 0.
    validate_key: 400 for a Sec-WebSocket-Key that is not 16 bytes in base64 (RFC 6455 4.2.1); False takes any, as
    Bandit up to 1.12.5 does.
    max_buffer: bytes that may wait for a slow reader before it is closed with 1013. max_messages_per_second: of one
    socket (None: no bound), else closed with 1008; pings, pongs and fragments below 1 KB count as messages.
    connect_timeout, join_timeout: ms that connect and join callbacks may take (None: no bound). frame_timeout: ms from the
    first byte of a frame, or of a message in fragments, to its last, else closed with 1002.
    """

    path: str = "/websocket"
    check_origin: CheckOrigin = True
    timeout: int | None = 60_000
    max_frame_size: int = 8_000_000
    max_channels_per_transport: int = 100
    subprotocols: tuple[str, ...] = ()
    connect_info: tuple[str, ...] = ()
    error_handler: ErrorHandler | None = None
    serializers: tuple[Serializer, ...] = SERIALIZERS
    compress: bool = False
    max_message_size: int = MAX_MESSAGE
    max_inflated: int = MAX_MESSAGE
    max_inflate_ratio: int | None = 25
    free_of_ratio: int = FREE_OF_RATIO
    validate_key: bool = True
    max_buffer: int = 1 << 20
    max_messages_per_second: int | None = MESSAGES_PER_SECOND
    connect_timeout: int | None = 10_000
    join_timeout: int | None = None
    frame_timeout: int = 30_000

    def __post_init__(self) -> None:
        _check_keys(self.connect_info)


@dataclass(frozen=True, slots=True)
class LongPollOptions:
    """Options of the longpoll transport.

    Names and defaults are Phoenix's, except for those that WebSocketOptions describes, `max_sessions`, and `max_body`, which is
    8 MB in Phoenix.

    window_ms: how long a poll waits; a session that is not polled for 1.5 windows ends. pubsub_timeout_ms: how long a request
    waits for a busy session. max_body: bytes of a POST. max_batch: lines of an ndjson POST that are handled. max_sessions: of one
    socket id, counting its WebSockets.
    """

    path: str = "/longpoll"
    check_origin: CheckOrigin = True
    window_ms: int = 10_000
    pubsub_timeout_ms: int = 2_000
    max_channels_per_transport: int = 100
    connect_info: tuple[str, ...] = ()
    serializers: tuple[Serializer, ...] = SERIALIZERS
    max_body: int = MAX_MESSAGE
    max_batch: int = 100
    max_buffer: int = 4 << 20
    max_messages_per_second: int | None = MESSAGES_PER_SECOND
    connect_timeout: int | None = 10_000
    join_timeout: int | None = None
    max_sessions: int = 100

    def __post_init__(self) -> None:
        _check_keys(self.connect_info)


@dataclass(frozen=True, slots=True)
class Mount:
    """`socket path, Socket, websocket: ..., longpoll: ..., auth_token: ...`; None disables a transport.

    `path` may have parameters (`/rooms/:tenant`), which are merged into the connect params. With `auth_token` a client may send a
    token in the WebSocket subprotocol or the header x-phoenix-authtoken; it is `auth_token` in connect_info.
    """

    path: str
    socket: type[Socket]
    websocket: WebSocketOptions | None = field(default_factory=WebSocketOptions)
    longpoll: LongPollOptions | None = None
    auth_token: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A transport of a mount, as found by `Mounts.match`."""

    mount: Mount
    transport: str
    options: Any  # WebSocketOptions or LongPollOptions, by `transport`
    origins: OriginPolicy
    segments: tuple[str, ...]


class Mounts:
    """All mounts of an endpoint, matched by path."""

    __slots__ = ("_fixed", "_marks", "_paths", "_routes")

    def __init__(self, mounts: Sequence[Mount], url_host: str = "localhost") -> None:
        self._routes: list[Route] = []
        self._fixed: dict[tuple[str, ...], Route] = {}
        self._paths: dict[str, Route] = {}  # the same by path, without repeated slashes
        self._marks: tuple[str, ...] = ()  # a path without any of them cannot match
        for mount in mounts:
            for transport, options in ((WEBSOCKET, mount.websocket), (LONGPOLL, mount.longpoll)):
                if options is not None:
                    self._add(mount, transport, options, url_host)

    def _add(self, mount: Mount, transport: str, options: Any, url_host: str) -> None:
        segments = tuple(part for part in f"{mount.path}/{options.path}".split("/") if part)
        route = Route(mount, transport, options, OriginPolicy(options.check_origin, url_host), segments)
        mark = "" if segments[0].startswith(":") else segments[0]
        self._marks = tuple(dict.fromkeys((*self._marks, mark)))
        if any(part.startswith(":") for part in segments):
            self._routes.append(route)
        else:
            self._fixed.setdefault(segments, route)
            self._paths.setdefault("/" + "/".join(segments), route)

    def match(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route of a raw path and the path's parameters, or None. Repeated slashes count as one."""
        for mark in self._marks:
            if mark in path:
                break
        else:
            return None
        route = self._paths.get(path)
        if route is not None:
            return route, {}
        parts = tuple(part for part in path.split("/") if part)
        route = self._fixed.get(parts)
        if route is not None:
            return route, {}
        for route in self._routes:
            if len(route.segments) == len(parts):
                params: dict[str, str] = {}
                for pattern, part in zip(route.segments, parts, strict=True):
                    if pattern.startswith(":"):
                        params[pattern[1:]] = part  # as in Phoenix, not unescaped
                    elif pattern != part:
                        break
                else:
                    return route, params
        return None
