"""CPU of a join, of a delivery, of a push and its reply, and memory of an idle socket: SOCKETS at once on each server.

Real servers. With BitNexus a delivery is the event of a POSTed transaction to every tab of its user, the cost of the POST
included; the peers send the same bytes to all clients when one requests it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import uvloop

from bench import http_load, socket_load
from bench.bitnexus import BitNexus, serving
from bench.figures import Mark, Row
from bench.peer import SOCKET_PEERS, Peer
from bench.run import Run, Task
from bench.socket_load import Client

SOCKETS = 1000
JOINS = 250  # more sockets that come and go, a round
AT_ONCE = 50
BROADCASTS = 10
TALKERS, PUSHES, LONE_PUSHES = 100, 20, 500
SETTLE = 0.5  # seconds
BEAT_SECONDS = 15.0
HEARTBEAT = json.dumps([None, "0", "phoenix", "heartbeat", {}]).encode()
CPU = "us CPU"

JOIN = Row("connect and join", CPU, mark=Mark(190, 27))
MEMORY = Row(f"memory of an idle joined socket, of {SOCKETS:,}", "KiB")
DELIVERY = Row(f"a delivery, to {SOCKETS:,} sockets", CPU, mark=Mark(14.1, 7.7))
PUSH = Row(f"push and its reply, {TALKERS} sockets", CPU, mark=Mark(26.2, 7.5))
LONE_PUSH = Row("push and its reply, one at a time", CPU)
LONE_MIDDLE = Row("push and its reply, one at a time: p50", "ms", wall_clock=True)
ROWS = (JOIN, MEMORY, DELIVERY, PUSH, LONE_PUSH, LONE_MIDDLE)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a client joins, the message that it pushes, and the one that requests a broadcast."""

    enter: Callable[[int], Awaitable[Client]]
    push: bytes
    broadcast: bytes


async def plain(port: int) -> Client:
    """Connected: there is nothing to join."""
    return await socket_load.connect(port, "/")


async def socketio(port: int) -> Client:
    """Connected to the default namespace; the server puts it into the room."""
    client = await socket_load.connect(port, "/socket.io/?EIO=4&transport=websocket")
    await client.expect(1)
    client.send(b"40")
    await client.expect(2)
    return client


MESSAGE = {
    "id": "5f1c8c0e-3a53-4a6e-8d3f-1de4c47b8a11",
    "text": "as long as what a client of ours sends, or nearly",
}
PLAIN = Protocol(plain, json.dumps(["1", "2", "transaction", "ping", MESSAGE]).encode(), b"broadcast")
PROTOCOLS = dict.fromkeys(SOCKET_PEERS, PLAIN) | {
    "python-socketio": Protocol(socketio, b"421" + json.dumps(["ping", MESSAGE]).encode(), b'42["broadcast"]')
}


@dataclass(slots=True)
class Contestant:
    """A running server, its protocol, and its idle sockets."""

    server: BitNexus | Peer
    protocol: Protocol
    clients: list[Client] = field(default_factory=list)
    beaten: float = 0.0

    async def enter(self, count: int) -> tuple[list[Client], float]:
        """So many sockets more, AT_ONCE at a time; CPU of the server in us for each."""
        entered: list[Client] = []
        numbers = iter(range(count))

        async def entering() -> None:
            for _ in numbers:
                entered.append(await self.protocol.enter(self.server.port))

        before = self.server.cpu()
        await asyncio.gather(*(entering() for _ in range(AT_ONCE)))
        return entered, (self.server.cpu() - before) / count * 1e6

    async def join(self) -> list[float]:
        """Some come, and go."""
        entered, each = await self.enter(JOINS)
        for client in entered:
            client.close()
        await asyncio.sleep(SETTLE)  # their going is not what the next row measures
        return [each]

    async def settle(self) -> list[float]:
        """All that stay come; KiB of each."""
        before = self.server.memory()
        self.clients, _ = await self.enter(SOCKETS)
        await asyncio.sleep(SETTLE)
        return [(self.server.memory() - before) / SOCKETS / 1024]

    async def deliver(self) -> list[float]:
        """Broadcasts one after the other, each waited for by all."""
        before, used = [client.frames for client in self.clients], self.server.cpu()
        for number in range(1, BROADCASTS + 1):
            await self.tell_all()
            for client, frames in zip(self.clients, before, strict=True):
                await client.expect(frames + number)
        return [(self.server.cpu() - used) / BROADCASTS / SOCKETS * 1e6]

    async def tell_all(self) -> None:
        """Has one event sent to all sockets."""
        if isinstance(self.server, Peer):
            self.clients[0].send(self.protocol.broadcast)
        else:
            http = await http_load.connect(self.server.port)
            body = b'{"amount":"12.50","currency":"EUR","description":"no. 4711"}'
            raw = http_load.request("POST", "/api/v1/transactions", body, self.server.token)
            await http.request(raw, 201)
            http.close()

    async def push(self) -> list[float]:
        """Many talk at once."""
        talkers = self.clients[:TALKERS]
        used = self.server.cpu()
        await asyncio.gather(*(self.talk(client, PUSHES) for client in talkers))
        return [(self.server.cpu() - used) / PUSHES / TALKERS * 1e6]

    async def push_alone(self) -> list[float]:
        """One talks at a time; a few pushes each, since a server may bound what a socket sends in a second."""
        used, took = self.server.cpu(), list[float]()
        for client in self.clients[: LONE_PUSHES // PUSHES]:
            took += await self.talk(client, PUSHES)
        return [(self.server.cpu() - used) / LONE_PUSHES * 1e6, statistics.median(took) * 1e3]

    async def beat(self) -> None:
        """A heartbeat of every socket where the protocol wants one, unless the last was a moment ago."""
        if isinstance(self.server, Peer) or time.monotonic() < self.beaten + BEAT_SECONDS:
            return
        self.beaten = time.monotonic()
        live = [client for client in self.clients if not client.closed]
        expected = [client.frames + 1 for client in live]
        for client in live:
            client.send(HEARTBEAT)
        for client, frames in zip(live, expected, strict=True):
            await client.expect(frames)

    async def talk(self, client: Client, count: int) -> list[float]:
        """Pushes, each after the reply to the one before; the seconds each took."""
        took: list[float] = []
        for _ in range(count):
            expected, began = client.frames + 1, time.perf_counter()
            client.send(self.protocol.push)
            await client.expect(expected)
            took.append(time.perf_counter() - began)
        return took


def phoenix(server: BitNexus) -> Protocol:
    """Ours, on the topic of the server's user; what is pushed is the event that every channel answers."""
    path = f"/socket/websocket?vsn=2.0.0&token={server.token}"
    topic = f"transaction:{server.user['id']}"
    join = json.dumps(["1", "1", topic, "phx_join", {}]).encode()

    async def enter(port: int) -> Client:
        client = await socket_load.connect(port, path)
        client.send(join)
        await client.expect(1)
        return client

    return Protocol(enter, json.dumps(["1", "2", topic, "ping", MESSAGE]).encode(), b"")


TASKS = [
    Task((JOIN,), Contestant.join),
    Task((DELIVERY,), Contestant.deliver),
    Task((PUSH,), Contestant.push),
    Task((LONE_PUSH, LONE_MIDDLE), Contestant.push_alone),
]


async def load(run: Run, contestants: dict[str, Contestant]) -> None:
    """What is loaded at first use; then memory, once, since a server's first sockets alone tell it; then the rounds."""

    async def beat() -> None:
        for contestant in contestants.values():
            await contestant.beat()

    await run.alternate([Task((JOIN,), Contestant.join)], contestants, rounds=0)
    await run.alternate(
        [Task((MEMORY,), Contestant.settle)], contestants, rounds=1, warm_up=False, between=beat
    )
    await run.alternate(TASKS, contestants, between=beat)


def benchmark(run: Run) -> None:
    """Measures the rows."""
    servers: dict[str, BitNexus | Peer] = {}
    with ExitStack() as stack:
        for revision in run.revisions:
            run.enter(stack, revision.name, ROWS, partial(serving, revision), servers)
        for name, kind in SOCKET_PEERS.items():
            run.enter(stack, name, ROWS, partial(Peer, kind), servers)
        contestants = {
            name: Contestant(server, PROTOCOLS[name] if isinstance(server, Peer) else phoenix(server))
            for name, server in servers.items()
        }
        uvloop.run(load(run, contestants))
