"""Transactions: record, list, show. A row and its ledger entry are durable before the answer 201."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, assert_never
from uuid import UUID

import msgspec

from actors.ledger.batch import IdempotencyConflict, Recorded, RecordTransaction, Rejected, UserMissing
from actors.storage import repo
from actors.storage.failures import OutcomeUnknown, Unavailable
from api.context import ApiRequest
from api.http import cursor
from api.http.cursor import Cursor, Limit
from api.http.errors import ApiError, database_unavailable, invalid, outcome_unknown
from api.http.fields import Amount, Currency, CurrencyText, Text, Timestamp, Zoned
from api.http.request import Response, json_response
from api.http.router import WRITE, ResponseSpec, Routes
from api.security.access import may_see, whose
from runtime import gen_server
from schema import transaction_lists
from schema.currencies import by_decimals

routes = Routes("transactions")

WRITE_TIMEOUT = 10_000  # ms
KEY_MAX = 255


class Transaction(msgspec.Struct, frozen=True):
    """A transaction; `amount` is a decimal string with the decimals of its currency."""

    id: UUID
    user_id: UUID
    amount: Decimal
    currency: CurrencyText
    description: str
    inserted_at: Zoned


class ListedTransaction(Transaction, frozen=True):
    """A transaction and the number of its ledger entry; null while a row of another program waits for its entry."""

    ledger_seq: int | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ListedTransaction:
        """From a row of `schema.transaction_lists`."""
        return cls(**row)


class LedgerEntry(msgspec.Struct, frozen=True):
    """A ledger entry: its number, and the hash of the chain up to it, in hex."""

    seq: int
    hash: str


class RecordedBody(msgspec.Struct, frozen=True):
    """A recorded transaction and its ledger entry."""

    transaction: Transaction
    ledger: LedgerEntry


class TransactionBody(msgspec.Struct, frozen=True):
    """One transaction."""

    transaction: Transaction


class TransactionsBody(msgspec.Struct, frozen=True):
    """A page of transactions, newest first."""

    transactions: list[ListedTransaction]
    next_cursor: str | None


class NewTransaction(msgspec.Struct, frozen=True):
    """A new transaction. An admin may record it for another user, `user_id`."""

    amount: Amount
    currency: Currency
    description: Text = ""
    user_id: UUID | None = None

    SCHEMA: ClassVar[Mapping[str, Any]] = {
        "anyOf": [
            {"properties": {"currency": {"enum": codes}, "amount": Amount.schema(places)}}
            for places, codes in by_decimals().items()
        ]
    }

    def problems(self) -> dict[str, str]:
        """What is wrong with the fields in combination."""
        reason = self.amount.problem_in(self.currency)
        return {} if reason is None else {"amount": reason}


class TransactionQuery(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """Page and filters of the list; an admin may list another user's, `user_id`."""

    limit: Limit = 50
    cursor: Cursor | None = None
    user_id: UUID | None = None
    currency: Currency | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None


IdempotencyKey = Annotated[
    str, msgspec.Meta(min_length=1, max_length=KEY_MAX, pattern="^[!-~]([ -~]*[!-~])?$")
]


@routes.post(
    "/api/v1/transactions",
    summary="Record a transaction",
    body=NewTransaction,
    responses={
        201: ResponseSpec(
            RecordedBody,
            description="Recorded, now or by an earlier request with the same Idempotency-Key",
            headers={"idempotency-replayed": "`true` if the answer is that of an earlier request"},
        )
    },
    errors=(404, 409),
    lane=WRITE,
    request_headers={
        "Idempotency-Key": (
            IdempotencyKey,
            "Requests with the same key and body record once and get the same answer; with another body 409",
        )
    },
)
async def create(request: ApiRequest) -> Response:
    """Records a transaction of the caller. The answer comes after COMMIT."""
    body: NewTransaction = request.body
    user_id = whose(request, body.user_id)
    key = _idempotency_key(request)
    outcome = await gen_server.call(
        "db_writer",
        RecordTransaction(
            user_id,
            body.amount.of(body.currency),
            str(body.currency),
            body.description,
            key,
        ),
        timeout=WRITE_TIMEOUT,
    )
    match outcome:
        case Recorded(row, seq, chain_hash, replayed):
            return json_response(
                RecordedBody(
                    Transaction(
                        row.id, row.user_id, row.amount, row.currency, row.description, row.inserted_at
                    ),
                    LedgerEntry(seq, chain_hash.hex()),
                ),
                201,
                REPLAYED if replayed else (),
            )
        case IdempotencyConflict():
            raise ApiError(
                409, "This Idempotency-Key was used with another body", code="idempotency_conflict"
            )
        case UserMissing():
            raise ApiError(
                404, "There is no such user", code="user_not_found", fields={"user_id": "no such user"}
            )
        case Rejected(message):
            raise ApiError(422, message)
        case Unavailable():
            raise database_unavailable()
        case OutcomeUnknown():
            raise outcome_unknown()
    assert_never(outcome)


REPLAYED = ((b"idempotency-replayed", b"true"),)


@routes.get(
    "/api/v1/transactions",
    summary="List transactions",
    query=TransactionQuery,
    responses={200: TransactionsBody},
)
async def index(request: ApiRequest) -> Response:
    """The caller's transactions, newest first."""
    query: TransactionQuery = request.query
    user_id = whose(request, query.user_id)
    rows = await repo.pool().fetch(
        transaction_lists.PAGE,
        query.limit + 1,
        *cursor.decode(query.cursor),
        user_id,
        query.currency,
        query.since,
        query.until,
    )
    shown, following = cursor.page(rows, query.limit)
    return json_response(TransactionsBody([ListedTransaction.of(row) for row in shown], following))


@routes.get(
    "/api/v1/transactions/{id:uuid}",
    summary="One transaction",
    responses={200: TransactionBody},
    errors=(404,),
)
async def show(request: ApiRequest) -> Response:
    """The transaction; 404 if it is another user's and the caller no admin."""
    row = await repo.pool().fetchrow(transaction_lists.BY_ID, request.params["id"])
    if row is None or not may_see(request, row["user_id"]):
        raise ApiError(404, NO_TRANSACTION)
    return json_response(TransactionBody(Transaction(*row.values())))


NO_TRANSACTION = "There is no such transaction"


def _idempotency_key(request: ApiRequest) -> str | None:
    raw = request.http.headers.get(b"idempotency-key")
    if raw is None:
        return None
    key = raw.decode("latin-1").strip()
    if not 1 <= len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        raise invalid({"Idempotency-Key": f"expected 1 to {KEY_MAX} printable ASCII characters"})
    return key
