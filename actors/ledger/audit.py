"""Verification of the whole ledger: every row, every entry, the chain, the tree, the head. `bitnexus ledger verify` shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import msgspec

from actors.ledger import entry as ledger_entry
from actors.ledger import proofs as ledger_proofs
from actors.ledger.merkle import Frontier, Subtree
from schema import ledger
from schema.rows import TransactionRow

PAGE = 2000


class Fault(msgspec.Struct, frozen=True):
    """The first thing that is wrong; `seq` is None for a transaction that has no entry."""

    seq: int | None
    transaction_id: UUID | None
    reason: str


class Step(msgspec.Struct, frozen=True):
    """Progress: entries checked of how many. The last step has `done`; the ledger is sound if it has no fault."""

    checked: int
    total: int
    root_hash: bytes
    fault: Fault | None = None
    done: bool = False


async def verify_ledger(connection: asyncpg.Connection) -> AsyncIterator[Step]:
    """Check everything on one snapshot, a step each 2000 entries, and stop at the first fault.

    Reasons: transaction_removed, transaction_changed, entry_removed, chain_broken, entry_added, head_changed,
    node_changed, not_in_ledger.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        head = await ledger_proofs.read_head(connection)
        frontier, chained, nodes = Frontier(), ledger_entry.GENESIS, list[tuple[Subtree, bytes]]()

        def step(fault: Fault | None = None, done: bool = False) -> Step:
            return Step(frontier.size, head.seq, frontier.root(), fault, done or fault is not None)

        yield step()
        while frontier.size < head.seq:
            page = await connection.fetch(ledger.ENTRIES, frontier.size, head.seq, PAGE)
            if not page:
                yield step(Fault(frontier.size + 1, None, "entry_removed"))
                return
            for record in page:
                seq, chain_before = frontier.size + 1, chained
                row = TransactionRow.from_record(record) if record["id"] is not None else None
                leaf = record["leaf_hash"] if row is None else ledger_entry.leaf_hash(seq, row)
                chained = ledger_entry.entry_hash(chain_before, seq, leaf)
                reason = None
                if record["seq"] != seq:
                    yield step(Fault(seq, None, "entry_removed"))
                    return
                if row is None:
                    reason = "transaction_removed"
                elif leaf != record["leaf_hash"]:
                    reason = "transaction_changed"
                elif record["prev_hash"] != chain_before or record["hash"] != chained:
                    reason = "chain_broken"
                if reason is not None:
                    yield step(Fault(seq, record["transaction_id"], reason))
                    return
                frontier.append(leaf, nodes, ledger_proofs.TILE)
            wrong = await _wrong_node(connection, nodes)
            if wrong is not None:
                yield step(Fault(_first_seq(wrong), None, "node_changed"))
                return
            nodes.clear()
            yield step()
        added = await connection.fetchrow(ledger.ENTRIES, head.seq, 2**62, 1)
        if added is not None:
            yield step(Fault(added["seq"], added["transaction_id"], "entry_added"))
            return
        if (head.hash, head.root_hash, list(head.frontier)) != (chained, frontier.root(), frontier.hashes):
            yield step(Fault(head.seq, None, "head_changed"))
            return
        beyond = await connection.fetchrow(ledger.NODE_BEYOND, head.seq)
        if beyond is not None:
            yield step(Fault(_first_seq(Subtree(*beyond)), None, "node_changed"))
            return
        unrecorded = await connection.fetchval(ledger.UNRECORDED)
        yield step(Fault(None, unrecorded, "not_in_ledger") if unrecorded is not None else None, done=True)


async def _wrong_node(
    connection: asyncpg.Connection, expected: list[tuple[Subtree, bytes]]
) -> Subtree | None:
    """The first of these whose stored hash is another one, or missing."""
    levels, positions = [each.level for each, _ in expected], [each.index for each, _ in expected]
    records = await connection.fetch(ledger.NODES, levels, positions)
    stored = {(record["level"], record["position"]): record["hash"] for record in records}
    return next((each for each, value in expected if stored.get((each.level, each.index)) != value), None)


def _first_seq(subtree: Subtree) -> int:
    return (subtree.index << subtree.level) + 1
