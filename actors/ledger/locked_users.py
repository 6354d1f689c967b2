"""Users whose row another session has locked: a batch with a transaction of theirs would wait for that lock, for all its users.

The first such batch waits until its lock timeout. From then on transactions of these users are refused at once, and the database
is asked at most every ASK_SECONDS whether they are still locked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

import asyncpg

from schema import ledger

ASK_SECONDS: Final = 1.0
LOCK_MS: Final = 200  # for the table itself
SQL_SECONDS: Final = 2.0


class RollBack(Exception):
    """Ends a transaction of which nothing is to stay. A COMMIT of its row locks would wait for a synchronous standby."""


class LockedUsers:
    """Those that one writer has found: `known`. `now` is its clock, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.known: frozenset[UUID] = frozenset()
        self._now = now
        self._asked_at = 0.0

    async def find(self, connection: asyncpg.Connection, users: frozenset[UUID]) -> frozenset[UUID]:
        """Those of `users` who are locked now, or were so within the last ASK_SECONDS. Raises what a query raises."""
        if users <= self.known and self._now() - self._asked_at < ASK_SECONDS:
            return users
        records: list[asyncpg.Record] = []
        with suppress(RollBack):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}", timeout=SQL_SECONDS)
                records = await connection.fetch(ledger.LOCKED_USERS, list(users), timeout=SQL_SECONDS)
                raise RollBack
        found = frozenset(record["id"] for record in records)
        self.known, self._asked_at = self.known - users | found, self._now()
        return found
