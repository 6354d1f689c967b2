"""Stored hashes of subtrees: those of a ledger and of servers of the time when there was one a 256 leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from actors.ledger import audit, merkle
from actors.ledger.batch import new_ids
from actors.ledger.entry import GENESIS
from actors.ledger.server import Prepared, prepare
from schema import migrate as migrations
from schema.migrate import MigrationError, migrate
from schema.rows import LedgerHead, TransactionRow
from tests.support.storage import run

EMPTY = LedgerHead(0, GENESIS, merkle.EMPTY_ROOT, ())
STEP = 65_536  # entries a step of migration 0015


async def on(url: str, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await work(connection)
    finally:
        await connection.close()


def rows(user: UUID, count: int) -> list[TransactionRow]:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    return [TransactionRow(id_, user, Decimal("12.50"), "EUR", "", at) for id_ in new_ids(count)]


def as_before(prepared: Prepared) -> list[tuple[int, int, bytes]]:
    """The nodes that a server of an earlier version would have stored."""
    return [(tree.level, tree.index, value) for tree, value in prepared.nodes if tree.level % 8 == 0]


async def load(connection: asyncpg.Connection, count: int) -> None:
    """A ledger of `count` entries as servers of an earlier version have left it."""
    user = await connection.fetchval("INSERT INTO users (email) VALUES ('ada@example.com') RETURNING id")
    made = rows(user, count)
    prepared = prepare(EMPTY, made)
    await connection.execute("SET bitnexus.batch = 'on'")
    await connection.copy_records_to_table(
        "transactions",
        columns=["id", "user_id", "amount", "currency", "description", "inserted_at"],
        records=[(r.id, r.user_id, r.amount, r.currency, r.description, r.inserted_at) for r in made],
    )
    previous = [GENESIS, *prepared.hashes]
    await connection.copy_records_to_table(
        "ledger_entries",
        records=[
            (n + 1, made[n].id, prepared.leaf_hashes[n], previous[n], prepared.hashes[n])
            for n in range(count)
        ],
    )
    await connection.copy_records_to_table("ledger_nodes", records=as_before(prepared))
    await connection.execute(
        "UPDATE ledger_head SET seq = $1, hash = $2, root_hash = $3, frontier = $4",
        count, prepared.after.hash, prepared.after.root_hash, prepared.after.frontier,
    )  # fmt: skip


async def fault(connection: asyncpg.Connection) -> audit.Fault | None:
    [*_, last] = [step async for step in audit.verify_ledger(connection)]
    assert last.done
    return last.fault


def before_tiles(folder: Path) -> Path:
    for migration in migrations.load():
        if migration.version < 14:
            (folder / f"{migration.name}.sql").write_text(migration.sql, "utf-8")
    return folder


def test_an_existing_ledger_gets_the_hashes_that_proofs_need(empty_database: str, tmp_path: Path) -> None:
    """In more than one step; the last ends in the middle of a tile."""

    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection, before_tiles(tmp_path))
        await load(connection, STEP + 4_650)
        assert (await migrate(connection))[:2] == ["0014_tiles_of_16", "0015_fill_tiles_of_16"]
        assert await fault(connection) is None
        levels = await connection.fetch("SELECT level, count(*) FROM ledger_nodes GROUP BY 1 ORDER BY 1")
        size = STEP + 4_650
        assert [tuple(each) for each in levels] == [(level, size >> level) for level in (4, 8, 12, 16)]

    run(on(empty_database, work))


def test_a_batch_of_a_server_of_an_earlier_version_leaves_no_hole(database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        user = await connection.fetchval("INSERT INTO users (email) VALUES ('ada@example.com') RETURNING id")
        head = EMPTY
        for count in (3, 14, 250, 1, 250, 3600):
            made = rows(user, count)
            prepared = prepare(head, made)
            await connection.execute("SET bitnexus.batch = 'on'")
            await connection.copy_records_to_table(
                "transactions",
                columns=["id", "user_id", "amount", "currency", "description", "inserted_at"],
                records=[(r.id, r.user_id, r.amount, r.currency, r.description, r.inserted_at) for r in made],
            )
            nodes = as_before(prepared)
            appended = await connection.fetchval(
                "SELECT append_to_ledger('old', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                head.seq, head.hash, [r.id for r in made], prepared.leaf_hashes, prepared.hashes,
                prepared.after.root_hash, prepared.after.frontier, *([node[field] for node in nodes] for field in range(3)),
            )  # fmt: skip
            assert appended
            head = prepared.after
            assert await fault(connection) is None

    run(on(database, work))


def test_a_missing_entry_stops_no_migration(empty_database: str, tmp_path: Path) -> None:
    """What can be computed is there, and the audit still says what is missing."""

    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection, before_tiles(tmp_path))
        await load(connection, 600)
        await connection.execute("DELETE FROM ledger_entries WHERE seq = 300")
        await migrate(connection)
        found = await fault(connection)
        assert found is not None and (found.seq, found.reason) == (300, "entry_removed")
        stored = await connection.fetch("SELECT position FROM ledger_nodes WHERE level = 4 ORDER BY 1")
        assert [each[0] for each in stored] == [n for n in range(600 // 16) if n != 299 // 16]

    run(on(empty_database, work))


def test_a_migration_in_steps_goes_on_where_it_was_interrupted(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "0001_seen.sql").write_text(
        "CREATE TABLE seen (at bigint);"
        "CREATE FUNCTION go(at bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (at);"
        " IF at = 3 AND (SELECT count(*) FROM seen) > 1 AND to_regclass('mended') IS NULL THEN RAISE 'broken'; END IF;"
        " RETURN nullif(at + 1, 5); END $$;"
    )
    (tmp_path / "0002_walk.sql").write_text("-- in steps\nSELECT go($1);\n")
    (tmp_path / "0003_after.sql").write_text("SELECT 1;")

    async def work(connection: asyncpg.Connection) -> None:
        async def seen() -> list[Any]:
            return [each[0] for each in await connection.fetch("SELECT at FROM seen ORDER BY at")]

        with pytest.raises(MigrationError, match=r"^0002_walk\.sql: broken$"):
            await migrate(connection, tmp_path)
        assert await seen() == [0, 1, 2]
        assert await migrations.pending(connection, tmp_path) == ["0002_walk", "0003_after"]
        await connection.execute("CREATE TABLE mended ()")
        assert await migrate(connection, tmp_path) == ["0002_walk", "0003_after"]
        assert await seen() == [0, 1, 2, 3, 4]
        assert await migrate(connection, tmp_path) == []
        assert await connection.fetchval("SELECT count(*) FROM schema_migration_steps") == 0

    run(on(empty_database, work))
