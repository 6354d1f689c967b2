"""The writer of transactions: group commit.

What waits becomes one batch, and a batch is one SQL transaction in one round trip: rows, ledger entries, ledger head. While a batch
is under way the next one gathers in the mailbox; an idle writer writes at once. After COMMIT the ledger's head moves, this
server's channels are told in ledger order, and the callers are answered. Rows that other programs wrote into transactions get
their entries here too, and the entries of other servers are told to our channels, each once: `Node.ledger_position` is how far
that went, and it outlives this process.

Calls: `RecordTransaction` -> `Recorded`, `IdempotencyConflict`, `UserMissing`, `Rejected` or `Unavailable`.
Casts: `RecordPending` (foreign rows wait), `HeadMoved(seq)` (another server committed).
On a crash callers get the exit reason: their rows are durable or not there at all, never half; an idempotency key makes the retry
safe.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from actors import repo
from actors.batch import Waiting, fold_idempotent, new_id
from actors.ledger_server import Moved, Prepare, Prepared
from actors.node import node
from actors.repo import Unavailable
from runtime import erlang, gen_server, telemetry
from runtime.exits import Exit
from runtime.gen_server import From, GenServer, NoReply, Stop
from schema import ledger
from schema.rows import LedgerHead, TransactionRow

log = logging.getLogger("bitnexus.db_writer")

MAX_BATCH = 500
PENDING_PAGE = 1000
CATCH_UP_PAGE = 1000
SQL_SECONDS = 4.0  # below the caller's 5 s, so that it hears why
TOO_MUCH = Decimal(10) ** 16  # the column is numeric(18, 2)
STALE_RETRIES = 3  # then the head is locked first


class RecordTransaction(msgspec.Struct, frozen=True):
    """One transaction to record. `request_hash` identifies the body that `idempotency_key` stands for."""

    user_id: UUID
    amount: Decimal
    currency: str
    description: str = ""
    idempotency_key: str | None = None
    request_hash: bytes | None = None


class Recorded(msgspec.Struct, frozen=True):
    """It is durable, with its ledger entry. `replayed`: it was so before, under the same idempotency key."""

    transaction: TransactionRow
    seq: int
    hash: bytes
    replayed: bool = False


class IdempotencyConflict(msgspec.Struct, frozen=True):
    """The key stands for another body."""


class UserMissing(msgspec.Struct, frozen=True):
    """There is no such user."""


class Rejected(msgspec.Struct, frozen=True):
    """The database refused this row."""

    message: str


class RecordPending(msgspec.Struct, frozen=True):
    """Rows without a ledger entry wait in ledger_pending."""


class HeadMoved(msgspec.Struct, frozen=True):
    """The ledger has entries up to `seq`."""

    seq: int


class Flush(msgspec.Struct, frozen=True):
    """Behind everything that was in the mailbox when the first of a batch came."""


_FLUSH = Flush()
_NO_REPLY = NoReply()


class DbWriter(GenServer):
    """The one writer of a server. `pubsub` is the registered name that broadcasts go to."""

    max_mailbox = 10_000

    def init(self, pubsub: str = "pubsub") -> None:
        erlang.trap_exit(True)
        self.pubsub = pubsub
        self.waiting: list[tuple[From, RecordTransaction]] = []
        self.connection: asyncpg.Connection | None = None
        self.me = erlang.self_()
        erlang.send(self.me, RecordPending())

    # ---- messages

    def handle_call(self, request: Any, from_: From) -> Any:
        if type(request) is not RecordTransaction:
            return super().handle_call(request, from_)
        if not self.waiting:
            erlang.send(self.me, _FLUSH)
        self.waiting.append((from_, request))
        return _NO_REPLY

    def handle_cast(self, request: Any) -> Any:
        return self.handle_info(request)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Flush():
                return self._flush()
            case HeadMoved(seq):
                position = node().ledger_position
                return self._catch_up(seq) if position is None or seq > position else None
            case RecordPending():
                return self._record_pending()
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def terminate(self, reason: Any) -> None:
        await self._flush()
        await self._drop_connection()

    # ---- one batch

    async def _flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        at = datetime.now(UTC)
        for start in range(0, len(waiting), MAX_BATCH):
            batch: list[Waiting] = []
            for from_, request in waiting[start : start + MAX_BATCH]:
                try:
                    batch.append(Waiting(from_, _row(request, at)))
                except (ArithmeticError, UnicodeError, ValueError) as error:
                    gen_server.reply(from_, Rejected(repo.reason(error)))
            await self._write(fold_idempotent(batch), at)

    async def _write(self, batch: list[Waiting], at: datetime) -> None:
        """Have every caller of the batch answered."""
        while batch:
            try:
                prepared = await self._record(batch, at)
            except Unavailable as error:
                _answer_all(batch, error)
                return
            except repo.CONNECTION_ERRORS as error:
                await self._drop_connection()
                _answer_all(batch, repo.suspect(error))
                return
            except (asyncpg.PostgresError, UnicodeError) as error:
                if not _is_about_a_row(error):
                    log.error("a batch of %d could not be written: %s", len(batch), error)
                    _answer_all(batch, Unavailable(repo.reason(error)))
                    return
                if len(batch) == 1:
                    _answer_all(batch, Rejected(repo.reason(error)))
                    return
                middle = len(batch) // 2  # one row is bad: halves find it, and the others are written
                await self._write(batch[:middle], at)
                batch = batch[middle:]
                continue
            if isinstance(prepared, list):
                batch = prepared
                continue
            self._committed(batch, prepared)
            await self._tell(batch, prepared)
            self._answer_recorded(batch, prepared)
            return

    async def _record(self, batch: list[Waiting], at: datetime) -> Prepared | list[Waiting]:
        """Commit the batch; or, if some of it can't be, answer those and return the rest."""
        rows = [waiting.row for waiting in batch]
        columns = (
            [row.id for row in rows],
            [row.user_id for row in rows],
            [f"{row.amount:.2f}" for row in rows],
            [row.currency for row in rows],
            [row.description for row in rows],
            [row.idempotency_key for row in rows],
            [row.request_hash for row in rows],
            any(row.idempotency_key is not None for row in rows),
        )
        head: LedgerHead | None = None
        for _attempt in range(STALE_RETRIES):
            prepared = await self._prepare(rows, head)
            connection = await self._connected()
            outcome = await connection.fetchrow(
                ledger.RECORD, *_head_of(prepared), at, *columns, *_entries_of(prepared), timeout=SQL_SECONDS
            )
            if outcome["outcome"] != "stale":
                break
            head = LedgerHead.from_record(outcome)
            gen_server.cast("ledger_server", Moved(head))
        else:
            connection = await self._connected()
            async with connection.transaction():
                head = LedgerHead.from_record(
                    await connection.fetchrow(ledger.LOCK_HEAD, timeout=SQL_SECONDS)
                )
                prepared = await self._prepare(rows, head)
                outcome = await connection.fetchrow(
                    ledger.RECORD,
                    *_head_of(prepared),
                    at,
                    *columns,
                    *_entries_of(prepared),
                    timeout=SQL_SECONDS,
                )
        if outcome["outcome"] == "recorded":
            return prepared
        return await self._refused(batch, set(outcome["replayed"] or ()), set(outcome["orphaned"] or ()))

    async def _refused(self, batch: list[Waiting], replayed: set[UUID], orphaned: set[UUID]) -> list[Waiting]:
        again = {(w.row.user_id, w.row.idempotency_key): w for w in batch if w.row.id in replayed}
        if again:
            connection = await self._connected()
            users, keys = zip(*again, strict=True)
            for record in await connection.fetch(ledger.REPLAYS, users, keys):
                if record["seq"] is None:  # a foreign row that waits for its entry
                    await self._record_pending()
                    return batch
                row = TransactionRow.from_record(record)
                waiting = again.pop((row.user_id, row.idempotency_key))
                waiting.answer(Recorded(row, record["seq"], record["hash"], True), IdempotencyConflict())
        rest = list(again.values())  # the row that had the key was removed in between
        for waiting in batch:
            if waiting.row.id in replayed:
                continue
            if waiting.row.id in orphaned:
                waiting.answer_all(UserMissing())
            else:
                rest.append(waiting)
        return rest

    async def _prepare(self, rows: list[TransactionRow], head: LedgerHead | None) -> Prepared:
        try:
            prepared = await gen_server.call("ledger_server", Prepare(rows, head))
        except Exit as error:
            raise Unavailable(f"the ledger does not answer: {error.reason[0]}") from error
        if isinstance(prepared, Unavailable):
            raise prepared
        return prepared

    def _committed(self, batch: list[Waiting], prepared: Prepared) -> None:
        gen_server.cast("ledger_server", Moved(prepared.after))
        telemetry.execute(("db_writer", "batch"), {"rows": len(batch)}, {})

    def _answer_recorded(self, batch: list[Waiting], prepared: Prepared) -> None:
        seq = prepared.before.seq
        for waiting, chained in zip(batch, prepared.hashes, strict=True):
            seq += 1
            if waiting.followers is None:
                gen_server.reply(waiting.from_, Recorded(waiting.row, seq, chained))
            else:
                waiting.answer(
                    Recorded(waiting.row, seq, chained),
                    IdempotencyConflict(),
                    Recorded(waiting.row, seq, chained, True),
                )

    # ---- rows and entries of others

    async def _record_pending(self) -> None:
        """Give every row that others wrote its entry."""
        try:
            connection = await self._connected()
            if node().ledger_position is None:
                node().ledger_position = await connection.fetchval("SELECT seq FROM ledger_head")
            while await connection.fetchval(ledger.ANY_PENDING):
                await self._record_page(connection)
            await self._catch_up()
        except Unavailable:
            return  # the listener sends RecordPending again once the database is back
        except (*repo.CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("rows of other programs wait for their ledger entries: %s", error)
            await self._drop_connection()
            repo.suspect(error)

    async def _record_page(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            head = LedgerHead.from_record(await connection.fetchrow(ledger.LOCK_HEAD))
            queue = await connection.fetch(ledger.PENDING, PENDING_PAGE)
            rows = list(
                {r["id"]: TransactionRow.from_record(r) for r in queue if r["id"] is not None}.values()
            )
            prepared = await self._prepare(rows, head)
            if rows:
                await connection.execute(
                    ledger.APPEND, *_head_of(prepared), [row.id for row in rows], *_entries_of(prepared)
                )
            await connection.execute(ledger.DELETE_PENDING, [record["position"] for record in queue])
        gen_server.cast("ledger_server", Moved(prepared.after))

    async def _catch_up(self, until: int | None = None) -> None:
        """Tell our channels of committed entries after the position, up to `until` or all there are."""
        memory = node()
        try:
            connection = await self._connected()
            if memory.ledger_position is None:
                memory.ledger_position = await connection.fetchval("SELECT seq FROM ledger_head")
            last = until if until is not None else await connection.fetchval("SELECT seq FROM ledger_head")
            while memory.ledger_position < last:
                page = await connection.fetch(ledger.ENTRIES, memory.ledger_position, last, CATCH_UP_PAGE)
                if not page:
                    break
                for record in page:
                    if record["id"] is not None:
                        self._broadcast(TransactionRow.from_record(record), record["seq"])
                    memory.ledger_position = record["seq"]
        except Unavailable:
            return
        except repo.CONNECTION_ERRORS as error:
            await self._drop_connection()
            repo.suspect(error)

    async def _tell(self, batch: list[Waiting], prepared: Prepared) -> None:
        memory = node()
        seq = prepared.before.seq
        if memory.ledger_position is None:
            memory.ledger_position = seq
        elif memory.ledger_position < seq:
            await self._catch_up(seq)
        if memory.ledger_position != seq:
            return  # the database went away in between: the next catch-up tells these as well, in order
        for waiting in batch:
            seq += 1
            self._broadcast(waiting.row, seq)
            memory.ledger_position = seq

    def _broadcast(self, row: TransactionRow, seq: int) -> None:
        payload = row.payload()
        payload["ledger_seq"] = seq
        try:
            node().local_broadcast(f"transaction:{row.user_id}", "new_transaction", payload, self.pubsub)
        except Exception as error:  # a transport's failure must not unmake what is committed
            log.warning("entry %d was not broadcast: %r", seq, error)

    # ---- the connection

    async def _connected(self) -> asyncpg.Connection:
        """The writer's own connection. The node keeps it, so that one that a killed writer held does not leak."""
        connection = self.connection
        if connection is not None and not connection.is_closed():
            return connection
        await self._drop_connection()
        try:
            connection = await repo.pool().acquire(timeout=2.0)
        except repo.CONNECTION_ERRORS as error:
            raise repo.suspect(error) from error
        self.connection = node().writer_connection = connection  # type: ignore[assignment]
        return connection  # type: ignore[return-value]

    async def _drop_connection(self) -> None:
        memory = node()
        connection, memory.writer_connection, self.connection = memory.writer_connection, None, None
        if connection is None:
            return
        try:
            connection.terminate()
            if memory.pool is not None:
                await memory.pool.release(connection)
        except (*repo.CONNECTION_ERRORS, asyncpg.PostgresError):
            return  # it belonged to a pool that is closed


def _row(request: RecordTransaction, at: datetime) -> TransactionRow:
    key, digest = request.idempotency_key, request.request_hash
    amount = request.amount
    if not amount.is_finite() or abs(amount) >= TOO_MUCH or amount != round(amount, 2):
        raise ValueError("the amount is not a number of at most 16 digits and 2 decimals")
    request.description.encode()
    if len(request.currency) != 3:
        raise ValueError("a currency has three letters")
    if key is not None and digest is None:
        digest = sha256(f"{amount:.2f}\n{request.currency}\n{request.description}".encode()).digest()
    return TransactionRow(
        new_id(), request.user_id, amount, request.currency, request.description, at, key, digest
    )


def _head_of(prepared: Prepared) -> tuple[str, int, bytes]:
    return node().id, prepared.before.seq, prepared.before.hash


def _entries_of(prepared: Prepared) -> tuple[Any, ...]:
    after, nodes = prepared.after, prepared.nodes
    return (
        prepared.leaf_hashes,
        prepared.hashes,
        after.root_hash,
        after.frontier,
        [subtree.level for subtree, _ in nodes],
        [subtree.index for subtree, _ in nodes],
        [value for _, value in nodes],
    )


def _answer_all(batch: list[Waiting], value: Any) -> None:
    for waiting in batch:
        waiting.answer_all(value)


def _is_about_a_row(error: Exception) -> bool:
    """Whether the database refused a value of a row, so that the other rows may go in without it."""
    match error:
        case asyncpg.IntegrityConstraintViolationError():
            return error.table_name == "transactions"
        case asyncpg.DataError() | UnicodeError():
            return True
    return False
