"""Publishing of the ledger to this server's channels: each entry once, in order, from the server's start on.

The position is kept in `ServerState` and moves together with the broadcast, without an await in between, so that a crash of
`db_writer`, which alone publishes, neither loses an event nor sends it twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from actors.server_state import server_state
from actors.storage.connecting import SqlConnection
from actors.storage.local_broadcast import local_broadcast
from runtime import Error, erlang
from runtime.nodes import codec, net_kernel
from runtime.phoenix.pubsub import whereis
from schema import ledger
from schema.rows import LedgerHead, TransactionRow

PAGE = 250
COMMITTED = "ledger:committed"  # the topic of what nodes have committed

Event = tuple[str, str, dict[str, Any]]  # topic, event, payload


@dataclass(frozen=True, slots=True)
class Committed:
    """`node` has committed the entries after `after` up to `head.seq`; `head` is the ledger's head since then.

    `events` is an encoded list of `Event`: the codec between nodes would take longer, value by value.
    """

    node: str
    after: int
    head: LedgerHead
    events: bytes


codec.register(LedgerHead)
codec.register(Committed)
_encode_events = msgspec.msgpack.Encoder().encode
_decode_events = msgspec.msgpack.Decoder(list[Event]).decode


async def begin(connection: SqlConnection) -> int:
    """The position; on the first call of this server, the end of the ledger."""
    state = server_state()
    if state.ledger_position is None:
        seq = await connection.fetchval(ledger.HEAD_SEQ)
        # A channel calls this as well: during this query, it may have set the position, and the writer published more.
        if state.ledger_position is None:
            state.ledger_position = seq
    assert state.ledger_position is not None
    return state.ledger_position


def position() -> int:
    """The last entry that this server has published, 0 before it began."""
    return server_state().ledger_position or 0


class Feed:
    """The feed of this server, published on the PubSub of this name. Its writer alone uses it."""

    __slots__ = ("_pubsub", "_state")

    def __init__(self, pubsub: str) -> None:
        self._pubsub = pubsub
        self._state = server_state()

    def is_next(self, seq: int) -> bool:
        """Whether entry `seq` + 1 is the next to be published."""
        position = self._state.ledger_position
        if position is None:
            self._state.ledger_position = position = seq
        return position == seq

    def begin_again_at(self, seq: int) -> None:
        """The head is at `seq`, by a reading later than what was published before: what was published beyond it is lost.

        A failover to a standby that did not have everything, or a restored database. Entries after `seq` are new ones.
        """
        position = self._state.ledger_position
        if position is not None and position > seq:
            self._state.ledger_position = seq

    async def catch_up(self, connection: SqlConnection, until: int | None = None) -> None:
        """Publish all committed entries after the position, up to `until` or the end of the ledger."""
        position = await begin(connection)
        last = until
        if last is None:
            last = int(await connection.fetchval(ledger.HEAD_SEQ) or 0)
            self.begin_again_at(last)
        while position < last:
            page = await connection.fetch(ledger.ENTRIES, position, last, PAGE)
            if not page:
                return
            position = page[-1]["seq"]
            self.publish([(TransactionRow.from_record(r), r["seq"]) for r in page if r["id"] is not None])
            self._state.ledger_position = position  # past rows that were removed, too

    def publish(
        self, rows: Iterable[tuple[TransactionRow, int]], committed: LedgerHead | None = None
    ) -> None:
        """Broadcast these rows with their seq, ascending, and move the position behind the last.

        With `committed`, the head that they made, to the feeds of the other nodes as well: what this node has committed, nobody
        else publishes.
        """
        try:
            found = whereis(self._pubsub)
        except Error:  # restarting, and with it all subscriptions are gone; others read it in the database, at the NOTIFY
            found = None
        state = self._state
        nodes = committed is not None and found is not None and found.adapter is not None
        events: list[Event] = []
        after, seq = state.ledger_position or 0, None
        for row, seq in rows:
            topic = f"transaction:{row.user_id}"
            if nodes or (found is not None and found.has_subscribers(topic)):
                payload = row.payload()
                payload["ledger_seq"] = seq
                events.append((topic, "new_transaction", payload))
        if seq is None:
            return
        state.ledger_position = seq
        if found is not None and events:
            local_broadcast(found, events)
            if committed is not None and nodes:
                message = Committed(net_kernel.node(), after, committed, _encode_events(events))
                found.broadcast_from(erlang.self_(), COMMITTED, message)

    async def receive(
        self, connection: Callable[[], Awaitable[asyncpg.Connection]], committed: Committed
    ) -> None:
        """Publish what another node has committed: what is missing before it is read from the database first."""
        state = self._state
        if state.ledger_position is None:
            return
        if state.ledger_position < committed.after:
            await self.catch_up(await connection(), committed.after)
        now = state.ledger_position
        if committed.after <= now < committed.head.seq:
            missing = [event for event in _decode_events(committed.events) if event[2]["ledger_seq"] > now]
            state.ledger_position = committed.head.seq
            with suppress(Error):
                local_broadcast(whereis(self._pubsub), missing)
