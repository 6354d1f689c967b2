"""What a ledger entry is made of: the bytes of its leaf and the hash chain; docs/ledger.md has the same for outsiders.

leaf data  = "bitnexus.transaction.1\\n" then, for each field, its length in bytes, ":", its UTF-8 bytes, ","
             fields: seq, id, user_id, amount, currency, description, idempotency_key, request_hash (hex), and
             inserted_at in whole microseconds since 1970; a null is an empty field
leaf hash  = SHA-256(0x00 || leaf data)                                    as RFC 6962 has it
entry hash = SHA-256(0x02 || previous entry's hash || seq as 8 bytes, big endian || leaf hash)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from schema.rows import TransactionRow

GENESIS = bytes(32)
_PREFIX = "bitnexus.transaction.1\n"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def leaf_data(seq: int, row: TransactionRow) -> bytes:
    """The bytes that the leaf of this row at this place hashes. Raises UnicodeEncodeError for text that is no UTF-8."""
    number, amount, moment = str(seq), str(row.amount), _microseconds(row.inserted_at)
    description, key = row.description, row.idempotency_key or ""
    digest = row.request_hash.hex() if row.request_hash else ""
    # The two UUIDs and the currency have fixed lengths, 36 and (by the table's check) 3.
    return (
        f"{_PREFIX}{len(number)}:{number},36:{row.id!s},36:{row.user_id!s},{len(amount)}:{amount},3:{row.currency},"
        f"{len(description.encode())}:{description},{len(key.encode())}:{key},{len(digest)}:{digest},{len(moment)}:{moment},"
    ).encode()


def leaf_hash(seq: int, row: TransactionRow) -> bytes:
    """The RFC 6962 leaf hash of this row at this place."""
    return sha256(b"\x00" + leaf_data(seq, row)).digest()


def entry_hash(prev_hash: bytes, seq: int, leaf: bytes) -> bytes:
    """The next link of the hash chain."""
    return sha256(b"\x02" + prev_hash + seq.to_bytes(8, "big") + leaf).digest()


@lru_cache(maxsize=256)  # the rows of a batch share one moment
def _microseconds(moment: datetime) -> str:
    return str((moment - _EPOCH) // _MICROSECOND)
