"""The ledger by the names of the integration guide: `record_transaction`, `get_history`, `verify`."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from actors.ledger import server as ledger_server
from actors.ledger.batch import IdempotencyConflict, Recorded, RecordTransaction
from tests.support.database import add_user
from tests.support.storage import payloads, run, storage, until


def test_a_transaction_is_recorded_listed_and_verified(database: str) -> None:
    async def main() -> None:
        async with storage(database) as s:
            user = await add_user(database)
            seen = await s.subscribe(f"transaction:{user}")
            data = {"user_id": str(user), "amount": "12.50", "currency": "EUR", "description": "lunch"}
            recorded = await ledger_server.record_transaction(data)
            assert isinstance(recorded, Recorded) and recorded.seq == 1
            await until(lambda: len(seen) == 1)
            assert payloads(seen, "new_transaction")[0]["amount"] == "12.50"
            history = await ledger_server.get_history(user)
            assert [item.seq for item in history.items] == [1]
            assert (await ledger_server.verify(recorded.transaction.id)).verified

    run(main())


def test_a_key_stands_for_one_transaction_in_either_form(database: str) -> None:
    async def main() -> None:
        async with storage(database):
            user = await add_user(database)
            first = await ledger_server.record_transaction(
                RecordTransaction(user, Decimal("1.00"), "EUR", "rent", "key-1")
            )
            data = {
                "user_id": str(user),
                "amount": "1",
                "currency": "EUR",
                "description": "rent",
                "idempotency_key": "key-1",
            }
            again = await ledger_server.record_transaction(data)
            assert again.transaction.id == first.transaction.id and again.replayed
            assert await ledger_server.record_transaction(data | {"amount": "2"}) == IdempotencyConflict()

    run(main())


@pytest.mark.parametrize("data", [{}, {"user_id": "nobody", "amount": "1", "currency": "EUR"}, 7])
def test_data_of_another_form_is_refused_before_anything_is_sent(data: object) -> None:
    async def main() -> None:
        with pytest.raises(msgspec.ValidationError):
            await ledger_server.record_transaction(data)  # type: ignore[arg-type]

    run(main())
