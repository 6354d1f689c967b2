"""Idempotency keys that a row of another program has taken, and not committed: who records under one waits for that program.

So one batch waits, as long as any statement may wait for a lock; from then on these keys are refused at once, and whether that
still holds is asked at most every ASK_SECONDS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

import asyncpg

from actors.ledger.locked_users import RollBack
from schema import ledger
from schema.rows import TransactionRow

ASK_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 60.0  # after the last question
LOCK_MS: Final = 20  # a row that nobody has locked is inserted in less
SQL_SECONDS: Final = 1.0  # for all rows of a batch

Key = tuple[UUID, str | None]


def key_of(row: TransactionRow) -> Key:
    """The key of a row, with its user."""
    return row.user_id, row.idempotency_key


class LockedKeys:
    """What one writer knows of them. `now` is its clock, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._known: frozenset[Key] = frozenset()
        self._now = now
        self._asked_at = 0.0

    @property
    def known(self) -> frozenset[Key]:
        """The keys that were locked when they were asked for."""
        if self._known and self._now() - self._asked_at > FORGET_SECONDS:
            self._known = frozenset()
        return self._known

    async def find(self, connection: asyncpg.Connection, rows: Sequence[TransactionRow]) -> frozenset[Key]:
        """The keys of these rows that are locked now, or were ASK_SECONDS ago. Raises what the database does.

        Rows that are not committed can't be seen. So each row is inserted, without waiting for others, and removed again. Those
        for which there is no time count as locked.
        """
        keys = frozenset(key_of(row) for row in rows)
        if not rows or (keys <= self.known and self._now() - self._asked_at < ASK_SECONDS):
            return keys
        found = await self._try(connection, rows)
        self._known, self._asked_at = self.known - keys | found, self._now()
        return found

    async def _try(self, connection: asyncpg.Connection, rows: Sequence[TransactionRow]) -> frozenset[Key]:
        found: set[Key] = set()
        until = self._now() + SQL_SECONDS
        with suppress(RollBack):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}", timeout=SQL_SECONDS)
                for row in rows:
                    if self._now() > until or await _is_locked(connection, row):
                        found.add(key_of(row))
                raise RollBack
        return frozenset(found)


async def _is_locked(connection: asyncpg.Connection, row: TransactionRow) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(
                ledger.TRY_ROW, row.id, row.user_id, row.amount, row.currency, row.idempotency_key, row.inserted_at,
                timeout=SQL_SECONDS,
            )  # fmt: skip
    except asyncpg.LockNotAvailableError:
        return True
    except asyncpg.IntegrityConstraintViolationError:
        pass  # it is committed; the batch finds that out
    return False
