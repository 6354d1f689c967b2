"""When a batch begins (actors/ledger/gathering.py): alone, at once; among many who write again and again, with all of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from actors.ledger import merkle
from actors.ledger.entry import GENESIS
from actors.ledger.gathering import LONGEST, Gathering
from actors.ledger.writer import MAX_BATCH, DbWriter, Recorded, RecordTransaction
from runtime.otp import erlang, gen_server
from runtime.testing.simulation import Simulation
from schema import ledger
from schema.rows import LedgerHead

COMMIT_MS = 4.0
THINK_MS = 0.2


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.seconds = 7.0

    def __call__(self) -> float:
        return self.seconds


def test_the_first_is_written_at_once() -> None:
    assert Gathering(10, Clock()).wait(1) == 0


def test_after_a_batch_those_who_were_seen_to_write_are_waited_for() -> None:
    clock = Clock()
    gathering = Gathering(10, clock)
    gathering.wrote(3, 1)
    assert gathering.wait(1) == pytest.approx(LONGEST)
    clock.seconds += LONGEST / 2
    assert gathering.wait(3) == pytest.approx(LONGEST / 2)
    assert gathering.wanted == 4 and gathering.wait(4) == 0
    clock.seconds += LONGEST
    assert gathering.wait(3) == 0, "though not for long"


def test_who_is_alone_waits_for_nobody() -> None:
    gathering = Gathering(10, Clock())
    gathering.wrote(1, 0)
    assert gathering.wait(1) == 0


def test_a_batch_that_is_full_waits_for_nobody() -> None:
    gathering = Gathering(10, Clock())
    gathering.wrote(10, 10)
    assert gathering.wanted == 10 and gathering.wait(10) == 0


class Writer(DbWriter):
    """On a database that takes COMMIT_MS for everything."""

    def init(self, sizes: list[int]) -> None:  # type: ignore[override]
        super().init()
        self.connection = Database(sizes)  # type: ignore[assignment]
        self.server.ledger_head = LedgerHead(0, GENESIS, merkle.EMPTY_ROOT, ())


class Database:
    """The writer's connection, and what asks for it."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    async def get(self) -> Database:
        return self

    async def drop(self) -> None:
        """Nothing to end."""

    def check_replicated(self) -> None:
        """There is no standby."""

    async def fetchval(self, *_statement: Any, timeout: float | None = None) -> Any:
        return 0

    async def execute(self, sql: str, *arguments: Any, timeout: float) -> str:
        rows = len(arguments[11]) // 32 if sql == ledger.RECORD_MANY else 1
        await erlang.sleep(COMMIT_MS)
        self.sizes.append(rows)
        return f"INSERT 0 {rows}"


def batches(clients: int, posts: int, seed: int = 0) -> tuple[list[int], float]:
    """The sizes of the batches when so many clients write again as soon as they are answered, and the ms it takes."""
    sizes: list[int] = []
    done: list[float] = []
    with Simulation(seed) as sim:
        sim.start(Writer, sizes, name="db_writer")
        sim.advance(100)

        async def client(number: int) -> None:
            request = RecordTransaction(UUID(int=number), Decimal("1.00"), "EUR")
            for _ in range(posts):
                assert isinstance(await gen_server.call("db_writer", request), Recorded)
                await erlang.sleep(THINK_MS)
            done.append(sim.now)

        began = sim.now
        for number in range(clients):
            sim.spawn(client, number)
        sim.advance(10_000)
        assert len(done) == clients and sum(sizes) == clients * posts
        return sizes, max(done) - began


def test_a_lone_client_gets_what_the_database_gives() -> None:
    sizes, ms = batches(1, 20)
    assert sizes == [1] * 20
    assert ms == pytest.approx(20 * (COMMIT_MS + THINK_MS))


@pytest.mark.parametrize("seed", range(5))
def test_those_who_write_again_and_again_share_each_batch(seed: int) -> None:
    sizes, ms = batches(8, 20, seed)
    assert sizes.count(8) >= 18, sizes
    assert ms < 24 * (COMMIT_MS + THINK_MS)


def test_more_than_a_batch_takes() -> None:
    sizes, _ms = batches(2 * MAX_BATCH + 20, 3)
    assert max(sizes) == MAX_BATCH
