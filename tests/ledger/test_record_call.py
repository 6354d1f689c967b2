"""The SQL calls that record a batch: of one row and of many, and what both refuse (actors/ledger/record_call.py)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from actors.ledger import audit, merkle
from actors.ledger.batch import new_ids
from actors.ledger.entry import GENESIS
from actors.ledger.proofs import read_head
from actors.ledger.record_call import record
from actors.ledger.server import prepare
from actors.server_state import server_state
from runtime.core import engine as engines
from runtime.testing.deterministic_engine import DeterministicEngine
from schema import ledger
from schema.rows import LedgerHead, TransactionRow
from tests.support.storage import run

EMPTY = LedgerHead(0, GENESIS, merkle.EMPTY_ROOT, ())
AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
SECONDS = 60.0


def rows(user: UUID, count: int, key: str | None = None) -> list[TransactionRow]:
    digest = None if key is None else bytes(32)
    return [
        TransactionRow(id_, user, Decimal("12.50"), "EUR", "ä", AT, key, digest) for id_ in new_ids(count)
    ]


@dataclass
class Counted:
    """A connection that counts its calls."""

    connection: asyncpg.Connection
    calls: list[str] = field(default_factory=list)

    def execute(self, sql: str, *arguments: Any, timeout: float) -> Awaitable[str]:
        self.calls.append(sql)
        return self.connection.execute(sql, *arguments, timeout=timeout)

    def fetchrow(self, sql: str, *arguments: Any, timeout: float) -> Awaitable[Any]:
        self.calls.append(sql)
        return self.connection.fetchrow(sql, *arguments, timeout=timeout)


def on(database: str, work: Callable[[Any, UUID], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute(ledger.RECORDER)
        engine = DeterministicEngine(0)
        engines.set_default(engine)  # whose `ServerState` names the node
        try:
            user = await connection.fetchval(
                "INSERT INTO users (email) VALUES ('ada@example.com') RETURNING id"
            )
            await work(Counted(connection), user)
        finally:
            engines.set_default(None)
            await connection.close()

    run(main())


def test_one_by_one_makes_the_ledger_that_batches_make(database: str) -> None:
    async def work(counted: Any, user: UUID) -> None:
        rng, head = random.Random(7), EMPTY
        while head.seq < 300:
            made = rows(user, rng.choice((1, 1, 1, 1, 2, 9)))
            prepared = prepare(head, made)
            assert await record(counted, made, prepared, SECONDS) is None
            head = prepared.after
            assert await read_head(counted.connection) == head
        ones = counted.calls.count(ledger.RECORD_ONE)
        assert ones > 50 and counted.calls.count(ledger.RECORD_MANY) > 50
        assert ledger.RECORD not in counted.calls
        [*_, last] = [step async for step in audit.verify_ledger(counted.connection)]
        assert last.done and last.fault is None
        assert not await counted.connection.fetchval(ledger.ANY_PENDING)

    on(database, work)


def test_what_is_not_recorded_changes_nothing_and_says_why(database: str) -> None:
    async def work(counted: Any, user: UUID) -> None:
        first = rows(user, 1, "key")
        prepared = prepare(EMPTY, first)
        assert await record(counted, first, prepared, SECONDS) is None
        other = rows(user, 1)
        stale = await record(counted, other, prepare(EMPTY, other), SECONDS)
        assert stale is not None and stale["outcome"] == "stale"
        assert LedgerHead.from_record(stale) == prepared.after
        again = rows(user, 1, "key")
        refused = await record(counted, again, prepare(prepared.after, again), SECONDS)
        assert (
            refused is not None and refused["outcome"] == "refused" and refused["replayed"] == [again[0].id]
        )
        nobody = rows(UUID(int=1), 1)
        with pytest.raises(asyncpg.ForeignKeyViolationError) as violated:
            await record(counted, nobody, prepare(prepared.after, nobody), SECONDS)
        assert violated.value.constraint_name == "transactions_user_id_fkey"
        assert counted.calls == [ledger.RECORD_ONE_KEYED, ledger.RECORD_ONE, ledger.RECORD, ledger.RECORD_ONE_KEYED,
                                 ledger.RECORD, ledger.RECORD_ONE]  # fmt: skip
        assert await read_head(counted.connection) == prepared.after
        assert await counted.connection.fetchval("SELECT count(*) FROM transactions") == 1

    on(database, work)


def test_many_are_recorded_all_or_none(database: str) -> None:
    async def work(counted: Any, user: UUID) -> None:
        keyed, plain = rows(user, 1, "key"), rows(user, 2)
        first = [plain[0], keyed[0], plain[1]]
        prepared = prepare(EMPTY, first)
        assert await record(counted, first, prepared, SECONDS) is None
        told = "SELECT idempotency_key, request_hash FROM transactions ORDER BY id = $1 DESC"
        assert [tuple(r) for r in await counted.connection.fetch(told, keyed[0].id)] == [
            ("key", bytes(32)), (None, None), (None, None),
        ]  # fmt: skip
        others = rows(user, 3)
        stale = await record(counted, others, prepare(EMPTY, others), SECONDS)
        assert stale is not None and stale["outcome"] == "stale"
        assert LedgerHead.from_record(stale) == prepared.after
        forked = replace(prepared.after, hash=bytes(32))
        stale = await record(counted, others, prepare(forked, others), SECONDS)
        assert stale is not None and stale["outcome"] == "stale"
        again = [*rows(user, 1), *rows(user, 1, "key"), *rows(user, 1, "another")]
        refused = await record(counted, again, prepare(prepared.after, again), SECONDS)
        assert (
            refused is not None and refused["outcome"] == "refused" and refused["replayed"] == [again[1].id]
        )
        nobody = [*rows(user, 1), *rows(UUID(int=1), 1)]
        with pytest.raises(asyncpg.ForeignKeyViolationError) as violated:
            await record(counted, nobody, prepare(prepared.after, nobody), SECONDS)
        assert violated.value.constraint_name == "transactions_user_id_fkey"
        assert await read_head(counted.connection) == prepared.after
        assert await counted.connection.fetchval("SELECT count(*) FROM transactions") == 3
        assert await counted.connection.fetchval("SELECT count(*) FROM ledger_entries") == 3

    on(database, work)


class Explained(Counted):
    """Notes the plan that a statement gets at its first call; with RECORDER, all later ones have the same."""

    async def execute(self, sql: str, *arguments: Any, timeout: float) -> str:
        connection = self.connection
        await connection.execute(f"PREPARE recording AS {sql}")
        literals = await connection.fetchval(
            "SELECT string_agg(coalesce(quote_literal(value), 'NULL'), ',' ORDER BY place) "
            "FROM unnest($1::text[]) WITH ORDINALITY AS t (value, place)",
            [_text(argument) for argument in arguments],
        )
        plan = await connection.fetch(f"EXPLAIN EXECUTE recording ({literals})")
        self.calls.append("\n".join(line for (line,) in plan))
        await connection.execute("DEALLOCATE recording")
        return await connection.execute(sql, *arguments, timeout=timeout)


@pytest.mark.parametrize("count", [1, 2])
def test_a_key_is_looked_up_by_its_index_from_an_empty_table_on(database: str, count: int) -> None:
    async def work(counted: Any, user: UUID) -> None:
        explained = Explained(counted.connection)
        made = [row for key in "ab"[:count] for row in rows(user, 1, key)]
        assert await record(explained, made, prepare(EMPTY, made), SECONDS) is None  # type: ignore[arg-type]
        [plan] = explained.calls
        assert (
            "using transactions_idempotency on transactions" in plan
            and "Seq Scan on transactions" not in plan
        )

    on(database, work)


def _text(argument: Any) -> str | None:
    """An argument as PostgreSQL reads it in a text."""
    match argument:
        case bytes():
            return f"\\x{argument.hex()}"
        case list() | tuple():
            return "{" + ",".join(f'"{_text(each)}"'.replace("\\", "\\\\") for each in argument) + "}"
        case None:
            return None
        case _:
            return str(argument)


def test_a_batch_of_one_tells_who_else_listens_and_nobody_else(database: str) -> None:
    async def work(counted: Any, user: UUID) -> None:
        told: list[Any] = []
        connection = counted.connection
        await connection.add_listener("bitnexus_ledger", lambda *heard: told.append(heard[3]))
        head = EMPTY
        for listeners, expected in (([], 1), (["another"], 2), ([server_state().id], 2)):
            await connection.execute("UPDATE ledger_head SET listeners = $1", listeners)
            made = rows(user, 1)
            prepared = prepare(head, made)
            assert await record(counted, made, prepared, SECONDS) is None
            head = prepared.after
            await connection.fetchval("SELECT 1")
            assert told == [f"{server_state().id}:{seq}" for seq in range(1, expected + 1)]


def test_who_hears_of_a_batch_by_the_fabric_is_not_told_by_notify(database: str) -> None:
    async def work(counted: Any, user: UUID) -> None:
        told: list[Any] = []
        connection, state = counted.connection, server_state()
        await connection.add_listener("bitnexus_ledger", lambda *heard: told.append(heard[3]))
        head = EMPTY
        for listeners, informed, size, notified in (
            ([state.id, "b", "c"], ("b",), 1, True),
            ([state.id, "b", "c"], ("b",), 2, True),
            ([state.id, "b", "c"], ("c", "b"), 1, False),
            ([state.id, "b", "c"], ("c", "b"), 2, False),
            ([state.id], ("b",), 1, False),
            (["b"], (), 2, True),
        ):
            await connection.execute("UPDATE ledger_head SET listeners = $1", listeners)
            state.informed = informed
            made = rows(user, size)
            prepared = prepare(head, made)
            assert await record(counted, made, prepared, SECONDS) is None
            head = prepared.after
            await connection.fetchval("SELECT 1")
            assert told == [f"{state.id}:{head.seq}"] * notified
            told.clear()

    on(database, work)
