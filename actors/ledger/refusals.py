"""Which rows kept the database from writing a batch, and the answers to their callers.

Each method answers the callers of such rows and returns the rest of the batch, which is to be written again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg

from actors.ledger.batch import IdempotencyConflict, Recorded, Rejected, UserMissing, Waiting, answer_all
from actors.ledger.locked_keys import Key, LockedKeys, key_of
from actors.ledger.locked_users import LockedUsers
from actors.ledger.writer_connection import WriterConnection
from actors.storage.failures import OutcomeUnknown, Unavailable, reason
from schema import ledger
from schema.rows import TransactionRow

SQL_SECONDS = 4.5  # as for the batch itself


class Refusals:
    """For one writer, over its `connection`; `now` is its clock, in seconds.

    `record_pending` writes the entries of other programs' rows; `failed` is called with an error that is about no row.
    """

    def __init__(
        self,
        connection: WriterConnection,
        now: Callable[[], float],
        record_pending: Callable[[], Awaitable[None]],
        failed: Callable[[Exception], Awaitable[None]],
    ) -> None:
        self.connection = connection
        self.locked = LockedUsers(now)
        self.locked_keys = LockedKeys(now)
        self._record_pending = record_pending
        self._failed = failed

    async def without_orphans(self, batch: list[Waiting]) -> list[Waiting]:
        """Answer those whose user does not exist."""
        try:
            connection = await self.connection.get()
            found = await connection.fetch(ledger.USERS, list({waiting.row.user_id for waiting in batch}))
        except Exception as error:
            answer_all(batch, Unavailable(reason(error)))
            return []
        there = {record["id"] for record in found}
        for waiting in batch:
            if waiting.row.user_id not in there:
                waiting.answer_all(UserMissing())
        return [waiting for waiting in batch if waiting.row.user_id in there]

    @property
    def knows_locked(self) -> bool:
        """Whether another session was seen to have anything locked."""
        return bool(self.locked.known or self.locked_keys.known)

    async def without_locked(self, batch: list[Waiting], known: bool) -> list[Waiting]:
        """Answer those whose user or idempotency key another session has locked.

        With `known` only those are checked that were locked before.
        """
        users = frozenset(waiting.row.user_id for waiting in batch)
        rows = [waiting.row for waiting in batch if waiting.row.idempotency_key is not None]
        keys: frozenset[Key] = frozenset()
        if known:
            users &= self.locked.known
            rows = [row for row in rows if key_of(row) in self.locked_keys.known]
        try:
            if users:
                users = await self.locked.find(await self.connection.get(), users)
            rows = [row for row in rows if row.user_id not in users]
            if rows:
                keys = await self.locked_keys.find(await self.connection.get(), rows)
        except Exception:  # writing the batch will show what is wrong
            return batch
        rest: list[Waiting] = []
        for waiting in batch:
            if waiting.row.user_id in users:
                waiting.answer_all(Unavailable("another session keeps this user locked"))
            elif key_of(waiting.row) in keys:
                waiting.answer_all(
                    Unavailable("another session has taken this Idempotency-Key, and not committed")
                )
            else:
                rest.append(waiting)
        return rest

    async def without_taken(self, batch: list[Waiting]) -> list[Waiting]:
        """Answer those whose key another program has taken since it was looked up."""
        return await self.without_replays(
            batch, {w.row.id for w in batch if w.row.idempotency_key is not None}
        )

    async def without_replays(self, batch: list[Waiting], replayed: set[UUID]) -> list[Waiting]:
        """Answer those whose keys are taken, and return the rest."""
        again = {(w.row.user_id, w.row.idempotency_key): w for w in batch if w.row.id in replayed}
        rest = [waiting for waiting in batch if waiting.row.id not in replayed]
        if not again:
            return rest
        try:
            records = await self._replays(*zip(*again, strict=True))
        except Exception as error:
            # A row of the key is there: it would be wrong to say that nothing was written.
            await self._failed(error)
            answer_all(list(again.values()), OutcomeUnknown(reason(error)))
            return rest
        for record in records:
            row = TransactionRow.from_record(record)
            waiting = again.pop((row.user_id, row.idempotency_key))
            if record["seq"] is not None:
                waiting.answer(Recorded(row, record["seq"], record["hash"], True), IdempotencyConflict())
            elif record["waits"]:
                waiting.answer_all(OutcomeUnknown("the row of this Idempotency-Key waits for its entry"))
            else:  # somebody got past the trigger: it would wait for ever
                waiting.answer_all(Rejected("The transaction of this Idempotency-Key is not in the ledger"))
        return [*again.values(), *rest]  # the row that had the key was removed in between

    async def _replays(self, users: tuple[UUID, ...], keys: tuple[str, ...]) -> list[asyncpg.Record]:
        async def read() -> list[asyncpg.Record]:
            connection = await self.connection.get()
            return await connection.fetch(ledger.REPLAYS, users, keys, timeout=SQL_SECONDS)

        records = await read()
        if any(record["seq"] is None for record in records):  # foreign rows that wait for their entries
            await self._record_pending()
            records = await read()
        return records
