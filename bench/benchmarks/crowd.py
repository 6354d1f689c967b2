"""SOCKETS at once on a real server: the cost of joining, idling and a broadcast to all; and reconnecting after a restart.

They are tabs of one user. Each server in turn is started, filled, sent a broadcast, restarted and stopped, at most ROUNDS times:
that many sockets of two servers are more files than a process may open. During the broadcast another process requests /health.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop

from bench import http_load, socket_load
from bench.bitnexus import BitNexus
from bench.figures import Row
from bench.revision import ROOT, Revision
from bench.run import Run, Task
from bench.socket_load import Client

ROUNDS = 3
AT_ONCE = 100
IDLE_SECONDS = 5.0
RETRY_SECONDS = 0.1  # how soon a client tries again that was refused
BACKLOG = 2_000  # connections that wait to be accepted when all clients reconnect at once


def rows(sockets: int) -> tuple[Row, ...]:
    """The rows, for so many sockets."""
    who, cpu = f"{sockets:,} sockets", "us CPU"
    return (
        Row(f"{who}: connect and join, each", cpu),
        Row(f"{who}: memory, each", "KiB"),
        Row(f"{who}: idle", "% of CPU"),
        Row(f"{who}: one broadcast, a delivery", cpu),
        Row(f"{who}: one broadcast, last has it", "ms", wall_clock=True),
        Row(f"{who}: slowest /health meanwhile", "ms", wall_clock=True),
        Row(f"{who}: back after a restart, each", cpu),
        Row(f"{who}: back after a restart, last", "s", wall_clock=True),
    )


class Health:
    """A process that requests /health repeatedly (bench/health_watch.py); a context manager."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.health_watch", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def slowest(self) -> float:
        """The slowest answer since the last call, in ms."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return float(await asyncio.to_thread(self.process.stdout.readline))

    def __enter__(self) -> Health:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class Crowd:
    """The tabs of a server's user."""

    def __init__(self, server: BitNexus, size: int) -> None:
        self.server = server
        self.size = size
        self.clients: list[Client] = []
        self.path = f"/socket/websocket?vsn=2.0.0&token={server.token}"
        topic = f"transaction:{server.user['id']}"
        self.join = json.dumps(["1", "1", topic, "phx_join", {}]).encode()

    async def enter(self, at_once: int) -> None:
        """All come, so many at a time, and try again when they are refused."""
        self.clients = []
        numbers = iter(range(self.size))

        async def entering() -> None:
            for _ in numbers:
                self.clients.append(await self.one())

        await asyncio.gather(*(entering() for _ in range(at_once)))

    async def one(self) -> Client:
        """A tab that is in."""
        while True:
            try:
                client = await socket_load.connect(self.server.port, self.path)
                client.send(self.join)
                await client.expect(1)
            except (OSError, AssertionError):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                assert b'"ok"' in client.last, client.last
                return client

    async def broadcast(self) -> float:
        """Records one transaction; seconds until all have its event."""
        expected = [client.frames + 1 for client in self.clients]
        body = b'{"amount":"12.50","currency":"EUR","description":"to all"}'
        raw = http_load.request("POST", "/api/v1/transactions", body, self.server.token)
        http = await http_load.connect(self.server.port)
        began = time.perf_counter()
        await http.request(raw, 201)
        for client, frames in zip(self.clients, expected, strict=True):
            await client.expect(frames)
        http.close()
        return time.perf_counter() - began


@asynccontextmanager
async def serving(revision: Revision) -> AsyncIterator[BitNexus]:
    """A running server of this commit, its user signed in."""
    server = BitNexus(revision)
    await asyncio.to_thread(server.__enter__)
    try:
        await server.sign_in()
        yield server
    finally:
        await asyncio.to_thread(server.__exit__)


async def measure(revision: Revision, size: int) -> Sequence[float]:
    """The values of `rows`, from one life of a server."""
    async with serving(revision) as server:
        crowd = Crowd(server, size)
        memory, cpu = server.memory(), server.cpu()
        await crowd.enter(AT_ONCE)
        joining, memory = server.cpu() - cpu, server.memory() - memory
        cpu = server.cpu()
        await asyncio.sleep(IDLE_SECONDS)
        idle = (server.cpu() - cpu) / IDLE_SECONDS
        with Health(server.port) as health:
            await health.slowest()  # it has begun
            cpu = server.cpu()
            last = await crowd.broadcast()
            delivering = server.cpu() - cpu
            slowest = await health.slowest()
        await asyncio.to_thread(server.restart)
        await server.sign_in()  # a client gets a new token before it comes back
        cpu, began = server.cpu(), time.perf_counter()
        await crowd.enter(min(size, BACKLOG))
        back, again = time.perf_counter() - began, server.cpu() - cpu
        each = 1e6 / size
        values = [joining * each, memory / size / 1024, idle * 100, delivering * each]
        values += [last * 1e3, slowest, again * each, back]
        for client in crowd.clients:
            client.close()
        return values


def benchmark(run: Run) -> None:
    """Measures the rows."""

    async def one(revision: Revision) -> Sequence[float]:
        return await measure(revision, run.sockets)

    contestants = {revision.name: revision for revision in run.revisions}
    tasks = [Task(rows(run.sockets), one)]
    uvloop.run(run.alternate(tasks, contestants, rounds=min(run.rounds, ROUNDS), warm_up=False))
