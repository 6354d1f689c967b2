"""What a failed statement means, and how its errors read: decided here and nowhere else.

Whatever a connect or a ping raises means that the database is away, so those who connect catch `Exception` and ask nothing.
Only for a statement there is something to decide: it may be about a value (`ROW`: the other rows of a batch go in without it),
the database may be unable to serve now (`AWAY`: wait, it is nobody's mistake), or we have a mistake (`OURS`).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import asyncpg


class Meaning(Enum):
    """What a failed statement means."""

    ROW = "about a value of a row"
    AWAY = "the database can't serve now"
    OURS = "a mistake of ours"


# SQLSTATE classes: connection, authorization, no such database, no longer in a transaction (it was ended by a time limit),
# rolled back (deadlock, serialization), out of resources (disk, memory, connections), not in the state for it (a lock timeout,
# no connections allowed), stopped by an operator or a time limit, the operating system's error, configuration, internal.
_AWAY: Final = frozenset({"08", "28", "3D", "25", "40", "53", "55", "57", "58", "F0", "XX"})
_ROW: Final = frozenset({"22", "23"})


class Unavailable(Exception):
    """The database does not answer, and nothing was written; HTTP 503. As a reply of `db_writer` it is a value, not raised."""


class OutcomeUnknown(Exception):
    """The answer to a write was lost: it may have been written. HTTP 503. As a reply of `db_writer` it is a value."""


def meaning(error: BaseException) -> Meaning:
    """Of an error that a statement raised."""
    if isinstance(error, (Unavailable, OutcomeUnknown)):
        return Meaning.AWAY
    if isinstance(error, asyncpg.PostgresError):
        kind = str(getattr(error, "sqlstate", None) or "XX")[:2]
        return Meaning.AWAY if kind in _AWAY else Meaning.ROW if kind in _ROW else Meaning.OURS
    if isinstance(error, (OSError, TimeoutError, EOFError)):
        return Meaning.AWAY
    if isinstance(
        error, ValueError
    ):  # UnicodeError, and asyncpg's for an argument that its type does not take
        return Meaning.ROW
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return Meaning.AWAY  # the connection or the pool was closed under us
    return Meaning.OURS


def rolled_back(error: BaseException) -> bool:
    """Whether it is certain that the statement wrote nothing: the server itself says that it failed.

    Not so when the connection ended, or the server ended it (FATAL, PANIC), or nobody answered in time.
    """
    if isinstance(error, (Unavailable, UnicodeError)):
        return True
    if isinstance(error, asyncpg.PostgresError):
        return getattr(error, "severity_en", None) == "ERROR"
    return isinstance(error, ValueError)


def is_elsewhere(error: BaseException) -> bool:
    """Whether the server takes no writes (any more): it is a standby, or was told so. Another session may find another."""
    return isinstance(error, asyncpg.ReadOnlySQLTransactionError)


def reason(error: BaseException) -> str:
    """One line for an error of the database or of the way to it."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"  # the event loops word it each their own way
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
