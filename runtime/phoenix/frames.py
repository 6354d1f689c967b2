"""WebSocket framing of a server (RFC 6455, 7692): bytes in, messages out, with Bandit's checks and close codes.

Sans-IO. `FrameParser.feed` yields complete messages and control frames, and raises `ProtocolError` when the connection has to be
closed.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Generator, Iterator
from typing import Any, Final

from websockets.speedups import apply_mask  # type: ignore[import-untyped]

from runtime.core.turns import HEAVY
from runtime.phoenix.deflate import Deflate
from runtime.phoenix.messages import BINARY, TEXT

CONTINUATION: Final = 0
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
PAUSE: Final = 16  # not an opcode: a heavy step follows, before which other work should run

INFLATE_STEP: Final = 64 * 1024  # bytes inflated, or consumed of one message, between two pauses
FRAMES: Final = 128  # between two pauses: 64 KiB may hold ten thousand
# Bytes of a message to which the ratio does not apply: with context takeover a repeated message takes a few bytes.
FREE_OF_RATIO: Final = 16 * 1024
LONGEST_HEADER: Final = 14
# Bytes of a header with its mask, where the size has 16 or 64 bits of its own.
_HEADERS: Final = {126: 8, 127: LONGEST_HEADER}
SMALL_FRAGMENT: Final = 1024  # bytes; smaller fragments are counted as messages

_PACKED: Final = 0x40  # RSV1
_TAIL: Final = b"\x00\x00\xff\xff"

Event = tuple[int, bytes]  # opcode and payload of a whole message or control frame; or PAUSE


class ProtocolError(Exception):
    """The client has violated the protocol: the connection is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class FrameParser:
    """The state between two reads: an incomplete frame, and the fragments of an incomplete message.

    max_frame_size: bytes of a frame with its header (0: bounded by max_message_size only). max_message_size: bytes of a message,
    all fragments together, and of a frame. deflate: the negotiated compression; with context takeover of the client it needs an
    inflater from the first compressed message on. max_inflated: bytes of a compressed message after inflation.
    max_inflate_ratio: how many times larger than on the wire a compressed message of more than `free_of_ratio` bytes may be
    (None: no bound).

    A few KB may inflate to the largest message allowed, so messages are inflated in steps: `feed` yields PAUSE after each
    INFLATE_STEP bytes inflated (in one or several messages) or consumed, after each FRAMES frames, and before a message of
    HEAVY bytes or more.
    """

    __slots__ = (
        "_buffer", "_fragments", "_inflater", "_opcode", "_packed", "_step_left", "completed", "count", "deflate",
        "free_of_ratio", "max_frame_size", "max_inflate_ratio", "max_inflated", "max_message_size", "small_fragments",
    )  # fmt: skip

    def __init__(
        self,
        max_frame_size: int,
        max_message_size: int,
        deflate: Deflate | None = None,
        max_inflated: int | None = None,
        max_inflate_ratio: int | None = None,
        free_of_ratio: int = FREE_OF_RATIO,
    ) -> None:
        self.max_frame_size = min(max_frame_size or sys.maxsize, max_message_size + LONGEST_HEADER)
        self.max_message_size = max_message_size
        self.max_inflated = max_message_size if max_inflated is None else min(max_inflated, max_message_size)
        self.max_inflate_ratio = max_inflate_ratio
        self.free_of_ratio = free_of_ratio
        self.deflate = deflate
        self.count = 0  # of whole frames
        self.completed = 0  # of those, how many left no message open: what has `begun` is named by it
        self.small_fragments = 0  # that ended no message; who bounds the rate counts them, and sets it to 0
        self._buffer: bytearray | None = None
        self._fragments: bytearray | None = None
        self._opcode = 0
        self._packed = False
        self._inflater: Any = None
        self._step_left = INFLATE_STEP

    @property
    def begun(self) -> bool:
        """True if a frame has begun, or a message in fragments, that is not whole."""
        return self._buffer is not None or self._fragments is not None

    @property
    def pending(self) -> int:
        """The number of buffered bytes."""
        return len(self._buffer or b"") + len(self._fragments or b"")

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yields what `data` completes, in order. Raises ProtocolError."""
        buffer = self._buffer
        if buffer is not None:
            buffer += data
            view: bytes | bytearray = buffer
        else:
            view = data
        position = 0
        end = len(view)
        try:
            while end - position >= 2:
                first = view[position]
                size = view[position + 1]
                if not size & 0x80:
                    raise ProtocolError(1002, "received an unmasked frame")
                size &= 0x7F
                header = _HEADERS.get(size, 6)
                if end - position < header:
                    break
                if header > 6:
                    size = int.from_bytes(view[position + 2 : position + header - 4], "big")
                if header + size > self.max_frame_size:
                    raise ProtocolError(1009, "frame is too large")
                start = position + header
                if end - start < size:
                    break
                position = start + size
                self.count += 1
                payload: bytes = apply_mask(bytes(view[start:position]), bytes(view[start - 4 : start]))
                if size >= HEAVY and buffer is not None:  # it may wait for its turn: then not twice
                    del buffer[:position]
                    end -= position
                    position = 0
                event = self._frame(first, payload)
                self.completed += self._fragments is None
                if event is not None:
                    if event[0] & _PACKED or len(event[1]) >= HEAVY:
                        yield from self._in_steps(*event)
                    else:
                        yield event
                if self.count % FRAMES == 0:
                    yield PAUSE, b""
        except ProtocolError:
            position = end  # nothing of this connection is read any more
            self._fragments = None
            raise
        finally:
            if position < end:
                if buffer is None:
                    self._buffer = bytearray(view[position:])
                else:
                    del buffer[:position]
            else:
                self._buffer = None

    def _in_steps(self, opcode: int, payload: bytes) -> Iterator[Event]:
        if opcode & _PACKED:
            opcode, payload = yield from self._inflated(opcode ^ _PACKED, payload)
        if len(payload) >= HEAVY:
            yield PAUSE, b""
        yield opcode, payload

    def _frame(self, first: int, payload: bytes) -> Event | None:
        """The message that a frame completes; a compressed one not yet inflated, marked with _PACKED."""
        opcode = first & 0x0F
        if first & 0x30:
            raise ProtocolError(1002, "received unsupported RSV flags")
        if opcode >= CLOSE:
            return self._control(first, opcode, payload)
        if opcode > BINARY:
            raise ProtocolError(1002, f"unknown opcode {opcode}")
        packed = bool(first & _PACKED)
        final = bool(first & 0x80)
        if opcode == CONTINUATION:
            if packed:
                raise ProtocolError(1002, "a continuation frame cannot be compressed")
            fragments = self._fragments
            if fragments is None:
                raise ProtocolError(1002, "received unexpected continuation frame")
            # Allowed by RFC 6455, but not by Bandit 1.12: it could go on forever.
            if not final and not payload:
                raise ProtocolError(1008, "received an empty fragment")
            fragments += payload
            if len(fragments) > self.max_message_size:
                raise ProtocolError(1009, "message is too large")
            if not final:
                self.small_fragments += len(payload) < SMALL_FRAGMENT
                return None
            self._fragments = None
            return self._message(self._opcode, self._packed, bytes(fragments))
        if self._fragments is not None:
            raise ProtocolError(1002, "received a new message inside a fragmented one")
        if not final:
            self._fragments = bytearray(payload)
            self._opcode = opcode
            self._packed = packed
            self.small_fragments += len(payload) < SMALL_FRAGMENT
            return None
        return self._message(opcode, packed, payload)

    def _control(self, first: int, opcode: int, payload: bytes) -> Event:
        if opcode > PONG:
            raise ProtocolError(1002, f"unknown opcode {opcode}")
        if not first & 0x80:
            raise ProtocolError(1002, "a control frame cannot be fragmented")
        if first & _PACKED:
            raise ProtocolError(1002, "a control frame cannot be compressed")
        if len(payload) > 125:
            raise ProtocolError(1002, "a control frame must be at most 125 bytes")
        if opcode == CLOSE:
            if len(payload) == 1:
                raise ProtocolError(1002, "invalid close frame")
            try:
                payload[2:].decode()
            except UnicodeDecodeError:
                raise ProtocolError(1002, "received a close reason that is not UTF-8") from None
        return opcode, payload

    def _message(self, opcode: int, packed: bool, payload: bytes) -> Event:
        if packed:
            if self.deflate is None:  # as in Bandit, not before the message is complete
                raise ProtocolError(1002, "received a compressed frame, but no compression was negotiated")
            return opcode | _PACKED, payload
        if len(payload) > self.max_message_size:
            raise ProtocolError(1009, "message is too large")
        return (opcode, payload) if payload.isascii() else self._checked(opcode, payload)

    def _checked(self, opcode: int, payload: bytes) -> Event:
        if opcode == TEXT and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise ProtocolError(1007, "received a text frame that is not UTF-8") from None
        return opcode, payload

    def _inflated(self, opcode: int, payload: bytes) -> Generator[Event, None, Event]:
        """Inflates a message in steps, with a pause after each. Raises ProtocolError when it becomes too large."""
        inflater = self._inflater or zlib.decompressobj(-zlib.MAX_WBITS)
        if self.deflate is not None and not self.deflate.client_no_context:
            self._inflater = inflater
        most = self.max_inflated
        if self.max_inflate_ratio is not None:
            most = min(most, max(self.free_of_ratio, self.max_inflate_ratio * len(payload)))
        payload += _TAIL
        message = bytearray()
        # The input is consumed in steps too: blocks may inflate to nothing, and zlib copies the unconsumed rest each time.
        for start in range(0, len(payload), INFLATE_STEP):
            if start:
                yield PAUSE, b""
            rest = payload[start : start + INFLATE_STEP]
            more = True
            while more and not inflater.eof:
                allowed = self._step_left
                try:
                    piece = inflater.decompress(rest, allowed)
                except zlib.error as error:
                    raise ProtocolError(1007, f"received a frame that does not inflate: {error}") from None
                message += piece
                if len(message) > most:
                    raise ProtocolError(1009, "message is too large")
                rest = inflater.unconsumed_tail
                more = len(piece) == allowed  # zlib may hold output back even if it has taken all the input
                # Nothing follows a final block (RFC 7692 7.2.3.5).
                assert more or not rest or inflater.eof
                self._step_left = INFLATE_STEP if more else allowed - len(piece)
                if more:
                    yield PAUSE, b""
        if inflater.eof:
            self._inflater = None  # the next message begins a new stream
        return self._checked(opcode, bytes(message))


def close_frame(code: int) -> bytes:
    """A close frame with an empty reason."""
    return b"\x88\x02" + code.to_bytes(2, "big")


def answer_to_close(payload: bytes) -> int:
    """The code of the response to a client's close frame: 1000, or 1002 if the client's code is invalid."""
    if len(payload) < 2:
        return 1000
    code = int.from_bytes(payload[:2], "big")
    if code < 1000 or 1004 <= code <= 1006 or 1012 <= code <= 2999:
        return 1002
    return 1000
