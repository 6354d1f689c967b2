"""What observing costs: 10,000 joined channels (5,000 tabs with two each), 2,000 transactions a minute, and who looks on.

Two real servers side by side: one as delivered, one whose telemetry, samples and report log are cut out (`_blind_server.py`). In
turns each gets the same transactions: the blind one, the delivered one with no console open, and the delivered one with a
console on its busiest view (samples and tree over `admin:*`, the process table every two seconds, one process every second)
and Prometheus at `/metrics`. The CPU is the server's own; the rows are shares of one core.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import jwt
import uvloop

from bench import http_load, socket_load
from bench.main_job import Service
from bench.row import Row

TABS, USERS = 5_000, 1_000
AT_ONCE = 50
PER_MINUTE = 2_000
ROUNDS, SECONDS = 5, 15.0
BEAT_SECONDS = 30.0
SCRAPE_SECONDS = 5.0  # three times as often as Prometheus does by default
SECRET = "a key of this benchmark alone, forty bytes long"  # noqa: S105


def token(user: UUID, role: str) -> str:
    """What a login would give."""
    now = int(time.time())
    claims = {"sub": str(user), "role": role, "email": f"{user}@example.com", "iat": now, "exp": now + 3600}
    return jwt.encode({**claims, "iss": "bitnexus", "aud": "bitnexus"}, SECRET, "HS256")


class Tenant:
    """One server with its channels joined, and an administrator who posts."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = int(service.url.rpartition(":")[2])
        self.admin, *self.users = (uuid4() for _ in range(USERS + 1))
        self.token = token(self.admin, "admin")
        self.posted = 0
        self.clients: list[socket_load.Client] = []

    def create_users(self) -> None:
        """Rows for all of them; they log in with signed tokens, a password hash each would take minutes."""
        rows = ",".join(
            f"('{user}', '{user}@example.com', '{'admin' if user == self.admin else 'user'}')"
            for user in (self.admin, *self.users)
        )
        subprocess.run(
            [sys.executable, "-m", "api.cli", "psql"],
            input=f"INSERT INTO users (id, email, role) VALUES {rows};",  # noqa: S608 - our own uuids
            env=self.service.environment,
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )

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
            self.port, f"/socket/websocket?vsn=2.0.0&token={token(user, role)}"
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
            cpu, began, sent = self.service.seconds()[0], loop.time(), 0
            while (now := loop.time()) < began + SECONDS:
                while sent < (now - began) * PER_MINUTE / 60:
                    await self.post(http)
                    sent += 1
                await asyncio.sleep(0.005)
            share = (self.service.seconds()[0] - cpu) / (loop.time() - began)
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


async def load(blind: Tenant, whole: Tenant) -> list[Row]:
    """The figures."""
    for tenant in (blind, whole):
        await tenant.enter()
    beating = [asyncio.create_task(tenant.beat()) for tenant in (blind, whole)]
    shares: dict[str, list[float]] = {"blind": [], "closed": [], "open": []}
    for _ in range(ROUNDS):
        shares["blind"].append(await blind.window(False))
        shares["closed"].append(await whole.window(False))
        shares["open"].append(await whole.window(True))
    for task in beating:
        task.cancel()
    for tenant in (blind, whole):
        assert not any(client.closed for client in tenant.clients)
    middle = {name: statistics.median(values) * 100 for name, values in shares.items()}
    unit = "% of a core"
    what = f"{2 * TABS:,} channels, {PER_MINUTE:,} transactions a minute"
    spread = {
        name: f"{min(values) * 100:.1f} to {max(values) * 100:.1f} in {ROUNDS} windows of {SECONDS:.0f} s"
        for name, values in shares.items()
    }
    return [
        Row(f"{what}: no console open", middle["closed"], unit, {"nothing observed": middle["blind"]}, note=spread["closed"]),
        Row(f"{what}: a console open", middle["open"], unit, {"nothing observed": middle["blind"]}, note=spread["open"]),
        Row("observing, with a console open", middle["open"] - middle["blind"], unit, mark=2.0, mark_of="aim"),
    ]  # fmt: skip


def run() -> list[Row]:
    """The answer."""
    socket_load.raise_file_limit()
    os.environ["SECRET_KEY_BASE"] = SECRET
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        services: list[Service] = []
        try:
            for folder, module in ((one, "bench._blind_server"), (two, "api.cli")):
                os.chmod(folder, 0o755)
                services.append(Service(folder, module))
            blind, whole = map(Tenant, services)
            for tenant in (blind, whole):
                tenant.create_users()
            return uvloop.run(load(blind, whole))
        finally:
            for service in services:
                service.stop()
