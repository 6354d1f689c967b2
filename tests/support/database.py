"""Real PostgreSQL for tests: one embedded cluster a session, a fresh migrated database a test (a copy of a template)."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from actors.storage.postgres.cluster import SUPERUSER, DatabaseCluster
from schema.migrate import migrate

TEMPLATE = "bitnexus_template"
UNSAFE_BUT_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def embedded() -> Iterator[DatabaseCluster]:
    """The session's cluster, with the template database migrated."""
    folder = Path(tempfile.mkdtemp(prefix="bitnexus-test-"))
    folder.chmod(0o755)
    cluster = DatabaseCluster.at(folder, UNSAFE_BUT_FAST)
    asyncio.run(_start(cluster))
    yield cluster
    cluster.stop_blocking()
    shutil.rmtree(folder, ignore_errors=True)


async def _start(cluster: DatabaseCluster) -> None:
    assert await cluster.start()
    await execute(cluster.url("postgres", SUPERUSER), f"CREATE DATABASE {TEMPLATE} OWNER bitnexus")
    connection = await asyncpg.connect(cluster.url(TEMPLATE))
    await migrate(connection)
    await connection.close()


@pytest.fixture
def database(embedded: DatabaseCluster) -> Iterator[str]:
    """The URL of a fresh database with all migrations applied."""
    yield from _database(embedded, TEMPLATE)


@pytest.fixture
def empty_database(embedded: DatabaseCluster) -> Iterator[str]:
    """The URL of a fresh database without any tables."""
    yield from _database(embedded, "template1")


def _database(cluster: DatabaseCluster, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    admin = cluster.url("postgres", SUPERUSER)
    asyncio.run(
        execute(admin, f"CREATE DATABASE {name} TEMPLATE {template} OWNER bitnexus STRATEGY file_copy")
    )
    yield cluster.url(name)
    if cluster.serving:
        asyncio.run(execute(admin, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(url: str, sql: str, *arguments: object) -> None:
    """Run one statement on a connection of its own, as another program would."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql, *arguments)
    finally:
        await connection.close()


async def fetchval(url: str, sql: str, *arguments: object) -> object:
    """One value, read on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


async def add_user(url: str, email: str = "ada@example.com") -> object:
    """A user's id."""
    return await fetchval(url, "INSERT INTO users (email, name) VALUES ($1, 'Ada') RETURNING id", email)
