"""The migration runner: forward only, each migration in a transaction of its own, all under one advisory lock.

A migration is a file NNNN_name.sql in schema/migrations. What was applied stands in the table
schema_migrations with the file's checksum, so an applied file that was edited afterwards is an error, not a
silent difference. Two servers that start at once are safe: the second waits for the lock and finds nothing
left to do. Where nothing is left to do from the start, no lock is taken and nothing is written: the database may be a standby.

A migration waits for a table's lock no longer than LOCK_MS at a time, since all who come after it would wait with it; then it
lets them by and tries again.

A file that begins with `-- in steps` is one query that does a part of its work after the position $1, 0 at first, and returns the
next position, or null at the end. Each step is a transaction of its own, so that work on a large table neither holds up
the servers that are running nor begins anew when it is interrupted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x6269746E65787573 & 0x7FFFFFFFFFFFFFFF  # "bitnexus"
IN_STEPS = "-- in steps\n"
LOCK_MS = 3_000
LOCK_TRIES = 60
PAUSE_SECONDS = 1.0
LOOK_SECONDS = 10.0  # for what waits for nobody: the database does not answer
HOLDER = """
SELECT format('session %s (%s)', a.pid, a.application_name) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()
  AND l.classid::bigint << 32 | l.objid::bigint = $1
"""
MINIMUM_SERVER = 130000  # PostgreSQL 13: xid8, pg_snapshot, gen_random_uuid

log = logging.getLogger("bitnexus.migrate")


class MigrationError(Exception):
    """The schema can't be brought up to date; the text is one line."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    sql: str
    checksum: str


def load(directory: Path = MIGRATIONS) -> list[Migration]:
    """Every migration in `directory`, in order. Raises `MigrationError` on a wrong name or a number used twice."""
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named NNNN_name.sql, lower case")
        version, sql = int(match[1]), path.read_text(encoding="utf-8")
        if version in found:
            raise MigrationError(f"{path.name}: number {match[1]} is taken by {found[version].name}")
        found[version] = Migration(version, path.stem, sql, hashlib.sha256(sql.encode()).hexdigest())
    return list(found.values())


async def pending(connection: asyncpg.Connection, directory: Path = MIGRATIONS) -> list[str]:
    """The names of the migrations that are not applied yet, in order. Changes nothing."""
    return [migration.name for migration in await _pending(connection, load(directory))]


async def migrate(connection: asyncpg.Connection, directory: Path = MIGRATIONS) -> list[str]:
    """Apply what is pending and return its names. Waits while another server migrates.

    Raises `MigrationError` if a migration fails (it leaves nothing behind, or its step does; those before it stay), if
    an applied one was edited, or if something is pending and the database takes no writes.
    """
    migrations = load(directory)
    server = connection.get_server_version()
    if server.major * 10000 < MINIMUM_SERVER:
        raise MigrationError(
            f"PostgreSQL {server.major} is too old: {MINIMUM_SERVER // 10000} or newer is needed"
        )
    waiting = await _pending(connection, migrations)
    if not waiting:
        return []
    await _lock(connection)
    try:
        return await _migrate(connection, migrations)
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise MigrationError(f"{waiting[0].name} waits, and the database takes no writes: {error}") from error
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _migrate(connection: asyncpg.Connection, migrations: list[Migration]) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
        " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migration_steps (version integer PRIMARY KEY, next bigint NOT NULL)"
    )
    left = _left(migrations, await _applied(connection))
    for migration in left:
        await _apply(connection, migration)
    return [migration.name for migration in left]


async def _lock(connection: asyncpg.Connection) -> None:
    """Takes the lock of those who migrate; whose turn it is instead is said once."""
    if await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        return
    holder = await connection.fetchval(HOLDER, LOCK) or "a session that has just ended"
    log.warning("migrations wait for %s, which has their lock", holder)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    except TimeoutError:
        raise MigrationError(f"{holder} has the lock of those who migrate, and keeps it") from None


async def _pending(connection: asyncpg.Connection, migrations: list[Migration]) -> list[Migration]:
    exists = await connection.fetchval(
        "SELECT to_regclass('schema_migrations') IS NOT NULL", timeout=LOOK_SECONDS
    )
    return _left(migrations, await _applied(connection) if exists else {})


async def _applied(connection: asyncpg.Connection) -> dict[int, tuple[str, str]]:
    rows = await connection.fetch(
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version", timeout=LOOK_SECONDS
    )
    return {row["version"]: (row["name"], row["checksum"]) for row in rows}


def _left(migrations: list[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    for version, (name, checksum) in applied.items():
        migration = known.get(version)
        if migration is None:
            log.warning("the database has migration %s, which this version of BitNexus does not know", name)
        elif migration.checksum != checksum:
            raise MigrationError(
                f"{migration.name}.sql was edited after it was applied: put the change into a new file"
            )
    left = [migration for migration in migrations if migration.version not in applied]
    newest = max((version for version in applied if version in known), default=0)
    if left and left[0].version < newest:
        raise MigrationError(
            f"{left[0].name}.sql comes before {known[newest].name}, which is applied: give it a higher number"
        )
    return left


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        await _all_steps(connection, migration)
    except asyncpg.ReadOnlySQLTransactionError:
        raise
    except asyncpg.PostgresError as error:
        line = ""
        position = getattr(error, "position", None)
        if position:
            line = f", line {migration.sql[: int(position)].count(chr(10)) + 1}"
        raise MigrationError(f"{migration.name}.sql{line}: {str(error).splitlines()[0]}") from error
    log.info("applied migration %s", migration.name)


async def _all_steps(connection: asyncpg.Connection, migration: Migration) -> None:
    for left in reversed(range(LOCK_TRIES)):
        try:
            while not await _step(connection, migration):
                pass
            return
        except asyncpg.LockNotAvailableError:
            if not left:
                raise
            if left == LOCK_TRIES - 1:
                log.warning("migration %s waits for a lock that others hold", migration.name)
            await asyncio.sleep(PAUSE_SECONDS)


async def _step(connection: asyncpg.Connection, migration: Migration) -> bool:
    """The next part of a migration, all of one that is not in steps; whether it was the last."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
        if not migration.sql.startswith(IN_STEPS):
            await connection.execute(migration.sql)
            await _note(connection, migration)
            return True
        at = await connection.fetchval(
            "SELECT next FROM schema_migration_steps WHERE version = $1", migration.version
        )
        following = await connection.fetchval(migration.sql, at or 0)
        if following is None:
            await connection.execute(
                "DELETE FROM schema_migration_steps WHERE version = $1", migration.version
            )
            await _note(connection, migration)
            return True
        await connection.execute(
            "INSERT INTO schema_migration_steps (version, next) VALUES ($1, $2)"
            " ON CONFLICT (version) DO UPDATE SET next = EXCLUDED.next",
            migration.version,
            following,
        )
        return False


async def _note(connection: asyncpg.Connection, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.checksum,
    )
