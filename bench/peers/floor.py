"""The floor: a bare asyncio protocol that does the same socket and SQL work and nothing else. `python -m bench.peers.floor PORT`.

HTTP is found by its blank line, nothing is checked, and what waits is written as one INSERT. A WebSocket gets the text that it
sends back as it is; the text `broadcast` goes to all sockets as the one frame of event.json.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import orjson
import uvloop

EVENT = json.loads((Path(__file__).parent / "event.json").read_text())
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
OK = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"status":"ok"}'
CREATED = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
INSERT = """
    INSERT INTO transactions (id, user_id, amount, currency, description)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]::numeric[], $4::text[], $5::text[])"""
OWNER = UUID(EVENT["payload"]["user_id"])


def frame(payload: bytes) -> bytes:
    """A server's text frame."""
    size = len(payload)
    return (bytes((0x81, size)) if size < 126 else struct.pack("!BBH", 0x81, 126, size)) + payload


BROADCAST = frame(json.dumps([None, None, EVENT["topic"], EVENT["event"], EVENT["payload"]]).encode())


class Writer:
    """Writes the rows that wait as one INSERT, one batch after the other."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Connection, dict[str, str]]] = []
        self.busy = False

    def add(self, connection: Connection, row: dict[str, str]) -> None:
        self.waiting.append((connection, row))
        if not self.busy:
            self.busy = True
            self.task = asyncio.get_running_loop().create_task(self.write())

    async def write(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting, []
            ids = [uuid4() for _ in batch]
            rows = [row for _, row in batch]
            columns = ([row[name] for row in rows] for name in ("amount", "currency", "description"))
            await database.execute(INSERT, ids, [OWNER] * len(ids), *columns)
            for id_, (connection, row) in zip(ids, batch, strict=True):
                answer = orjson.dumps({"id": str(id_), **row})
                connection.transport.write(CREATED % (len(answer), answer))
        self.busy = False


class Connection(asyncio.Protocol):
    """One client: HTTP until it asks for a WebSocket."""

    buffer = b""
    socket = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        sockets.discard(self)

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        self.buffer = self.frames(data) if self.socket else self.requests(data)

    def requests(self, data: bytes) -> bytes:
        """Answers what is whole; the rest comes back."""
        while (end := data.find(b"\r\n\r\n") + 4) > 3:
            if data.startswith(b"GET /health"):
                self.transport.write(OK)
            elif data.startswith(b"GET"):
                key = data[data.index(b"Sec-WebSocket-Key: ") + 19 :].partition(b"\r\n")[0]
                accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
                self.transport.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
                self.socket = True
                sockets.add(self)
                return self.frames(data[end:])
            else:
                at = data.index(b"content-length: ") + 16
                size = int(data[at : data.index(b"\r", at)])
                if len(data) < end + size:
                    return data
                writer.add(self, orjson.loads(data[end : end + size]))
                end += size
            data = data[end:]
        return data

    def frames(self, data: bytes) -> bytes:
        """Answers what is whole, masked with zeros as the bench's clients do; the rest comes back."""
        while len(data) >= 6:
            size, head = data[1] & 127, 6
            if size == 126:
                size, head = int.from_bytes(data[2:4]), 8
            if len(data) < head + size:
                break
            payload, data = data[head : head + size], data[head + size :]
            if payload == b"broadcast":
                for each in sockets:
                    each.transport.write(BROADCAST)
            else:
                self.transport.write(frame(payload))
        return data


sockets: set[Connection] = set()
writer = Writer()
database: asyncpg.Connection


async def main(port: int) -> None:
    """Serves for ever."""
    global database
    if "DATABASE_URL" in os.environ:
        database = await asyncpg.connect(os.environ["DATABASE_URL"])
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
