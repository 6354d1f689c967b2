"""A model of the database: what our statements mean, on dictionaries. Each statement is one transaction, whole or not at all.

It knows the named SQL of `schema.ledger` and `schema.changes` and nothing else. `tests/support/model_driver.py` puts connections
in front of it; what is checked in the end is read here directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from actors.ledger.merkle import EMPTY_ROOT
from actors.storage import repo
from schema import changes, ledger


class Record(dict[str, Any]):
    """As asyncpg's: unpacks to its values."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


def failure(sqlstate: str, message: str, severity: str = "ERROR") -> asyncpg.PostgresError:
    """An error as PostgreSQL sends it."""
    fields = {"C": sqlstate, "S": severity, "V": severity, "M": message}
    error = asyncpg.PostgresError.new(fields)
    assert isinstance(error, asyncpg.PostgresError)
    return error


class ModelDatabase:
    """The tables. `on_notify` hears of each NOTIFY, at once."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Record] = {}
        self.entries: list[Record] = []
        self.head = Record(seq=0, hash=bytes(32), root_hash=EMPTY_ROOT, frontier=[])
        self.pending: dict[int, UUID] = {}
        self.changes: list[Record] = []
        self.positions: dict[str, str] = {}
        self.on_notify: list[Callable[[str, str], None]] = []
        self.listeners: set[str] = set()
        self._queued = 0
        self._statements: dict[str, Callable[..., list[Record]]] = {
            ledger.HEAD: lambda: [Record(self.head)],
            ledger.HEAD_SEQ: lambda: [Record(seq=self.head["seq"])],
            ledger.HEAD_AND_PENDING: lambda: [Record(seq=self.head["seq"], pending=bool(self.pending))],
            ledger.PROBE_WRITE: lambda: [Record(seq=self.head["seq"])],
            ledger.ANY_PENDING: lambda: [Record(any=bool(self.pending))],
            ledger.LISTEN: self._listen,
            ledger.LOCKED_USERS: lambda _users: [],
            ledger.TRY_ROW: lambda *_row: [],
            ledger.FORGET_GONE: lambda _node: [],
            ledger.RECORD: self._record,
            ledger.RECORD_MANY: self._record_many,
            ledger.RECORD_ONE: self._record_one,
            ledger.RECORD_ONE_KEYED: self._record_one,
            ledger.RECORD_PENDING: self._record_pending,
            ledger.PENDING: self._read_pending,
            ledger.REPLAYS: self._replays,
            ledger.ENTRIES: self._entries_between,
            ledger.MISSED: self._missed,
            changes.SINCE: self._changes_since,
            changes.REST: lambda after, until, told: [
                record for record in self.changes[int(after) : int(until)] if record["id"] > told
            ],
            changes.POSITION: lambda name: [Record(snapshot=self.positions.get(name))],
            changes.IS_FROM_HERE: lambda _position: [Record(here=True)],
            changes.NOW: lambda: [Record(now=str(len(self.changes)))],
            changes.KEEP_POSITION: self._keep_position,
            changes.TRIM: list,
            repo.PING: lambda: [Record(read_only=False)],
        }

    def run(self, sql: str, *arguments: Any) -> list[Record]:
        """The rows that a statement gives. Raises asyncpg.PostgresError."""
        if sql.startswith("SET "):
            return []
        return self._statements[sql](*arguments)

    def insert_foreign(self, user: UUID, description: str) -> None:
        """What another program writes, past all of ours: the trigger queues it."""
        row = _row(uuid4(), user, "1.00", "EUR", description, datetime.now(UTC), None, None)
        self.rows[row["id"]] = row
        self._queued += 1
        self.pending[self._queued] = row["id"]
        self._notify("bitnexus_ledger", "pending")

    def change(self, table: str, operation: str, **row: Any) -> None:
        """Another program changes a row of another table."""
        number = len(self.changes) + 1
        self.changes.append(Record(id=number, table_name=table, operation=operation, row=row))
        self._notify("bitnexus_changes", "")

    def _notify(self, channel: str, payload: str) -> None:
        for heard in list(self.on_notify):
            heard(channel, payload)

    # ---- the functions of the ledger

    def _listen(self, node: str) -> list[Record]:
        self.listeners.add(node)
        return []

    def _is_stale(self, seq: int, chained: bytes) -> bool:
        return (self.head["seq"], self.head["hash"]) != (seq, chained)

    def _record(self, *arguments: Any) -> list[Record]:
        node, seq, chained, at, *joined, descriptions, keys, digests = arguments[:11]
        ids, users, amounts, currencies = (column.split(",") for column in joined)
        keyed, *entries = arguments[11:]
        padded = zip(
            ids,
            users,
            amounts,
            currencies,
            descriptions,
            [*keys] or [None] * len(ids),
            [*digests] or [None] * len(ids),
            strict=True,
        )
        rows = [
            _row(UUID(id_), UUID(user), amount, currency, text, at, key, digest)
            for id_, user, amount, currency, text, key, digest in padded
        ]
        if keyed:
            known = self._by_key()
            replayed = [row["id"] for row in rows if (row["user_id"], row["idempotency_key"]) in known]
            if replayed:
                return [Record(self.head, outcome="refused", replayed=replayed)]
        if self._is_stale(seq, chained):
            return [Record(self.head, outcome="stale", replayed=None)]
        self.rows |= {row["id"]: row for row in rows}
        self._append(node, [row["id"] for row in rows], *entries)
        return [Record(self.head, outcome="recorded", replayed=None)]

    def _record_one(self, *arguments: Any) -> list[Record]:
        node, seq, chained, at, id_, user, amount, currency, text, key, digest, leaf, entry, root = arguments[
            :14
        ]
        kept, subtree = arguments[14:]
        columns = (str(id_), str(user), amount, currency, [text], [key], [digest], key is not None)
        frontier = [*self.head["frontier"][:kept], subtree]
        [found] = self._record(node, seq, chained, at, *columns, [leaf], [entry], root, frontier)
        return [found] if found["outcome"] == "recorded" else []

    def _record_many(self, *arguments: Any) -> list[Record]:
        node, seq, chain, at, *columns = arguments[:11]
        leaves, root, frontier = arguments[11:14]
        before, *hashes = _each_hash(chain)
        entries = (_each_hash(leaves), hashes, root, _each_hash(frontier))
        [found] = self._record(node, seq, before, at, *columns, bool(columns[-2]), *entries)
        return [found] * len(hashes) if found["outcome"] == "recorded" else []

    def _by_key(self) -> dict[tuple[UUID, str], Record]:
        return {
            (row["user_id"], row["idempotency_key"]): row
            for row in self.rows.values()
            if row["idempotency_key"] is not None
        }

    def _record_pending(self, node: str, seq: int, chained: bytes, *arguments: Any) -> list[Record]:
        positions, ids, *entries = arguments
        if ids:
            if self._is_stale(seq, chained):
                return [Record(outcome="stale")]
            self._append(node, ids, *entries)
        for position in positions:
            self.pending.pop(position, None)
        return [Record(outcome="recorded")]

    def _append(self, node: str, ids: list[UUID], *entries: Any) -> None:
        leaves, hashes, root, frontier, *_nodes = entries
        recorded = {entry["transaction_id"] for entry in self.entries}
        if recorded & set(ids):
            raise failure("23505", "duplicate key value violates unique constraint")
        for id_, leaf, chained in zip(ids, leaves, hashes, strict=True):
            self.entries.append(
                Record(
                    seq=len(self.entries) + 1,
                    transaction_id=id_,
                    leaf_hash=leaf,
                    prev_hash=self.head["hash"],
                    hash=chained,
                )
            )
            self.head = Record(self.head, seq=len(self.entries), hash=chained)
        self.head = Record(self.head, root_hash=root, frontier=list(frontier))
        if self.listeners != {node}:
            self._notify("bitnexus_ledger", f"{node}:{self.head['seq']}")

    # ---- reads

    def _read_pending(self, limit: int) -> list[Record]:
        recorded = {entry["transaction_id"] for entry in self.entries}
        return [
            Record(self.rows[id_] if id_ not in recorded else {"id": None}, position=position)
            for position, id_ in sorted(self.pending.items())[:limit]
        ]

    def _replays(self, users: list[UUID], keys: list[str]) -> list[Record]:
        known = self._by_key()
        entries = {entry["transaction_id"]: entry for entry in self.entries}
        found = [known[pair] for pair in zip(users, keys, strict=True) if pair in known]
        none = Record(seq=None, hash=None)
        return [
            Record(
                row,
                **{name: entries.get(row["id"], none)[name] for name in ("seq", "hash")},
                waits=row["id"] not in entries and row["id"] in self.pending.values(),
            )
            for row in found
        ]

    def _entries_between(self, after: int, until: int, limit: int) -> list[Record]:
        return [
            Record(self.rows[entry["transaction_id"]] | entry) for entry in self.entries[after:until][:limit]
        ]

    def _missed(self, user: UUID, after: int, until: int, limit: int) -> list[Record]:
        between = self._entries_between(after, until, len(self.entries))
        return [record for record in between if record["user_id"] == user][:limit]

    def _changes_since(self, position: str, limit: int) -> list[Record]:
        now = str(len(self.changes))
        news = self.changes[int(position) :][:limit]
        return [Record(record, snapshot=now) for record in news] or [Record(snapshot=now, id=None)]

    def _keep_position(self, name: str, position: str) -> list[Record]:
        self.positions[name] = position
        return []


def _each_hash(joined: bytes) -> list[bytes]:
    return [joined[at : at + 32] for at in range(0, len(joined), 32)]


def _row(
    id_: UUID, user: UUID, amount: str, currency: str, text: str, at: datetime, key: Any, digest: Any
) -> Record:
    return Record(
        id=id_,
        user_id=user,
        amount=Decimal(amount),
        currency=currency,
        description=text,
        inserted_at=at,
        idempotency_key=key,
        request_hash=digest,
    )
