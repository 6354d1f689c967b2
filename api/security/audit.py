"""The audit log: one row for each action of an operator: who, what, on what, from where.

`record` is for changes of data: the row is part of the transaction that makes the change. `act` is for actions on processes,
which must work while the database is down: the action is logged as well, and rows that could not be written are kept (the last
KEPT of them) and written with the next one.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

from actors.storage import repo
from actors.storage.connecting import SqlConnection
from api.http.request import ApiRequest
from runtime import current_engine

log = logging.getLogger("bitnexus.audit")

KEPT: Final = 1000
WRITE_SECONDS: Final = 1.0
INSERT = """
INSERT INTO audit_log (actor_id, action, subject, details, remote_address, request_id) VALUES ($1, $2, $3, $4, $5, $6)
"""

_late: deque[tuple[Any, ...]] = deque(maxlen=KEPT)


async def record(
    connection: SqlConnection, request: ApiRequest[Any], action: str, subject: str, details: dict[str, Any]
) -> None:
    """Writes a row in the caller's transaction, so that what can't be audited is rolled back. Raises as any query does."""
    await connection.execute(INSERT, *_row(request, action, subject, details))


async def act(request: ApiRequest[Any], action: str, subject: str, details: dict[str, Any]) -> None:
    """Logs an action and writes its row, now or, if the database is down, with a later one. Never raises for the database."""
    engine = current_engine()
    if engine.node is not None:  # a pid is ambiguous without its node
        details = {**details, "node": engine.node_name}
    row = _row(request, action, subject, details)
    log.warning(
        "%s %s by %s from %s",
        action,
        subject,
        request.principal.email or request.principal.subject,
        request.address,
        extra={
            "audit": {"action": action, "subject": subject, "details": details},
            "request_id": request.request_id,
        },
    )
    _late.append(row)
    while _late:
        row = _late.popleft()
        try:
            async with repo.connection(WRITE_SECONDS, repo.operators) as connection:
                await connection.execute(INSERT, *row, timeout=WRITE_SECONDS)
        except (repo.Unavailable, repo.OutcomeUnknown) as error:
            _late.appendleft(row)
            log.warning("audit log: %d rows wait for the database (%s)", len(_late), error)
            return


def _row(request: ApiRequest[Any], action: str, subject: str, details: dict[str, Any]) -> tuple[Any, ...]:
    return (request.principal.user_id, action, subject, details, request.address, request.request_id)
