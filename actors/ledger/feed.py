"""How far this server has told its channels of the ledger, and the telling: each entry once, in ledger order.

The position lies in the `Node` and moves in the same breath as the broadcast, so that a crash of `db_writer`,
which alone uses this, neither loses an event nor sends it twice. Entries before the server's first look at
the database are not told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from actors.node import node
from actors.storage.local_broadcast import local_broadcast
from runtime.core.exits import Error
from runtime.nodes import codec
from runtime.otp import erlang
from runtime.phoenix.pubsub import broadcast_from
from schema import ledger
from schema.rows import TransactionRow

PAGE = 250
COMMITTED = "ledger:committed"  # the topic on which nodes tell each other

Event = tuple[str, str, dict[str, Any]]  # topic, event, payload


@dataclass(frozen=True, slots=True)
class Committed:
    """A node has committed the entries after `after` up to `until`: what to tell of them."""

    after: int
    until: int
    events: list[Event]


codec.register(Committed)


async def begin(connection: asyncpg.Connection) -> int:
    """The position; on the first call of this server, the end of the ledger."""
    memory = node()
    if memory.ledger_position is None:
        memory.ledger_position = await connection.fetchval(ledger.HEAD_SEQ)
    assert memory.ledger_position is not None
    return memory.ledger_position


def position() -> int:
    """How far this server has told, 0 before it began."""
    return node().ledger_position or 0


def is_next(seq: int) -> bool:
    """Whether entry `seq` + 1 is the next to be told."""
    position = node().ledger_position
    if position is None:
        node().ledger_position = position = seq
    return position == seq


def begin_again_at(seq: int) -> None:
    """The head is at `seq`, by a look later than what was told before: what this server has told beyond it is lost.

    A failover to a standby that did not have everything, or a restored database. Entries after `seq` are new ones.
    """
    memory = node()
    if memory.ledger_position is not None and memory.ledger_position > seq:
        memory.ledger_position = seq


async def catch_up(connection: asyncpg.Connection, pubsub: str, until: int | None = None) -> None:
    """Tell of all committed entries after the position, up to `until` or the end of the ledger."""
    position = await begin(connection)
    last = until
    if last is None:
        last = await connection.fetchval(ledger.HEAD_SEQ)
        begin_again_at(last)
    while position < last:
        page = await connection.fetch(ledger.ENTRIES, position, last, PAGE)
        if not page:
            return
        position = page[-1]["seq"]
        tell(pubsub, [(TransactionRow.from_record(r), r["seq"]) for r in page if r["id"] is not None])
        node().ledger_position = position  # past rows that were removed, too


def tell(pubsub: str, rows: Iterable[tuple[TransactionRow, int]], others: bool = False) -> None:
    """Broadcast these rows with their seq, ascending, and move the position behind the last.

    With `others` the other nodes' feeds are told, too: of what this node has committed, by nobody else.
    """
    events: list[Event] = []
    after = position()
    seq = None
    for row, seq in rows:
        payload = row.payload()
        payload["ledger_seq"] = seq
        events.append((f"transaction:{payload['user_id']}", "new_transaction", payload))
    if seq is None:
        return
    node().ledger_position = seq
    local_broadcast(pubsub, events)
    if others:
        with suppress(Error):  # restarting: the others read it in the database, at the NOTIFY
            broadcast_from(pubsub, erlang.self_(), COMMITTED, Committed(after, seq, events))


async def hear(connection: Callable[[], Awaitable[asyncpg.Connection]], pubsub: str, told: Committed) -> None:
    """Another node tells what it has committed: what is missing before it is read from the database first."""
    if node().ledger_position is None:
        return
    if position() < told.after:
        await catch_up(await connection(), pubsub, told.after)
    now = position()
    if told.after <= now < told.until:
        news = [event for event in told.events if event[2]["ledger_seq"] > now]
        node().ledger_position = told.until
        local_broadcast(pubsub, news)
