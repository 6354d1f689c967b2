"""What observing costs: 10,000 joined channels (5,000 tabs with two each), 2,000 transactions a minute, and who looks on.

Two real servers side by side: one as delivered, one whose telemetry, samples and report log are cut out
(bench/blind_server.py). In turns each gets the same transactions: with no console open, and the delivered one with a console on
its busiest view (samples and tree over `admin:*`, the process table every two seconds, one process every second) and Prometheus
at `/metrics`. The CPU is the server's own; the rows are shares of one core.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from uuid import UUID

import uvloop

from bench import http_load, socket_load
from bench.bitnexus import BitNexus, signed
from bench.figures import NOW, Row
from bench.run import Run, Task

TABS, USERS = 5_000, 1_000
AT_ONCE = 50
PER_MINUTE = 2_000
SECONDS = 15.0
BEAT_SECONDS = 30.0
SCRAPE_SECONDS = 5.0  # three times as often as Prometheus does by default
WHAT = f"{2 * TABS:,} channels, {PER_MINUTE:,} transactions a minute"
CLOSED = Row(f"{WHAT}: no console open", "% CPU")
OPEN = Row(f"{WHAT}: a console open, Prometheus", "% CPU")
BLIND = "nothing observed"


class Tenant:
    """One server with its channels joined, and an administrator who posts."""

    def __init__(self, server: BitNexus) -> None:
        self.server = server
        self.port = server.port
        self.users = server.create_users(USERS)  # they sign in with signed tokens
        [self.admin] = server.create_users(1, "admin")
        self.token = signed(self.admin, "admin")
        self.posted = 0
        self.clients: list[socket_load.Client] = []

    async def enter(self) -> None:
        """Joins the channels."""
        numbers = iter(range(TABS))

        async def entering() -> None:
            for number in numbers:
                user = self.users[number % USERS]
                topics = (f"transaction:{user}", f"notification:{user}")
                self.clients.append(await self.connect(user, "user", *topics))

        await asyncio.gather(*(entering() for _ in range(AT_ONCE)))

    async def connect(self, user: UUID, role: str, *topics: str) -> socket_load.Client:
        client = await socket_load.connect(
            self.port, f"/socket/websocket?vsn=2.0.0&token={signed(user, role)}"
        )
        for number, topic in enumerate(topics, 1):
            client.send(json.dumps([str(number), str(number), topic, "phx_join", {}]).encode())
            await client.expect(number)
            assert b'"ok"' in client.last, client.last
        return client

    async def beat(self) -> None:
        """Each tab's heartbeat, every BEAT_SECONDS, spread evenly."""
        beat = json.dumps([None, "2", "phoenix", "heartbeat", {}]).encode()
        while True:
            for start in range(100):
                for client in self.clients[start::100]:
                    client.send(beat)
                await asyncio.sleep(BEAT_SECONDS / 100)

    async def post(self, http: http_load.Connection) -> None:
        self.posted += 1
        user = self.users[self.posted % USERS]
        body = b'{"amount":"12.50","currency":"EUR","description":"seen","user_id":"%s"}' % str(user).encode()
        await http.request(http_load.request("POST", "/api/v1/transactions", body, self.token), 201)

    async def window(self, watched: bool) -> float:
        """Seconds of CPU a second, under the load."""
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(asyncio.TaskGroup())
            http = await http_load.connect(self.port)
            console: list[asyncio.Task[None]] = []
            watcher = None
            if watched:
                watcher = await self.connect(self.admin, "admin", "admin:observer")
                process = f"/admin/processes/{await self.first_process()}"
                for path, every in (
                    ("/admin/processes?sort=reductions&limit=100", 2.0),
                    (process, 1.0),
                    ("/metrics", SCRAPE_SECONDS),
                ):
                    console.append(group.create_task(self.reading(path, every)))
            loop = asyncio.get_running_loop()
            await asyncio.sleep(1)
            cpu, began, sent = self.server.cpu(), loop.time(), 0
            while (now := loop.time()) < began + SECONDS:
                while sent < (now - began) * PER_MINUTE / 60:
                    await self.post(http)
                    sent += 1
                await asyncio.sleep(0.005)
            share = (self.server.cpu() - cpu) / (loop.time() - began)
            for task in console:
                task.cancel()
            if watcher is not None:
                assert watcher.frames >= SECONDS, "the console was not told"
                watcher.transport.close()  # type: ignore[attr-defined]
        return share

    async def first_process(self) -> str:
        http = await http_load.connect(self.port)
        raw = http_load.request("GET", "/admin/processes?sort=reductions&limit=1", token=self.token)
        return json.loads((await http.request(raw, 200)).partition(b"\r\n\r\n")[2])["processes"][0]["pid"]

    async def reading(self, path: str, every: float) -> None:
        http = await http_load.connect(self.port)
        while True:
            await http.request(http_load.request("GET", path, token=self.token), 200)
            await asyncio.sleep(every)


async def load(run: Run, tenants: dict[str, Tenant]) -> None:
    """The windows, in turns."""

    async def closed(tenant: Tenant) -> Sequence[float]:
        return [await tenant.window(False) * 100]

    async def opened(tenant: Tenant) -> Sequence[float]:
        return [await tenant.window(tenant is not tenants[BLIND]) * 100]

    for tenant in tenants.values():
        await tenant.enter()
    beating = [asyncio.create_task(tenant.beat()) for tenant in tenants.values()]
    await run.alternate([Task((CLOSED,), closed), Task((OPEN,), opened)], tenants, warm_up=False)
    for task in beating:
        task.cancel()
    for tenant in tenants.values():
        assert not any(client.closed for client in tenant.clients)


def benchmark(run: Run) -> None:
    """Measures the rows."""
    servers: dict[str, BitNexus] = {}
    with ExitStack() as stack:
        for name, module in ((NOW, "api.cli"), (BLIND, "bench.blind_server")):
            server = partial(BitNexus, run.revisions[0], module)
            run.enter(stack, name, (CLOSED, OPEN), server, servers)
        tenants = {name: Tenant(server) for name, server in servers.items()}
        uvloop.run(load(run, tenants))
