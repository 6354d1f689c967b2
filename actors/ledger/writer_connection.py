"""The writer's own connection. The server's state keeps it, so that one that a killed writer held does not leak."""

from __future__ import annotations

from typing import Any

import asyncpg

from actors.server_state import server_state
from actors.storage import repo
from actors.storage.failures import OutcomeUnknown, Unavailable
from schema import ledger

SERVER_MS = 4000  # the database ends a statement of ours itself
# PostgreSQL's function; its messages are in the language of lc_messages.
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"


class WriterConnection:
    """At most one connection of the pool, kept from batch to batch."""

    def __init__(self) -> None:
        self._connection: asyncpg.Connection | None = None
        self._replicated = True  # all that was committed on it

    async def get(self) -> asyncpg.Connection:
        """The connection, made anew if need be. Raises `Unavailable` if there can be none now."""
        connection = self._connection
        try:
            if connection is not None and not connection.is_closed():
                return connection
        except asyncpg.InterfaceError:  # the repo has replaced the pool that it belonged to
            pass
        await self.drop()
        try:
            connection = await repo.pool().acquire(timeout=2.0)
            self._connection = server_state().writer_connection = connection  # type: ignore[assignment]
            connection.add_log_listener(self._hear)
            await connection.execute(f"SET statement_timeout = {SERVER_MS}; {ledger.RECORDER}")
        except Unavailable:
            raise
        except Exception as error:  # before anything was sent: nothing is written
            raise repo.suspect(error) from error
        return connection  # type: ignore[return-value]

    def check_replicated(self) -> None:
        """Raises `OutcomeUnknown` if a COMMIT on this connection did not wait for its standby to the end.

        Synchronous replication is given up when an operator or a time limit cancels the wait. PostgreSQL says so in a
        warning, and then that the statement has succeeded: it is durable here, and a failover loses it. A notice is handled
        before whoever waits for the statement goes on.
        """
        if not self._replicated:
            raise OutcomeUnknown("the wait for the standby was cancelled")

    def _hear(self, _connection: object, message: Any) -> None:
        if message.server_source_function == _WAIT_FOR_STANDBY:
            self._replicated = False

    async def drop(self) -> None:
        """Ends it, also one that a writer before this one held."""
        state = server_state()
        connection, state.writer_connection, self._connection = state.writer_connection, None, None
        self._replicated = True
        if connection is None:
            return
        try:
            connection.terminate()
            if state.pool is not None:
                await state.pool.release(connection)
        except Exception:
            return  # it belonged to a pool that is closed
