"""A server with sockets for tests of the transports over TCP, and clients of a few lines: HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.phoenix import (
    Accept,
    Channel,
    LongPollOptions,
    Mount,
    NoReply,
    Refuse,
    Reply,
    Socket,
    WebSocketOptions,
)
from tests.phoenix.client import client_frame
from tests.phoenix.conformance_app import MOUNTS, ConformanceServer
from tests.support.server import PATIENCE

UPGRADE = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}
CLOSING_UPGRADE = {**UPGRADE, "connection": "Upgrade, close"}


class Room(Channel):
    def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        return Accept({"user": self.assigns["user"]})

    async def handle_in(self, event: Any, payload: Any) -> Any:
        match event:
            case "many":
                for index in range(payload):
                    self.push("tick", {"i": index})
                return NoReply()
            case "fill":
                self.push("filled", {"x": "y" * payload})
                return NoReply()
        return Reply(("ok", payload))


class LaterSocket(Socket):
    """Its connect callback takes its time."""

    channels = {"room:*": Room}

    async def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        await asyncio.sleep(float(params.get("delay", "0.01")))
        if params.get("user") == "nobody":
            return Refuse("nobody")
        if params.get("user") == "crash":
            raise RuntimeError("crash")
        if params.get("user") == "none":
            return None
        self.assigns["user"] = params.get("user")
        return Accept()


def later(window_ms: int = 60_000) -> tuple[Mount, ...]:
    """Its mount. A LongPoll session ends if it is not polled for `window_ms`, also when this process stands still for so long."""
    longpoll = LongPollOptions(
        check_origin=False,
        window_ms=window_ms,
        connect_timeout=2000,
        max_buffer=50_000,
        max_messages_per_second=40,
    )
    websocket = WebSocketOptions(check_origin=False, connect_timeout=2000, max_buffer=100_000)
    return (Mount("/later", LaterSocket, websocket, longpoll),)


LATER = later()


def serve(
    body: Callable[[ConformanceServer, int], Awaitable[Any]], mounts: Any = MOUNTS, behind_proxy: bool = False
) -> Any:
    async def main() -> Any:
        engine = AsyncioEngine().start()
        server = ConformanceServer(mounts, behind_proxy)
        try:
            return await body(server, await server.start())
        finally:
            await server.stop()
            await engine.stop()

    return uvloop.run(main())


async def http(
    port: int, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Any:
    """(status, headers, body) of one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = {"host": "localhost", "connection": "close", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), rest


class Wire:
    """A WebSocket client of a few lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, path: str, **more: str) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        fields = {"host": "localhost", **UPGRADE, **more}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        status = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert status.startswith(b"HTTP/1.1 101"), status
        return cls(reader, writer)

    def send(self, message: Any) -> None:
        self.writer.write(client_frame(1, json.dumps(message).encode()))

    async def receive(self) -> Any:
        first, size = await asyncio.wait_for(self.reader.readexactly(2), PATIENCE)
        if size in (126, 127):
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        payload = await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)
        return ("close", int.from_bytes(payload[:2], "big")) if first & 15 == 8 else json.loads(payload)

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), PATIENCE) == b""
