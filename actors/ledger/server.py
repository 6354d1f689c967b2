"""The ledger: the head in memory, and the next entries computed from it (the guide's `:ledger_server`).

Reads the head from the database when this server does not know it, and keeps it in `ServerState.ledger_head`. Writes nothing:
`db_writer` computes the entries of a batch (`prepare`), puts them into the same SQL transaction as the rows, and moves the head
(`moved`) once that is committed. If another server has moved it meanwhile, the database, which compares it under the row's lock,
refuses the batch and returns the true one. Processes share the head as they would a table of ETS: each batch moves it, and a
message for that would cost as much as the hashes. After a crash of this process it is read again.

Calls: `GetHead()` -> `LedgerHead` (or `repo.Unavailable`). The functions below are what the rest of BitNexus uses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from actors.ledger import entry as ledger_entry
from actors.ledger import proofs as ledger_proofs
from actors.ledger.batch import Outcome, RecordTransaction
from actors.ledger.merkle import Frontier, Subtree, fold
from actors.ledger.proofs import HistoryItem, HistoryPage, Verification
from actors.server_state import ServerState, server_state
from actors.storage import repo
from runtime import CallRequest, Exit, GenServer, Reply, gen_server, telemetry
from schema.rows import LedgerHead, TransactionRow

__all__ = [
    "HistoryItem",
    "HistoryPage",
    "LedgerHead",
    "LedgerServer",
    "RecordTransaction",
    "Verification",
    "consistency",
    "current_head",
    "get_history",
    "head",
    "record_transaction",
    "verify",
]

log = logging.getLogger("bitnexus.ledger")


class Prepared(msgspec.Struct, frozen=True):
    """The entries of `rows`, `before.seq + 1` and on, and the head once they are committed."""

    rows: list[TransactionRow]
    before: LedgerHead
    after: LedgerHead
    leaf_hashes: list[bytes]
    hashes: list[bytes]
    nodes: list[tuple[Subtree, bytes]]


class GetHead(msgspec.Struct, CallRequest[LedgerHead | repo.Unavailable], frozen=True):
    """Asks for the head that this server knows."""


class LedgerServer(GenServer):
    """Reads the head where it is not known, and answers with it."""

    def init(self) -> None:
        self.server = server_state()
        self.server.ledger_head = None

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetHead():
                head = self.server.ledger_head
                return Reply(head) if head is not None else self._read_head()
        return super().handle_call(request, from_)

    async def _read_head(self) -> Reply:
        try:
            async with repo.connection() as connection:
                read = await ledger_proofs.read_head(connection)
        except repo.Unavailable as error:
            return Reply(error)
        except repo.OutcomeUnknown as error:  # of a read
            return Reply(repo.Unavailable(str(error)))
        known = self.server.ledger_head
        if known is None or known.seq < read.seq:  # else the writer has moved it since
            self.server.ledger_head = known = read
        return Reply(known)

    def format_status(self) -> Any:
        return {"head": self.server.ledger_head}


def moved(state: ServerState, head: LedgerHead) -> None:
    """The database's head is now this one."""
    known, state.ledger_head = state.ledger_head, head
    if known is not None and head.seq < known.seq:
        log.error("the ledger went back from entry %d to %d: was the database restored?", known.seq, head.seq)
        telemetry.execute(("ledger", "went_back"), {"entries": known.seq - head.seq}, {})


def heard(state: ServerState, head: LedgerHead) -> None:
    """Another node says that it has moved the head to this one: so the next batch need not find that out by being stale."""
    known = state.ledger_head
    if known is not None and head.seq > known.seq:
        state.ledger_head = head


def prepare(before: LedgerHead, rows: list[TransactionRow]) -> Prepared:
    """The entries of `rows` after `before`. Pure."""
    frontier = Frontier(before.seq, before.frontier)
    seq, chained = before.seq, before.hash
    leaf_hashes: list[bytes] = []
    hashes: list[bytes] = []
    nodes: list[tuple[Subtree, bytes]] = []
    for row in rows:
        seq += 1
        leaf = ledger_entry.leaf_hash(seq, row)
        chained = ledger_entry.entry_hash(chained, seq, leaf)
        frontier.append(leaf, nodes, ledger_proofs.TILE)
        leaf_hashes.append(leaf)
        hashes.append(chained)
    after = LedgerHead(seq, chained, fold(frontier.hashes), tuple(frontier.hashes))
    return Prepared(rows, before, after, leaf_hashes, hashes, nodes)


# ---- for everybody


async def record_transaction(
    transaction: RecordTransaction | Mapping[str, Any], timeout: float = 5000
) -> Outcome:
    """The guide's `record_transaction`: the row, its ledger entry and the broadcast, as `POST /api/v1/transactions` does it.

    A mapping has the fields of `RecordTransaction`, user_id and amount as their own types or as text. Waits `timeout` ms;
    returns what db_writer answers: `Recorded`, or why not. Raises msgspec.ValidationError for a mapping of another form.
    """
    if not isinstance(transaction, RecordTransaction):
        transaction = msgspec.convert(transaction, RecordTransaction)
    return await gen_server.call("db_writer", transaction, timeout=timeout)


async def head() -> LedgerHead:
    """The head as this server knows it. Raises `repo.Unavailable`."""
    try:
        found = await gen_server.call("ledger_server", GetHead())
    except Exit as error:
        raise repo.Unavailable(f"the ledger does not answer: {error.reason[0]}") from error
    if isinstance(found, repo.Unavailable):
        raise found
    return found


async def current_head() -> LedgerHead:
    """The head as the database has it now: other servers move it too. Raises `repo.Unavailable`.

    The cached head stays as it is: `verify` proves by it that what this server has seen was not rewritten.
    """
    try:
        async with repo.connection() as connection:
            return await ledger_proofs.read_head(connection)
    except repo.OutcomeUnknown as error:  # of a read
        raise repo.Unavailable(str(error)) from error


async def verify(transaction_id: UUID) -> Verification:
    """See `ledger_proofs.verify`; the head this server has seen must be in the ledger too. Raises `repo.Unavailable`."""
    return await ledger_proofs.verify(transaction_id, await head())


async def consistency(first: int, second: int) -> list[bytes]:
    """See `ledger_proofs.consistency`."""
    return await ledger_proofs.consistency(first, second)


async def get_history(user_id: UUID, limit: int = 50, cursor: str | None = None) -> HistoryPage:
    """See `ledger_proofs.get_history`."""
    return await ledger_proofs.get_history(user_id, limit, cursor)
