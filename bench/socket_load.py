"""Clients that cost little: WebSockets on bare asyncio protocols, to load a server with from another process."""

from __future__ import annotations

import asyncio
import resource
import struct

MASK = bytes(4)  # a mask of zeros is a mask, and costs nothing


def raise_file_limit() -> None:
    """As many open files as the system lets us have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def text_frame(payload: bytes) -> bytes:
    """A client's text frame."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
    return head + MASK + payload


class Client(asyncio.Protocol):
    """One WebSocket. Counts the frames that came; `expect` waits for one more."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.frames = 0
        self.last = b""
        self.buffer = b""
        self.open = False
        self.closed = False
        self.waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self.transport = transport
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        transport.write(  # type: ignore[attr-defined]
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        at = 0
        if not self.open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = buffer
                return
            assert buffer.startswith(b"HTTP/1.1 101"), buffer[:200]
            self.open = True
            at = end + 4
            self.wake()
        while len(buffer) - at >= 2:
            size, head = buffer[at + 1], 2
            if size == 126:
                if len(buffer) - at < 4:
                    break
                size, head = int.from_bytes(buffer[at + 2 : at + 4]), 4
            if len(buffer) - at < head + size:
                break
            self.last = buffer[at + head : at + head + size]
            at += head + size
            if self.last == b"2":  # socket.io's ping
                self.send(b"3")
                continue
            self.frames += 1
            self.wake()
        self.buffer = buffer[at:]

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.wake()

    def send(self, payload: bytes) -> None:
        """Sends a text message."""
        assert not self.closed, "the server has closed the connection"
        self.transport.write(text_frame(payload))  # type: ignore[attr-defined]

    def close(self) -> None:
        """Goes, without a word."""
        self.transport.close()  # type: ignore[attr-defined]

    async def expect(self, frames: int, seconds: float = 60) -> None:
        """Waits until so many frames have come in all."""
        async with asyncio.timeout(seconds):
            while (self.frames < frames or not self.open) and not self.closed:
                self.waiter = asyncio.get_running_loop().create_future()
                await self.waiter
        assert not self.closed, "the server has closed the connection"


async def connect(port: int, path: str) -> Client:
    """An open WebSocket."""
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(path), "127.0.0.1", port)
    await client.expect(0)
    return client
