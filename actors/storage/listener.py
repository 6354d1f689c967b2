"""The listener: publishes changes in the shared tables, whichever program made them, to the channels, once.

Owns a connection that LISTENs. A notification is only a hint to poll: changes are read from the change log by position, so none
is missed while the listener or the database is down. Every server has a listener and publishes to its own subscribers. It does
not publish transactions of other programs: it makes `db_writer` write their entries and publish them in ledger order.

Messages: `Connect`, `PollChanges`, `PollHead` (its own timers), `Notified` and `ConnectionLost` from the connection. Calls:
`GetListenerStatus` -> `ListenerStatus`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from actors.server_state import server_state
from actors.storage import connecting, repo
from actors.storage.change_events import Change, ChangesRead, HeadMoved, RecordPending, events_of
from actors.storage.failures import Meaning, meaning, rolled_back
from actors.storage.local_broadcast import local_broadcast
from runtime import CallRequest, Error, GenServer, Reply, Stop, erlang, gen_server, telemetry
from runtime.phoenix.pubsub import whereis
from schema import changes, ledger

log = logging.getLogger("bitnexus.db_listener")

CHANNELS = ("bitnexus_changes", "bitnexus_ledger")
POLL_MS = 5_000  # without a notification, in case one was lost
HEAD_POLL_MS = 800  # at the ledger's head: a COMMIT whose answer was lost is published within a second
HEAD_POLL_SECONDS = 1.5
BACKOFF_MS = (50, 100, 200, 500, 1000)
TRIM_POLLS = 720  # about an hour
FORGET_SECONDS = 10.0
SQL_SECONDS = 10.0
OWN_SESSIONS = "db:sessions:own"
FEED = "db:feed"
PAGE = 250  # changes read and published at a time: another program may change a whole table in one statement


@dataclass(frozen=True, slots=True)
class Connect:
    """Time to try to connect."""


@dataclass(frozen=True, slots=True)
class PollChanges:
    """Time to read the change log."""


@dataclass(frozen=True, slots=True)
class PollHead:
    """Time to read the head of the ledger, over this connection."""

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
class GetListenerStatus(CallRequest["ListenerStatus"]):
    """Asks for `ListenerStatus`."""


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """Whether it listens, and how many changes it has published since it started."""

    listening: bool
    published: int


class DbListener(GenServer):
    """The listener of a server. `name` is the key of its position in the database, `pubsub` where it publishes."""

    def init(self, name: str = "default", pubsub: str = "pubsub") -> None:
        erlang.trap_exit(True)
        self.position_name = name
        self.pubsub = pubsub
        self.connection: asyncpg.Connection | None = None
        self.failures = 0
        self.published = 0
        self.polls = 0
        self.polled = False  # over this connection
        self.unkept = False  # its position, when last tried
        self.forget_at = 0.0  # of the engine's clock
        self.poll_pending = False
        self.timer: Any = None
        self.on_exit(lambda _pid: self._disconnect())  # also when it is killed
        erlang.send(erlang.self_(), Connect())

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetListenerStatus():
                return Reply(ListenerStatus(self.connection is not None, self.published))
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Notified("bitnexus_changes", _):
                if not self.poll_pending:
                    self.poll_pending = True
                    erlang.send(erlang.self_(), PollChanges())
            case Notified(_, payload):
                self._ledger_moved(payload)
            case PollChanges():
                return self._poll()
            case PollHead(connection):
                return self._poll_head() if connection is self.connection else None
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
        elif sender != server_state().id and seq.isdecimal() and len(seq) < 19:
            gen_server.cast("db_writer", HeadMoved(int(seq)))

    async def _connect(self) -> None:
        if self.connection is not None:
            return
        me = erlang.self_()
        try:
            connection = await connecting.connect(
                repo.url(), f"bitnexus listener {server_state().id}", command_timeout=SQL_SECONDS
            )
        except Exception as error:  # any exception means that the database is unavailable
            self._failed(error)
            return
        self.connection = connection
        self.polled = False
        try:
            # What it writes is worth nothing without this connection: it must not wait for a standby.
            await connection.execute("SET synchronous_commit = off")
            connection.add_termination_listener(lambda gone: erlang.send(me, ConnectionLost(gone)))
            for channel in CHANNELS:
                await connection.add_listener(
                    channel, lambda _c, _pid, name, text: erlang.send(me, Notified(name, text))
                )
            await connection.execute(ledger.LISTEN, server_state().id)
        except Exception as error:
            self._failed(error)
            return
        gen_server.cast("db_writer", RecordPending())
        erlang.send_after(HEAD_POLL_MS, me, PollHead(connection))
        await self._poll()

    def _failed(self, error: Exception) -> None:
        """Drops the connection and schedules the next attempt. Of failures in a row only the first is logged, and their end."""
        self._disconnect()
        if self.failures == 0:
            log.warning("can't listen to the database: %s", repo.reason(error))
        erlang.send_after(BACKOFF_MS[min(self.failures, len(BACKOFF_MS) - 1)], erlang.self_(), Connect())
        self.failures += 1

    async def _poll(self) -> None:
        self.poll_pending = False
        connection = self.connection
        if connection is None:
            return
        started_at = self.now()
        before = self.published
        try:
            await self._read(connection)
            first = server_state().changes_read_at is None
            server_state().changes_read_at = started_at
            if first:
                with suppress(Error):
                    whereis(self.pubsub).local_broadcast(FEED, ChangesRead())
            await self._keep(connection, moved=self.published != before)
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            self._failed(error)
            return
        if self.failures:
            log.warning("listening to the database again, after %d failures", self.failures)
            self.failures = 0
        if self.timer is not None:
            erlang.cancel_timer(self.timer)
        self.timer = erlang.send_after(POLL_MS, erlang.self_(), PollChanges())
        self.polls += 1
        if self.polls % TRIM_POLLS == 0:
            gen_server.cast("db_writer", RecordPending())

    async def _poll_head(self) -> None:
        connection = self.connection
        assert connection is not None
        published = server_state().ledger_position or 0
        try:
            seq, pending = await self._head_and_pending(connection)
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            self._failed(error)  # also when the link is half-open
            return
        if pending or seq < published:  # fewer entries than before the query: a failover has lost some
            gen_server.cast("db_writer", RecordPending())
        elif seq > (server_state().ledger_position or 0):
            gen_server.cast("db_writer", HeadMoved(seq))
        erlang.send_after(HEAD_POLL_MS, erlang.self_(), PollHead(connection))

    async def _head_and_pending(self, connection: asyncpg.Connection) -> tuple[int, bool]:
        row = await connection.fetchrow(ledger.HEAD_AND_PENDING, timeout=HEAD_POLL_SECONDS)
        assert row is not None  # of two subqueries: there is always one
        return row["seq"], row["pending"]

    async def _read(self, connection: asyncpg.Connection) -> None:
        state = server_state()
        if state.change_position is None:
            state.change_position = await self._stored_position(connection)
        elif not self.polled and not await connection.fetchval(changes.IS_FROM_HERE, state.change_position):
            # A standby that had not received everything has been promoted: new changes reuse numbers that were read already.
            state.change_position, state.change_target = await connection.fetchval(changes.NOW), None
        self.polled = True
        # No await between a broadcast and the update of the position: a crash sees both, or neither.
        more = state.change_target is not None  # a predecessor was killed while it published many changes
        if not more:
            since = (state.change_position, PAGE)
            records = await connection.fetch(changes.SINCE, *since)
            state.change_target, state.change_published = records[0]["snapshot"], 0
            for record in records:
                if record["id"] is not None:
                    self._publish(record)
            more = len(records) == PAGE
        if more:
            await self._read_on(connection)
        state.change_position, state.change_target = state.change_target, None

    async def _keep(self, connection: asyncpg.Connection, moved: bool) -> None:
        """Stores the position of this listener, trims the log, and removes servers that listen no more.

        If the database refuses one of these statements, the listener goes on without it.
        """
        try:
            if moved or self.polls % TRIM_POLLS == 0:
                await connection.execute(
                    changes.KEEP_POSITION, self.position_name, server_state().change_position
                )
            if self.polls % TRIM_POLLS == 0:
                await connection.execute(changes.TRIM)
            if self.now() >= self.forget_at:
                self.forget_at = self.now() + FORGET_SECONDS
                await connection.execute(ledger.FORGET_GONE, server_state().id)
        except asyncpg.PostgresError as error:
            if not rolled_back(error):
                raise
            if not self.unkept:
                log.warning("can't keep the change log and its listeners in order: %s", repo.reason(error))
            self.unkept = True
            return
        self.unkept = False

    async def _read_on(self, connection: asyncpg.Connection) -> None:
        state = server_state()
        rest = (state.change_position, state.change_target, state.change_published)
        async with connection.transaction():
            async for record in connection.cursor(changes.REST, *rest, prefetch=PAGE):
                self._publish(record)

    async def _stored_position(self, connection: asyncpg.Connection) -> str:
        stored = await connection.fetchval(changes.POSITION, self.position_name)
        if stored is not None and await connection.fetchval(changes.IS_FROM_HERE, stored):
            return stored
        now: Any = await connection.fetchval(changes.NOW)
        return now

    def _publish(self, record: asyncpg.Record) -> None:
        change = Change(record["table_name"], record["operation"], record["row"])
        server_state().change_published = record["id"]
        if change.table == "sessions" and change.row["node"] == server_state().id:
            # Ended by this server, which closed its sockets at once. Published again for those that cache sessions: the answer to
            # that COMMIT may have been lost.
            with suppress(Error):
                whereis(self.pubsub).local_broadcast(OWN_SESSIONS, change)
            return
        self.published += 1
        telemetry.execute(
            ("db_listener", "change"), {"count": 1}, {"table": change.table, "operation": change.operation}
        )
        if change.table == "transactions":
            log.warning(
                "transaction %s was changed in the database by another program (%s)",
                change.row["id"],
                change.operation,
            )
        payload = change.payload()
        events = [(topic, event, payload) for topic, event in events_of(change)]
        with suppress(Error):  # restarting: nobody is subscribed
            found = whereis(self.pubsub)
            # Caches first: they must be current before clients react to the event.
            found.local_broadcast(f"db:{change.table}", change)
            local_broadcast(found, events)

    def _disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.terminate()

    def terminate(self, reason: Any) -> None:
        self._disconnect()
