"""Posters of the campaign. Each writes down what it was told, and nothing else: that log is what the checker compares."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

POST_SECONDS = 15.0
PAUSE_SECONDS = 0.05


@dataclass
class Log:
    """What clients were told."""

    acknowledged: list[tuple[str, int, str]] = field(default_factory=list)  # transaction id, seq, description
    # Descriptions answered "nothing was written", and not tried again.
    refused: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)  # answers that are against the contract
    answers: dict[str, int] = field(default_factory=dict)  # by status and code
    highest: int = 0  # seq of what was acknowledged
    foreign: list[str] = field(default_factory=list)  # ids of rows that another program has committed


@dataclass
class Person:
    """A user of the servers."""

    id: str
    token: str


class Poster:
    """Records transactions of one user, in all the ways that clients do."""

    def __init__(
        self, person: Person, urls: Callable[[], list[str]], log: Log, rng: random.Random, first: int = 0
    ) -> None:
        self.person, self.urls, self.log, self.rng = person, urls, log, rng
        self.count = first
        self.keys: list[tuple[str, str, int]] = []  # key, description, seq: to be replayed

    async def run(self, running: Callable[[], bool]) -> None:
        """Until `running()` is false."""
        timeout = httpx.Timeout(POST_SECONDS)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            kinds = (self._plain, self._keyed, self._twins, self._replay, self._conflict, self._head)
            while running():
                await self.rng.choices(kinds, (4, 4, 2, 1, 1, 1))[0](client)
                await asyncio.sleep(self.rng.random() * PAUSE_SECONDS)

    def _next(self) -> str:
        self.count += 1
        return f"{self.person.id}/{self.count}"

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, **options: Any
    ) -> tuple[int, str, dict[str, Any]]:
        headers = {"authorization": f"Bearer {self.person.token}"} | options.pop("headers", {})
        try:
            answer = await client.request(
                method, f"{self.rng.choice(self.urls())}{path}", headers=headers, **options
            )
            said = answer.json()
        except (httpx.HTTPError, ValueError):
            return 0, "lost", {}
        code = "" if answer.is_success else said["error"]["code"]
        name = f"{method} {answer.status_code} {code}".strip()
        self.log.answers[name] = self.log.answers.get(name, 0) + 1
        return answer.status_code, code, said

    async def _post(
        self, client: httpx.AsyncClient, description: str, key: str | None
    ) -> tuple[int, str, dict[str, Any]]:
        headers = {} if key is None else {"idempotency-key": key}
        body = {"amount": "1.00", "currency": "EUR", "description": description}
        return await self._ask(client, "POST", "/api/v1/transactions", json=body, headers=headers)

    def _acknowledge(self, said: dict[str, Any], description: str) -> int:
        seq = said["ledger"]["seq"]
        self.log.acknowledged.append((said["transaction"]["id"], seq, description))
        self.log.highest = max(self.log.highest, seq)
        return seq

    async def _plain(self, client: httpx.AsyncClient) -> None:
        description = self._next()
        status, code, said = await self._post(client, description, None)
        if status == 201:
            self._acknowledge(said, description)
        elif code in ("unavailable", "overloaded"):
            self.log.refused.add(description)
        elif status not in (0, 503):
            self.log.wrong.append(f"a plain transaction: {status} {code}")

    async def _until_settled(self, client: httpx.AsyncClient, description: str, key: str) -> int:
        while True:
            status, code, said = await self._post(client, description, key)
            if status == 201:
                return self._acknowledge(said, description)
            if status not in (0, 503):
                self.log.wrong.append(f"a keyed transaction: {status} {code}")
                return 0
            await asyncio.sleep(0.1)

    async def _keyed(self, client: httpx.AsyncClient) -> None:
        description = self._next()
        seq = await self._until_settled(client, description, description)
        self.keys.append((description, description, seq))

    async def _twins(self, client: httpx.AsyncClient) -> None:
        description = self._next()
        seqs = await asyncio.gather(
            *(self._until_settled(client, description, description) for _ in range(2))
        )
        if len(set(seqs)) != 1:
            self.log.wrong.append(f"twins got different entries: {seqs}")

    async def _replay(self, client: httpx.AsyncClient) -> None:
        if self.keys:
            key, description, seq = self.rng.choice(self.keys)
            again = await self._until_settled(client, description, key)
            if again != seq:
                self.log.wrong.append(f"a replay of entry {seq} got {again}")

    async def _conflict(self, client: httpx.AsyncClient) -> None:
        if self.keys:
            key, _, _ = self.rng.choice(self.keys)
            status, code, _ = await self._post(client, "another body", key)
            if status not in (0, 409, 503):
                self.log.wrong.append(f"another body under a known key: {status} {code}")

    async def _head(self, client: httpx.AsyncClient) -> None:
        known = self.log.highest
        status, code, said = await self._ask(client, "GET", "/api/v1/ledger/head")
        if status == 200 and said["seq"] < known:
            self.log.wrong.append(f"the head was {said['seq']}, after entry {known} was acknowledged")
        elif status not in (0, 200, 503):
            self.log.wrong.append(f"the head: {status} {code}")


class OtherProgram:
    """Writes into the table itself, past the servers: the ledger must take those rows in, and subscribers hear of them."""

    SQL = """
    INSERT INTO transactions (user_id, amount, currency, description) VALUES ($1, 2.00, 'EUR', $2) RETURNING id
    """

    def __init__(self, person: Person, database: Callable[[], str], log: Log, rng: random.Random) -> None:
        self.person, self.database, self.log, self.rng = person, database, log, rng
        self.count = 0

    async def run(self, running: Callable[[], bool]) -> None:
        """Until `running()` is false; what the database does not take is not tried again."""
        while running():
            await asyncio.sleep(self.rng.random())
            self.count += 1
            try:
                connection = await asyncpg.connect(self.database(), timeout=POST_SECONDS)
                try:
                    description = f"{self.person.id}/foreign/{self.count}"
                    row = await connection.fetchval(
                        self.SQL, self.person.id, description, timeout=POST_SECONDS
                    )
                    self.log.foreign.append(str(row))
                finally:
                    connection.terminate()
            except (
                OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
            ):  # fmt: skip
                continue
