"""Faults of the campaign: each is something that happens to real servers, is done for a while, and undone.

A fault that leaves the pair of databases without a standby says in `World.repairs` how it gets one again, once the servers are
healthy.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import httpx

from tests.campaign.world import DATABASE_ERRORS, Site, World
from tests.support.proxy import Proxy
from tests.support.replication import DATABASE

OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'bitnexus%'"
ALL = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'"
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
GONE_SECONDS = 15.0  # until a lost node is no longer seen
AWAY = DATABASE_ERRORS  # what a fault's own connection may raise
Fault = Callable[[World, random.Random, float], Awaitable[None]]


def database_link(mode: str) -> Fault:
    """Something happens between one server and the database, or one of its hosts."""

    async def fault(world: World, rng: random.Random, seconds: float) -> None:
        links = rng.choice(world.sites).databases
        chosen = links if rng.random() < 0.7 else [rng.choice(links)]
        for link in chosen:
            link.mode = mode
        await asyncio.sleep(seconds)
        for link in chosen:
            link.mode = "pass"

    return fault


def client_link(mode: str) -> Fault:
    """Something happens between one server and its clients."""

    async def fault(world: World, rng: random.Random, seconds: float) -> None:
        door = rng.choice(world.sites).door
        assert door is not None
        door.mode = mode
        await asyncio.sleep(seconds)
        door.cut()  # what was held is worth nothing: a client has given it up
        door.mode = "pass"

    return fault


async def cut(world: World, rng: random.Random, seconds: float) -> None:
    """All links of one server to its database end at once."""
    for link in rng.choice(world.sites).databases:
        link.cut()
    await asyncio.sleep(seconds)


async def cut_clients(world: World, rng: random.Random, seconds: float) -> None:
    """All clients of one server lose their links."""
    door = rng.choice(world.sites).door
    assert door is not None
    door.cut()
    await asyncio.sleep(seconds)


# ---- the database


async def terminate(world: World, rng: random.Random, seconds: float) -> None:
    """An operator ends some sessions."""
    with suppress(*AWAY):
        async with world.superuser() as connection:
            for record in await connection.fetch(OURS):
                if rng.random() < 0.5:
                    await connection.execute("SELECT pg_terminate_backend($1)", record["pid"])
    await asyncio.sleep(seconds)


def lock(sql: str) -> Fault:
    """Somebody holds a lock."""

    async def fault(world: World, _rng: random.Random, seconds: float) -> None:
        with suppress(*AWAY):
            async with world.superuser() as connection, connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '5s'")
                await connection.execute(sql)
                await asyncio.sleep(seconds)

    return fault


async def read_only(world: World, _rng: random.Random, seconds: float) -> None:
    """The database takes no writes: a hand, or the fence before a failover."""
    with suppress(*AWAY):
        async with world.superuser("postgres") as connection:
            await connection.execute(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
            await connection.execute(ALL)
    await asyncio.sleep(seconds)
    await world.undo(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only", ALL)


async def no_connections(world: World, _rng: random.Random, seconds: float) -> None:
    """The database lets nobody in."""
    with suppress(*AWAY):
        async with world.superuser("postgres") as connection:
            await connection.execute(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
            await connection.execute(ALL)
    await asyncio.sleep(seconds)
    await world.undo(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")


def signal_backend(number: signal.Signals) -> Fault:
    """One session of ours stands still for a while (a page that the disk does not give), or is killed.

    PostgreSQL then throws all out and recovers.
    """

    async def fault(world: World, rng: random.Random, seconds: float) -> None:
        pids: list[int] = []
        with suppress(*AWAY):
            async with world.superuser() as connection:
                pids = [record["pid"] for record in await connection.fetch(OURS)]
        if pids:
            pid = rng.choice(pids)
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            await asyncio.sleep(seconds)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return fault


async def disk_full(world: World, rng: random.Random, seconds: float) -> None:
    """Not a byte more goes onto the primary's disk; sometimes its log needs a new file just then, and it ends."""
    async with world.replication:
        instance = world.primary
        disk = world.disks[instance]
        await asyncio.to_thread(disk.fill, instance.data)
        if rng.random() < 0.5:
            with suppress(*AWAY):
                await instance.execute(
                    "SELECT pg_logical_emit_message(true, '', 'x'); SELECT pg_switch_wal()"
                )
        await asyncio.sleep(seconds)
        await asyncio.to_thread(disk.free, instance.data)
        await _running(world)


async def restart_the_database(world: World, _rng: random.Random, seconds: float) -> None:
    """The primary is killed, and started again after a while."""
    async with world.replication:
        await world.primary.kill()
        await asyncio.sleep(seconds)
        await world.primary.start()


async def lose_the_standby(world: World, _rng: random.Random, seconds: float) -> None:
    """The standby is killed and started again: until then COMMIT waits."""
    async with world.replication:
        if world.repairs:  # the standby has been promoted, and the other is no standby yet
            return
        await world.pair[1].kill()
        await asyncio.sleep(seconds)
        await world.pair[1].start()


async def failover(world: World, _rng: random.Random, seconds: float) -> None:
    """The primary is killed for good, and the standby promoted after a while."""
    async with world.replication:
        old, new = world.pair
        await old.kill()
        await asyncio.sleep(seconds)
        await new.promote()
        world.pair.reverse()

    async def repair() -> None:
        await asyncio.to_thread(old.copy, new)
        await old.start()
        await new.confirm_by_standbys()

    world.repairs.append(repair)


async def _running(world: World) -> None:
    """A service manager starts a PostgreSQL that has ended."""
    instance = world.primary
    for _ in range(20):
        await asyncio.sleep(0.1)
        assert instance.postmaster is not None
        if not instance.postmaster.alive:
            await instance.start()
            return


# ---- servers


async def kill_a_worker(world: World, rng: random.Random, seconds: float) -> None:
    """An actor is killed."""
    url = rng.choice(world.urls)
    headers = {"authorization": f"Bearer {world.admin.token}"}
    async with httpx.AsyncClient(timeout=10, trust_env=False, headers=headers) as client:
        with suppress(httpx.HTTPError):
            await client.post(f"{url}/admin/processes/{rng.choice(WORKERS)}/kill", json={})
    await asyncio.sleep(seconds)


async def kill_a_server(world: World, rng: random.Random, _seconds: float) -> None:
    """A whole server is killed and started again."""
    site = rng.choice(world.sites)
    async with site.process:
        await world.kill(site)
        await world.start_server(site, site.port)


async def stop_a_server(world: World, rng: random.Random, _seconds: float) -> None:
    """A server is told to stop, and started again. Raises AssertionError if it does not stop in order."""
    site = rng.choice(world.sites)
    async with site.process:
        assert site.server is not None
        stopped = await asyncio.to_thread(site.server.stop)
        assert stopped == 0, site.server.lines[-5:]
        await world.start_server(site, site.port)


async def freeze_a_server(world: World, rng: random.Random, seconds: float) -> None:
    """A whole server stands still (its machine swaps, or is moved)."""
    site = rng.choice(world.sites)
    async with site.process:
        assert site.server is not None
        site.server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        site.server.process.send_signal(signal.SIGCONT)


# ---- nodes


def node_link(mode: str) -> Fault:
    """Something happens between one server and NATS, one way or both."""

    async def fault(world: World, rng: random.Random, seconds: float) -> None:
        link = _nats_link(rng.choice(world.sites))
        link.mode = mode
        await asyncio.sleep(seconds * 2)
        link.mode = "pass"

    return fault


async def cut_nodes(world: World, rng: random.Random, seconds: float) -> None:
    """One server's link to NATS ends."""
    _nats_link(rng.choice(world.sites)).cut()
    await asyncio.sleep(seconds)


async def kill_nats(world: World, _rng: random.Random, seconds: float) -> None:
    """NATS is killed and started again."""
    assert world.nats is not None
    world.nats.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.nats.start)


async def lose_a_node(world: World, rng: random.Random, _seconds: float) -> None:
    """A whole node is killed, and comes back when the others no longer see it. Raises AssertionError if they still do."""
    site = rng.choice(world.sites)
    async with AsyncExitStack() as stack:
        for each in world.sites:  # who is there must not change by anything else meanwhile
            await stack.enter_async_context(each.process)
        await world.kill(site)
        others = [other for other in world.sites if other is not site]
        took = await world.presence_within(GONE_SECONDS, others)
        await world.start_server(site, site.port)
    assert took is not None, f"{site.name} was still seen {GONE_SECONDS:.0f} s after it was killed"


def _nats_link(site: Site) -> Proxy:
    assert site.nats is not None
    return site.nats


Weighted = dict[str, tuple[Fault, float]]  # a fault, and how often, beside the others

FAULTS: Weighted = {
    "close": (database_link("close"), 3),
    "silent": (database_link("silent"), 3),
    "mute": (database_link("mute"), 2),
    "late": (database_link("late"), 2),
    "deaf": (database_link("deaf"), 3),
    "slow": (database_link("slow"), 2),
    "cut": (cut, 3),
    "clients_silent": (client_link("silent"), 1),
    "clients_slow": (client_link("slow"), 1),
    "clients_cut": (cut_clients, 2),
    "terminate": (terminate, 2),
    "lock_table": (lock("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE"), 2),
    "lock_head": (lock("SELECT FROM ledger_head FOR UPDATE"), 2),
    "read_only": (read_only, 1),
    "no_connections": (no_connections, 1),
    "stop_a_backend": (signal_backend(signal.SIGSTOP), 2),
    "crash_a_backend": (signal_backend(signal.SIGKILL), 1),
    "disk_full": (disk_full, 2),
    "restart_the_database": (restart_the_database, 1),
    "lose_the_standby": (lose_the_standby, 1),
    "failover": (failover, 1.5),
    "kill_a_worker": (kill_a_worker, 3),
    "kill_a_server": (kill_a_server, 1),
    "stop_a_server": (stop_a_server, 1),
    "freeze_a_server": (freeze_a_server, 1),
}

OF_NODES: Weighted = {
    "nodes_silent": (node_link("silent"), 4),
    "nodes_mute": (node_link("mute"), 3),
    "nodes_late": (node_link("late"), 3),
    "nodes_slow": (node_link("slow"), 2),
    "nodes_cut": (cut_nodes, 3),
    "kill_nats": (kill_nats, 4),
    "lose_a_node": (lose_a_node, 2),
}
