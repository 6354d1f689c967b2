"""CPU of a request: /health and a recorded transaction, by one client and by many, with known tokens, new tokens, and rare users.

Real servers, each with its database; all get the same bytes. BitNexus answers a POST after it is in the ledger and broadcast to
its channels; the peers only write one row.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from uuid import UUID

import uvloop

from bench.bitnexus import BitNexus, serving, signed
from bench.figures import Mark, Row
from bench.http_load import Connection, connect, request
from bench.peer import HTTP_PEERS, Database, Peer
from bench.run import Lacks, Run, Task

CLIENTS = 32
GETS, POSTS, LONE_POSTS, NEW_TOKENS = 4000, 2000, 400, 400
RARE_USERS = 250  # a round
CPU = "us CPU"

HEALTH = Row("GET /health, 32 clients, one head", CPU, mark=Mark(37.5, 6.3))
HEADS = Row("GET /health, 32 clients, each head new", CPU)
LONE = Row("POST, 1 client: server + PostgreSQL", CPU, mark=Mark(570, 186))
LONE_SERVER = Row("POST, 1 client: server", CPU, mark=Mark(430, 83))
LONE_MIDDLE = Row("POST, 1 client: p50", "ms", wall_clock=True)
MANY = Row("POST, 32 clients: server + PostgreSQL", CPU, mark=Mark(316, 32))
MANY_SERVER = Row("POST, 32 clients: server", CPU, mark=Mark(233, 17))
FRESH = Row("POST, 32 clients, each token new: server", CPU)
FRESH_ALL = Row("POST, 32 clients, each token new: server + PostgreSQL", CPU)
RARE = Row("POST, each by another user, token of another service: server + PostgreSQL", CPU)
ROWS = (HEALTH, HEADS, LONE, LONE_SERVER, LONE_MIDDLE, MANY, MANY_SERVER, FRESH, FRESH_ALL, RARE)

GET = request("GET", "/health")


def post(number: int, token: str) -> bytes:
    """One transaction."""
    body = b'{"amount":"12.50","currency":"EUR","description":"no. %d"}' % number
    return request("POST", "/api/v1/transactions", body, token)


@dataclass(slots=True)
class Contestant:
    """A running server, and what its clients need."""

    server: BitNexus | Peer
    token: str = ""
    users: list[UUID] = field(default_factory=list)

    async def open(self) -> None:
        """Gets the token that will be known."""
        [self.token] = await self.server.tokens(1)

    async def measure(
        self, clients: int, requests: Sequence[bytes], status: int
    ) -> tuple[float, float, float]:
        """CPU of the server and of PostgreSQL in us a request, and the median time of one in ms."""
        took: list[float] = []
        waiting = iter(requests)

        async def client(connection: Connection) -> None:
            for raw in waiting:
                began = time.perf_counter()
                await connection.request(raw, status)
                took.append(time.perf_counter() - began)

        connections = [await connect(self.server.port) for _ in range(clients)]
        await asyncio.gather(*(connection.request(GET, 200) for connection in connections))
        before = self.server.cpu(), self.server.database_cpu()
        await asyncio.gather(*map(client, connections))
        after = self.server.cpu(), self.server.database_cpu()
        for connection in connections:
            connection.close()
        own, database = ((end - begin) / len(took) * 1e6 for begin, end in zip(before, after, strict=True))
        return own, database, statistics.median(took) * 1e3

    async def health(self) -> list[float]:
        return [(await self.measure(CLIENTS, [GET] * GETS, 200))[0]]

    async def heads(self) -> list[float]:
        raw = [request("GET", "/health", field=f"x-request-id: {next(_numbers):012}") for _ in range(GETS)]
        return [(await self.measure(CLIENTS, raw, 200))[0]]

    async def measure_one(self, what: str) -> tuple[float, float]:
        """CPU of the server and of PostgreSQL in us for each of `health`, `lone` or `post`."""
        if what == "health":
            return (await self.measure(CLIENTS, [GET] * GETS, 200))[:2]
        count, clients = (LONE_POSTS, 1) if what == "lone" else (POSTS, CLIENTS)
        return (await self.measure(clients, self.posts(count), 201))[:2]

    def posts(self, count: int) -> list[bytes]:
        """So many POSTs with the known token."""
        return [post(next(_numbers), self.token) for _ in range(count)]

    async def lone(self) -> list[float]:
        own, database, middle = await self.measure(1, self.posts(LONE_POSTS), 201)
        return [own + database, own, middle]

    async def many(self) -> list[float]:
        own, database, _ = await self.measure(CLIENTS, self.posts(POSTS), 201)
        return [own + database, own]

    async def fresh(self) -> list[float]:
        tokens = await self.server.tokens(NEW_TOKENS)
        own, database, _ = await self.measure(CLIENTS, [post(next(_numbers), token) for token in tokens], 201)
        return [own, own + database]

    async def rare(self) -> list[float]:
        if isinstance(self.server, Peer):
            raise Lacks("no users of its own, so nobody acts rarely")
        if len(self.users) < RARE_USERS:
            self.users += await asyncio.to_thread(self.server.create_users, 6 * RARE_USERS)
        acting, self.users = self.users[:RARE_USERS], self.users[RARE_USERS:]
        raw = [post(next(_numbers), signed(user)) for user in acting]
        own, database, _ = await self.measure(CLIENTS, raw, 201)
        return [own + database]


_numbers = count()
TASKS = [
    Task((HEALTH,), Contestant.health),
    Task((HEADS,), Contestant.heads),
    Task((LONE, LONE_SERVER, LONE_MIDDLE), Contestant.lone),
    Task((MANY, MANY_SERVER), Contestant.many),
    Task((FRESH, FRESH_ALL), Contestant.fresh),
]


async def load(run: Run, contestants: dict[str, Contestant]) -> None:
    """The rounds."""
    for contestant in contestants.values():
        await contestant.open()
    await run.alternate(TASKS, contestants)
    ours = {name: each for name, each in contestants.items() if isinstance(each.server, BitNexus)}
    await run.alternate([Task((RARE,), Contestant.rare)], ours)


def benchmark(run: Run) -> None:
    """Measures the rows."""
    servers: dict[str, BitNexus | Peer] = {}
    with ExitStack() as stack:
        for revision in run.revisions:
            run.enter(stack, revision.name, ROWS, partial(serving, revision), servers)
        run.step("start of the peers' PostgreSQL")
        database = stack.enter_context(Database())
        for name, kind in HTTP_PEERS.items():
            run.enter(stack, name, ROWS[:-1], partial(Peer, kind, database), servers)
        contestants = {name: Contestant(server) for name, server in servers.items()}
        uvloop.run(load(run, contestants))
