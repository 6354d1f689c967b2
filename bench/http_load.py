"""A minimal HTTP client: one keep-alive connection on a bare asyncio protocol, one request at a time."""

from __future__ import annotations

import asyncio
import re

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


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
        found = LENGTH.search(buffer, 0, end)
        size = int(found[1]) if found else 0
        if len(buffer) >= end + 4 + size and self.waiter is not None and not self.waiter.done():
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
        assert answer.startswith(b"HTTP/1.1 %d" % status), _mismatch(raw, answer)
        return answer

    def close(self) -> None:
        """Ends it."""
        self.transport.close()


def _mismatch(raw: bytes, answer: bytes) -> str:
    target = raw.partition(b" HTTP")[0].partition(b"?")[0].decode()
    return f"{target} was answered {answer[9:12].decode()}"


def body(answer: bytes) -> bytes:
    """The body of an answer."""
    return answer.partition(b"\r\n\r\n")[2]


async def connect(port: int) -> Connection:
    """An open connection."""
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port))[1]


def request(method: str, path: str, body: bytes = b"", token: str | None = None, field: str = "") -> bytes:
    """The bytes of a request; `field` is an additional header field, such as "x-request-id: 17"."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    if field:
        lines.append(field)
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
