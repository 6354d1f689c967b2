"""The audit log: one row for each thing an operator did. Who, what, on what, from where."""

from __future__ import annotations

from typing import Any

from actors import repo
from api.request import Request

INSERT = """
INSERT INTO audit_log (actor_id, action, subject, details, remote_address, request_id) VALUES ($1, $2, $3, $4, $5, $6)
"""


async def record(request: Request, action: str, subject: str, details: dict[str, Any]) -> None:
    """Writes a line of the audit log. Raises as any query does: what can't be audited is not confirmed."""
    await repo.pool().execute(
        INSERT, request.principal.user_id, action, subject, details, request.address, request.request_id
    )
