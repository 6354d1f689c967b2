"""What comes from the database's address, checked to be messages before the driver sees it.

asyncpg trusts the frames: a message whose type is the byte 0 keeps it busy for ever, and the whole server with it. Something else
than PostgreSQL may answer at any time (a proxy, an HTTP server, a broken machine), so a connection whose bytes are no messages
ends, which is what asyncpg and those who use it know how to take.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

# PostgreSQL's manual, 55.7: what a server sends.
TYPES: Final = frozenset(b"123ACDEGHIKNRSTVWZcdnstv")
LONGEST: Final = 1 << 30  # bytes; PostgreSQL makes none that is longer
HEAD: Final = 5  # bytes: the type, and a length that counts itself and not the type
_unpack = struct.Struct("!Bi").unpack_from


class Frames:
    """The frames of one direction, without IO: whether what came so far are messages."""

    __slots__ = ("_begun", "_left")

    def __init__(self) -> None:
        self._left = 0  # bytes to the next message
        self._begun = b""  # of its head, when it came in parts

    def accept(self, data: bytes) -> bool:
        """Whether these bytes go on with messages; nothing may be fed after a False."""
        if self._begun:
            data = self._begun + data
        at, size = self._left, len(data)
        while at + HEAD <= size:
            kind, length = _unpack(data, at)
            if kind not in TYPES or not 4 <= length <= LONGEST:
                return False
            at += 1 + length
        if at < size:
            self._left, self._begun = 0, data[at:]
            return self._begun[0] in TYPES
        self._left, self._begun = at - size, b""
        return True


class Framed(asyncio.Protocol):
    """Passes the bytes on to `protocol` as long as they are messages, then aborts the connection."""

    __slots__ = ("_frames", "_transport", "protocol")

    def __init__(self, protocol: Any, transport: Any = None) -> None:
        self.protocol = protocol
        self._frames = Frames()
        self._transport = transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._frames.accept(data):
            self.protocol.data_received(data)
        else:
            self._transport.abort()

    def eof_received(self) -> bool | None:
        return self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


class FramedTransport(asyncio.Transport):
    """`transport`, for a driver that changes its protocol after a question for TLS: the other one is `Framed`, too."""

    __slots__ = ("transport",)

    def __init__(self, transport: Any) -> None:
        self.transport = transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.transport.set_protocol(Framed(protocol, self.transport))

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.transport.get_protocol().protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def close(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def write(self, data: Any) -> None:
        self.transport.write(data)

    def writelines(self, list_of_data: Any) -> None:
        self.transport.writelines(list_of_data)

    def get_write_buffer_size(self) -> int:
        return self.transport.get_write_buffer_size()

    def is_reading(self) -> bool:
        return self.transport.is_reading()

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()


class FramedLoop(asyncio.AbstractEventLoop):
    """The event loop that a driver is given to connect with: what it needs of `loop`, and its connections are `Framed`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def create_connection(self, protocol_factory: Callable[[], Any], *where: Any, **how: Any) -> Any:  # type: ignore[override]
        return _unframed(await self._loop.create_connection(_framing(protocol_factory), *where, **how))

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], *where: Any, **how: Any
    ) -> Any:
        return _unframed(await self._loop.create_unix_connection(_framing(protocol_factory), *where, **how))

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **how: Any) -> Any:  # type: ignore[override]
        if transport.is_closing():  # uvloop would log a traceback, and leave us waiting for the handshake
            raise ConnectionResetError("the connection has ended before TLS began")
        if isinstance(transport, FramedTransport):
            transport = transport.transport
        begun = await self._loop.start_tls(transport, protocol, sslcontext, **how)
        return None if begun is None else FramedTransport(begun)  # None: it has ended within the handshake

    def create_future(self) -> Any:
        return self._loop.create_future()

    def create_task(self, coro: Any, **how: Any) -> Any:
        return self._loop.create_task(coro, **how)

    def call_soon(self, callback: Any, *args: Any, **how: Any) -> Any:
        return self._loop.call_soon(callback, *args, **how)

    def call_later(self, delay: float, callback: Any, *args: Any, **how: Any) -> Any:
        return self._loop.call_later(delay, callback, *args, **how)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        return self._loop.run_in_executor(executor, func, *args)

    def time(self) -> float:
        return self._loop.time()

    def get_debug(self) -> bool:
        return self._loop.get_debug()

    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._loop.call_exception_handler(context)


def _framing(factory: Callable[[], Any]) -> Callable[[], Framed]:
    return lambda: Framed(factory())


def _unframed(opened: tuple[Any, Framed]) -> tuple[Any, Any]:
    """With the driver's own protocol, which it asks for more than its bytes."""
    transport, framed = opened
    return FramedTransport(transport), framed.protocol
