"""Rows of the transaction path as frozen values."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import msgspec


@lru_cache(maxsize=256)  # the rows of a batch share one timestamp
def iso(timestamp: datetime) -> str:
    """A timestamp as the API's JSON has it: UTC, microseconds, Z."""
    return timestamp.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class Columns(Protocol):
    """A database record, read by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


class TransactionRow(msgspec.Struct, frozen=True):
    """A row of transactions. `amount` has exactly the decimals of its currency."""

    id: UUID
    user_id: UUID
    amount: Decimal
    currency: str
    description: str
    inserted_at: datetime
    idempotency_key: str | None = None
    request_hash: bytes | None = None

    @classmethod
    def from_record(cls, record: Columns) -> TransactionRow:
        """From a database record that has (at least) the table's columns."""
        return cls(
            record["id"],
            record["user_id"],
            record["amount"],
            record["currency"],
            record["description"],
            record["inserted_at"],
            record["idempotency_key"],
            record["request_hash"],
        )

    def payload(self) -> dict[str, Any]:
        """The transaction object of the REST API: amount a decimal string, inserted_at ISO 8601 in UTC."""
        return {
            "id": str(self.id),
            "user_id": str(self.user_id),
            "amount": str(self.amount),
            "currency": self.currency,
            "description": self.description,
            "inserted_at": iso(self.inserted_at),
        }


class LedgerHead(msgspec.Struct, frozen=True):
    """The row of ledger_head. `seq` is also the size of the tree."""

    seq: int
    hash: bytes
    root_hash: bytes
    frontier: tuple[bytes, ...]

    @classmethod
    def from_record(cls, record: Columns) -> LedgerHead:
        """From a record with the columns seq, hash, root_hash, frontier."""
        return cls(record["seq"], record["hash"], record["root_hash"], tuple(record["frontier"]))

    @property
    def tree_size(self) -> int:
        """The number of leaves."""
        return self.seq
