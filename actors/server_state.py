"""State of one server that outlives its actors, like a named ETS table with an heir.

There is one `ServerState` for each engine. Restarted actors find here what must survive them: the connection pool, and how far
this server has published the ledger and the change log, so that no event is lost or sent twice when the publishing actor crashes.
The ledger's head is here because two actors share it; it survives the writer, and `ledger_server` forgets it at its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg

from runtime import current_engine
from schema.activity import Activity
from schema.rows import LedgerHead


@dataclass(slots=True, eq=False, repr=False, weakref_slot=True)
class ServerState:
    """The state of one server. It has no repr of its own: an actor's crash report would show little else."""

    id: str = field(default_factory=lambda: uuid4().hex[:12])
    driver: Any = asyncpg  # has `connect` and `create_pool`; tests replace it by a model of a database
    database_url: str | None = None
    port: int = 0
    pool: asyncpg.Pool | None = None
    # Separate, so that operators get in when the other is exhausted.
    operators_pool: asyncpg.Pool | None = None
    was_up: bool = False
    database_error: str | None = "starting"
    database_since: float = 0.0
    outages: int = 0
    failed_pings: int = 0  # in a row
    written_at: float | None = None  # seconds of the engine's clock: when a write last succeeded
    write_error: str | None = None  # why the last write failed; None if it succeeded
    activity: Activity = field(default_factory=Activity)  # the latest sample of the database's activity
    postgres_starts: int = 0  # failed starts in a row
    writer_connection: asyncpg.Connection | None = None
    ledger_head: LedgerHead | None = None  # as far as this server knows; None before it has read it
    ledger_position: int | None = None
    # Ids of the servers that get this one's batches over the fabric and need no NOTIFY.
    informed: tuple[str, ...] = ()
    change_position: str | None = None  # in the change log: everything before it is published
    change_target: str | None = None  # while many changes are published: the position after them
    change_published: int = 0  # while many changes are published: the last one that was
    # Seconds of the engine's clock: all changes made before are published.
    changes_read_at: float | None = None


def server_state() -> ServerState:
    """The state of the server on the current engine."""
    terms = current_engine().persistent_terms
    found = terms.get(ServerState)
    if found is None:
        found = terms[ServerState] = ServerState()
    return found
