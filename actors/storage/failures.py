"""Classification of database errors, in this one place, and their text.

Any exception of a connect or a ping means that the database is unavailable, so those who connect catch `Exception`. The error of
a statement may be about a value (`ROW`: the other rows of a batch can be written without it), say that the database can't serve
now (`AWAY`: wait), or be a mistake of BitNexus (`OURS`).
"""

from __future__ import annotations

import struct
import traceback
from enum import Enum
from typing import Final

import asyncpg


class Meaning(Enum):
    """The class of a statement's error."""

    ROW = "about a value of a row"
    AWAY = "the database can't serve now"
    OURS = "a mistake of ours"


# SQLSTATE classes: connection, authorization, no such database, no longer in a transaction (it was ended by a time limit),
# rolled back (deadlock, serialization), out of resources (disk, memory, connections), not in the state for it (a lock timeout,
# no connections allowed), stopped by an operator or a time limit, the operating system's error, configuration, internal.
_AWAY: Final = frozenset({"08", "28", "3D", "25", "40", "53", "55", "57", "58", "F0", "XX"})
# A revoked privilege, a session that has lost its prepared statements (DISCARD ALL, a pooler), a cached plan for a table that has
# been altered: caused from outside, and undone there or by another session.
_AWAY_TOO: Final = frozenset({"42501", "26000", "42P05", "0A000"})
_ROW: Final = frozenset({"22", "23"})
_ROW_TOO: Final = frozenset({"P0001"})  # RAISE EXCEPTION: another program's trigger refuses the row
# Errors of bytes that are no valid message.
UNREADABLE: Final = (EOFError, BufferError, UnicodeDecodeError, struct.error)
_DRIVER: Final = "/asyncpg/"
_READING: Final = "/asyncpg/protocol/coreproto.pyx"
_ASKING_FOR_TYPES: Final = "_introspect_types"


class Unavailable(Exception):
    """The database does not answer, and nothing was written; HTTP 503. As a reply of `db_writer` it is a value, not raised."""


class OutcomeUnknown(Exception):
    """The answer to a write was lost: it may have been written. HTTP 503. As a reply of `db_writer` it is a value."""


def meaning(error: BaseException) -> Meaning:
    """The class of an error that a statement raised."""
    if isinstance(error, (Unavailable, OutcomeUnknown)):
        return Meaning.AWAY
    if is_unreadable(error):
        return Meaning.AWAY
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", None) or "XX")
        if state[:2] in _AWAY or state in _AWAY_TOO:
            return Meaning.AWAY
        return Meaning.ROW if state[:2] in _ROW or state in _ROW_TOO else Meaning.OURS
    if isinstance(error, (OSError, TimeoutError)):
        return Meaning.AWAY
    if isinstance(error, ValueError):  # also asyncpg's for an argument that its type does not take
        return Meaning.ROW
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return Meaning.AWAY  # the connection or the pool was closed meanwhile
    return Meaning.OURS


def rolled_back(error: BaseException) -> bool:
    """Whether it is certain that the statement wrote nothing, because the server reported an ERROR.

    It is not if the connection ended, the server ended it (FATAL, PANIC), or there was no answer in time.
    """
    if isinstance(error, (Unavailable, UnicodeEncodeError)):
        return True
    if isinstance(error, asyncpg.PostgresError):
        return getattr(error, "severity_en", None) == "ERROR"
    return isinstance(error, ValueError) and not is_unreadable(error)


def is_unreadable(error: BaseException) -> bool:
    """Whether the driver could not read what the server sent: messages, values, or descriptions of types.

    It has no error of its own for that: a value of the wrong size or content raises whatever its decoder does. So what counts is
    where the error comes from. (An argument that can't be encoded is an `asyncpg.DataError`.)
    """
    return isinstance(error, UNREADABLE) or is_of_driver(error)


def is_of_driver(error: BaseException) -> bool:
    """Whether an error was raised where the driver reads what the server sent, or asks for what that means."""
    if not isinstance(error, Exception) or isinstance(
        error, (asyncpg.InterfaceError, OSError, TimeoutError, UnicodeEncodeError)
    ):
        return False
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, asyncpg.PostgresError):
        return any(code.co_name == _ASKING_FOR_TYPES and _DRIVER in _path(code.co_filename) for code in codes)
    files = [_path(code.co_filename) for code in codes]
    return bool(files) and (_DRIVER in files[-1] or _READING in files)


def _path(filename: str) -> str:
    return f"/{filename}"  # that of a compiled module is relative


def is_elsewhere(error: BaseException) -> bool:
    """Whether a new connection may succeed where this one fails.

    This session's server accepts no writes (it is a standby, or read-only), or the session has lost its prepared statements.
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
    """One line for an error of the database or of the connection to it."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"  # asyncio and uvloop have different texts
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
