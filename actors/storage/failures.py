"""What a failed statement means, and how its errors read: decided here and nowhere else.

Whatever a connect or a ping raises means that the database is away, so those who connect catch `Exception` and ask nothing.
Only for a statement there is something to decide: it may be about a value (`ROW`: the other rows of a batch go in without it),
the database may be unable to serve now (`AWAY`: wait, it is nobody's mistake), or we have a mistake (`OURS`).
"""

from __future__ import annotations

import struct
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
# A right that was taken away, a session that has lost our prepared statements (DISCARD ALL, a pooler), a plan that fits a table
# of yesterday: a hand has changed what is given to us, and it or another session changes it back.
_AWAY_TOO: Final = frozenset({"42501", "26000", "42P05", "0A000"})
_ROW: Final = frozenset({"22", "23"})
_ROW_TOO: Final = frozenset({"P0001"})  # RAISE EXCEPTION: a rule of somebody's trigger refuses the row
# What an answer that is no answer makes asyncpg raise, beside its own errors.
UNREADABLE: Final = (EOFError, BufferError, UnicodeDecodeError, struct.error)


class Unavailable(Exception):
    """The database does not answer, and nothing was written; HTTP 503. As a reply of `db_writer` it is a value, not raised."""


class OutcomeUnknown(Exception):
    """The answer to a write was lost: it may have been written. HTTP 503. As a reply of `db_writer` it is a value."""


def meaning(error: BaseException) -> Meaning:
    """Of an error that a statement raised."""
    if isinstance(error, (Unavailable, OutcomeUnknown)):
        return Meaning.AWAY
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", None) or "XX")
        if state[:2] in _AWAY or state in _AWAY_TOO:
            return Meaning.AWAY
        return Meaning.ROW if state[:2] in _ROW or state in _ROW_TOO else Meaning.OURS
    if isinstance(error, (OSError, TimeoutError, *UNREADABLE)):
        return Meaning.AWAY
    if isinstance(error, ValueError):  # also asyncpg's for an argument that its type does not take
        return Meaning.ROW
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return Meaning.AWAY  # the connection or the pool was closed under us
    return Meaning.OURS


def rolled_back(error: BaseException) -> bool:
    """Whether it is certain that the statement wrote nothing: the server itself says that it failed.

    Not so when the connection ended, or the server ended it (FATAL, PANIC), or nobody answered in time.
    """
    if isinstance(error, (Unavailable, UnicodeEncodeError)):
        return True
    if isinstance(error, asyncpg.PostgresError):
        return getattr(error, "severity_en", None) == "ERROR"
    return isinstance(error, ValueError) and not isinstance(error, UNREADABLE)


def is_elsewhere(error: BaseException) -> bool:
    """Whether another session may do what this one can't.

    Its server takes no writes (any more): it is a standby, or was told so; or the session has lost what was prepared in it.
    """
    return isinstance(
        error,
        (
            asyncpg.ReadOnlySQLTransactionError,
            asyncpg.InvalidSQLStatementNameError,
            asyncpg.DuplicatePreparedStatementError,
        ),
    )


def reason(error: BaseException) -> str:
    """One line for an error of the database or of the way to it."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"  # the event loops word it each their own way
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
