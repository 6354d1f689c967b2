"""Migrations: forward only, whole or not at all, safe with two servers; and what the tables refuse."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest

from schema import migrate as migrations
from schema.migrate import MigrationError, migrate, pending
from tests.support.database import add_user, execute, fetchval
from tests.support.storage import run, until

ALL = [migration.name for migration in migrations.load()]


async def with_connection(url: str, work) -> object:  # type: ignore[no-untyped-def]
    connection = await asyncpg.connect(url)
    try:
        return await work(connection)
    finally:
        await connection.close()


def test_migrating_applies_everything_once(empty_database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        assert await pending(connection) == ALL
        assert await migrate(connection) == ALL
        assert await pending(connection) == [] and await migrate(connection) == []
        assert await connection.fetchval("SELECT seq FROM ledger_head") == 0

    run(with_connection(empty_database, work))


def test_servers_that_start_at_once_migrate_once(empty_database: str) -> None:
    async def main() -> None:
        applied = await asyncio.gather(*(with_connection(empty_database, migrate) for _ in range(4)))
        assert sorted(map(len, applied)) == [0, 0, 0, len(ALL)]  # type: ignore[arg-type]

    run(main())


def test_where_nothing_is_left_no_lock_is_asked_for_and_nothing_written(database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute("SET default_transaction_read_only = on; SET lock_timeout = '1ms'")
        other = await asyncpg.connect(database)
        await other.execute("SELECT pg_advisory_lock($1)", migrations.LOCK)
        assert await migrate(connection) == []
        await other.close()

    run(with_connection(database, work))


def test_what_is_left_of_a_database_that_takes_no_writes_is_said(empty_database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(MigrationError, match=r"^0001_users waits, and the database takes no writes: "):
            await migrate(connection)

    run(with_connection(empty_database, work))


def test_who_has_the_lock_of_those_who_migrate_is_named(
    empty_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        other = await asyncpg.connect(empty_database, server_settings={"application_name": "a stranger"})
        await other.execute("SELECT pg_advisory_lock($1)", migrations.LOCK)
        name = f"session {other.get_server_pid()} (a stranger)"
        impatient = await asyncpg.connect(empty_database, command_timeout=0.2)
        with pytest.raises(MigrationError, match=re.escape(name)):
            await migrate(impatient)
        impatient.terminate()
        caplog.clear()
        waiting = asyncio.create_task(with_connection(empty_database, migrate))
        await until(lambda: f"migrations wait for {name}" in caplog.text)
        assert not waiting.done()
        await other.close()
        assert await waiting == ALL

    run(main())


def test_a_migration_that_waits_for_a_lock_lets_others_by(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader has a table for long: who only reads comes past the migration that wants it alone."""
    monkeypatch.setattr(migrations, "LOCK_MS", 50)
    monkeypatch.setattr(migrations, "PAUSE_SECONDS", 0.01)
    folder = write(tmp_path, **{"0001_a": "CREATE TABLE a ();"})

    async def main() -> None:
        await with_connection(empty_database, lambda connection: migrate(connection, folder))
        write(folder, **{"0002_b": "ALTER TABLE a ADD COLUMN b integer;"})
        reader = await asyncpg.connect(empty_database)
        await reader.execute("BEGIN; SELECT FROM a")
        waiting = asyncio.create_task(
            with_connection(empty_database, lambda connection: migrate(connection, folder))
        )
        await until(lambda: "0002_b waits for a lock" in caplog.text)
        await fetchval(empty_database, "SELECT count(*) FROM a")
        await reader.close()
        assert await waiting == ["0002_b"]

    run(main())


def write(folder: Path, **files: str) -> Path:
    for name, sql in files.items():
        (folder / f"{name}.sql").write_text(sql)
    return folder


def test_a_failing_migration_leaves_nothing_behind(empty_database: str, tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        **{
            "0001_a": "CREATE TABLE a ();",
            "0002_b": "CREATE TABLE b ();\nSELECT nothing;",
            "0003_c": "SELECT 1;",
        },
    )

    async def work(connection: asyncpg.Connection) -> None:
        with pytest.raises(MigrationError, match=r'^0002_b\.sql, line 2: column "nothing" does not exist$'):
            await migrate(connection, folder)
        assert await connection.fetchval("SELECT to_regclass('a') IS NOT NULL AND to_regclass('b') IS NULL")
        assert await pending(connection, folder) == ["0002_b", "0003_c"]
        write(folder, **{"0002_b": "CREATE TABLE b ();"})
        assert await migrate(connection, folder) == ["0002_b", "0003_c"]  # the lock was given back

    run(with_connection(empty_database, work))


def test_a_migration_and_the_note_of_it_are_one_transaction(empty_database: str, tmp_path: Path) -> None:
    note = "INSERT INTO schema_migrations (version, name, checksum) VALUES (1, '', '');"
    folder = write(tmp_path, **{"0001_a": "CREATE TABLE a ();" + note})

    async def work(connection: asyncpg.Connection) -> None:
        with pytest.raises(MigrationError, match=r"0001_a.*duplicate key"):
            await migrate(connection, folder)
        assert await connection.fetchval("SELECT to_regclass('a') IS NULL")

    run(with_connection(empty_database, work))


def test_edited_misnumbered_and_late_migrations_are_refused(empty_database: str, tmp_path: Path) -> None:
    folder = write(tmp_path, **{"0001_a": "SELECT 1;", "0003_c": "SELECT 1;"})

    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection, folder)
        write(folder, **{"0002_b": "SELECT 1;"})
        with pytest.raises(MigrationError, match=r"0002_b\.sql comes before 0003_c"):
            await migrate(connection, folder)
        (folder / "0002_b.sql").unlink()
        write(folder, **{"0001_a": "SELECT 2;"})
        with pytest.raises(MigrationError, match=r"0001_a\.sql was edited"):
            await migrate(connection, folder)
        write(folder, **{"0001_a": "SELECT 1;", "0003_twice": "SELECT 1;"})
        with pytest.raises(MigrationError, match="number 0003 is taken"):
            await migrate(connection, folder)
        (folder / "0003_twice.sql").unlink()
        write(folder, Bad="SELECT 1;")
        with pytest.raises(MigrationError, match="NNNN_name"):
            await migrate(connection, folder)

    run(with_connection(empty_database, work))


def test_a_database_that_is_ahead_is_usable_for_older_code(
    empty_database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, **{"0001_a": "SELECT 1;", "0002_b": "SELECT 1;"})

    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection, folder)
        (folder / "0002_b.sql").unlink()
        assert await migrate(connection, folder) == []
        assert "0002_b" in caplog.text

    run(with_connection(empty_database, work))


SHARED = (
    "users",
    "transactions",
    "ledger_entries",
    "ledger_nodes",
    "ledger_head",
    "tasks",
    "emails",
    "notifications",
    "flags",
)


def test_the_reading_role_reads_the_shared_tables_and_nothing_else(empty_database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        # Here and not in a template: a copy does not get the database's own privileges.
        await migrate(connection)
        await connection.execute("SET ROLE netlify_readonly")
        for table in SHARED:
            await connection.fetch(f"SELECT * FROM {table}")
        tables = [
            row[0]
            for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        for table in set(tables) - set(SHARED):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {table}")
        writes = [
            statement
            for table in tables
            for statement in (
                f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}", f"TRUNCATE {table}",
                f"LOCK TABLE {table} IN EXCLUSIVE MODE", f"ALTER TABLE {table} ADD COLUMN x int",
                f"DROP TABLE {table}",
                f"CREATE TRIGGER x BEFORE INSERT ON {table} EXECUTE FUNCTION refuse_change()",
            )
        ] + [
            "UPDATE users SET role = 'admin'", "UPDATE transactions SET amount = 1", "CREATE TABLE x ()",
            "CREATE TEMPORARY TABLE x ()", "CREATE SCHEMA x",
            "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT append_to_ledger('', 0, '', '{}', '{}', '{}', '', '{}', '{}', '{}', '{}')",
            "SELECT nextval('change_log_id_seq')", "CREATE ROLE x", "SET ROLE postgres",
        ]  # fmt: skip
        for statement in writes:
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.DependentObjectsStillExistError)):
                async with connection.transaction():
                    await connection.execute(statement)

    run(with_connection(empty_database, work))


def test_any_update_of_a_task_raises_its_version(database: str) -> None:
    async def main() -> None:
        task = await fetchval(database, "INSERT INTO tasks (title) VALUES ('t') RETURNING id")
        assert (
            await fetchval(database, "UPDATE tasks SET title = 'u' WHERE id = $1 RETURNING version", task)
            == 2
        )
        assert (
            await fetchval(database, "UPDATE tasks SET version = 1 WHERE id = $1 RETURNING version", task)
            == 3
        )

    run(main())


def test_a_task_that_was_due_at_infinity_can_be_changed_again(empty_database: str, tmp_path: Path) -> None:
    for migration in migrations.load():
        if migration.version < 7:
            (tmp_path / f"{migration.name}.sql").write_text(migration.sql, "utf-8")

    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection, tmp_path)
        await connection.execute(
            "INSERT INTO tasks (title, due_at) VALUES ('a', 'infinity'), ('b', '2030-01-01')"
        )
        await migrate(connection)
        await connection.execute("UPDATE tasks SET priority = 'low'")
        assert await connection.fetchval("SELECT count(due_at) FROM tasks") == 1

    run(with_connection(empty_database, work))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO transactions (user_id, amount, currency) VALUES ($1, 0, 'EUR')",
        "INSERT INTO transactions (user_id, amount, currency) VALUES ($1, 'NaN', 'EUR')",
        "INSERT INTO transactions (user_id, amount, currency) VALUES ($1, 1, 'eur')",
        "INSERT INTO transactions (user_id, amount, currency)"
        " SELECT gen_random_uuid(), 1, 'EUR' FROM users WHERE id = $1",
        "INSERT INTO transactions (user_id, amount, currency, idempotency_key)"
        " SELECT $1, 1, 'EUR', 'k' FROM generate_series(1, 2)",
        "INSERT INTO ledger_head (seq, hash, root_hash, frontier, only_row)"
        " SELECT 1, '', '', '{}', false FROM users WHERE id = $1",
        "INSERT INTO users (email) SELECT upper(email) FROM users WHERE id = $1",
        "INSERT INTO transactions (user_id, amount, currency, inserted_at) VALUES ($1, 1, 'EUR', 'infinity')",
        "INSERT INTO transactions (user_id, amount, currency, inserted_at) VALUES ($1, 1, 'EUR', '10000-01-01')",
        "INSERT INTO tasks (title, due_at) SELECT 't', '-infinity' FROM users WHERE id = $1",
        "INSERT INTO notifications (user_id, title, read_at) VALUES ($1, 't', '0044-03-15 BC')",
        "UPDATE users SET inserted_at = 'infinity' WHERE id = $1",
        "DELETE FROM audit_log WHERE actor_id = $1",
        "UPDATE audit_log SET action = '' WHERE actor_id = $1",
    ],
)
def test_tables_refuse_what_must_not_be(database: str, statement: str) -> None:
    async def main() -> None:
        user = await add_user(database)
        with pytest.raises((asyncpg.IntegrityConstraintViolationError, asyncpg.InsufficientPrivilegeError)):
            await execute(database, statement, user)

    run(main())
