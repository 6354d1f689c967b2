"""The topics and events of changes in the shared tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from schema.rows import iso

# (table, operation) -> (topic, event); {column} is filled from the row.
EVENTS: dict[tuple[str, str], tuple[str, str]] = {
    ("notifications", "INSERT"): ("notification:{user_id}", "new_notification"),
    ("notifications", "UPDATE"): ("notification:{user_id}", "notification_updated"),
    ("notifications", "DELETE"): ("notification:{user_id}", "notification_deleted"),
    ("tasks", "INSERT"): ("admin:tasks", "new_task"),
    ("tasks", "UPDATE"): ("admin:tasks", "task_updated"),
    ("tasks", "DELETE"): ("admin:tasks", "task_deleted"),
    ("emails", "INSERT"): ("admin:emails", "new_email"),
    ("flags", "INSERT"): ("admin:flags", "flag_updated"),
    ("flags", "UPDATE"): ("admin:flags", "flag_updated"),
    ("flags", "DELETE"): ("admin:flags", "flag_deleted"),
    ("transactions", "UPDATE"): ("admin:ledger", "transaction_changed"),
    ("transactions", "DELETE"): ("admin:ledger", "transaction_removed"),
    ("sessions", "DELETE"): ("user_socket:{user_id}", "disconnect"),
}
PRIVATE = ("request_hash", "idempotency_key")


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the change log. `operation` is INSERT, UPDATE or DELETE.

    `row` is made by PostgreSQL's to_jsonb, except that amounts are decimal strings.
    """

    table: str
    operation: str
    row: dict[str, Any]

    def payload(self) -> dict[str, Any]:
        """The row as the REST API shows it, with timestamps in UTC."""
        return {
            name: _timestamp(value) if name.endswith("_at") and isinstance(value, str) else value
            for name, value in self.row.items()
            if name not in PRIVATE
        }


def events_of(change: Change) -> list[tuple[str, str]]:
    """The (topic, event) pairs to broadcast for a change."""
    found = EVENTS.get((change.table, change.operation))
    return [] if found is None else [(found[0].format_map(change.row), found[1])]


def _timestamp(text: str) -> str:
    try:
        return iso(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return text  # infinity, or a year beyond Python's range: it must not stop the reading of the log


# ---- messages to db_writer


class RecordPending(msgspec.Struct, frozen=True):
    """Rows without a ledger entry wait in ledger_pending."""


class ChangesRead(msgspec.Struct, frozen=True):
    """This server has read the change log for the first time: what is kept in memory can be kept up to date from now on."""


class HeadMoved(msgspec.Struct, frozen=True):
    """The ledger has entries up to `seq`."""

    seq: int
