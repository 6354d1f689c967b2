"""The messages between clients, transports and channels (`Phoenix.Socket.Message`, `Broadcast` and others).

A payload is any JSON value, or `bytes` for a binary payload. A `ref` or `join_ref` is usually a string, but any JSON value that
the client sends is echoed unchanged.
"""

from __future__ import annotations

import zlib
from struct import pack
from typing import Any, Final

from msgspec import Struct, field

from runtime.core.pid import Pid
from runtime.otp.gen import CallRequest

TEXT: Final = 1
BINARY: Final = 2


class Message(Struct):
    """`%Phoenix.Socket.Message{}`: a message of a client, from the transport to the channel."""

    topic: Any
    event: Any
    payload: Any
    ref: Any = None
    join_ref: Any = None


class Broadcast(Struct):
    """`%Phoenix.Socket.Broadcast{}`: the message to the subscribers of a topic."""

    topic: str
    event: str
    payload: Any


class Frame(Struct, eq=False):
    """An encoded message. Its wire format is built once and shared by all connections."""

    opcode: int
    payload: bytes
    _wire: bytes | None = None
    _deflated: dict[int, bytes] | None = None

    def __repr__(self) -> str:
        return f"Frame({self.opcode}, {self.payload!r})"

    def wire(self) -> bytes:
        """The bytes of the WebSocket frame, uncompressed."""
        wire = self._wire
        if wire is None:
            wire = self._wire = server_frame(0x80 | self.opcode, self.payload)
        return wire

    def deflated(self, window_bits: int) -> bytes:
        """The bytes of the frame compressed without context takeover, or uncompressed if that is not longer."""
        cache = self._deflated
        if cache is None:
            cache = self._deflated = {}
        wire = cache.get(window_bits)
        if wire is None:
            # Zlib does not support a raw window of 8 bits.
            compressor = zlib.compressobj(wbits=-max(window_bits, 9))
            packed = compressor.compress(self.payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
            if len(packed) - 4 < len(self.payload):
                wire = server_frame(0xC0 | self.opcode, packed[:-4])
            else:
                wire = self.wire()
            cache[window_bits] = wire
        return wire


def server_frame(first: int, payload: bytes) -> bytes:
    """A WebSocket frame, unmasked; `first` is its first byte (FIN, RSV and opcode)."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return pack("!BBH", first, 126, size) + payload
    return pack("!BBQ", first, 127, size) + payload


class SocketClose(Struct, frozen=True):
    """`{:socket_close, pid, reason}`: a channel tells its transport that it stops with an orderly reason."""

    pid: Pid
    reason: Any


class SocketDrain(Struct, frozen=True):
    """`:socket_drain`: a draining channel tells its transport to close with "service restart"."""


class Accept(Struct, frozen=True):
    """`{:ok, reply, socket}` of join, `{:ok, socket}` of connect: accepts the client.

    With `subscribe` False (an extension) a channel gets no broadcasts until it calls `self.subscribe()`, so that it can first
    push what the client has missed.
    """

    reply: Any = field(default_factory=dict)
    subscribe: bool = True


class Refuse(Struct, frozen=True):
    """`{:error, reason}` of join and connect: refuses the client."""

    reason: Any = None


class Join(CallRequest[Accept | Refuse], Struct, frozen=True):
    """The call by which a transport joins its new channel; the reply is `Accept` or `Refuse`."""

    payload: Any
