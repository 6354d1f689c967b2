"""What a flood is made of: clients that send one thing again and again, for as long as the server takes it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.http_load import connect, request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PIECE = 64_000  # bytes sent between two looks at the clock


@dataclass(frozen=True, slots=True)
class Target:
    """The server, and who the clients are where a token is asked for."""

    port: int
    token: str
    user_id: str

    def fill(self, text: bytes) -> bytes:
        """`text` with this user's token and id where it says TOKEN and USER."""
        return text.replace(b"TOKEN", self.token.encode()).replace(b"USER", self.user_id.encode())


Flood = Callable[[Target, float], Awaitable[None]]  # one client, until then (monotonic seconds)


def request_of(
    method: str, path: str, body: bytes = b"", fields: tuple[str, ...] = (), host: str = "x"
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *fields]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


SIGNED = ("authorization: Bearer TOKEN",)
HANDSHAKE = request_of(
    "GET",
    "/socket/websocket?vsn=2.0.0&token=TOKEN",
    fields=(
        "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", f"sec-websocket-key: {KEY}",
    ),
)  # fmt: skip


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """A client's frame, masked by zeros."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    return head + bytes(4) + payload


def sending(rest: bytes, first: bytes = b"", reads: bool = True) -> Flood:
    """On one connection after the other: `first` once, then `rest` again and again; answers are dropped, or not read."""

    async def client(target: Target, until: float) -> None:
        begin, again = target.fill(first), target.fill(rest)
        again *= max(1, PIECE // len(again))
        while time.monotonic() < until:
            with contextlib.suppress(OSError, TimeoutError):
                await _one_connection(target.port, begin, again, until, reads)

    return client


async def _one_connection(port: int, first: bytes, rest: bytes, until: float, reads: bool) -> None:
    async with asyncio.timeout(max(0.01, until - time.monotonic())):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        dropping = asyncio.ensure_future(_drop(reader, writer)) if reads else None
        if not reads:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            writer.write(first)
            while not writer.is_closing():
                writer.write(rest)
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            if dropping is not None:
                dropping.cancel()
            writer.transport.abort()


async def _drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(1 << 18):
            pass
    writer.transport.abort()  # the next connection begins


def once_each(*requests: bytes) -> Flood:
    """A connection for each of the requests, in turn: who is refused comes back at once."""

    async def client(target: Target, until: float) -> None:
        for raw in itertools.cycle([target.fill(each) for each in requests]):
            if time.monotonic() > until:
                return
            await _once(target, raw, b"\r\n", until)

    return client


async def _once(target: Target, raw: bytes, end: bytes, until: float) -> None:
    """A connection that sends this, reads up to `end` and is gone."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(max(0.01, until - time.monotonic())):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            try:
                writer.write(raw)
                await reader.readuntil(end)
            finally:
                writer.transport.abort()


def socket(*messages: bytes, joined: bool = False) -> Flood:
    """Text messages without end on a socket that has signed in, and has joined its topic."""
    join = frame(b'["1","1","transaction:USER","phx_join",{}]')
    return _fitted(HANDSHAKE + (join if joined else b""), [frame(message) for message in messages])


def frames(*parts: bytes) -> Flood:
    """Frames, as they are, without end on a socket that has signed in."""
    return _fitted(HANDSHAKE, list(parts))


def _fitted(first: bytes, parts: list[bytes]) -> Flood:
    async def client(target: Target, until: float) -> None:
        begin = target.fill(first).replace(join_of(b"USER"), join_of(target.user_id.encode()))
        await sending(b"".join(map(target.fill, parts)), begin)(target, until)

    return client


def join_of(user: bytes) -> bytes:
    """The frame that joins a user's topic."""
    return frame(b'["1","1","transaction:%b","phx_join",{}]' % user)


async def longpoll_sessions(target: Target, until: float) -> None:
    """Sessions that join, get answers and are never polled (A10)."""
    client = await connect(target.port)
    path = f"/socket/longpoll?vsn=2.0.0&token={target.token}"
    join = json.dumps(["1", "1", f"transaction:{target.user_id}", "phx_join", {}]).encode()
    beat = json.dumps([None, "x" * 60_000, "phoenix", "heartbeat", {}]).encode()
    while time.monotonic() < until:
        answer = json.loads((await client.request(request("GET", path), 200)).partition(b"\r\n\r\n")[2])
        if "token" not in answer:  # there are as many as may be
            await asyncio.sleep(0.05)
            continue
        session = f"{path.partition('&')[0]}&token={answer['token']}"
        for body in (join, beat, beat, beat):
            await client.request(request("POST", session, body), 200)
    client.transport.close()  # type: ignore[attr-defined]


async def joined_sockets(target: Target, until: float) -> None:
    """Sockets that join and end at once, again and again (A17)."""
    first = target.fill(HANDSHAKE) + join_of(target.user_id.encode())
    while time.monotonic() < until:
        await _once(target, first, b'"ok"', until)


async def broadcasts(target: Target, until: float) -> None:
    """Transactions of a user who has 40 sockets a client open (A19)."""
    first = target.fill(HANDSHAKE) + join_of(target.user_id.encode())
    opened = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(40)]
    dropping = [asyncio.ensure_future(_drop(*pair)) for pair in opened]
    for _, writer in opened:
        writer.write(first)
    client = await connect(target.port)
    raw = request("POST", "/api/v1/transactions", b'{"amount":"1.00","currency":"EUR"}', target.token)
    try:
        while time.monotonic() < until:
            try:
                await client.request(raw, 201)
            except (AssertionError, ConnectionResetError):  # 503, and closed: there is too much of it
                client.transport.close()  # type: ignore[attr-defined]
                client = await connect(target.port)
    finally:
        for task, (_, writer) in zip(dropping, opened, strict=True):
            task.cancel()
            writer.transport.abort()
        client.transport.close()  # type: ignore[attr-defined]


async def one_byte_a_moment(target: Target, until: float) -> None:
    """Frames that do not end: forty sockets a client, a byte each now and then (A11)."""
    opened = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(40)]
    try:
        for _, writer in opened:
            writer.write(target.fill(HANDSHAKE) + b"\x81\xfe\xff\xff\0\0\0\0")
        while time.monotonic() < until:
            for _, writer in opened:
                writer.write(b"[")
            await asyncio.sleep(0.05)
    finally:
        for _, writer in opened:
            writer.transport.abort()
