"""`Phoenix.Channel`: one process per client and topic.

    class RoomChannel(Channel):
        intercept = ("secret",)

        def join(self, topic, payload, socket):
            return Accept({"welcome": self.assigns["user_id"]})      # or Refuse({"reason": "unauthorized"})

        def handle_in(self, event, payload):
            match event:
                case "echo":
                    return Reply(("ok", payload))
                case "shout":
                    self.broadcast("shout", payload)

The process handles the client's `Message`s (handle_in), `Broadcast`s of intercepted events (handle_out), the `Down` of its
transport, and any other message (handle_info). Callbacks may be `async def`: this channel waits while others run. When it
crashes its client gets phx_error and rejoins; no other client is affected.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from types import CoroutineType
from typing import Any, ClassVar, Final

from runtime.core.exits import Exit, Reported, Throw, is_atom, is_shutdown, reason_of
from runtime.core.pid import Pid, Ref
from runtime.core.signals import Down
from runtime.otp import erlang
from runtime.otp.callback import own
from runtime.otp.gen_server import NO_REPLY, Call, GenServer, NoReply, Reply, Stop, start_actor
from runtime.phoenix.endpoint import Fastlane, broadcast, broadcast_from
from runtime.phoenix.messages import (
    Accept,
    Broadcast,
    Join,
    Message,
    Refuse,
    SocketClose,
    SocketDrain,
)
from runtime.phoenix.socket import BadMessage, Socket, reply_frame

__all__ = [
    "Accept",
    "Channel",
    "NoReply",
    "Refuse",
    "Reply",
    "SocketRef",
    "Stop",
    "broadcast",
    "broadcast_from",
    "reply",
]


@dataclass(frozen=True, slots=True)
class SocketRef:
    """`Phoenix.Channel.socket_ref/1`: what is needed to reply to a message later, from any process."""

    transport: Any
    serializer: Any
    topic: str
    ref: Any
    join_ref: Any


_NONE: Final[Any] = object()

_log = logging.getLogger("runtime.phoenix")


def reply(ref: SocketRef, status: str = "ok", payload: Any = _NONE) -> None:
    """`Phoenix.Channel.reply/2`: replies to the message of a socket ref. Raises what the serializer raises."""
    frame = ref.serializer.encode_reply(
        ref.join_ref, ref.ref, ref.topic, status, {} if payload is _NONE else payload
    )
    ref.transport.push(frame)


class Channel(GenServer):
    """A channel. `self.topic`, `self.assigns`, `self.socket` and `self.join_ref` are set before `join` is called."""

    __slots__ = ("_entered", "_monitor", "assigns", "join_ref", "joined", "ref", "socket", "topic")

    intercept: ClassVar[tuple[str, ...]] = ()
    _intercepts: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._intercepts = frozenset(cls.intercept)

    # ---- callbacks

    def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        """Accepts the client with `Accept()` or `Accept(reply)`, refuses it with `Refuse(reply)`; anything else is a crash."""
        raise NotImplementedError(f"{type(self).__name__} has no join callback")

    def handle_in(self, event: Any, payload: Any) -> Any:
        """Handles a message of the client: None or `NoReply()`, `Reply(reply)`, `Stop(reason)` or `Stop(reason, reply)`.

        As in Phoenix a `reply` is `(status, payload)`, or a status alone for the payload `{}`.
        """
        raise LookupError(f"{type(self).__name__} does not handle {event!r}")

    def handle_out(self, event: str, payload: Any) -> Any:
        """Handles a broadcast of an event in `intercept`, usually by `push`: None, `NoReply()` or `Stop(reason)`."""
        raise LookupError(f"{type(self).__name__} does not handle out {event!r}")

    # ---- for callbacks

    def push(self, event: str, payload: Any = _NONE) -> None:
        """`push/3`: sends an event to this client. Raises RuntimeError inside join, and what the serializer raises."""
        self._assert_joined()
        frame = self.socket.serializer.encode_message(
            self.join_ref, None, self.topic, event, {} if payload is _NONE else payload
        )
        self.socket.transport.push(frame)

    def broadcast(self, event: str, payload: Any = _NONE) -> None:
        """`broadcast!/3`: sends an event to all clients that have joined this topic."""
        self._assert_joined()
        broadcast(self.socket.endpoint.pubsub, self.topic, event, {} if payload is _NONE else payload)

    def broadcast_from(self, event: str, payload: Any = _NONE) -> None:
        """`broadcast_from!/3`: as `broadcast`, but not to this client."""
        self._assert_joined()
        pubsub = self.socket.endpoint.pubsub
        broadcast_from(pubsub, self.pid, self.topic, event, {} if payload is _NONE else payload)

    def subscribe(self) -> None:
        """Subscribes the client to the topic's broadcasts, after a join that returned `Accept(subscribe=False)`."""
        self._assert_joined()
        self._subscribe()

    def _subscribe(self) -> None:
        socket = self.socket
        lane = Fastlane(socket.transport, socket.serializer, self._intercepts)
        socket.endpoint.pubsub.subscribe(self.topic, self._myRef, lane)

    def socket_ref(self) -> SocketRef:
        """`socket_ref/1`: a ref for `reply`. Raises ValueError outside of handle_in and for a message without a ref."""
        if not self.joined or self.ref is None:
            raise ValueError("socket refs can only be made for a message with a push ref, in handle_in")
        return SocketRef(self.socket.transport, self.socket.serializer, self.topic, self.ref, self.join_ref)

    @property
    def label(self) -> str:
        """The name that observers show: the topic."""
        return self.topic

    def _assert_joined(self) -> None:
        if not self.joined:
            raise RuntimeError("can only push or broadcast after the socket has finished joining")

    # ---- starting

    @classmethod
    def start_channel(
        cls, options: Mapping[str, Any], socket: Socket, topic: str, join_ref: Any, ref: Any
    ) -> Awaitable[Pid | None]:
        """The start function in a channel's child spec. The join itself follows as a call by the transport."""
        channel = cls()
        channel.socket = socket
        channel.topic = topic
        channel.join_ref = ref if join_ref is None or join_ref is False else join_ref
        channel.ref = None
        channel.joined = False
        channel._entered = False
        assigns = options.get("assigns")
        channel.assigns = {**socket.assigns, **assigns} if assigns else dict(socket.assigns)
        return start_actor(channel, (), link=True)

    def init(self, *args: Any) -> Any:
        """Monitors the transport, with which the channel ends."""
        self._monitor: Ref = erlang.monitor(self.socket.transport_pid)

    # ---- Phoenix.Channel.Server: its own messages; others are handled by GenServer

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        kind: type[Any] = type(message)
        rare = self._myRef.relations.rare
        if rare is not None and kind in (Message, Broadcast) and not self._message_taken(rare, message):
            return None
        # Nearly all messages are of a client or an intercepted broadcast: these take the shortest path.
        try:
            if kind is Message:  # `handle_info(%Message{}, socket)`
                self.ref = message.ref
                if message.event == "phx_leave":
                    return self._after_in(Stop(("shutdown", "left"), "ok"))
                result = self.handle_in(message.event, message.payload)
                if type(result) is CoroutineType:
                    return self._await_callback(result, self._after_in)
                return self._after_in(result)
            if kind is Broadcast:  # `handle_info(%Broadcast{}, socket)`
                if message.event == "phx_drain":
                    return self._drain()
                if message.topic == self.topic:
                    result = self.handle_out(message.event, message.payload)
                else:
                    result = self.handle_info(message)
                if result is None:
                    return None
                return (
                    self._await_callback(result, self._after_info)
                    if type(result) is CoroutineType
                    else self._after_info(result)
                )
            if kind is Down and message.ref is self._monitor:
                return self._on_transport_down(message)
            if kind is Call and type(message.request) is Join:
                return self._on_join(message)
        except BaseException as error:
            return self._raised(own(error))
        return super()._handle(message)

    def _drain(self) -> Coroutine[Any, Any, Any] | None:
        """`handle_info(:phx_drain, socket)`."""
        self.socket.transport_pid.cell.deliver(SocketDrain())
        return self._stop(("shutdown", "draining"))

    def _on_transport_down(self, message: Down) -> Coroutine[Any, Any, Any] | None:
        """`handle_info({:DOWN, ref, _, _, reason}, socket)` of the transport's monitor."""
        reason = message.reason
        return self._stop(("shutdown", "closed") if is_atom(reason, "normal") else reason)

    def _on_join(self, call: Call) -> Coroutine[Any, Any, Any] | None:
        """`handle_call` of the transport, which waits for the outcome of the join."""
        result = self.join(self.topic, call.request.payload, self.socket)
        if type(result) is CoroutineType:
            return self._await_callback(result, partial(self._after_join, call))
        return self._after_join(call, result)

    async def _await_callback(self, callback: Any, after: Callable[[Any], Any]) -> None:
        try:
            follow = after(await callback)
        except BaseException as error:
            follow = self._raised(own(error))
        if follow is not None:
            await follow

    def _raised(self, exc: BaseException) -> Coroutine[Any, Any, Any] | None:
        if not self._entered:  # in Phoenix the channel does not exist yet and cannot terminate
            raise exc
        return self._stop(("bad_return_value", exc.value) if isinstance(exc, Throw) else reason_of(exc))

    def _after_join(self, call: Call, result: Any) -> Coroutine[Any, Any, Any] | None:
        match result:
            case Accept():
                self.joined = self._entered = True
                if result.subscribe:
                    self._subscribe()
                call.answer(result)
                return None
            case Refuse():
                self._entered = True
                call.answer(result)
                return self._stop("shutdown")
            case _:
                raise _bad_return(f"{type(self).__name__}.join", "Accept() or Refuse()", result)

    def _after_in(self, result: Any) -> Coroutine[Any, Any, Any] | None:
        kind: type[Any] = type(result)
        if result is None:
            self.ref = None
            return None
        if kind is Reply:
            self._answer(result.value)
            self.ref = None
            return self._options(result)
        if kind is Stop:
            if result.reply is not NO_REPLY:
                self._answer(result.reply)
            return self._close(result.reason)
        if kind is NoReply:
            self.ref = None
            return self._options(result)
        raise _bad_return(f"{type(self).__name__}.handle_in", "None, NoReply(), Reply() or Stop()", result)

    def _answer(self, value: Any) -> None:
        status, payload = value if type(value) is tuple and len(value) == 2 else (value, {})
        if not isinstance(status, str):
            raise TypeError(
                f"a reply must be a status or (status, payload), the status a string, got {value!r}"
            )
        socket = self.socket
        try:
            frame = reply_frame(socket.serializer, self.join_ref, self.ref, self.topic, status, payload)
        except BadMessage as error:
            _log.info("a channel of %s ends: bad_message, %s", socket.socket_id, error)
            raise Exit(Reported(("bad_message", str(error)))) from None
        socket.transport.push(frame)

    def _after_info(self, result: Any) -> Coroutine[Any, Any, Any] | None:
        return None if result is None else self._apply(result, None)

    def _apply(self, result: Any, from_: Call | None) -> Coroutine[Any, Any, Any] | None:
        if type(result) is Stop:
            if from_ is None:
                return self._close(result.reason)
            self._notify_transport(result.reason)
        return super()._apply(result, from_)

    def _close(self, reason: Any) -> Coroutine[Any, Any, Any] | None:
        self._notify_transport(reason)
        return self._stop(reason)

    def _notify_transport(self, reason: Any) -> None:
        """Before a stop by a callback: with an orderly reason the client gets phx_close, with any other phx_error."""
        if is_shutdown(reason):
            self.socket.transport_pid.cell.deliver(SocketClose(self.pid, reason))

    # ---- sys

    def _get_state(self) -> Any:
        return {"topic": self.topic, "join_ref": self.join_ref, "assigns": self.assigns, **vars(self)}

    def _replace_state(self, change: Any) -> Any:
        state = dict(change(self._get_state()))
        self.topic = state.pop("topic")
        self.join_ref = state.pop("join_ref")
        self.assigns = state.pop("assigns")
        vars(self).clear()
        vars(self).update(state)
        return self._get_state()


def _bad_return(where: str, expected: str, got: Any) -> TypeError:
    return TypeError(f"{where} is expected to return {expected}, got {got!r}")
