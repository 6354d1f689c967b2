"""The process of one WebSocket: frames in, frames out, limits (`Phoenix.Transports.WebSocket` on Bandit's WebSock).

It handles `bytes` received and `PeerClosed` from its IO, `Frame`s to send and `CloseConnection` from others, and the messages of
`SocketTransport`. A join blocks it and messages wait meanwhile, so that frames are sent in the same order as by Phoenix. If it
crashes, the connection is closed with 1011 and its channels end.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from runtime.core import telemetry, turns
from runtime.core.exits import Reported, reason_of
from runtime.core.modes import IDLE
from runtime.otp.callback import own
from runtime.phoenix.deflate import Deflate
from runtime.phoenix.fanout import flush, pending
from runtime.phoenix.frames import (
    CLOSE,
    PAUSE,
    PING,
    PONG,
    Event,
    FrameParser,
    ProtocolError,
    answer_to_close,
    close_frame,
)
from runtime.phoenix.messages import BINARY, Frame, server_frame
from runtime.phoenix.mount import WebSocketOptions
from runtime.phoenix.socket import BadMessage, Socket, SocketTransport

_log = logging.getLogger("runtime.phoenix")

READ_AHEAD: Final = 64 * 1024  # unhandled bytes in the mailbox before reading is paused


class IO(Protocol):
    """The network side of a connection."""

    def write(self, data: bytes) -> None:
        """Sends bytes; never blocks."""
        ...

    def buffered(self) -> int:
        """Bytes that the peer has not taken yet."""
        ...

    def pause_reading(self) -> None:
        """Stops receiving until `resume_reading`."""
        ...

    def resume_reading(self) -> None:
        """See `pause_reading`."""
        ...

    def close(self) -> None:
        """Closes the connection after the peer has received what was written."""
        ...


class Keeper(Protocol):
    """The owner of a connection, which watches its timeouts."""

    def frame_begun(self, connection: WebSocketConnection) -> None:
        """A frame or message has come in part, the first or another one."""
        ...


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The TCP connection is closed."""


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close with a WebSocket code and end with a reason."""

    code: int
    reason: Any


@dataclass(frozen=True, slots=True)
class SlowReader:
    """The client has not read its buffer, which is full."""


def _discard(data: bytes) -> None:
    """Replaces `write` once the connection is lost, when that would raise."""


class WebSocketConnection(SocketTransport):
    """The connection of one client.

    `last_seen` is when data was last received, or handled if that took a join, in seconds of the engine's clock. `keeper` is its
    owner, `slot` its slot in the owner's timing wheel.
    """

    __slots__ = (
        "closing",
        "io",
        "keeper",
        "last_seen",
        "options",
        "overflowed",
        "parser",
        "queued",
        "reading_paused",
        "slot",
        "unread",
        "window_bits",
        "write",
        "writing_paused",
    )  # fmt: skip

    name = "websocket"

    def __init__(
        self, socket: Socket, io: IO, options: WebSocketOptions, deflate: Deflate | None = None
    ) -> None:
        """`deflate` is the negotiated compression, None without one."""
        super().__init__(socket)
        self.io = io
        self.write = io.write  # bound once: a broadcast calls it for every socket
        self.options = options
        self.window_bits = 0 if deflate is None else deflate.window_bits
        self.parser = FrameParser(
            options.max_frame_size,
            options.max_message_size,
            deflate,
            options.max_inflated,
            options.max_inflate_ratio,
            options.free_of_ratio,
        )
        self.last_seen = 0.0
        self.keeper: Keeper | None = None
        self.slot = 0.0
        self.queued = 0  # bytes of frames in the mailbox
        self.unread = 0  # bytes from the client in the mailbox
        self.writing_paused = False
        self.reading_paused = False
        self.overflowed = False
        self.closing = False

    def _begin(self) -> None:
        """The client was accepted. Nobody waits for this start, so there is nothing to acknowledge."""
        self.last_seen = self.now()
        self.enter()

    # ---- the IO side

    def data_received(self, data: bytes) -> None:
        """Bytes have been received."""
        cell = self._myRef
        self.last_seen = cell.execution.engine.now()
        self.unread += len(data)
        if self.unread > READ_AHEAD:
            self._pause_reading()
        cell.deliver(data)

    def _pause_reading(self) -> None:
        if not self.reading_paused:
            self.reading_paused = True
            self.io.pause_reading()

    def peer_closed(self) -> None:
        """The connection is lost. Data received before is still handled; replies are dropped."""
        self.write = _discard
        self._myRef.deliver(PeerClosed())

    # ---- out

    def send(self, frame: Frame) -> None:
        cell = self._myRef
        if cell.execution.mode == IDLE and not cell.execution.mailbox:
            if self.window_bits:
                self._write(frame.deflated(self.window_bits))
            elif self.writing_paused or self.closing or self.overflowed:
                self._write(frame.wire())
            else:
                self.write(frame.wire())
        elif self.queued + len(frame.payload) <= self.options.max_buffer:
            self.queued += len(frame.payload)
            cell.deliver(frame)
        else:
            self._overflow()

    def emit(self, frame: Frame) -> None:
        if pending:
            flush(self)
        self._write(frame.deflated(self.window_bits) if self.window_bits else frame.wire())

    def _write(self, data: bytes) -> None:
        if self.closing or self.overflowed:
            return
        if self.writing_paused and self.io.buffered() + len(data) > self.options.max_buffer:
            self._overflow()
            return
        self.write(data)

    def _overflow(self) -> None:
        # By a message, since this may run in the middle of a broadcast.
        if not self.overflowed:
            self.overflowed = True
            self._myRef.deliver(SlowReader())

    # ---- in

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        kind: type[Any] = type(message)
        try:
            if kind is bytes:
                return self._data(message)
            if kind is Frame:
                self.queued -= len(message.payload)
                self.emit(message)
                return None
            if kind is CloseConnection:
                return self.stop(message.code, message.reason)
            if kind is PeerClosed:
                return self._finish(("shutdown", "peer_closed"))
            if kind is SlowReader:
                return self._slow_reader()
        except BaseException as exc:
            return self._fail(own(exc))
        return super()._handle(message)

    def handle_info(self, message: Any) -> Any:
        try:
            return self.info(message)
        except Exception as exc:
            return self._fail(exc)

    def _data(self, data: bytes) -> Coroutine[Any, Any, Any] | None:
        self.unread -= len(data)
        events = self.parser.feed(data)
        for opcode, payload in events:
            waiting = self._event(opcode, payload)
            if waiting is not None:
                return self._blocked(waiting, events)
            if self.closing:
                return None
        self._read_on()
        return None

    async def _blocked(self, waiting: Coroutine[Any, Any, None], events: Iterator[Event]) -> None:
        """Awaits a join or a pause, then handles the rest of the same read, before any message."""
        try:
            await waiting
            for opcode, payload in events:
                following = self._event(opcode, payload)
                if following is not None:
                    await following
                if self.closing:
                    return
            self.last_seen = self.now()  # the client may have waited for this
            self._read_on()
        except Exception as exc:
            self._fail(exc)

    def _read_on(self) -> None:
        parser = self.parser
        if parser.begun and self.keeper is not None:
            self.keeper.frame_begun(self)
        fragments = parser.small_fragments
        if fragments:
            parser.small_fragments = 0
            if self.too_fast(self.options.max_messages_per_second, fragments):
                self._stop_too_fast()
        if self.reading_paused and self.unread <= READ_AHEAD and not self.closing:
            self.reading_paused = False
            self.io.resume_reading()

    def _event(self, opcode: int, payload: bytes) -> Coroutine[Any, Any, None] | None:
        if opcode == PAUSE:
            self._pause_reading()  # while it waits for its turn no more input is needed
            return turns.take()
        if opcode == CLOSE:
            self.stop(answer_to_close(payload), ("shutdown", "local_closed"))
        elif self.too_fast(self.options.max_messages_per_second):
            self._stop_too_fast()
        elif opcode <= BINARY:
            return self.receive(payload, opcode)
        elif opcode == PING:
            self._write(server_frame(0x80 | PONG, payload))
        return None

    def _stop_too_fast(self) -> None:
        self.stop(1008, ("shutdown", "rate_limited"))

    # ---- closing

    def stop(self, code: int, reason: Any) -> None:
        """Sends a close frame and ends, without waiting for the client's close frame."""
        if not self.closing:
            if pending:
                flush(self)
            if not self.overflowed or code == 1013:
                self.write(close_frame(code))
            self._finish(reason)

    def _finish(self, reason: Any) -> None:
        self.closing = True
        self.io.close()
        self._myRef.terminate(reason)

    def _fail(self, exc: BaseException) -> None:
        if isinstance(exc, ProtocolError):
            self._refuse(exc.code, "protocol_error", str(exc))
        elif isinstance(exc, BadMessage):
            self._refuse(1011, "bad_message", str(exc))
        else:
            self.stop(1011, reason_of(exc))

    def _refuse(self, code: int, kind: str, why: str) -> None:
        """Closes after an error of the client, with one log line and no crash report."""
        if not self.closing:
            _log.info("a socket of %s is closed with %d: %s, %s", self.socket.socket_id, code, kind, why)
        self.stop(code, Reported((kind, why)))

    def _slow_reader(self) -> None:
        telemetry.execute(
            ("socket", "slow_reader"),
            {"buffered": self.io.buffered() + self.queued},
            {"id": self.socket.socket_id, "topics": list(self.channels)},
        )
        self.stop(1013, ("shutdown", "slow_reader"))
