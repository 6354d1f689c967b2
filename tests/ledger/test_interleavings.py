"""Writer, ledger, listener and channels in every order: seeds by the hundred on a model database that fails at each await.

`INTERLEAVINGS=5000 python -m pytest tests/ledger/test_interleavings.py` for more of them. That these histories can see damage is
shown by breaking each part once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from actors.channels import TransactionChannel
from actors.ledger import feed
from actors.ledger.server import prepare
from actors.ledger.writer import DbWriter, OutcomeUnknown, Unavailable
from actors.server_state import server_state
from actors.storage.listener import DbListener, PollHead
from runtime.core import engine as engines
from runtime.otp import erlang
from runtime.phoenix import Accept
from runtime.testing.simulation import Simulation
from schema import ledger
from tests.support.model_database import ModelDatabase
from tests.support.model_servers import PRODUCT, History, Parts

SEEDS = int(os.environ.get("INTERLEAVINGS", "160"))
BATCH = 20
BROKEN_SEEDS = 60


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A history logs its faults."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def wrong(seed: int, servers: int, parts: Parts = PRODUCT) -> list[str]:
    history = History(seed, servers, parts=parts)
    try:
        history.run()
        return history.wrong()
    finally:
        history.cluster.close()


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
@pytest.mark.parametrize("servers", [1, 2])
def test_nothing_is_lost_doubled_or_missed_in_any_order(servers: int, first: int) -> None:
    found = {seed: lines for seed in range(first, first + BATCH) if (lines := wrong(seed, servers))}
    assert not found


def test_one_seed_is_one_history() -> None:
    def seen(seed: int) -> Any:
        history = History(seed)
        history.run()
        posters = [(p.acknowledged, p.refused) for each in history.posters.values() for p in each]
        clients = [client.sessions for each in history.clients.values() for client in each]
        history.cluster.close()
        return posters, clients, history.done

    assert seen(7) == seen(7)


# ---- broken once each


class NoHeadCheck(ModelDatabase):
    """A batch goes in whatever the head is."""

    def _is_stale(self, seq: int, chained: bytes) -> bool:
        return False


class NoKeys(ModelDatabase):
    """An idempotency key is not looked up."""

    def _by_key(self) -> dict[Any, Any]:
        return {}


class HalfACommit(ModelDatabase):
    """The rows of a batch are durable before their entries are."""

    def _append(self, node: str, ids: list[Any], *entries: Any) -> None:
        if len(self.entries) != 7:
            super()._append(node, ids, *entries)


class SureOfNothing(DbWriter):
    """Says "nothing was written" when it does not know."""

    async def _failed(self, batch: list[Any], error: Exception) -> Any:
        if isinstance(error, OutcomeUnknown):
            error = Unavailable(str(error))
        return await super()._failed(batch, error)


class TellsTwice(DbWriter):
    """Tells of a batch again after it was killed and begun anew."""

    def init(self, pubsub: str = "pubsub") -> None:
        super().init(pubsub)
        position = server_state().ledger_position
        if position is not None:
            server_state().ledger_position = max(0, position - 1)


class MovesTheHeadAtOnce(DbWriter):
    """Takes for the head what it is about to write."""

    async def _record(self, batch: list[Any]) -> Any:
        known = self.server.ledger_head
        if known is not None:
            self.server.ledger_head = prepare(known, [waiting.row for waiting in batch]).after
        return await super()._record(batch)


class KeepsTheHead(DbWriter):
    """Answers, and takes for the head what it was before."""

    async def _write(self, batch: list[Any]) -> None:
        known = self.server.ledger_head
        await super()._write(batch)
        self.server.ledger_head = known


class NeverLooks(DbListener):
    """A commit whose answer was lost waits for the next one."""

    def handle_info(self, message: Any) -> Any:
        return None if type(message) is PollHead else super().handle_info(message)

    def _ledger_moved(self, payload: str) -> None:
        """NOTIFY is lost, as it may be."""


class SubscribesAtOnce(TransactionChannel):
    """What happens while it reads what was missed comes in between."""

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        answer = super().join(topic, payload, socket)
        return Accept() if type(answer) is Accept else answer


class ForgetsWhatWasMissed(TransactionChannel):
    """A client that comes back hears of what happens from now on."""

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        return Accept()


BROKEN = {
    "chain": Parts(database=NoHeadCheck),
    "doubled": Parts(database=NoKeys),
    "gap": Parts(database=HalfACommit),
    "refused": Parts(writer=SureOfNothing),
    "head: too early": Parts(writer=MovesTheHeadAtOnce),
    "head: too late": Parts(writer=KeepsTheHead),
    "events: told twice": Parts(writer=TellsTwice),
    "events: not told": Parts(listener=NeverLooks),
    "events: in between": Parts(channel=SubscribesAtOnce),
    "events: forgotten": Parts(channel=ForgetsWhatWasMissed),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_seen(kind: str) -> None:
    expected = kind.partition(":")[0]
    for seed in range(BROKEN_SEEDS):
        if any(line.startswith(expected) for line in wrong(seed, 2, BROKEN[kind])):
            return
    pytest.fail(f"{BROKEN_SEEDS} histories did not see it")


def test_who_looks_at_the_head_second_does_not_set_the_position_back() -> None:
    """A channel and the writer both ask for the end of the ledger at first; the writer is quicker and has told more."""

    class Slow:
        async def fetchval(self, sql: str) -> int:
            assert sql == ledger.HEAD_SEQ
            await erlang.sleep(100)
            return 5

    async def first_look() -> int:
        return await feed.begin(Slow())  # type: ignore[arg-type]

    with Simulation() as sim:
        sim.spawn(first_look)
        sim.run()
        engines.set_default(sim.engine)
        server_state().ledger_position = 9
        sim.advance(200)
        assert server_state().ledger_position == 9
