"""2,000 transactions from 32 clients at once: each has its row, its ledger entry and its event, once, without gaps."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import pytest
import uvloop

from tests.support.chain import entries
from tests.support.channel import follow_transactions
from tests.support.server import Server, User

COUNT = 2000
CLIENTS = 32
SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))


@dataclass
class Seen:
    """What the clients were told."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


async def post(user: User, numbers: Any, seen: Seen, session: aiohttp.ClientSession, until: float) -> None:
    """One client: the next number until they end, or time is up."""
    for number in numbers:
        if until and time.monotonic() > until:
            return
        body = {
            "amount": f"{number % 900 + 1}.{number % 100:02d}",
            "currency": "EUR",
            "description": f"no. {number}",
        }
        seen.answers.append(await recorded(user, body, session))


async def recorded(user: User, body: dict[str, str], session: aiohttp.ClientSession) -> dict[str, Any]:
    """The answer to a transaction, sent again when a server that stood still for a moment refuses it as it must."""
    headers = {"authorization": f"Bearer {user.token}"}
    while True:
        async with session.post("/api/v1/transactions", json=body, headers=headers) as answer:
            told = await answer.json()
            if answer.status != 503 or told["error"]["code"] != "overloaded":
                assert answer.status == 201, told
                return told
            await asyncio.sleep(float(answer.headers["retry-after"]))


async def load(server: Server, people: list[User]) -> Seen:
    """All clients at once, and the events until the last has come."""
    seen = Seen()
    numbers = iter(range(COUNT)) if not SECONDS else iter(range(1 << 60))
    until = time.monotonic() + SECONDS if SECONDS else 0.0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        joins = [asyncio.Event() for _ in people]
        listeners = [
            asyncio.create_task(follow_transactions(server, person, joined, seen.events.append, session))
            for person, joined in zip(people, joins, strict=True)
        ]
        async with asyncio.timeout(60):
            for joined in joins:
                await joined.wait()
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(post(people[client % len(people)], numbers, seen, session, until))
        async with asyncio.timeout(60):
            while len(seen.events) < len(seen.answers):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)  # for one too many to show
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
    return seen


@pytest.fixture(scope="module")
def people(server: Server) -> list[User]:
    """Those who pay."""
    return [server.user() for _ in range(8)]


@pytest.fixture(scope="module")
def seen(server: Server, people: list[User]) -> Seen:
    """What came of the load."""
    return uvloop.run(load(server, people))


def test_every_201_has_its_row(server: Server, seen: Seen) -> None:
    assert SECONDS or len(seen.answers) == COUNT

    async def rows() -> dict[str, tuple[str, str]]:
        connection = await asyncpg.connect(server.database)
        found = await connection.fetch("SELECT id, amount, description FROM transactions")
        await connection.close()
        return {str(row["id"]): (str(row["amount"]), row["description"]) for row in found}

    stored = asyncio.run(rows())
    told = {each["transaction"]["id"]: each["transaction"] for each in seen.answers}
    assert len(told) == len(seen.answers)
    assert stored == {key: (value["amount"], value["description"]) for key, value in told.items()}


def test_the_ledger_has_one_entry_each_without_gaps_and_its_hashes_chain(server: Server, seen: Seen) -> None:
    assert sorted(each["ledger"]["seq"] for each in seen.answers) == list(range(1, len(seen.answers) + 1))
    recorded = {(each["ledger"]["seq"], each["ledger"]["hash"]) for each in seen.answers}
    assert set(entries(server.database)) == recorded


def test_each_event_is_delivered_once_and_in_the_order_of_the_ledger(seen: Seen, people: list[User]) -> None:
    told = {each["transaction"]["id"]: each["ledger"]["seq"] for each in seen.answers}
    assert sorted(event["id"] for event in seen.events) == sorted(told)
    assert all(event["ledger_seq"] == told[event["id"]] for event in seen.events)
    for person in people:
        sequence = [event["ledger_seq"] for event in seen.events if event["user_id"] == person.id]
        assert sequence and sequence == sorted(sequence)
