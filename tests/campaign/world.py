"""What a campaign runs on: a primary and its standby on disks of their own, servers, and a proxy on each way between any two."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from api.security.passwords import hash_password
from schema import users
from tests.campaign.clients import Person
from tests.campaign.visitors import tree_with_presence
from tests.nodes.nats import PASSWORD as NATS_PASSWORD
from tests.nodes.nats import USER, Nats
from tests.support.disk import Disk
from tests.support.proxy import DatabaseProxy, Proxy, port_proxy, proxy
from tests.support.replication import DATABASE, SUPERUSER, Instance, both, pair_folder, primary_and_standby
from tests.support.server import PASSWORD, ROOT, Server, start

SERVERS = 2
START_SECONDS = 120.0  # until a server serves that may find no database at its first tries
UNDO_SECONDS = 60.0
COMMIT_SECONDS = 5.0
# Waits for the standby as any transaction does.
COMMIT = "SELECT pg_logical_emit_message(true, 'campaign', '')"
DATABASE_ERRORS = (
    OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
)  # fmt: skip


@dataclass
class Site:
    """One server, and the ways from and to it."""

    name: str
    folder: Path
    databases: list[DatabaseProxy]  # to each instance
    nats: Proxy | None = None
    nats_port: int = 0
    server: Server | None = None
    door: Proxy | None = None  # for clients
    door_port: int = 0
    process: asyncio.Lock = field(default_factory=asyncio.Lock)  # one thing at a time happens to it

    @property
    def url(self) -> str:
        """Where the server is."""
        assert self.server is not None
        return self.server.url

    @property
    def port(self) -> int:
        """The server's own."""
        return int(self.url.rpartition(":")[2])


@dataclass
class World:
    """The parts. `nats` is there if the servers are nodes of one cluster."""

    pair: list[Instance]  # the primary first
    disks: dict[Instance, Disk]
    folder: Path
    nats: Nats | None = None
    sites: list[Site] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    admin: Person = field(default_factory=lambda: Person("", ""))
    repairs: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    replication: asyncio.Lock = field(default_factory=asyncio.Lock)  # one thing at a time happens to the pair
    tree: Path | None = None

    @property
    def primary(self) -> Instance:
        """Who takes writes, or should."""
        return self.pair[0]

    @property
    def database(self) -> str:
        """The database without a proxy before it."""
        return self.primary.url()

    @property
    def urls(self) -> list[str]:
        """Where the servers are."""
        return [site.url for site in self.sites]

    def doors(self) -> list[str]:
        """The same for clients whose links may fail."""
        return [f"http://127.0.0.1:{site.door_port}" for site in self.sites]

    @asynccontextmanager
    async def superuser(self, database: str = DATABASE) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the primary: what an operator or another program does."""
        connection = await asyncpg.connect(self.primary.url(database, SUPERUSER), timeout=10)
        try:
            yield connection
        finally:
            with suppress(*DATABASE_ERRORS):
                await connection.close(timeout=5)

    async def undo(self, *statements: str) -> None:
        """Runs what makes a fault undone, on whatever is the primary then."""
        loop = asyncio.get_running_loop()
        end = loop.time() + UNDO_SECONDS
        while True:
            try:
                async with self.superuser("postgres") as connection:
                    for statement in statements:
                        await connection.execute(statement)
                return
            except DATABASE_ERRORS:
                if loop.time() > end:
                    raise
                await asyncio.sleep(0.1)

    async def commits_within(self, seconds: float) -> bool:
        """Whether the database itself commits within so many seconds: what no server can do anything about."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            with suppress(*DATABASE_ERRORS):
                async with self.superuser() as connection:
                    await connection.execute(COMMIT, timeout=COMMIT_SECONDS)
                    return True
            await asyncio.sleep(0.05)
        return False

    # ---- servers

    async def start_server(self, site: Site, port: int = 0) -> None:
        """Tries until it serves, as a service manager does: a server that finds no database at its first start ends."""
        environment = {
            "DATA_DIR": str(site.folder),
            "PORT": str(port),
            "LOG_LEVEL": "warning",
            "NODE_NAME": site.name,
        }
        if self.nats is not None:
            environment["CLUSTER_URL"] = f"nats://{USER}:{NATS_PASSWORD}@127.0.0.1:{site.nats_port}"
        arguments = () if self.tree is None else ("--tree", str(self.tree))
        url = both(*(link.url for link in site.databases))
        loop = asyncio.get_running_loop()
        end = loop.time() + START_SECONDS
        while True:
            try:
                site.server = await asyncio.to_thread(start, url, arguments, **environment)
                return
            except AssertionError:
                if loop.time() > end:
                    raise

    async def kill(self, site: Site) -> None:
        """SIGKILL."""
        assert site.server is not None
        site.server.process.kill()
        await asyncio.to_thread(site.server.process.wait)

    def ended(self) -> list[str]:
        """The last lines of each server that has ended by itself."""
        servers = [site.server for site in self.sites if site.server is not None]
        return [" | ".join(s.lines[-3:]) for s in servers if s.process.poll() is not None]

    async def healthy_within(self, seconds: float) -> float | None:
        """Seconds until every server says that it can write; None if one does not in time."""
        return await self._within(seconds, self._all_ready)

    async def _within(self, seconds: float, condition: Callable[[httpx.AsyncClient], Any]) -> float | None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with httpx.AsyncClient(timeout=seconds, trust_env=False) as client:
            while loop.time() - began < seconds:
                try:
                    if await condition(client):
                        return loop.time() - began
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)
        return None

    async def _all_ready(self, client: httpx.AsyncClient) -> bool:
        answers = [await client.get(f"{url}/api/v1/health/ready") for url in self.urls]
        return all(answer.status_code == 200 for answer in answers)

    # ---- who sees whom

    async def presence_within(self, seconds: float, there: list[Site]) -> float | None:
        """Seconds until each of these servers sees exactly these; None if one does not in time."""
        names = sorted(site.name for site in there)

        async def agreed(client: httpx.AsyncClient) -> bool:
            return all([await self._visitors(client, site) == names for site in there])

        return await self._within(seconds, agreed)

    async def _visitors(self, client: httpx.AsyncClient, site: Site) -> list[str]:
        headers = {"authorization": f"Bearer {self.admin.token}"}
        answer = await client.get(f"{site.url}/admin/processes/visitors", headers=headers)
        if answer.status_code != 200:
            return []
        state = answer.json()["process"]["state"]
        return state["there"] if isinstance(state, dict) else []


@asynccontextmanager
async def world(people: int, nodes: int = 0) -> AsyncIterator[World]:
    """A fresh one, with so many users beside the admin; with `nodes`, of so many servers in one cluster. Nothing stays."""
    folder = pair_folder()
    disks = [Disk(folder / name) for name in ("disk1", "disk2")]
    async with AsyncExitStack() as stack:
        stack.callback(_remove, folder, disks)
        one, two = await stack.enter_async_context(
            primary_and_standby(True, disks[0].folder / "one", disks[1].folder / "two")
        )
        made = World([one, two], {one: disks[0], two: disks[1]}, folder)
        if nodes:
            made.nats = Nats()
            made.nats.start()
            stack.callback(made.nats.kill)
            made.tree = folder / "supervisor.toml"
            made.tree.write_text(tree_with_presence((ROOT / "supervisor.toml").read_text()))
        stack.callback(_kill_all, made)
        for number in range(nodes or SERVERS):
            await _add_site(made, stack, number + 1)
        made.admin = await _sign_in(made, "admin")
        made.people += [await _sign_in(made, "user") for _ in range(people)]
        yield made
        for site in made.sites:
            assert site.server is not None
            await asyncio.to_thread(site.server.stop)


async def _add_site(made: World, stack: AsyncExitStack, number: int) -> None:
    name = f"server{number}"
    databases = [await stack.enter_async_context(proxy(instance.url())) for instance in made.pair]
    site = Site(f"{name}@campaign", made.folder / name, databases)
    if made.nats is not None:
        site.nats, site.nats_port = await stack.enter_async_context(port_proxy(made.nats.port))
    made.sites.append(site)
    await made.start_server(site)
    site.door, site.door_port = await stack.enter_async_context(port_proxy(site.port))


def _kill_all(made: World) -> None:
    for site in made.sites:
        if site.server is not None and site.server.process.poll() is None:
            site.server.process.kill()
            site.server.process.wait()


def _remove(folder: Path, disks: list[Disk]) -> None:
    for disk in disks:
        disk.close()
    shutil.rmtree(folder, ignore_errors=True)


async def _sign_in(made: World, role: str) -> Person:
    email = f"{role}-{secrets.token_hex(6)}@example.com"
    connection = await asyncpg.connect(made.database)
    row = await connection.fetchrow(users.CREATE, email, role.title(), role, hash_password(PASSWORD))
    await connection.close()
    assert row is not None
    loop = asyncio.get_running_loop()
    end = loop.time() + START_SECONDS
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        while True:
            answer = await client.post(
                f"{made.urls[0]}/api/v1/auth/login", json={"email": email, "password": PASSWORD}
            )
            if answer.status_code != 503 or loop.time() > end:  # a busy machine makes a database late
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
    answer.raise_for_status()
    return Person(str(row["id"]), answer.json()["token"])
