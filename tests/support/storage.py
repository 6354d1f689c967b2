"""The storage processes of BitNexus on a given database, as a supervision tree on an asyncio engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import uvloop

from actors.ledger.server import LedgerServer
from actors.ledger.writer import DbWriter, RecordTransaction
from actors.server_state import server_state
from actors.storage.listener import DbListener, GetListenerStatus
from actors.storage.postgres.server import Postgres
from actors.storage.repo import Repo
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer
from runtime.otp.supervisor import ChildSpec, Supervisor
from runtime.phoenix import pubsub
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.pubsub import PubSub
from tests.support.server import PATIENCE


class Subscriber(GenServer):
    """Collects the messages on its topics."""

    def init(self, *topics: str) -> None:
        self.seen: list[Any] = []
        for topic in topics:
            pubsub.subscribe("pubsub", topic)

    def handle_info(self, message: Any) -> None:
        self.seen.append(message)


@dataclass
class Storage:
    """A running tree."""

    url: str
    supervisor: Any
    subscribers: list[Subscriber] = field(default_factory=list)

    async def subscribe(self, *topics: str) -> list[Any]:
        """A list that collects the messages on these topics."""
        subscriber = Subscriber()
        await gen_server.start_actor(subscriber, topics, link=False)
        return subscriber.seen

    async def record(self, user_id: Any, amount: str = "12.50", **fields: Any) -> Any:
        """One transaction through the writer."""
        message = RecordTransaction(user_id, Decimal(amount), fields.pop("currency", "EUR"), **fields)
        return await gen_server.call("db_writer", message)


def child(cls: type[GenServer], name: str, *args: Any, shutdown: int = 10_000) -> ChildSpec:
    """A permanent worker registered under `name`."""
    return ChildSpec(name, (_start, (cls, name, args)), "permanent", shutdown)


async def _start(cls: type[GenServer], name: str, args: tuple[Any, ...]) -> Any:
    return await cls.start_link(*args, name=name)


@asynccontextmanager
async def storage(
    url: str | None, *, data_dir: str | None = None, strategy: str = "one_for_one", listen: bool = True
) -> AsyncIterator[Storage]:
    """Start everything on `url`, or on the embedded cluster of `data_dir`."""
    engine = AsyncioEngine().start()
    children = [
        child(PubSub, "pubsub"),
        child(Postgres, "postgres", data_dir, url),
        child(Repo, "repo", 5, True),
        child(LedgerServer, "ledger_server"),
        child(DbWriter, "db_writer"),
        *([child(DbListener, "db_listener")] if listen else []),
    ]
    try:
        supervisor = await Supervisor.start_link(children, strategy=strategy, intensity=100, period=5)
        if listen:
            await until(lambda: _listening())
        yield Storage(server_state().database_url or "", supervisor)
        if supervisor is not None and erlang.is_process_alive(supervisor):
            await gen_server.stop(supervisor, "shutdown", 20_000)
    finally:
        await engine.stop()


async def _listening() -> bool:
    return (await gen_server.call("db_listener", GetListenerStatus())).listening


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until `condition()` is true and return it; the test fails after `seconds`."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert asyncio.get_running_loop().time() < end, "it did not become true"
        await asyncio.sleep(0.005)


def run(coroutine: Any) -> Any:
    """Run a test's coroutine on uvloop."""
    return uvloop.run(coroutine)


def payloads(seen: list[Any], event: str) -> list[Any]:
    """The payloads of the broadcasts of one event."""
    return [message.payload for message in seen if isinstance(message, Broadcast) and message.event == event]


async def kill(name: str, reason: Any = "kill") -> Any:
    """Kill the process registered under `name` and wait for its successor; the new pid."""
    old = erlang.whereis(name)
    assert old is not None
    erlang.exit(old, reason)
    return await until(lambda: (new := erlang.whereis(name)) is not None and new is not old and new)
