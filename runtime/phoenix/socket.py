"""`Phoenix.Socket`: the socket class of an application, and the process that connects a client with its channels.

An application subclasses `Socket`: it authenticates clients, gives a socket its id and routes topics to channels.
`SocketTransport` is the process of one connection, subclassed by the WebSocket connection and the longpoll session. It handles
the client's messages, `SocketClose`, `SocketDrain` and `Down` of its channels, the "disconnect" `Broadcast` to its id, and
`Frame`s to send. It starts channels under the endpoint's DynamicSupervisor and monitors them: when one crashes the client gets
phx_error. If the transport crashes, its channels get its Down and end with its reason.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from msgspec import Struct

from runtime.core import telemetry
from runtime.core.exits import Exit
from runtime.core.pid import Pid, Ref
from runtime.core.signals import Down
from runtime.core.timers import Timer
from runtime.otp import dynamic_supervisor, erlang, gen_server
from runtime.otp.dynamic_supervisor import ChildTemplate
from runtime.otp.gen_server import GenServer, StartError
from runtime.otp.supervisor import ChildSpec
from runtime.phoenix.fanout import flush, pending
from runtime.phoenix.messages import Accept, Broadcast, Frame, Join, Message, SocketClose, SocketDrain
from runtime.phoenix.string_chars import to_string

if TYPE_CHECKING:
    from runtime.phoenix.channel import Channel
    from runtime.phoenix.endpoint import Endpoint
    from runtime.phoenix.serializer import Serializer

DUPLICATE_JOIN: Final = ("shutdown", "duplicate_join")
_DUPLICATE_TIMEOUT: Final = 5_000  # ms a replaced channel that traps exits has to end

_EXPIRED: Final = Broadcast("", "disconnect", {})
UNMATCHED: Final = {"reason": "unmatched topic"}
CRASHED: Final = {"reason": "join crashed"}
TOO_MANY: Final = {"reason": "too many channels joined"}

JOINED: Final = ("phoenix", "channel_joined")


class ChannelRoute(NamedTuple):
    """A pattern of `Socket.channels`, which is a `prefix` of topics, or one topic if that is None, and how its channels start."""

    pattern: str
    prefix: str | None
    child: ChildTemplate


class Socket:
    """A client's socket: `%Phoenix.Socket{}` and its module. Subclass it:

        class Socket(phoenix.Socket):
            channels = {"room:*": RoomChannel, "exact": (RoomChannel, {"assigns": {"kind": "exact"}})}

            def connect(self, params, connect_info):
                self.assigns["user_id"] = verify(params["token"])
                return Accept()

            def id(self):
                return f"user:{self.assigns['user_id']}"

    It is `self.socket` of its channels, which start with a copy of its `assigns`.
    """

    __slots__ = (
        "__weakref__", "assigns", "endpoint", "join_timeout", "lifetime", "max_channels", "serializer",
        "socket_id", "transport", "transport_pid",
    )  # fmt: skip

    channels: ClassVar[Mapping[str, type[Channel] | tuple[type[Channel], Mapping[str, Any]]]] = {}
    _routes: ClassVar[tuple[ChannelRoute, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._routes = tuple(_channel_route(pattern, target) for pattern, target in cls.channels.items())

    def __init__(
        self, endpoint: Endpoint, serializer: Serializer, max_channels: int, join_timeout: int | None
    ) -> None:
        self.endpoint = endpoint
        self.serializer = serializer
        self.max_channels = max_channels
        self.join_timeout = join_timeout
        self.assigns: dict[str, Any] = {}
        self.lifetime: float | None = None  # ms from connect until it is closed as by "disconnect"
        self.socket_id: str | None = None
        self.transport: SocketTransport = None  # type: ignore[assignment] - set by `enter`
        self.transport_pid: Pid = None  # type: ignore[assignment]

    # ---- callbacks

    def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        """Accepts the client with `Accept()`, refuses it with `Refuse()` or `Refuse(reason)`; may be `async def`.

        Any other result refuses it too, and an exception is a 500. A reason is passed to the `error_handler` of the mount.
        """
        raise NotImplementedError(f"{type(self).__name__} has no connect callback")

    def id(self) -> str | None:
        """The topic of "disconnect" broadcasts that close this socket, usually per user; None for no such topic."""
        return None

    def disconnects(self, payload: Any) -> bool:
        """True if a "disconnect" broadcast with this payload closes this socket; as in Phoenix, by default always."""
        return True

    # ---- routes

    @classmethod
    def route(cls, topic: Any) -> ChannelRoute | None:
        """The route of a topic: the first whose pattern matches."""
        if type(topic) is str:
            for route in cls._routes:
                prefix = route.prefix
                if topic == route.pattern if prefix is None else topic.startswith(prefix):
                    return route
        return None


def _channel_route(pattern: str, target: Any) -> ChannelRoute:
    pair: tuple[Any, Any] = target if isinstance(target, tuple) else (target, {})  # type: ignore[assignment]
    channel, options = pair
    head, star, tail = pattern.partition("*")
    if star and tail:
        raise ValueError(f"channels using splat patterns must end with *, got {pattern!r}")
    child = ChildSpec(
        channel, (channel.start_channel, (dict(options),)), "temporary", options.get("shutdown", 5_000)
    )
    return ChannelRoute(pattern, head if star else None, ChildTemplate(child))


class ChannelEntry(Struct, frozen=True, eq=False):
    """A joined channel of a transport. `join_ref` is as sent by the client, or None."""

    pid: Pid
    monitor: Ref
    topic: str
    join_ref: Any


def same_ref(left: Any, right: Any) -> bool:
    """Elixir's `===` for what a ref can be: `1` is neither `"1"` nor `1.0` nor `true`."""
    if type(left) is str:
        return type(right) is str and left == right
    pairs = [(left, right)]
    while pairs:  # no recursion: the client chooses the depth
        left, right = pairs.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, dict):
            if left.keys() != right.keys():
                return False
            pairs += [(value, right[key]) for key, value in left.items()]
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            pairs += zip(left, right, strict=True)
        elif left != right:
            return False
    return True


class BadMessage(Exception):
    """The client sent an invalid message, which closes its socket without a crash report."""


def reply_frame(
    serializer: Serializer, join_ref: Any, ref: Any, topic: Any, status: str, payload: Any
) -> Frame:
    """The reply to a client's message.

    Raises BadMessage if refs or topic, which are the client's, cannot be written; and what the serializer raises if it is the
    payload, which is ours.
    """
    try:
        return serializer.encode_reply(join_ref, ref, topic, status, payload)
    except (ValueError, RecursionError):
        try:
            serializer.encode_reply(join_ref, ref, topic, status, b"" if type(payload) is bytes else {})
        except (ValueError, RecursionError) as error:
            raise BadMessage(f"{type(error).__name__}: {error}"[:200]) from None
        raise


class _Closed:
    """The transport of a closed socket, to which channels may push until their monitor fires."""

    __slots__ = ()

    def push(self, frame: Frame) -> None:
        """Drops the frame."""


_CLOSED: Final[Any] = _Closed()


class SocketTransport(GenServer):
    """The process of one client connection. Subclasses define `emit`, `send` and `stop`."""

    __slots__ = ("_expiry", "channels", "rate", "socket")

    name: ClassVar[str]

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.channels: dict[str, ChannelEntry] = {}
        self.rate = (0, 0)  # (current second, messages in it)
        self._expiry: Timer | None = None  # of the socket's lifetime

    def too_fast(self, limit: int | None, more: int = 1) -> bool:
        """Counts `more` messages of the client. True if there are more than `limit` in this second (None: no bound)."""
        if limit is None:
            return False
        second = int(self.now())
        count = self.rate[1] + more if self.rate[0] == second else more
        self.rate = (second, count)
        if count <= limit:
            return False
        telemetry.execute(
            ("socket", "rate_limited"),
            {"limit": limit},
            {"id": self.socket.socket_id, "transport": self.name},
        )
        return True

    # ---- for subclasses

    def emit(self, frame: Frame) -> None:
        """Sends a frame to the client at once. For this process only."""
        raise RuntimeError("a transport must say how to emit")

    def push(self, frame: Frame) -> None:
        """Sends a frame after those of pending broadcasts and the messages in its mailbox. For any process."""
        if pending:
            flush(self)
        self.send(frame)

    def send(self, frame: Frame) -> None:
        """Sends a frame after the messages in its mailbox."""
        raise RuntimeError("a transport must say how to send")

    def stop(self, code: int, reason: Any) -> Any:
        """Ends the connection with a WebSocket close code, and the process with `reason`."""
        raise RuntimeError("a transport must say how to stop")

    def release(self) -> None:
        """The process has ended: breaks the reference cycle of socket and transport."""
        self.socket.transport = _CLOSED
        self.channels.clear()

    # ---- Phoenix.Socket.__init__/1

    def enter(self) -> None:
        """The client was accepted: subscribes to "disconnect", and lets channels push to this process."""
        socket, cell = self.socket, self._myRef
        socket.transport = self
        socket.transport_pid = cell
        if socket.socket_id is not None:
            socket.endpoint.pubsub.subscribe(socket.socket_id, cell)
        if socket.lifetime is not None:
            seconds = max(0.0, socket.lifetime / 1000)
            self._expiry = cell.execution.engine.call_later(seconds, cell.deliver, _EXPIRED)

    def _cancel_timers(self) -> None:
        super()._cancel_timers()
        if self._expiry is not None:
            self._expiry.cancel()

    # ---- Phoenix.Socket.__in__/2

    def receive(self, data: bytes, opcode: int) -> Coroutine[Any, Any, None] | None:
        """Handles a message of the client. Returns a coroutine for a join, which blocks the whole socket.

        Raises BadMessage, here or in the coroutine, for one that cannot be read or answered.
        """
        socket = self.socket
        try:
            message = socket.serializer.decode(data, opcode)
        except Exception as error:
            raise BadMessage(f"{type(error).__name__}: {error}"[:200]) from None
        topic, event = message.topic, message.event
        if topic == "phoenix" and event == "heartbeat":
            self._reply(None, message.ref, topic, "ok", {})
            return None
        entry = self.channels.get(topic) if type(topic) is str else None
        if entry is None:
            if event == "phx_join":
                return self._join(message)
            if event == "phx_leave":
                self._reply(message.join_ref, message.ref, topic, "ok", {})
            else:
                self._reply(None, message.ref, topic, "error", UNMATCHED)
            return None
        if event == "phx_join":
            return self._join_again(entry, message)
        if entry.join_ref is not None and not same_ref(entry.join_ref, message.join_ref):
            return None  # stale: the client was told that the channel is closed
        entry.pid.cell.deliver(message)
        return None

    def _reply(self, join_ref: Any, ref: Any, topic: Any, status: str, payload: Any) -> None:
        self.emit(reply_frame(self.socket.serializer, join_ref, ref, topic, status, payload))

    def _join(self, message: Message) -> Coroutine[Any, Any, None] | None:
        route = self.socket.route(message.topic)
        if route is None:
            try:  # Phoenix interpolates it into a log line, which ends the socket for a map
                to_string(message.topic)
            except ValueError as error:
                raise BadMessage(f"topic: {error}") from None
            self._reply(None, message.ref, message.topic, "error", UNMATCHED)
            return None
        if len(self.channels) >= self.socket.max_channels:
            self._reply(message.join_ref, message.ref, message.topic, "error", TOO_MANY)
            return None
        return self._start_channel(route, message)

    async def _start_channel(self, route: ChannelRoute, message: Message) -> None:
        socket = self.socket
        timed = telemetry.attached(JOINED)
        began = self.now() if timed else 0.0
        pid = None
        status, payload = "error", CRASHED
        try:
            pid = await dynamic_supervisor.start_child(
                socket.endpoint.channels, route.child, socket, message.topic, message.join_ref, message.ref
            )
            if pid is not None:
                outcome = await gen_server.call(pid, Join(message.payload), socket.join_timeout)
                if isinstance(outcome, Accept):
                    status, payload = "ok", outcome.reply
                else:
                    payload = {} if outcome.reason is None else outcome.reason
        except StartError:
            pass
        except Exit as exc:
            if pid is not None and exc.reason[0] == "timeout":
                erlang.exit(pid, "kill")
                payload = {"reason": "join timed out"}
        if status == "ok":
            assert pid is not None
            self.channels[message.topic] = ChannelEntry(
                pid, erlang.monitor(pid), message.topic, message.join_ref
            )
        self._reply(message.join_ref, message.ref, message.topic, status, payload)
        if timed:
            telemetry.execute(
                JOINED,
                {"duration": self.now() - began},
                {
                    "topic": message.topic,
                    "pattern": route.pattern,
                    "result": status,
                    "transport": self.name,
                },
            )

    async def _join_again(self, entry: ChannelEntry, message: Message) -> None:
        """A second join of a topic replaces the channel, whose phx_close follows the reply to the new join."""
        pid = entry.pid
        erlang.exit(pid, DUPLICATE_JOIN)
        if (
            erlang.is_process_alive(pid)
            and await erlang.await_down(pid, _DUPLICATE_TIMEOUT) is erlang.TIMEOUT
        ):
            erlang.exit(pid, "kill")
        self._forget(entry)
        self.push(self._close_frame(entry, "phx_close"))
        coroutine = self._join(message)
        if coroutine is not None:
            await coroutine

    # ---- Phoenix.Socket.__info__/2

    def info(self, message: Any) -> Any:
        """Handles messages common to all transports. Result as of `handle_info`."""
        kind: type[Any] = type(message)
        if kind is Frame:
            self.emit(message)
        elif kind is SocketClose:
            self._channel_ended(self._entry_of(message.pid), "phx_close")
        elif kind is Down:
            for entry in self.channels.values():
                if entry.monitor is message.ref:
                    self._channel_ended(entry, "phx_error")
                    break
        elif kind is Broadcast:
            if message.event == "disconnect" and self.socket.disconnects(message.payload):
                return self.stop(1001, ("shutdown", "disconnected"))
        elif kind is SocketDrain:
            return self.stop(1012, ("shutdown", "restart"))
        return None

    def _entry_of(self, pid: Pid) -> ChannelEntry | None:
        for entry in self.channels.values():
            if entry.pid is pid:
                return entry
        return None

    def _channel_ended(self, entry: ChannelEntry | None, event: str) -> None:
        if entry is not None:
            self._forget(entry)
            self.emit(self._close_frame(entry, event))

    def _forget(self, entry: ChannelEntry) -> None:
        erlang.demonitor(entry.monitor, flush=True)
        del self.channels[entry.topic]

    def _close_frame(self, entry: ChannelEntry, event: str) -> Frame:
        return self.socket.serializer.encode_message(entry.join_ref, entry.join_ref, entry.topic, event, {})

    # ---- sys

    def _get_state(self) -> Any:
        socket = self.socket
        return {
            "transport": self.name,
            "id": socket.socket_id,
            "assigns": socket.assigns,
            "channels": {topic: entry.pid for topic, entry in self.channels.items()},
        }
