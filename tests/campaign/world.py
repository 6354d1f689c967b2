"""What a campaign runs on: one PostgreSQL, two servers, and a proxy between each of them and the database."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx

from actors.storage.postgres.cluster import SUPERUSER, Cluster
from api.security.passwords import hash_password
from schema import users
from schema.migrate import migrate
from tests.campaign.clients import Person
from tests.support.proxy import Proxy, proxy
from tests.support.server import PASSWORD, Server, start

SERVERS = 2


@dataclass
class World:
    """The parts."""

    cluster: Cluster
    name: str
    folder: Path
    proxies: list[Proxy] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    admin: Person = field(default_factory=lambda: Person("", ""))

    @property
    def database(self) -> str:
        """The database without a proxy before it."""
        return self.cluster.url(self.name)

    def superuser_url(self, database: str | None = None) -> str:
        """The same for the superuser: what an operator or another program does."""
        return self.cluster.url(database or self.name, SUPERUSER)

    @property
    def urls(self) -> list[str]:
        """Where the servers are."""
        return [server.url for server in self.servers]

    async def start_server(self, index: int, port: int = 0) -> Server:
        """A server whose database is behind proxy `index`."""
        environment = {
            "DATA_DIR": str(self.folder / f"server{index}"),
            "PORT": str(port),
            "LOG_LEVEL": "warning",
        }
        return await asyncio.to_thread(start, self.proxies[index].url, **environment)

    async def restart(self, index: int) -> None:
        """Kills a server and starts it again on its port."""
        old = self.servers[index]
        old.process.kill()
        await asyncio.to_thread(old.process.wait)
        self.servers[index] = await self.start_server(index, int(old.url.rpartition(":")[2]))

    def ended(self) -> list[str]:
        """The last line of each server that has ended by itself."""
        return [s.lines[-1] if s.lines else "" for s in self.servers if s.process.poll() is not None]

    async def healthy_within(self, seconds: float) -> float | None:
        """Seconds until every server says that it can write; None if one does not in time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with httpx.AsyncClient(timeout=seconds, trust_env=False) as client:
            while loop.time() - began < seconds:
                try:
                    answers = [await client.get(f"{url}/api/v1/health/ready") for url in self.urls]
                except httpx.HTTPError:
                    answers = []
                if answers and all(answer.status_code == 200 for answer in answers):
                    return loop.time() - began
                await asyncio.sleep(0.05)
        return None


@asynccontextmanager
async def world(people: int) -> AsyncIterator[World]:
    """A fresh one, with so many users beside the admin. Nothing is left of it."""
    folder = _folder()
    cluster = Cluster.at(folder / "cluster", {"max_connections": "100"})
    made = World(cluster, "campaign", folder)
    try:
        await cluster.start()
        await _prepare(made)
        async with AsyncExitStack() as stack:
            for index in range(SERVERS):
                made.proxies.append(await stack.enter_async_context(proxy(made.database)))
                made.servers.append(await made.start_server(index))
            made.admin = await _sign_in(made, "admin")
            made.people += [await _sign_in(made, "user") for _ in range(people)]
            yield made
            for server in made.servers:
                await asyncio.to_thread(server.stop)
    finally:
        for server in made.servers:
            if server.process.poll() is None:
                server.process.kill()
        await cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="bitnexus-campaign-"))
    made.chmod(0o755)  # PostgreSQL may run as another user
    return made


async def _prepare(made: World) -> None:
    connection = await asyncpg.connect(made.superuser_url("postgres"))
    await connection.execute(f"CREATE DATABASE {made.name} OWNER bitnexus")
    await connection.close()
    connection = await asyncpg.connect(made.database)
    await migrate(connection)
    await connection.close()


async def _sign_in(made: World, role: str) -> Person:
    email = f"{role}-{secrets.token_hex(6)}@example.com"
    connection = await asyncpg.connect(made.database)
    row = await connection.fetchrow(users.CREATE, email, role.title(), role, hash_password(PASSWORD))
    await connection.close()
    assert row is not None
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        answer = await client.post(
            f"{made.urls[0]}/api/v1/auth/login", json={"email": email, "password": PASSWORD}
        )
    answer.raise_for_status()
    return Person(str(row["id"]), answer.json()["token"])
