"""Faults of the campaign: each is something that happens to real servers, is done for a while, and undone."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx

if TYPE_CHECKING:
    from tests.campaign.world import World

OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'bitnexus%'"
WORKERS = (
    "repo",
    "ledger_server",
    "db_writer",
    "db_listener",
    "postgres",
    "token_expiry",
    "observer",
    "pubsub",
)
Fault = Callable[["World", random.Random, float], Awaitable[None]]


def link(mode: str) -> Fault:
    """Something happens between one server and the database."""

    async def fault(world: World, rng: random.Random, seconds: float) -> None:
        proxy = rng.choice(world.proxies)
        proxy.mode = mode
        await asyncio.sleep(seconds)
        proxy.mode = "pass"

    return fault


async def cut(world: World, rng: random.Random, seconds: float) -> None:
    """All links of one server end at once."""
    rng.choice(world.proxies).cut()
    await asyncio.sleep(seconds)


async def terminate(world: World, rng: random.Random, seconds: float) -> None:
    """An operator ends some sessions."""
    async with _connected(world) as connection:
        for record in await connection.fetch(OURS):
            if rng.random() < 0.5:
                await connection.execute("SELECT pg_terminate_backend($1)", record["pid"])
    await asyncio.sleep(seconds)


def lock(sql: str) -> Fault:
    """Somebody holds a lock."""

    async def fault(world: World, _rng: random.Random, seconds: float) -> None:
        async with _connected(world) as connection, connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            try:
                await connection.execute(sql)
            except asyncpg.LockNotAvailableError:
                return
            await asyncio.sleep(seconds)

    return fault


async def read_only(world: World, _rng: random.Random, seconds: float) -> None:
    """The database takes no writes: a standby after a failover, or a hand."""
    async with _connected(world) as connection:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({OURS}) AS ours")
        await asyncio.sleep(seconds)
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({OURS}) AS ours")


async def no_connections(world: World, _rng: random.Random, seconds: float) -> None:
    """The database lets nobody in."""
    async with _connected(world, "postgres") as connection:
        await connection.execute(f"ALTER DATABASE {world.name} ALLOW_CONNECTIONS false")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", world.name
        )
        await asyncio.sleep(seconds)
        await connection.execute(f"ALTER DATABASE {world.name} ALLOW_CONNECTIONS true")


async def stop_a_backend(world: World, rng: random.Random, seconds: float) -> None:
    """One session of ours stands still in the server (a page that the disk does not give)."""
    async with _connected(world) as connection:
        pids = [record["pid"] for record in await connection.fetch(OURS)]
    if not pids:
        return
    pid = rng.choice(pids)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


async def crash_a_backend(world: World, rng: random.Random, seconds: float) -> None:
    """One session of ours is killed: PostgreSQL throws all out and recovers."""
    async with _connected(world) as connection:
        pids = [record["pid"] for record in await connection.fetch(OURS)]
    if pids:
        os.kill(rng.choice(pids), signal.SIGKILL)
    await asyncio.sleep(seconds)


async def kill_a_worker(world: World, rng: random.Random, seconds: float) -> None:
    """An actor is killed."""
    url = rng.choice(world.urls)
    headers = {"authorization": f"Bearer {world.admin.token}"}
    async with httpx.AsyncClient(timeout=10, trust_env=False, headers=headers) as client:
        try:
            await client.post(f"{url}/admin/processes/{rng.choice(WORKERS)}/kill", json={})
        except httpx.HTTPError:
            return
    await asyncio.sleep(seconds)


async def kill_a_server(world: World, rng: random.Random, _seconds: float) -> None:
    """A whole server is killed and started again."""
    await world.restart(rng.randrange(len(world.servers)))


@asynccontextmanager
async def _connected(world: World, database: str | None = None) -> Any:
    connection = await asyncpg.connect(world.superuser_url(database))
    try:
        yield connection
    finally:
        await connection.close()


FAULTS: dict[str, tuple[Fault, float]] = {  # and how often, beside the others
    "close": (link("close"), 3),
    "silent": (link("silent"), 3),
    "deaf": (link("deaf"), 3),
    "cut": (cut, 3),
    "terminate": (terminate, 2),
    "lock_table": (lock("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE"), 2),
    "lock_head": (lock("SELECT FROM ledger_head FOR UPDATE"), 2),
    "read_only": (read_only, 1),
    "no_connections": (no_connections, 1),
    "stop_a_backend": (stop_a_backend, 2),
    "crash_a_backend": (crash_a_backend, 1),
    "kill_a_worker": (kill_a_worker, 3),
    "kill_a_server": (kill_a_server, 1),
}
