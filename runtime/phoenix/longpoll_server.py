"""`Phoenix.Transports.LongPoll.Server`: the session process of a longpoll client.

The session handles the calls `Subscribe`, `Dispatch`, `Poll` and `Received` from requests, and the messages of `SocketTransport`.
It ends when no poll has arrived or been answered for 1.5 windows. If it crashes, the POST that caused it is answered with 408,
and the next request opens a new session.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from hashlib import blake2b
from inspect import iscoroutine
from typing import Any, Final

from runtime.core import telemetry, turns
from runtime.core.engine import current_engine
from runtime.core.exits import Reported
from runtime.core.modes import IDLE
from runtime.core.pid import Pid
from runtime.nodes import codec
from runtime.otp import erlang
from runtime.otp.gen_server import Call, NoReply, Reply, Stop
from runtime.phoenix.fanout import flush, pending
from runtime.phoenix.messages import Frame, SocketClose
from runtime.phoenix.mount import LongPollOptions
from runtime.phoenix.socket import BadMessage, Socket, SocketTransport

_CHECK: Final = "shutdown_if_inactive"

_log = logging.getLogger("runtime.phoenix")


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Replied to once the session is not busy."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One message of the client."""

    data: bytes
    opcode: int


@dataclass(frozen=True, slots=True)
class Poll:
    """Asks for the buffered messages; the reply waits until there are some.

    With `confirms` the reply has a number, which the caller confirms by `Received`: between two nodes a reply may be lost, and
    its caller may have given up.
    """

    confirms: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """Confirms a reply to a poll. The reply is False if its messages belong to another poll by now."""

    number: int


for _class in (Subscribe, Dispatch, Poll, Received):
    # The module's name as earlier versions had it: their nodes are in the cluster during an upgrade.
    codec.register(_class, f"runtime.phoenix.longpoll:{_class.__qualname__}")


@dataclass(frozen=True, slots=True)
class _Flush:
    pass


class LongPollSession(SocketTransport):
    """The session of one client.

    Pushed frames wait in `buffer` for the next poll. The first `unconfirmed` of them were sent in a reply that is not confirmed
    yet; without a confirmation the next poll gets them again.
    """

    __slots__ = (
        "answers", "buffer", "confirms", "flushing", "last_poll", "options", "size", "token", "unconfirmed", "waiting",
    )  # fmt: skip

    name = "longpoll"

    def __init__(self, socket: Socket, options: LongPollOptions) -> None:
        super().__init__(socket)
        self.options = options
        self.token = _new_token()
        self.buffer: list[Frame] = []
        self.size = 0
        self.waiting: Call | None = None
        self.confirms = False
        self.answers = 0
        self.unconfirmed = 0
        self.flushing = False
        self.last_poll = 0.0

    def init(self, *args: Any) -> Any:
        """The client was accepted."""
        self.enter()
        self.last_poll = erlang.monotonic_time()
        self.socket.endpoint.sessions[self.token] = self.pid
        if current_engine().node is not None:
            erlang.register(_name(self.token), self.pid)
        self.on_exit(self._forgotten)
        erlang.send_after(self._poll_timeout, self.pid, _CHECK)

    def release(self) -> None:
        """Also drops the buffered frames."""
        super().release()
        self.buffer.clear()
        self.waiting = None

    def _forgotten(self, _pid: Pid) -> None:
        self.socket.endpoint.sessions.pop(self.token, None)

    @property
    def _poll_timeout(self) -> int:
        return self.options.window_ms * 3 // 2

    # ---- out

    def send(self, frame: Frame) -> None:
        cell = self._myRef
        # Behind its own _Flush alone a frame need not queue: it joins the frames to be flushed.
        if cell.execution.mode == IDLE and (
            not cell.execution.mailbox or (self.flushing and len(cell.execution.mailbox) == 1)
        ):
            self._keep(frame)
        else:
            cell.deliver(frame)

    def emit(self, frame: Frame) -> None:
        if pending:
            flush(self)
        self._keep(frame)

    def _keep(self, frame: Frame) -> None:
        self.buffer.append(frame)
        self.size += len(frame.payload)
        if not self.flushing and (self.waiting is not None or self.size > self.options.max_buffer):
            # Further frames pushed in this turn go into the same reply.
            self.flushing = True
            self._myRef.deliver(_Flush())

    def stop(self, code: int, reason: Any) -> Any:
        return Stop(reason)

    # ---- in

    def handle_call(self, request: Any, from_: Call) -> Any:
        match request:
            case Subscribe():
                return Reply()
            case Dispatch() if self.too_fast(self.options.max_messages_per_second):
                return Stop(("shutdown", "rate_limited"))
            case Dispatch(data, opcode) if len(data) >= turns.HEAVY:
                return self._heavy(data, opcode)
            case Dispatch(data, opcode):
                return self._dispatch(data, opcode)
            case Poll(confirms):
                self.last_poll = erlang.monotonic_time()
                self.waiting, self.confirms = from_, confirms
                self.unconfirmed = 0  # unconfirmed frames are sent again, before later ones
                self._flush()
                return NoReply()
            case Received(number):
                return Reply(number == self.answers and self._drop(self.unconfirmed))
            case _:
                return super().handle_call(request, from_)

    async def _heavy(self, data: bytes, opcode: int) -> Any:
        await turns.take()
        outcome = self._dispatch(data, opcode)
        return await outcome if iscoroutine(outcome) else outcome

    def _dispatch(self, data: bytes, opcode: int) -> Any:
        try:
            joining = self.receive(data, opcode)
        except BadMessage as error:
            return self._refused(error)
        return Reply() if joining is None else self._joined(joining)

    async def _joined(self, joining: Awaitable[None]) -> Any:
        try:
            await joining
        except BadMessage as error:
            return self._refused(error)
        return Reply()

    def _refused(self, error: BadMessage) -> Stop:
        _log.info("a longpoll session of %s ends: bad_message, %s", self.socket.socket_id, error)
        return Stop(Reported(("bad_message", str(error))))

    def handle_info(self, message: Any) -> Any:
        if type(message) is _Flush:
            # A reply with a stop: in Phoenix the poll's request asks for the buffer again when both are in it.
            if any(type(waiting) is SocketClose for waiting in self._myRef.execution.mailbox or ()):
                self._myRef.deliver(message)
                return None
            self.flushing = False
            self._flush()
            if self.size > self.options.max_buffer:
                telemetry.execute(
                    ("socket", "slow_reader"),
                    {"buffered": self.size},
                    {"id": self.socket.socket_id, "topics": list(self.channels)},
                )
                return Stop(("shutdown", "slow_reader"))
            return None
        if message == _CHECK:
            if erlang.monotonic_time() - self.last_poll > self._poll_timeout:
                return Stop(("shutdown", "inactive"))
            erlang.send_after(self._poll_timeout, self.pid, _CHECK)
            return None
        return self.info(message)

    def _flush(self) -> None:
        waiting = self.waiting
        if waiting is None or not self.buffer:
            return
        self.waiting = None
        if not waiting.done:
            self.last_poll = erlang.monotonic_time()
            payloads = [frame.payload for frame in self.buffer]
            self.answers += 1
            waiting.answer((self.answers, payloads) if self.confirms else payloads)
            if self.confirms:
                self.unconfirmed = len(payloads)
            else:
                self._drop(len(payloads))

    def _drop(self, count: int) -> bool:
        self.size -= sum(len(frame.payload) for frame in self.buffer[:count])
        del self.buffer[:count]
        self.unconfirmed = 0
        return True


def _new_token() -> str:
    """A random token; with several nodes it includes the name of the session's node."""
    engine = current_engine()
    secret = _urlsafe(engine.unique_bytes(32))
    return secret if engine.node is None else f"{secret}.{_urlsafe(engine.node.name.encode())}"


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _name(token: str) -> str:
    """The registered name of a session; a hash, since operators can see names."""
    return f"longpoll:{blake2b(token.encode(), digest_size=16).hexdigest()}"


def elsewhere(token: str) -> tuple[str, str] | None:
    """The destination of a session on another node, if that is connected."""
    node = current_engine().node
    if node is None:
        return None
    encoded = token.rpartition(".")[2]
    try:
        name = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
    return (_name(token), name) if name in node.nodes() else None
