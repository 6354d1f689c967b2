"""An HTTP client that costs little: one keep-alive connection on a bare asyncio protocol, one request at a time."""

from __future__ import annotations

import asyncio


class Connection(asyncio.Protocol):
    """Sends prepared requests and waits for whole answers."""

    def __init__(self) -> None:
        self.buffer = b""
        self.waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer = self.buffer + data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = buffer.lower().find(b"content-length:", 0, end)
        size = int(buffer[at + 15 : buffer.find(b"\r\n", at)])
        if len(buffer) >= end + 4 + size and self.waiter is not None:
            self.buffer = b""
            self.waiter.set_result(buffer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionResetError("the server has closed the connection"))

    async def request(self, raw: bytes, status: int) -> bytes:
        """The whole answer. Raises AssertionError when it has another status."""
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(raw)  # type: ignore[attr-defined]
        answer = await self.waiter
        assert answer.startswith(b"HTTP/1.1 %d" % status), answer
        return answer


async def connect(port: int) -> Connection:
    """An open connection."""
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port))[1]


def request(method: str, path: str, body: bytes = b"", token: str | None = None) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
