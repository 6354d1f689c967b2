"""A pooler between us and PostgreSQL: it must give each connection of ours a session of its own.

LISTEN, prepared statements and the limits of `connecting.SESSION` belong to a session. PgBouncer's `pool_mode=session` gives
one; in transaction and statement mode they would be lost, or be set for other clients. The queries here use the simple protocol:
prepared statements could collide with those of another client.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from actors.storage.connecting import CONNECT_SECONDS, open_connection

ROUNDS: Final = 3  # in one of them the other clients of a busy pooler may hide that a session is shared
BACKEND: Final = (
    "SET LOCAL client_min_messages = notice; DO $$ BEGIN RAISE NOTICE '%', pg_backend_pid(); END $$"
)
ADVICE: Final = (
    "a pooler gives no session (LISTEN, prepared statements and time limits need one); "
    "set pool_mode=session in PgBouncer for this database or user, or name PostgreSQL itself"
)


async def shares_sessions(one: asyncpg.Connection, url: str, driver: Any = None) -> bool:
    """Whether what is between `one` and PostgreSQL serves another connection to `url` with the same session.

    `driver` as in `connecting.open_connection`. Raises what connecting raises.
    """
    if await _backend(one) == one.get_server_pid():  # a pooler makes up the number that it gives at the start
        return False
    other = await open_connection(
        url, timeout=CONNECT_SECONDS, driver=driver, command_timeout=CONNECT_SECONDS
    )
    try:
        return await _meet(one, other)
    finally:
        other.terminate()


async def _meet(one: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    for _ in range(ROUNDS):
        before = await _backend(one)
        try:
            await other.execute("BEGIN")
        except asyncpg.PostgresError:  # PgBouncer in statement mode refuses transactions
            return True
        if await _backend(other) == before or await _backend(one) != before:
            return True
        await other.execute("ROLLBACK")
    return False


async def _backend(connection: asyncpg.Connection) -> int:
    """The process that serves this connection now, by a notice: in the simple protocol asyncpg gives no rows."""
    said: list[str] = []

    def listen(_connection: asyncpg.Connection, message: asyncpg.PostgresLogMessage) -> None:
        said.append(str(getattr(message, "message", "")))

    connection.add_log_listener(listen)
    try:
        await connection.execute(BACKEND, timeout=CONNECT_SECONDS)
    finally:
        connection.remove_log_listener(listen)
    return int(said[-1])
