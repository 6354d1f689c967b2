"""Cursors of lists that are paged newest first: time and id of a page's last row, as 48 hex digits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec

PATTERN = "^[0-9a-f]{48}$"
Cursor = Annotated[  # the length too: `$` also matches before a newline at the end
    str, msgspec.Meta(pattern=PATTERN, max_length=48, description="next_cursor of the page before")
]
Limit = Annotated[int, msgspec.Meta(ge=1, le=200, description="How many at most")]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ALL_BITS = (1 << 64) - 1
# The times that a row can have, in microseconds, with some margin.
_FIRST = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND


class PageQuery(msgspec.Struct, frozen=True):
    """limit and cursor of a list."""

    limit: Limit = 50
    cursor: Cursor | None = None


def encode(inserted_at: datetime, row_id: UUID) -> str:
    """The cursor for the rows after this one."""
    micros = (inserted_at - _EPOCH) // _MICROSECOND
    return f"{micros & _ALL_BITS:016x}{row_id.hex}"  # two's complement: times before 1970 are negative


def decode(cursor: str | None) -> tuple[datetime | None, UUID | None]:
    """Time and id of the row that a cursor names; (None, None) for the first page."""
    if cursor is None:
        return None, None
    micros = int(cursor[:16], 16)
    if micros >= 1 << 63:
        micros -= 1 << 64
    micros = min(max(micros, _FIRST), _LAST)
    return _EPOCH + timedelta(microseconds=micros), UUID(hex=cursor[16:])


def page(rows: Sequence[Any], limit: int) -> tuple[Sequence[Any], str | None]:
    """The page, and the next page's cursor if there is one, of the result of a query for `limit` + 1 rows."""
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], encode(last["inserted_at"], last["id"])
