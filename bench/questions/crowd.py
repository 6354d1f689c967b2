"""SOCKETS at once on a real server: what each costs to join, to keep, and to tell; and all of them back after a restart.

They are tabs of one user. Each server is started, filled, told, restarted and ended in turn, at most ROUNDS times: that many
sockets of two servers are more files than a process may open. Meanwhile a client asks for /health every 20 ms.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop

from bench import http_load, socket_load
from bench.bitnexus import BitNexus
from bench.figures import Row
from bench.revision import Revision
from bench.run import Run, Task
from bench.socket_load import Client

ROUNDS = 3
AT_ONCE = 100
IDLE_SECONDS = 5.0
HEALTH_SECONDS = 0.02
RETRY_SECONDS = 0.1  # how soon a client tries again that was refused
BACKLOG = 2_000  # connections that wait to be taken at once when all come back


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
    """Asks for /health again and again while it is entered; `slowest` is in seconds."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.slowest = 0.0

    async def _watch(self) -> None:
        connection = await http_load.connect(self.port)
        ask = http_load.request("GET", "/health")
        while True:
            began = time.perf_counter()
            await connection.request(ask, 200)
            self.slowest = max(self.slowest, time.perf_counter() - began)
            await asyncio.sleep(HEALTH_SECONDS)

    async def __aenter__(self) -> Health:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task.done():
            await self._task  # it has failed: say how
        self._task.cancel()


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

    async def told(self) -> float:
        """One transaction reaches all; seconds until the last has it."""
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
        async with Health(server.port) as health:
            memory, cpu = server.memory(), server.cpu()
            await crowd.enter(AT_ONCE)
            joining, memory = server.cpu() - cpu, server.memory() - memory
            cpu = server.cpu()
            await asyncio.sleep(IDLE_SECONDS)
            idle = (server.cpu() - cpu) / IDLE_SECONDS
            health.slowest = 0.0
            cpu = server.cpu()
            last = await crowd.told()
            telling = server.cpu() - cpu
        await asyncio.to_thread(server.restart)
        await server.sign_in()  # a client gets a new token before it comes back
        cpu, began = server.cpu(), time.perf_counter()
        await crowd.enter(min(size, BACKLOG))
        back, again = time.perf_counter() - began, server.cpu() - cpu
        each = 1e6 / size
        values = [joining * each, memory / size / 1024, idle * 100, telling * each]
        values += [last * 1e3, health.slowest * 1e3, again * each, back]
        for client in crowd.clients:
            client.close()
        return values


def ask(run: Run) -> None:
    """The answer."""

    async def one(revision: Revision) -> Sequence[float]:
        return await measure(revision, run.sockets)

    contestants = {revision.name: revision for revision in run.revisions}
    tasks = [Task(rows(run.sockets), one)]
    uvloop.run(run.alternate(tasks, contestants, rounds=min(run.rounds, ROUNDS), warm_up=False))
