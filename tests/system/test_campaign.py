"""The crash campaign, short; and its checker, which must find damage that is done by hand."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from actors.ledger.writer import RecordTransaction
from runtime.otp import gen_server
from tests.campaign.__main__ import campaign
from tests.campaign.checker import Findings, check
from tests.campaign.clients import Log, Person, Subscriber
from tests.support.database import add_user, execute
from tests.support.server import PATIENCE
from tests.support.storage import run, storage


def test_a_short_campaign_finds_nothing() -> None:
    """Patience for a machine that is busy; the program itself allows 10 s."""
    findings = asyncio.run(campaign(seed=7, minutes=0.3, patience=PATIENCE))
    assert findings.sound, findings.wrong
    assert findings.acknowledged > 10 and findings.faults > 2, findings.line


DAMAGES = {
    "none": ("SELECT 1", None),
    "a row is gone": ("DELETE FROM transactions WHERE description = '2'", "lost"),
    "an entry is gone": ("DELETE FROM ledger_entries WHERE seq = 2", "gaps"),
    "an amount is changed": ("UPDATE transactions SET amount = 999 WHERE description = '2'", "wrong"),
    "a row is there twice": (
        "INSERT INTO transactions (user_id, amount, currency, description)"
        " SELECT user_id, amount, currency, description FROM transactions WHERE description = '2'",
        "doubled",
    ),
    "the head is another": ("UPDATE ledger_head SET root_hash = sha256('x')", "wrong"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checker_finds_damage(database: str, damage: str) -> None:
    sql, expected = DAMAGES[damage]

    async def main() -> Findings:
        log = Log()
        async with storage(database, listen=False):
            user: Any = await add_user(database)
            for number in ("1", "2", "3"):
                got: Any = await gen_server.call(
                    "db_writer", RecordTransaction(user, Decimal("1.00"), "EUR", number)
                )
                log.acknowledged.append((str(got.transaction.id), got.seq, number))
        await execute(database, sql)
        return await check(database, log, [], 0)

    findings = run(main())
    assert findings.sound is (expected is None)
    if expected is not None:
        assert getattr(findings, expected)


@pytest.mark.parametrize(
    ("seen", "what"), [([1], "missed"), ([1, 2, 2], "doubled"), ([2, 1], "wrong"), ([1, 2], None)]
)
def test_the_checker_finds_what_a_subscriber_was_not_told(
    database: str, seen: list[int], what: str | None
) -> None:
    async def main() -> Findings:
        async with storage(database, listen=False):
            user: Any = await add_user(database)
            for number in ("1", "2"):
                await gen_server.call("db_writer", RecordTransaction(user, Decimal("1.00"), "EUR", number))
        subscriber = Subscriber(Person(str(user), ""), [], random.Random(1))
        subscriber.seen = seen
        return await check(database, Log(), [subscriber], 0)

    findings = run(main())
    assert findings.sound is (what is None)
    if what is not None:
        assert getattr(findings, what)
