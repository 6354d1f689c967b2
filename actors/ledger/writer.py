"""The writer of transactions: group commit.

The requests that wait become one batch, and a batch is one SQL transaction in one round trip: rows, ledger entries, ledger head.
While a batch is being written the next one gathers in the mailbox, and a moment longer for those who were answered just now
(`Gathering`); an idle writer writes at once. When more requests wait than a batch takes, users are served in turn, so that
nobody waits for one who sends many. The entries follow the ledger's head as this server knows it; where it knows none,
`ledger_server` reads it. After COMMIT the head moves, this server's channels get the events in ledger order, and the callers are
answered. Rows that other programs wrote into transactions get their entries here too, and the
entries of other servers are published to our channels, each once: `ServerState.ledger_position` is how far that went, and it
outlives this process.

The ledger's head is locked during one statement only, so a connection that dies never leaves it locked. A batch whose answer is
lost may be written: its callers get `OutcomeUnknown`, and its events come with the next poll of the head. While nothing is
written, a write that changes nothing is tried every few seconds: `ServerState.written_at` and `ServerState.write_error` say
whether this server can write.

Calls: `RecordTransaction` -> `Recorded`, `IdempotencyConflict`, `UserMissing`, `Rejected`, `Unavailable` (not
written) or `OutcomeUnknown`. Casts: `RecordPending` (foreign rows wait), `HeadMoved(seq)` (another server
committed). Messages: `FlushBatch`, `ProbeWrite`, its own. On a crash callers get the exit reason: their rows are
durable or not there at all, never half; an idempotency key makes the retry safe.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from time import perf_counter
from typing import Any

import asyncpg
import msgspec

from actors.ledger import pending, record_call
from actors.ledger.batch import (
    IdempotencyConflict,
    Recorded,
    RecordTransaction,
    Rejected,
    Waiting,
    answer_all,
    fold_idempotent,
    in_turn,
    new_ids,
    row_of,
)
from actors.ledger.feed import COMMITTED, Committed, Feed, begin
from actors.ledger.gathering import Gathering
from actors.ledger.other_writers import Decline, Follows, OtherWriters, Wish
from actors.ledger.refusals import Refusals
from actors.ledger.server import Prepared, heard, moved, prepare
from actors.ledger.server import head as ledger_head
from actors.ledger.write_health import PROBE_MS, WriteHealth
from actors.ledger.writer_connection import WriterConnection
from actors.server_state import server_state
from actors.storage import repo
from actors.storage.change_events import HeadMoved, RecordPending
from actors.storage.failures import Meaning, OutcomeUnknown, Unavailable, is_elsewhere, meaning, rolled_back
from runtime import Error, From, GenServer, NoReply, Stop, erlang, gen_server, telemetry
from runtime.nodes import net_kernel
from runtime.phoenix.pubsub import whereis
from schema import ledger
from schema.rows import LedgerHead

MAX_BATCH = 250  # as many answers, and no more, come at once: others have their turn in between
SQL_SECONDS = 4.5  # we give up after that, and still below the caller's 5 s, so that it gets the reason
STALE_RETRIES = 50  # each with the head that the last one found; another server got there first as often
HEAR_MS = 20  # for what another node has committed before this one, and is publishing
USER_OF = "transactions_user_id_fkey"
KEY_OF = "transactions_idempotency"


class ProbeWrite(msgspec.Struct, frozen=True):
    """Time to see whether a write works, if none has been seen to."""


class FlushBatch(msgspec.Struct, frozen=True):
    """A batch may be written: sent behind what was in the mailbox when its first request came, or the last that is waited for."""


_FLUSH_BATCH = FlushBatch()
_NO_REPLY = NoReply()


class DbWriter(GenServer):
    """The one writer of a server. `pubsub` is the registered name that broadcasts go to."""

    max_mailbox = 10_000

    def init(self, pubsub: str = "pubsub") -> None:
        erlang.trap_exit(True)
        self.pubsub = pubsub
        self.waiting: list[tuple[From, RecordTransaction]] = []
        self.connection = WriterConnection()
        self.me = erlang.self_()
        self.server = server_state()
        self.feed = Feed(pubsub)
        self.health = WriteHealth(self.server)
        self.refusals = Refusals(self.connection, self.now, self._record_pending, self._not_written)
        erlang.send(self.me, RecordPending())
        erlang.send(self.me, ProbeWrite())
        with suppress(Error):  # no PubSub: a writer without channels, in tests
            whereis(pubsub).subscribe(COMMITTED, self.me)
        alone = net_kernel.this_node() is None
        self.others = None if alone else OtherWriters(pubsub, self.now)
        self.gathering = Gathering(MAX_BATCH, self.now)
        self.flush_timer: Any = None
        self.flush_due = 0.0  # when it comes

    # ---- messages

    def handle_call(self, request: Any, from_: From) -> Any:
        if type(request) is not RecordTransaction:
            return super().handle_call(request, from_)
        self.waiting.append((from_, request))
        number = len(self.waiting)
        if number == 1 or number == self.gathering.wanted:
            if not self.message_queue_len:
                return self._flush() if self._is_due() else _NO_REPLY
            erlang.send(self.me, _FLUSH_BATCH)  # behind what is in the mailbox: it joins the batch
        return _NO_REPLY

    def handle_cast(self, request: Any) -> Any:
        return self.handle_info(request)

    def handle_info(self, message: Any) -> Any:
        match message:
            case FlushBatch():
                return self._flush() if self._is_due() else None
            case ProbeWrite():
                return self._probe()
            case Committed():
                return self._on_committed(message)
            case Follows() | Wish() | ("nodeup" | "nodedown", _) if self.others is not None:
                self.others.take(message)
                self._turns_changed()
            case Decline() if self.others is not None:
                self.others.decline(idle=not self.waiting)
            case HeadMoved(seq):
                position = self.server.ledger_position
                return self._catch_up(seq) if position is None or seq > position else None
            case RecordPending():
                return self._record_pending()
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def terminate(self, reason: Any) -> None:
        while self.waiting:
            await self._flush()
        await self.connection.drop()

    # ---- one batch

    def _is_due(self) -> bool:
        """Whether what waits is to be written now; if not, `FlushBatch` comes again, at the latest when `Gathering` is over."""
        if not self.waiting:
            return False
        wait = 0.0 if self.others is None else self.others.wait()
        wait = wait or self.gathering.wait(len(self.waiting)) * 1000
        if wait:
            self._flush_within(wait)
        return not wait

    def _flush_within(self, ms: float) -> None:
        now = self.now()
        due = now + ms / 1000
        if not now < self.flush_due <= due:  # a timer that comes earlier looks anew
            if self.flush_timer is not None:
                erlang.cancel_timer(self.flush_timer)
            self.flush_timer, self.flush_due = erlang.send_after(ms, self.me, _FLUSH_BATCH), due

    def _turns_changed(self) -> None:
        if self.waiting:  # behind what is in the mailbox: it joins the batch
            erlang.send(self.me, _FLUSH_BATCH)
        elif self.others is not None:
            self.others.rest()

    async def _flush(self) -> NoReply:
        """Write a batch. What is left waits with those who come meanwhile, so that they have their turn, too."""
        if len(self.waiting) <= MAX_BATCH:
            batch, self.waiting = self.waiting, []
        else:
            batch, self.waiting = in_turn(self.waiting, MAX_BATCH)
            erlang.send(self.me, _FLUSH_BATCH)
        try:
            await self._write(self._rows_of(batch))
            self.gathering.wrote(len(batch), len(self.waiting) + self.message_queue_len)
        finally:
            if self.others is not None:
                self.others.end()
        return _NO_REPLY

    def _rows_of(self, requests: list[tuple[From, RecordTransaction]]) -> list[Waiting]:
        at = datetime.now(UTC)
        batch: list[Waiting] = []
        keyed = False
        for (from_, request), id_ in zip(requests, new_ids(len(requests)), strict=True):
            try:
                batch.append(Waiting(from_, row_of(request, id_, at)))
            except (ArithmeticError, UnicodeError, ValueError) as error:
                gen_server.reply(from_, Rejected(repo.reason(error) or "the amount is out of range"))
            keyed = keyed or request.idempotency_key is not None
        return fold_idempotent(batch) if keyed else batch

    async def _write(self, batch: list[Waiting]) -> None:
        """Have every caller of the batch answered."""
        if self.refusals.knows_locked:
            batch = await self.refusals.without_locked(batch, known=True)
        while batch:
            began = perf_counter()
            try:
                prepared = await self._record(batch)
            except Exception as error:
                rest = await self._failed(batch, error)
                if rest is None:
                    return
                batch = rest
                continue
            if isinstance(prepared, list):
                batch = prepared
                continue
            self.health.wrote(self.now())
            moved(self.server, prepared.after)
            telemetry.execute(
                ("db_writer", "batch"),
                {
                    "rows": len(batch),
                    "duration": perf_counter() - began,
                    "seq": prepared.before.seq + len(batch),
                },
                {"batch": batch},
            )
            if self.feed.is_next(prepared.before.seq) or await self._is_caught_up(prepared.before.seq):
                self.feed.publish(zip(prepared.rows, count(prepared.before.seq + 1)), prepared.after)
                if self.others is not None:
                    self.others.committed(len(batch))
            # Else the database went away in between: the next catch-up publishes these as well, in order.
            _answer_recorded(batch, prepared)
            return

    async def _failed(self, batch: list[Waiting], error: Exception) -> list[Waiting] | None:
        """What to write yet of a batch that was not recorded; None when all its callers are answered."""
        match meaning(error):
            case Meaning.ROW if rolled_back(error) and _is_about_a_row(error):
                constraint = getattr(error, "constraint_name", None)
                if constraint == USER_OF:
                    return await self.refusals.without_orphans(batch)
                if constraint == KEY_OF:
                    return await self.refusals.without_taken(batch)
                if len(batch) == 1:
                    answer_all(batch, Rejected(repo.reason(error)))
                    return None
                middle = len(batch) // 2  # one row is bad: halves find it, and the others are written
                await self._write(batch[:middle])
                return batch[middle:]
            case Meaning.AWAY:
                if isinstance(error, asyncpg.LockNotAvailableError):
                    rest = await self.refusals.without_locked(batch, known=False)
                    if not rest:
                        await self._not_written(error)
                    if len(rest) < len(batch):
                        return rest
                await self._not_written(error)
                answer = error if isinstance(error, OutcomeUnknown) else Unavailable(repo.reason(error))
            case _:
                await self._not_written(error)
                answer = Unavailable(repo.reason(error))
        answer_all(batch, answer)
        return None

    async def _record(self, batch: list[Waiting]) -> Prepared | list[Waiting]:
        """Commit the batch; or, if some of it can't be, answer those and return the rest."""
        rows = [waiting.row for waiting in batch]
        for _attempt in range(STALE_RETRIES):
            prepared = prepare(self.server.ledger_head or await ledger_head(), rows)
            outcome = await record_call.record(await self.connection.get(), rows, prepared, SQL_SECONDS)
            if outcome is None:
                self.connection.check_replicated()
                return prepared
            if outcome["outcome"] == "refused":
                return await self.refusals.without_replays(batch, set(outcome["replayed"]))
            head = LedgerHead.from_record(outcome)
            self.feed.begin_again_at(head.seq)
            if self.others is not None:
                self.others.collided()
            moved(self.server, head)
        raise Unavailable("other servers write faster than this one")

    # ---- rows and entries of others

    async def _record_pending(self) -> None:
        """Give every row that others wrote its entry, and publish it."""
        try:
            connection = await self.connection.get()
            await begin(connection)
            while await pending.any_waits(connection):
                head = await pending.record_page(connection)
                self.connection.check_replicated()
                if head is not None:  # else another server was faster: the next page begins with its head
                    self.health.wrote(self.now())
                    moved(self.server, head)
            await self.feed.catch_up(connection)
        except Exception as error:  # the listener sends RecordPending again once the database is back
            if meaning(error) is Meaning.OURS:
                raise
            await self._not_written(error)

    async def _on_committed(self, committed: Committed) -> None:
        heard(self.server, committed.head)
        if self.others is not None:
            self.others.wrote(committed.node, committed.head.seq - committed.after)
            self._turns_changed()
        try:
            await self.feed.receive(self.connection.get, committed)
        except Unavailable:
            return
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            await self.connection.drop()
            repo.suspect(error)

    async def _catch_up(self, until: int) -> None:
        try:
            await self.feed.catch_up(await self.connection.get(), until)
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            await self._not_written(error)

    async def _is_caught_up(self, seq: int) -> bool:
        """Publishes what others have committed up to entry `seq`; False if the database went away."""
        await self._hear_others(seq)
        if not self.feed.is_next(seq):
            await self._catch_up(seq)
        return self.feed.is_next(seq)

    async def _hear_others(self, until: int) -> None:
        """Publish what other nodes have committed just before: it is on its way here, and reading it would cost more."""
        while (self.server.ledger_position or 0) < until and net_kernel.nodes():
            committed = await erlang.receive(lambda message: type(message) is Committed, HEAR_MS)
            if committed is erlang.TIMEOUT:
                return
            await self._on_committed(committed)

    # ---- whether writing works

    async def _probe(self) -> None:
        try:
            if self.health.is_probe_due(self.now()):
                await ledger_head()  # which a batch after a failure needs as well
                await (await self.connection.get()).fetchval(ledger.PROBE_WRITE, timeout=SQL_SECONDS)
                self.health.probed(self.now())
        except Exception as error:
            await self._not_written(error)
        erlang.send_after(PROBE_MS, self.me, ProbeWrite())

    async def _not_written(self, error: Exception) -> None:
        self.health.failed(error, self.now())
        if meaning(error) is Meaning.OURS or not rolled_back(error) or is_elsewhere(error):
            await self.connection.drop()
            repo.suspect(error)


def _answer_recorded(batch: list[Waiting], prepared: Prepared) -> None:
    seq = prepared.before.seq
    for waiting, chained in zip(batch, prepared.hashes, strict=True):
        seq += 1
        recorded = Recorded(waiting.row, seq, chained)
        if waiting.followers is None:
            gen_server.reply(waiting.from_, recorded)
        else:
            waiting.answer(recorded, IdempotencyConflict(), Recorded(waiting.row, seq, chained, True))


def _is_about_a_row(error: Exception) -> bool:
    """Whether it is a row of ours that the database refused a value of; not one of the ledger."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return getattr(error, "table_name", None) == "transactions"
    return True
