"""Floods by clients without a token against a running server: `python -m tests.floods` prints what each costs.

For each: how much memory grows while it lasts and what is left 3 s after, and the slowest /health of another client meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import psutil
import uvloop

from bench.http_load import connect, request
from bench.main_job import Service

CLIENTS = 20
SECONDS = 4.0
HEAD = b"POST /health HTTP/1.1\r\nhost: x\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

Flood = tuple[bytes, bytes]  # what is sent once, and what is sent for as long as the server takes it
FLOODS: dict[str, Flood] = {
    "trailer fields without end": (CHUNKED + b"0\r\n", b"x-a: b\r\n" * 4000),
    "one trailer field without end": (CHUNKED + b"0\r\nx: ", b"y" * 32_000),
    "one chunk extension without end": (CHUNKED + b"1;", b"y" * 32_000),
    "one field without end": (HEAD + b"x: ", b"y" * 32_000),
    "chunks of one byte": (CHUNKED, b"1\r\nx\r\n" * 6000),
    "fields without end": (HEAD, b"a: b\r\n" * 5000),
    "bodies behind an Upgrade to h2c": (
        b"",
        (HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 9\r\n\r\nGET / HTT") * 400,
    ),
    "an Origin that looks like tokens": (
        b"",
        b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: x\r\norigin: http://"
        + b"eyJ" * 16_000
        + b"\r\n\r\n",
    ),
    "escapes in a path": (b"", request("GET", "/" + "%" * 9000) * 4),
    "requests, answers unread": (b"", request("GET", "/x") * 800),
    "large answers unread": (b"", request("GET", "/openapi.json") * 400),
    "empty lines in a chunked body": (CHUNKED, b"8000\r\n" + b"\r\n" * 16_384 + b"\r\n"),
}


async def flood(port: int, first: bytes, rest: bytes, until: float) -> None:
    """Sends to one connection after the other, without reading."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            _reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(first)
            try:
                while time.monotonic() < until and not writer.is_closing():
                    writer.write(rest)
                    await asyncio.wait_for(writer.drain(), max(0.01, until - time.monotonic()))
            finally:
                writer.transport.abort()


async def slowest(port: int, until: float) -> float:
    """The slowest /health until then, in seconds."""
    client, worst, raw = await connect(port), 0.0, request("GET", "/health")
    while time.monotonic() < until:
        before = time.monotonic()
        await client.request(raw, 200)
        worst = max(worst, time.monotonic() - before)
        await asyncio.sleep(0.01)
    client.transport.close()  # type: ignore[attr-defined]
    return worst


async def measure(
    port: int,
    memory: Callable[[], float],
    kind: Flood,
    seconds: float = SECONDS,
    clients_at_once: int = CLIENTS,
) -> tuple[float, float, float]:
    """Growth and rest in MB, and the slowest /health in ms."""
    before = memory()
    until = time.monotonic() + seconds
    clients: list[Awaitable[None]] = [flood(port, *kind, until) for _ in range(clients_at_once)]
    worst, *_ = await asyncio.gather(slowest(port, until), *clients)
    most = memory()
    await asyncio.sleep(3)
    return most - before, memory() - before, worst * 1000


def main() -> None:
    """The command."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(folder)
        try:
            process = psutil.Process(service.process.pid)
            port = urlsplit(service.url).port or 0
            print(f"{'flood':36}{'grows MB':>10}{'stays MB':>10}{'/health ms':>12}")
            for name, kind in FLOODS.items():
                found = uvloop.run(measure(port, lambda: process.memory_info().rss / 1e6, kind))
                print(f"{name:36}{found[0]:>10.1f}{found[1]:>10.1f}{found[2]:>12.0f}", flush=True)
        finally:
            service.stop()


if __name__ == "__main__":
    main()
