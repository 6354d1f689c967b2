"""Reads from the ledger: proofs, verification of one transaction, history.

Each runs in the caller's process, on one snapshot of the database, so that a long proof never holds up the ledger's own process.

A proof fetches one range of at most 16 hashes, of leaves or of stored complete subtrees, for every four levels of the tree, and
all of them in one query; a proof of consistency two.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from actors.ledger import entry as ledger_entry
from actors.ledger import merkle
from actors.ledger.merkle import Subtree
from actors.storage import repo
from schema import ledger
from schema.rows import LedgerHead, TransactionRow

TILE = 4  # levels between stored nodes; migration 0014 has the same
NO_HEAD = "ledger_head has no row"


class Verification(msgspec.Struct, frozen=True):
    """What `verify` found. `reason` is None if and only if `verified`."""

    verified: bool
    reason: str | None
    seq: int | None
    leaf_hash: bytes | None
    tree_size: int
    root_hash: bytes
    inclusion_proof: list[bytes]


class HistoryItem(msgspec.Struct, frozen=True):
    """A transaction and its place in the ledger; both None in the moment before a foreign row has its entry."""

    transaction: TransactionRow
    seq: int | None
    hash: bytes | None


class HistoryPage(msgspec.Struct, frozen=True):
    """A page of a user's transactions, newest first. `next_cursor` is None on the last page."""

    items: list[HistoryItem]
    next_cursor: str | None


class MissingNodes(Exception):
    """Rows of ledger_entries or ledger_nodes that must be there are not."""


@asynccontextmanager
async def snapshot() -> AsyncGenerator[asyncpg.Connection, None]:
    """A connection on which every query sees the same moment."""
    async with (
        repo.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def read_head(connection: asyncpg.Connection) -> LedgerHead:
    """The head row."""
    record = await connection.fetchrow(ledger.HEAD)
    if record is None:
        raise MissingNodes(NO_HEAD)
    return LedgerHead.from_record(record)


async def roots_of(
    connection: asyncpg.Connection, ranges: Iterable[tuple[int, int]], head: LedgerHead
) -> list[bytes]:
    """The tree roots over these leaf ranges (as merkle's *_ranges return them) of the ledger with this head.

    Raises `MissingNodes`.
    """
    wanted = [merkle.subtrees_of(start, end) for start, end in ranges]
    edge = merkle.subtrees_of(0, head.tree_size)
    if len(edge) != len(head.frontier):
        raise MissingNodes(f"the head of {head.tree_size} entries has {len(head.frontier)} subtrees")
    found = dict(zip(edge, head.frontier, strict=True))
    found |= await _roots(connection, {each for group in wanted for each in group if each not in found})
    return [merkle.fold([found[each] for each in group]) for group in wanted]


async def _roots(connection: asyncpg.Connection, subtrees: Iterable[Subtree]) -> dict[Subtree, bytes]:
    """The roots of complete subtrees, from the hashes that are stored at the next level that has any.

    Subtrees of one tile, such as the siblings along a leaf's path, are read as one range.
    """
    tiles: dict[tuple[int, int], list[tuple[Subtree, int, int]]] = {}
    for each in subtrees:
        height = each.level % TILE
        first, last = each.index << height, (each.index + 1 << height) - 1
        tiles.setdefault((each.level - height, first >> TILE), []).append((each, first, last))
    if not tiles:
        return {}
    levels = [level for level, _ in tiles]
    firsts = [min(first for _, first, _ in group) for group in tiles.values()]
    lasts = [max(last for _, _, last in group) for group in tiles.values()]
    records = await connection.fetch(ledger.HASHES, levels, firsts, lasts)
    roots: dict[Subtree, bytes] = {}
    for level, first, last, (hashes,), group in zip(
        levels, firsts, lasts, records, tiles.values(), strict=True
    ):
        if hashes is None or len(hashes) != (last - first + 1) * merkle.HASH_BYTES:
            raise MissingNodes(f"hashes are missing at level {level}, positions {first} to {last}")
        for each, begin, end in group:
            part = hashes[(begin - first) * merkle.HASH_BYTES : (end - first + 1) * merkle.HASH_BYTES]
            roots[each] = merkle.subtree_root(part)
    return roots


async def consistency(first: int, second: int) -> list[bytes]:
    """The RFC 6962 proof that the tree of `first` leaves is a beginning of that of `second`; empty for `first` 0 or equal sizes.

    Raises ValueError if the ledger never had these sizes in this order, `repo.Unavailable`.
    """
    async with snapshot() as connection:
        head = await read_head(connection)
        if not 0 <= first <= second <= head.seq:
            raise ValueError(f"the ledger has {head.seq} entries: no proof from {first} to {second}")
        if first == 0:
            return []
        return await roots_of(connection, merkle.consistency_ranges(first, second), head)


async def verify(transaction_id: UUID, known: LedgerHead | None = None) -> Verification:
    """Whether the row in the shared database is the one that was recorded, and the proof that its leaf is in the tree.

    `known` is a head that was seen earlier: a ledger that does not continue it was rewritten. Reasons:
    unknown_transaction, not_in_ledger, transaction_removed, transaction_changed, chain_broken, proof_failed,
    head_changed. Raises `repo.Unavailable`.
    """
    async with snapshot() as connection:
        record = await connection.fetchrow(ledger.ENTRY_OF, transaction_id, known.seq if known else None)
        if record is None:
            raise MissingNodes(NO_HEAD)
        head = LedgerHead(
            record["head_seq"], record["head_hash"], record["root_hash"], tuple(record["frontier"])
        )
        seq, row = record["seq"], TransactionRow.from_record(record) if record["id"] is not None else None
        if seq is None:
            reason = "unknown_transaction" if row is None else "not_in_ledger"
            return Verification(False, reason, None, None, head.tree_size, head.root_hash, [])
        leaf = record["leaf_hash"] if row is None else ledger_entry.leaf_hash(seq, row)
        proof: list[bytes] = []
        if known is not None and not _continues(head, known, record["known_hash"]):
            failed: str | None = "head_changed"
        else:
            failed = await _fault(connection, head, record, row, leaf, proof)
        return Verification(failed is None, failed, seq, leaf, head.tree_size, head.root_hash, proof)


async def _fault(
    connection: asyncpg.Connection,
    head: LedgerHead,
    record: Any,
    row: TransactionRow | None,
    leaf: bytes,
    proof: list[bytes],
) -> str | None:
    seq = record["seq"]
    if seq > head.seq:
        return "proof_failed"
    try:
        proof += await roots_of(connection, merkle.inclusion_ranges(seq - 1, head.tree_size), head)
    except MissingNodes:
        return "proof_failed"
    if row is None:
        return "transaction_removed"
    if leaf != record["leaf_hash"]:
        return "transaction_changed"
    if not merkle.verify_inclusion(leaf, seq - 1, head.tree_size, proof, head.root_hash):
        return "proof_failed"
    before = record["before_hash"] if seq > 1 else ledger_entry.GENESIS
    if before != record["prev_hash"] or ledger_entry.entry_hash(before, seq, leaf) != record["hash"]:
        return "chain_broken"
    return None


def _continues(head: LedgerHead, known: LedgerHead, hash_at_known: bytes | None) -> bool:
    if known.seq == 0:
        return True
    if head.seq == known.seq:
        return head.hash == known.hash and head.root_hash == known.root_hash
    return head.seq > known.seq and hash_at_known == known.hash


async def get_history(user_id: UUID, limit: int = 50, cursor: str | None = None) -> HistoryPage:
    """A user's transactions, newest first, `limit` at most.

    Raises ValueError for a cursor that is not ours, `repo.Unavailable`.
    """
    moment, last = _read_cursor(cursor)
    async with repo.connection() as connection:
        records = await connection.fetch(ledger.HISTORY, user_id, moment, last, limit + 1)
    items = [
        HistoryItem(TransactionRow.from_record(record), record["seq"], record["hash"])
        for record in records[:limit]
    ]
    more = len(records) > limit
    return HistoryPage(items, _cursor(items[-1].transaction) if more else None)


def _cursor(row: TransactionRow) -> str:
    return f"{row.inserted_at.isoformat()}_{row.id}"


def _read_cursor(cursor: str | None) -> tuple[datetime | None, UUID | None]:
    if cursor is None:
        return None, None
    moment, _, last = cursor.rpartition("_")
    try:
        read = datetime.fromisoformat(moment), UUID(last)
    except ValueError:
        raise ValueError("the cursor is none of ours") from None
    if read[0].tzinfo is None:
        raise ValueError("the cursor is none of ours")
    return read
