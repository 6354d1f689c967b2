"""The listener: changes that anybody makes in the shared tables reach the channels, once.

Owns a connection that LISTENs. A notification is only a hint to look: what happened is read from the change
log by position, so nothing is missed while the listener or the database was down. Every server has a listener
and tells its own subscribers. Transactions of others are not told from here: the listener has `db_writer`
give them their entries and tell them in ledger order.

Messages: `Connect`, `Look`, `LookAtHead` (its own timers), `Notified` and `ConnectionLost` from the connection. Calls:
`GetStatus` -> `ListenerStatus`.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from actors.ledger.writer import HeadMoved, RecordPending
from actors.node import node
from actors.storage import connecting, repo
from actors.storage.change_events import Change, events_of
from actors.storage.failures import Meaning, meaning
from actors.storage.local_broadcast import local_broadcast
from runtime.core import telemetry
from runtime.core.exits import Error
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer, Reply, Stop
from runtime.phoenix.pubsub import whereis
from schema import changes, ledger

log = logging.getLogger("bitnexus.db_listener")

CHANNELS = ("bitnexus_changes", "bitnexus_ledger")
LOOK_MS = 5_000  # looks without a hint, in case one was lost
HEAD_MS = 800  # at the ledger's head: a COMMIT whose answer was lost is told within a second
HEAD_SECONDS = 1.5
BACKOFF_MS = (50, 100, 200, 500, 1000)
TRIM_LOOKS = 720  # about an hour
SQL_SECONDS = 10.0
OWN_SESSIONS = "db:sessions:own"
PAGE = 250  # changes read and told at a time: another program may change a whole table in one statement


@dataclass(frozen=True, slots=True)
class Connect:
    """Time to try to connect."""


@dataclass(frozen=True, slots=True)
class Look:
    """Time to look into the change log."""


@dataclass(frozen=True, slots=True)
class LookAtHead:
    """Time to look how far the ledger goes, over this connection."""

    connection: asyncpg.Connection


@dataclass(frozen=True, slots=True)
class Notified:
    """A NOTIFY."""

    channel: str
    payload: str


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The listening connection ended."""

    connection: asyncpg.Connection


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Asks for `ListenerStatus`."""


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """Whether it listens, and how many changes it has told since it started."""

    listening: bool
    told: int


class DbListener(GenServer):
    """The listener of a server. `name` is under which its position is kept in the database; `pubsub` where
    events go.
    """

    def init(self, name: str = "default", pubsub: str = "pubsub") -> None:
        erlang.trap_exit(True)
        self.position_name = name
        self.pubsub = pubsub
        self.connection: asyncpg.Connection | None = None
        self.failures = 0
        self.told = 0
        self.looks = 0
        self.looked = False  # over this connection
        self.look_waits = False
        self.timer: Any = None
        self.on_exit(lambda _pid: self._hang_up())  # also when it is killed
        erlang.send(erlang.self_(), Connect())

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetStatus():
                return Reply(ListenerStatus(self.connection is not None, self.told))
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Notified("bitnexus_changes", _):
                if not self.look_waits:
                    self.look_waits = True
                    erlang.send(erlang.self_(), Look())
            case Notified(_, payload):
                self._ledger_moved(payload)
            case Look():
                return self._look()
            case LookAtHead(connection):
                return self._look_at_head() if connection is self.connection else None
            case Connect():
                return self._connect()
            case ConnectionLost(connection):
                if connection is self.connection:
                    self.connection = None
                    erlang.send(erlang.self_(), Connect())
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    def _ledger_moved(self, payload: str) -> None:
        sender, _, seq = payload.partition(":")
        if sender == "pending":
            gen_server.cast("db_writer", RecordPending())
        elif sender != node().id and seq.isdecimal() and len(seq) < 19:
            gen_server.cast("db_writer", HeadMoved(int(seq)))

    async def _connect(self) -> None:
        if self.connection is not None:
            return
        me = erlang.self_()
        try:
            connection = await connecting.connect(
                repo.url(), f"bitnexus listener {node().id}", command_timeout=SQL_SECONDS
            )
        except Exception as error:  # whatever it is: the database is away
            if self.failures == 0:
                log.warning("can't listen to the database: %s", repo.reason(error))
            erlang.send_after(BACKOFF_MS[min(self.failures, len(BACKOFF_MS) - 1)], me, Connect())
            self.failures += 1
            return
        self.connection = connection
        self.looked = False
        self.failures = 0
        try:
            connection.add_termination_listener(lambda gone: erlang.send(me, ConnectionLost(gone)))
            for channel in CHANNELS:
                await connection.add_listener(
                    channel, lambda _c, _pid, name, text: erlang.send(me, Notified(name, text))
                )
            await connection.execute(ledger.LISTEN, node().id)
        except Exception:
            self._hang_up()
            erlang.send_after(BACKOFF_MS[-1], me, Connect())
            return
        gen_server.cast("db_writer", RecordPending())
        erlang.send_after(HEAD_MS, me, LookAtHead(connection))
        await self._look()

    async def _look(self) -> None:
        self.look_waits = False
        connection = self.connection
        if connection is None:
            return
        asked_at = time.monotonic()
        try:
            await self._read(connection)
            node().changes_read_at = asked_at
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            log.warning("can't read the change log: %s", repo.reason(error))
            self._hang_up()
            erlang.send_after(BACKOFF_MS[-1], erlang.self_(), Connect())
            return
        if self.timer is not None:
            erlang.cancel_timer(self.timer)
        self.timer = erlang.send_after(LOOK_MS, erlang.self_(), Look())
        self.looks += 1
        if self.looks % TRIM_LOOKS == 0:
            gen_server.cast("db_writer", RecordPending())

    async def _look_at_head(self) -> None:
        connection = self.connection
        assert connection is not None
        told = node().ledger_position or 0
        try:
            seq, pending = await connection.fetchrow(ledger.HEAD_AND_PENDING, timeout=HEAD_SECONDS)
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            self._hang_up()  # also when the link is half-open
            erlang.send(erlang.self_(), Connect())
            return
        if pending or seq < told:  # fewer than before the question: a failover has lost some
            gen_server.cast("db_writer", RecordPending())
        elif seq > (node().ledger_position or 0):
            gen_server.cast("db_writer", HeadMoved(seq))
        erlang.send_after(HEAD_MS, erlang.self_(), LookAtHead(connection))

    async def _read(self, connection: asyncpg.Connection) -> None:
        memory = node()
        if memory.change_position is None:
            memory.change_position = await self._stored_position(connection)
        elif not self.looked and not await connection.fetchval(changes.IS_FROM_HERE, memory.change_position):
            # A standby that did not have everything has taken over: what comes now has numbers that we have seen.
            memory.change_position, memory.change_target = await connection.fetchval(changes.NOW), None
        self.looked = True
        # No await between a telling and the note of it: whatever kills this process finds both, or neither.
        before = self.told
        more = memory.change_target is not None  # the one before us was killed among many
        if not more:
            since = (memory.change_position, PAGE)
            records = await connection.fetch(changes.SINCE, *since)
            memory.change_target, memory.change_told = records[0]["snapshot"], 0
            for record in records:
                if record["id"] is not None:
                    self._tell(record)
            more = len(records) == PAGE
        if more:
            await self._read_on(connection)
        position = memory.change_position = memory.change_target
        memory.change_target = None
        if self.told != before or self.looks % TRIM_LOOKS == 0:
            await connection.execute(changes.KEEP_POSITION, self.position_name, position)
        if self.looks % TRIM_LOOKS == 0:
            await connection.execute(changes.TRIM)

    async def _read_on(self, connection: asyncpg.Connection) -> None:
        memory = node()
        rest = (memory.change_position, memory.change_target, memory.change_told)
        async with connection.transaction():
            async for record in connection.cursor(changes.REST, *rest, prefetch=PAGE):
                self._tell(record)

    async def _stored_position(self, connection: asyncpg.Connection) -> str:
        stored = await connection.fetchval(changes.POSITION, self.position_name)
        if stored is not None and await connection.fetchval(changes.IS_FROM_HERE, stored):
            return stored
        return await connection.fetchval(changes.NOW)

    def _tell(self, record: asyncpg.Record) -> None:
        change = Change(record["table_name"], record["operation"], record["row"])
        node().change_told = record["id"]
        if change.table == "sessions" and change.row["node"] == node().id:
            # Ended here and told at once; who keeps it in memory hears of it all the same: COMMIT may have been lost.
            with suppress(Error):
                whereis(self.pubsub).local_broadcast(OWN_SESSIONS, change)
            return
        self.told += 1
        telemetry.execute(
            ("db_listener", "change"), {"count": 1}, {"table": change.table, "operation": change.operation}
        )
        if change.table == "transactions":
            log.warning(
                "transaction %s was changed in the database by another program (%s)",
                change.row["id"],
                change.operation,
            )
        # Whoever keeps something in memory first: they must know it before clients act upon what they are told.
        with suppress(Error):  # restarting: nobody is subscribed
            whereis(self.pubsub).local_broadcast(f"db:{change.table}", change)
        payload = change.payload()
        local_broadcast(self.pubsub, [(topic, event, payload) for topic, event in events_of(change)])

    def _hang_up(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.terminate()

    def terminate(self, reason: Any) -> None:
        self._hang_up()
