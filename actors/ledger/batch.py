"""The writer's request and its answers, the choice of a batch, and idempotency keys within a batch."""

from __future__ import annotations

import os
import time
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from asyncpg.pgproto.pgproto import UUID as PgUUID  # a uuid.UUID that is cheap to create and to encode

from actors.storage.failures import OutcomeUnknown, Unavailable
from runtime import CallRequest, From, gen_server
from schema import currencies
from schema.rows import TransactionRow


class Recorded(msgspec.Struct, frozen=True):
    """It is durable, with its ledger entry. `replayed`: it was so before, under the same idempotency key."""

    transaction: TransactionRow
    seq: int
    hash: bytes
    replayed: bool = False


class IdempotencyConflict(msgspec.Struct, frozen=True):
    """The key stands for another body."""


class UserMissing(msgspec.Struct, frozen=True):
    """There is no such user."""


class Rejected(msgspec.Struct, frozen=True):
    """The database refused this row."""

    message: str


Outcome = Recorded | IdempotencyConflict | UserMissing | Rejected | Unavailable | OutcomeUnknown


class RecordTransaction(msgspec.Struct, CallRequest[Outcome], frozen=True):
    """One transaction to record.

    `request_hash` identifies what `idempotency_key` stands for; None leaves it to the function of that name.
    """

    user_id: UUID
    amount: Decimal
    currency: str
    description: str = ""
    idempotency_key: str | None = None
    request_hash: bytes | None = None


def request_hash(user_id: UUID, amount: Decimal, currency: str, description: str) -> bytes:
    """What an idempotency key stands for: two requests with one key are the same if this is."""
    return sha256(msgspec.json.encode([str(user_id), str(amount), currency, description])).digest()


def _hash_of(row: TransactionRow) -> bytes | None:
    """What the row's key stands for. Another program may have written the key and no hash: then its fields are the request."""
    if row.request_hash is not None or row.idempotency_key is None:
        return row.request_hash
    return request_hash(row.user_id, row.amount, row.currency, row.description)


class Waiting(msgspec.Struct, eq=False):
    """A row to write, its caller, and later callers of the same batch who brought the same idempotency key."""

    from_: From
    row: TransactionRow
    followers: list[Waiting] | None = None

    def answer(self, value: Any, conflict: Any, replay: Any = None) -> None:
        """Replies to the caller with `value` and to the followers with `replay`, by default the same.

        Who came with another body than `value.transaction` is answered with `conflict`.
        """
        recorded = _hash_of(value.transaction)
        gen_server.reply(self.from_, value if recorded == self.row.request_hash else conflict)
        for follower in self.followers or ():
            same = recorded == follower.row.request_hash
            gen_server.reply(follower.from_, (replay or value) if same else conflict)

    def answer_all(self, value: Any) -> None:
        """The same for the caller and all followers."""
        gen_server.reply(self.from_, value)
        for follower in self.followers or ():
            gen_server.reply(follower.from_, value)


def answer_all(batch: list[Waiting], value: Any) -> None:
    """The same for all callers of these."""
    for waiting in batch:
        waiting.answer_all(value)


def fold_idempotent(batch: list[Waiting]) -> list[Waiting]:
    """The batch with one row a key; whoever brought it later follows the first."""
    first: dict[tuple[Any, str], Waiting] = {}
    kept: list[Waiting] = []
    for waiting in batch:
        key = waiting.row.idempotency_key
        if key is None:
            kept.append(waiting)
            continue
        leader = first.setdefault((waiting.row.user_id, key), waiting)
        if leader is waiting:
            kept.append(waiting)
        elif leader.followers is None:
            leader.followers = [waiting]
        else:
            leader.followers.append(waiting)
    return kept


def in_turn(
    waiting: list[tuple[From, RecordTransaction]], count: int
) -> tuple[list[tuple[From, RecordTransaction]], list[tuple[From, RecordTransaction]]]:
    """`count` of these, one of each user after the other, and the rest; what a user sent stays in its order in both."""
    turns: list[tuple[int, int]] = []
    sent: dict[UUID, int] = {}
    for place, (_, request) in enumerate(waiting):
        turn = sent[request.user_id] = sent.get(request.user_id, 0) + 1
        turns.append((turn, place))
    turns.sort()
    return (
        [waiting[place] for _, place in turns[:count]],
        [waiting[place] for place in sorted(place for _, place in turns[count:])],
    )


def row_of(request: RecordTransaction, id_: UUID, at: datetime) -> TransactionRow:
    """The row of a request. Raises ValueError, ArithmeticError or UnicodeError for one that no table can hold."""
    amount, unit = request.amount, currencies.unit(request.currency)
    if not amount.same_quantum(unit) and (amount := amount.quantize(unit)) != request.amount:  # also for NaN
        places = currencies.decimals(request.currency)
        raise ValueError(f"the amount is not a number with at most {places} decimals")
    if len(request.currency) != 3 or not request.currency.isalpha():
        raise ValueError("a currency has three letters")
    request.description.encode()
    key, digest = request.idempotency_key, request.request_hash
    if key is not None:
        key.encode()
        if digest is None:
            digest = request_hash(request.user_id, amount, request.currency, request.description)
    user_id = as_pg_uuid(request.user_id)
    return TransactionRow(id_, user_id, amount, request.currency, request.description, at, key, digest)


def new_ids(count: int) -> list[UUID]:
    """UUIDs version 7: ordered by time, which keeps the index pages of one moment together."""
    moment = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    noise = os.urandom(10 * count)
    ids: list[UUID] = []
    for start in range(0, 10 * count, 10):
        high, low = noise[start] & 0x0F | 0x70, noise[start + 2] & 0x3F | 0x80
        ids.append(
            PgUUID(b"%b%c%c%c%b" % (moment, high, noise[start + 1], low, noise[start + 3 : start + 10]))
        )
    return ids


def as_pg_uuid(value: UUID) -> UUID:
    """The same UUID as asyncpg's own type, which is quick to write as text."""
    return value if type(value) is PgUUID else PgUUID(value.bytes)
