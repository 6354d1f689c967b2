"""Prints psql's text that fills an empty ledger as the writer would have: `python -P bench/ledger_sql.py ENTRIES OWNER`.

Rows of a thousand users, OWNER (a user's id) among them, their entries, the stored nodes and the head. Nothing of bench/ is
imported: bench/benchmarks/ledger.py runs it with the Python of the commit to be filled, whose own code makes the hashes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

try:
    from actors.ledger.batch import new_ids
    from actors.ledger.server import prepare
except ImportError:  # commits before the rooms
    from actors.batch import new_ids
    from actors.ledger_server import prepare

from schema.rows import LedgerHead, TransactionRow

USERS = 1_000
BLOCK = 10_000
AMOUNT = Decimal("12.50")


def copy(table: str, rows: Iterable[tuple[object, ...]]) -> str:
    """COPY of these rows."""
    lines = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    return f"COPY {table} FROM STDIN;\n{lines}\\.\n"


def _hex(value: bytes) -> str:
    return "\\\\x" + value.hex()


def block(head: LedgerHead, rows: list[TransactionRow]) -> tuple[LedgerHead, str]:
    """The head after these rows, and their SQL."""
    prepared = prepare(head, rows)
    previous = [head.hash, *prepared.hashes]
    text = copy(
        "transactions (id, user_id, amount, currency, description, inserted_at)",
        ((r.id, r.user_id, r.amount, r.currency, r.description, r.inserted_at.isoformat()) for r in rows),
    )
    text += copy(
        "ledger_entries (seq, transaction_id, leaf_hash, prev_hash, hash)",
        (
            (head.seq + n + 1, row.id, _hex(leaf), _hex(previous[n]), _hex(prepared.hashes[n]))
            for n, (row, leaf) in enumerate(zip(rows, prepared.leaf_hashes, strict=True))
        ),
    )
    text += copy(
        "ledger_nodes (level, position, hash)",
        ((subtree.level, subtree.index, _hex(value)) for subtree, value in prepared.nodes),
    )
    return prepared.after, text


def statements(size: int, owner: UUID) -> Iterator[str]:
    """SQL of one block of entries after the other, and of the head."""
    users = [owner, *(uuid4() for _ in range(USERS - 1))]
    rows = ",".join(f"('{user}', '{user}@example.com')" for user in users[1:])
    yield "\\set QUIET on\n\\set ON_ERROR_STOP on\nSET bitnexus.batch = 'on';\n"
    yield f"INSERT INTO users (id, email) VALUES {rows};\n"  # noqa: S608 - our own uuids
    head = LedgerHead(0, bytes(32), b"", ())
    began = datetime.now(UTC) - timedelta(days=365)
    for first in range(0, size, BLOCK):
        at = began + timedelta(milliseconds=first)
        ids = new_ids(min(BLOCK, size - first))
        head, text = block(
            head,
            [
                TransactionRow(id_, users[number % USERS], AMOUNT, "EUR", f"no. {first + number}", at)
                for number, id_ in enumerate(ids)
            ],
        )
        yield text
    frontier = ",".join(f"'\\x{value.hex()}'::bytea" for value in head.frontier)
    yield (
        f"UPDATE ledger_head SET seq = {head.seq}, hash = '\\x{head.hash.hex()}',"  # noqa: S608
        f" root_hash = '\\x{head.root_hash.hex()}', frontier = ARRAY[{frontier}];\n"
    )
    yield "VACUUM ANALYZE transactions, ledger_entries, ledger_nodes, users;\n"


if __name__ == "__main__":
    for text in statements(int(sys.argv[1]), UUID(sys.argv[2])):
        sys.stdout.write(text)
