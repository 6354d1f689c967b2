"""The activity of the database: the statements that run, and who waits for whose lock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

KEPT: Final = 20  # statements
LOW_BYTES: Final = 64 << 20  # PostgreSQL takes 16 MB at a time

# Without the session that asks, and those that wait for work.
STATEMENTS: Final = """
SELECT a.pid, a.application_name AS program, left(a.query, 500) AS query,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS seconds,
       CASE WHEN a.wait_event_type = 'Lock' THEN (pg_blocking_pids(a.pid))[1] END AS waits_for,
       b.application_name AS held_by, left(b.query, 500) AS held_query
FROM pg_stat_activity a
LEFT JOIN pg_stat_activity b ON a.wait_event_type = 'Lock' AND b.pid = (pg_blocking_pids(a.pid))[1]
WHERE a.datname = current_database() AND a.state = 'active' AND a.backend_type = 'client backend'
  AND a.pid <> pg_backend_pid() AND clock_timestamp() - a.query_start > make_interval(secs => $1)
ORDER BY a.query_start LIMIT 100
"""


class Statement(msgspec.Struct, frozen=True):
    """A statement that runs or ran for `seconds`; `waits_for` is the session whose lock it waits for, `held_by` its program."""

    pid: int
    program: str
    query: str
    seconds: float
    waits_for: int | None = None
    held_by: str | None = None
    held_query: str | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """A sample of the activity.

    `waits` are the statements that wait for a lock now. `slowest` has each statement's longest run in any sample so far, the
    slowest first. `disk_free` is in bytes, None for a database on another machine.
    """

    waits: tuple[Statement, ...] = ()
    slowest: tuple[Statement, ...] = ()
    disk_free: int | None = None

    def after(self, statements: list[Statement]) -> Activity:
        """The next sample, with these statements running."""
        slowest = {each.query: each for each in self.slowest}
        for each in statements:
            known = slowest.get(each.query)
            if known is None or known.seconds < each.seconds:
                slowest[each.query] = each
        kept = sorted(slowest.values(), key=lambda each: -each.seconds)[:KEPT]
        waits = tuple(each for each in statements if each.waits_for is not None)
        return replace(self, waits=waits, slowest=tuple(kept))

    @property
    def longest_wait(self) -> float:
        """Seconds of the longest wait for a lock; 0 without one."""
        return max((each.seconds for each in self.waits), default=0.0)

    @property
    def disk_low(self) -> bool:
        """Whether the database may find no room for its next write."""
        return self.disk_free is not None and self.disk_free < LOW_BYTES
