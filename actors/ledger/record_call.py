"""The one SQL call that records a batch and its ledger entries: its arguments, and what it answers."""

from __future__ import annotations

from typing import Any

import asyncpg

from actors.ledger.server import Prepared
from actors.server_state import server_state
from actors.storage import repo
from actors.storage.failures import OutcomeUnknown, rolled_back
from schema import ledger
from schema.rows import TransactionRow


async def record(
    connection: asyncpg.Connection, rows: list[TransactionRow], prepared: Prepared, seconds: float
) -> asyncpg.Record | None:
    """Commits the rows with their entries. None: it is done; else nothing is, and the record says why.

    Its `outcome` is `stale` (and it is the head) or `refused` (`replayed` lists the rows whose keys are taken). Raises
    `OutcomeUnknown` when the answer does not come within `seconds` or is lost, and what the database has rolled back for.
    """
    if len(rows) == 1 and not prepared.nodes:
        statement = ledger.RECORD_ONE if rows[0].idempotency_key is None else ledger.RECORD_ONE_KEYED
        arguments = _one_of(rows[0], prepared)
    else:
        statement, arguments = ledger.RECORD_MANY, _many_of(rows, prepared)
    try:
        if await connection.execute(statement, *arguments, timeout=seconds) == f"INSERT 0 {len(rows)}":
            return None
        found: Any = await connection.fetchrow(ledger.RECORD, *_arrays_of(rows, prepared), timeout=seconds)
    except Exception as error:
        if rolled_back(error):
            raise
        # The answer is lost, and COMMIT may have happened.
        raise OutcomeUnknown(repo.reason(error)) from error
    return None if found["outcome"] == "recorded" else found


def _one_of(row: TransactionRow, prepared: Prepared) -> tuple[Any, ...]:
    after = prepared.after
    return (
        *head_of(prepared), row.inserted_at, row.id, row.user_id, str(row.amount), row.currency, row.description,
        row.idempotency_key, row.request_hash, prepared.leaf_hashes[0], after.hash, after.root_hash,
        len(after.frontier) - 1, after.frontier[-1],
    )  # fmt: skip


def _many_of(rows: list[TransactionRow], prepared: Prepared) -> tuple[Any, ...]:
    writers, seq, before = head_of(prepared)
    after, nodes = prepared.after, prepared.nodes
    return (
        writers,
        seq,
        b"".join([before, *prepared.hashes]),
        *_columns_of(rows),
        b"".join(prepared.leaf_hashes),
        after.root_hash,
        b"".join(after.frontier),
        ",".join([str(subtree.level) for subtree, _ in nodes]),
        ",".join([str(subtree.index) for subtree, _ in nodes]),
        b"".join([value for _, value in nodes]),
    )


def _arrays_of(rows: list[TransactionRow], prepared: Prepared) -> tuple[Any, ...]:
    *columns, keys, request_hashes = _columns_of(rows)
    return (*head_of(prepared), *columns, keys, request_hashes, bool(keys), *entries_of(prepared))


def _columns_of(rows: list[TransactionRow]) -> tuple[Any, ...]:
    keyed = any(row.idempotency_key is not None for row in rows)
    # unnest fills the shorter arrays of keys and hashes up with null.
    return (
        rows[0].inserted_at,
        ",".join([str(row.id) for row in rows]),
        ",".join([str(row.user_id) for row in rows]),
        ",".join([str(row.amount) for row in rows]),
        ",".join([row.currency for row in rows]),
        [row.description for row in rows],
        [row.idempotency_key for row in rows] if keyed else (),
        [row.request_hash for row in rows] if keyed or any(row.request_hash for row in rows) else (),
    )


def head_of(prepared: Prepared) -> tuple[str, int, bytes]:
    """Who writes, with those who hear of it by the fabric, and the head that the entries follow."""
    state = server_state()
    return " ".join((state.id, *state.informed)), prepared.before.seq, prepared.before.hash


def entries_of(prepared: Prepared) -> tuple[Any, ...]:
    """The entries, the head after them, and the hashes of subtrees that they complete."""
    after, nodes = prepared.after, prepared.nodes
    return (
        prepared.leaf_hashes,
        prepared.hashes,
        after.root_hash,
        after.frontier,
        [subtree.level for subtree, _ in nodes],
        [subtree.index for subtree, _ in nodes],
        [value for _, value in nodes],
    )
