"""The crash campaign, short; and its checker, which must find damage that is done by hand."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from actors.ledger.writer import RecordTransaction
from runtime.otp import gen_server
from tests.campaign.__main__ import Course, campaign, judge
from tests.campaign.checker import Findings, check
from tests.campaign.clients import Log, Person
from tests.campaign.faults import Fault
from tests.campaign.subscribers import LongPollSubscriber, Subscriber, WebSocketSubscriber
from tests.campaign.world import World, world
from tests.support.database import add_user, execute
from tests.support.storage import run, storage


@pytest.mark.parametrize("nodes", [0, 3])
def test_a_short_campaign_finds_nothing(nodes: int) -> None:
    """Patience for a machine that is busy: six times what the program itself allows."""
    findings = asyncio.run(campaign(seed=7, minutes=0.3, nodes=nodes, patience=6.0))
    assert findings.sound, findings.wrong
    assert findings.acknowledged > 10 and findings.faults > 2, findings.line


DAMAGES = {
    "none": ("SELECT 1", None),
    "a row is gone": ("DELETE FROM transactions WHERE description = '2'", "lost"),
    "the last row and its entry are gone": (
        "DELETE FROM transactions WHERE description = '3'; DELETE FROM ledger_entries WHERE seq = 3",
        "lost",
    ),
    "two rows have changed places": (
        "UPDATE ledger_entries SET seq = seq + 10 WHERE seq < 3; UPDATE ledger_entries SET seq = 13 - seq WHERE seq > 10",
        "lost",
    ),
    "an entry is gone": ("DELETE FROM ledger_entries WHERE seq = 2", "gaps"),
    "an amount is changed": ("UPDATE transactions SET amount = 999 WHERE description = '2'", "wrong"),
    "a row is there twice": (
        "INSERT INTO transactions (user_id, amount, currency, description)"
        " SELECT user_id, amount, currency, description FROM transactions WHERE description = '2'",
        "doubled",
    ),
    "a row has no entry": (
        "ALTER TABLE transactions DISABLE TRIGGER USER;"
        " INSERT INTO transactions (user_id, amount, currency, description)"
        " SELECT user_id, amount, currency, '4' FROM transactions WHERE description = '2'",
        "gaps",
    ),
    "a link of the chain is another": (
        "UPDATE ledger_entries SET prev_hash = sha256('x') WHERE seq = 2",
        "wrong",
    ),
    "a hash is another": ("UPDATE ledger_entries SET hash = sha256('x') WHERE seq = 3", "wrong"),
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
    ("resumes", "sessions", "what"),
    [
        (True, [[1, 2, 3]], None),
        (True, [[1], [2, 3]], None),
        (True, [[1, 3]], "missed"),
        (True, [[1, 2]], "missed"),
        (True, [[1, 2, 2, 3]], "doubled"),
        (True, [[1, 3, 2]], "wrong"),
        (True, [[1, 2, 3, 4]], "wrong"),
        (False, [[2, 3]], None),
        (False, [[1], [3]], None),
        (False, [[1, 2], [2, 3]], None),
        (False, [[1, 3]], "missed"),
        (False, [[1, 2]], "missed"),
        (False, [[2, 2, 3]], "doubled"),
        (False, [[3, 2]], "wrong"),
    ],
)
@pytest.mark.parametrize("kind", [WebSocketSubscriber, LongPollSubscriber])
def test_the_checker_finds_what_a_subscriber_was_not_told(
    database: str, kind: type[Subscriber], resumes: bool, sessions: list[list[int]], what: str | None
) -> None:
    async def main() -> Findings:
        ids = {4: "of no entry"}
        async with storage(database, listen=False):
            user: Any = await add_user(database)
            for number in (1, 2, 3):
                request = RecordTransaction(user, Decimal("1.00"), "EUR", str(number))
                got: Any = await gen_server.call("db_writer", request)
                ids[got.seq] = str(got.transaction.id)
        subscriber = kind(Person(str(user), ""), list, random.Random(1), resumes)
        subscriber.sessions = [[(seq, ids[seq]) for seq in session] for session in sessions]
        subscriber.joined = True
        return await check(database, Log(), [subscriber], 0)

    findings = run(main())
    assert findings.sound is (what is None)
    if what is not None:
        assert getattr(findings, what)


ANSWERED = {
    "what was refused is there": (["2"], [], "wrong"),
    "an answer is against the contract": ([], ["a plain transaction: 500 internal"], "wrong"),
}


@pytest.mark.parametrize("what", ANSWERED)
def test_the_checker_finds_wrong_answers(database: str, what: str) -> None:
    refused, wrong, expected = ANSWERED[what]

    async def main() -> Findings:
        async with storage(database, listen=False):
            user: Any = await add_user(database)
            for number in ("1", "2"):
                await gen_server.call("db_writer", RecordTransaction(user, Decimal("1.00"), "EUR", number))
        return await check(database, Log(refused=set(refused), wrong=wrong), [], 0)

    findings = run(main())
    assert not findings.sound and getattr(findings, expected)


def test_the_checker_finds_that_a_row_of_another_program_is_lost(database: str) -> None:
    findings = asyncio.run(check(database, Log(foreign=["there is none of this id"]), [], 0))
    assert not findings.sound and findings.lost == 1


def test_a_server_that_ends_by_itself_or_does_not_come_back_is_found() -> None:
    """Faults that are never undone: the campaign itself must say so."""

    async def end(made: World, _rng: random.Random, _seconds: float) -> None:
        await made.kill(made.sites[0])

    async def lock_out(made: World, _rng: random.Random, _seconds: float) -> None:
        for link in made.sites[0].databases:
            link.mode = "close"
        while await made.healthy_within(0.5) is not None:
            await asyncio.sleep(0.1)

    async def judged(fault: Fault) -> Course:
        course = Course()
        async with world(1) as made:
            await fault(made, random.Random(1), 0.0)
            await judge(made, ["a fault"], 0.3, course)
            for link in made.sites[0].databases:
                link.mode = "pass"
        return course

    assert any("ended by itself" in line for line in asyncio.run(judged(end)).wrong)
    assert any("not healthy" in line for line in asyncio.run(judged(lock_out)).wrong)
