"""Ledger entries for rows of other programs, which a trigger has put into the queue `ledger_pending`."""

from __future__ import annotations

from typing import Final

import asyncpg

from actors.ledger import proofs, record_call
from actors.ledger.server import prepare
from schema import ledger
from schema.rows import LedgerHead, TransactionRow

PAGE: Final = 250  # rows that get their entries in one transaction


async def any_waits(connection: asyncpg.Connection) -> bool:
    """Whether the queue holds anything."""
    return bool(await connection.fetchval(ledger.ANY_PENDING))


async def record_page(connection: asyncpg.Connection) -> LedgerHead | None:
    """Commits the entries of the rows that have waited longest; returns the new head, None if another server moved it first."""
    head = await proofs.read_head(connection)
    queue = await connection.fetch(ledger.PENDING, PAGE)
    rows = list({r["id"]: TransactionRow.from_record(r) for r in queue if r["id"] is not None}.values())
    prepared = prepare(head, rows)
    outcome = await connection.fetchval(
        ledger.RECORD_PENDING,
        *record_call.head_of(prepared),
        [record["position"] for record in queue],
        [row.id for row in rows],
        *record_call.entries_of(prepared),
    )
    return prepared.after if outcome == "recorded" else None
