"""What one server remembers beyond the life of a single actor, as a named ETS table with an heir would.

There is one `ServerState` for each engine. Actors that restart find here what must not begin anew: the connection
pool, and how far this server has broadcast, so that no event is lost or sent twice when the actor that sends
them crashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg

from actors.storage.statements import Activity
from runtime import current_engine


@dataclass(slots=True, eq=False, weakref_slot=True)
class ServerState:
    """What one server remembers."""

    id: str = field(default_factory=lambda: uuid4().hex[:12])
    driver: Any = asyncpg  # who has `connect` and `create_pool`; a test may have a database of its own
    database_url: str | None = None
    port: int = 0
    pool: asyncpg.Pool | None = None
    operators_pool: asyncpg.Pool | None = None  # so that they see what uses up the other
    was_up: bool = False
    database_error: str | None = "starting"
    database_since: float = 0.0
    outages: int = 0
    failed_pings: int = 0  # one after another
    written_at: float | None = None  # seconds of the engine's clock: the last write that succeeded
    write_error: str | None = None  # why the last one did not
    activity: Activity = field(default_factory=Activity)  # of the database, as it was seen last
    postgres_starts: int = 0  # failed ones, one after another
    writer_connection: asyncpg.Connection | None = None
    ledger_position: int | None = None
    informed: tuple[str, ...] = ()  # servers that hear of this one's batches without a NOTIFY
    change_position: str | None = None
    change_target: str | None = None  # while many changes are published: the position behind them
    change_published: int = 0  # and the last of them that was
    changes_read_at: float | None = None  # seconds of the engine's clock: all changes before are published


def server_state() -> ServerState:
    """What the server on the current engine remembers."""
    terms = current_engine().persistent_terms
    found = terms.get(ServerState)
    if found is None:
        found = terms[ServerState] = ServerState()
    return found
