"""An independent verification of the ledger: every hash is computed from the rows, by docs/ledger.md and not by our code."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg

QUERY = """
    SELECT e.seq, e.transaction_id, e.leaf_hash, e.prev_hash, e.hash, t.*
    FROM ledger_entries e LEFT JOIN transactions t ON t.id = e.transaction_id ORDER BY e.seq
"""


def entries(url: str) -> list[tuple[int, str]]:
    """(seq, hash in hex) of every entry. Fails at a gap, a broken link, a leaf that is not its row's, a row without an entry."""
    rows, count = asyncio.run(_read(url))
    previous = bytes(32)
    for place, row in enumerate(rows, 1):
        assert row["seq"] == place, f"seq {place} is missing"
        assert row["id"] is not None, f"entry {place} has no row"
        assert row["leaf_hash"] == leaf(row), f"entry {place} is not its row's"
        assert row["prev_hash"] == previous, f"entry {place} does not follow the one before"
        previous = sha256(b"\x02" + previous + place.to_bytes(8, "big") + row["leaf_hash"]).digest()
        assert row["hash"] == previous, f"the hash of entry {place} is wrong"
    assert len(rows) == count, f"{count} rows and {len(rows)} entries"
    return [(row["seq"], row["hash"].hex()) for row in rows]


def leaf(row: Any) -> bytes:
    """The leaf hash of a row."""
    inserted_at = row["inserted_at"] - datetime(1970, 1, 1, tzinfo=UTC)
    digest = row["request_hash"]
    fields = (
        str(row["seq"]),
        str(row["id"]),
        str(row["user_id"]),
        str(row["amount"]),
        row["currency"],
        row["description"],
        row["idempotency_key"] or "",
        digest.hex() if digest else "",
        str((inserted_at.days * 86400 + inserted_at.seconds) * 1_000_000 + inserted_at.microseconds),
    )
    data = b"bitnexus.transaction.1\n"
    for field in fields:
        encoded = field.encode()
        data += str(len(encoded)).encode() + b":" + encoded + b","
    return sha256(b"\x00" + data).digest()


async def _read(url: str) -> tuple[list[Any], int]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(QUERY), await connection.fetchval("SELECT count(*) FROM transactions")
    finally:
        await connection.close()
