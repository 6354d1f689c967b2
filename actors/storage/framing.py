"""Validation of the bytes from the database's address: only well-framed PostgreSQL messages reach the driver.

asyncpg trusts the framing: a message of type 0 makes it loop for ever, and blocks the whole server. Something other than
PostgreSQL may answer at that address (a proxy, an HTTP server, a broken machine), so a connection with invalid framing is
aborted, which asyncpg and its users handle.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

# PostgreSQL's manual, 55.7: what a server sends.
TYPES: Final = frozenset(b"123ACDEGHIKNRSTVWZcdnstv")
LONGEST: Final = 1 << 30  # bytes; PostgreSQL sends no longer message
HEAD: Final = 5  # bytes: the type, and a length that includes itself but not the type
_unpack = struct.Struct("!Bi").unpack_from


class Frames:
    """The framing of one direction, sans-IO: checks that the bytes are messages."""

    __slots__ = ("_begun", "_left")

    def __init__(self) -> None:
        self._left = 0  # bytes until the next message
        self._begun = b""  # the part of its head that has arrived

    def accept(self, data: bytes) -> bool:
        """Whether these bytes are well-framed; must not be called again after False."""
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
    """Passes bytes on to `protocol` while they are well-framed, and aborts the connection once they are not."""

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
    """`transport`, for a driver that replaces its protocol after a TLS request: the new one becomes `Framed`, too."""

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
    """An event loop for a driver: it delegates to `loop`, and the connections that it creates are `Framed`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.create_future = loop.create_future  # type: ignore[method-assign] - a driver calls these for each statement
        self.call_later = loop.call_later  # type: ignore[method-assign]

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

    def create_task(self, coro: Any, **how: Any) -> Any:
        return self._loop.create_task(coro, **how)

    def call_soon(self, callback: Any, *args: Any, **how: Any) -> Any:
        return self._loop.call_soon(callback, *args, **how)

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
    """The connection with the driver's own protocol, whose methods the driver calls."""
    transport, framed = opened
    return FramedTransport(transport), framed.protocol
