"""How long a batch gathers before it is written, so that many who write at once share one statement and one commit.

Clients who were answered just now often write again: their requests are on the way while others wait already. If those were
written at once, two halves of the clients would take turns for ever, at twice the work for the database. So after a batch the
next one waits, for a short time, until it has as many requests as clients were seen to write. A lone client never waits: it is
all of them. PostgreSQL has this as `commit_delay`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LONGEST: Final = 0.001  # seconds that a batch waits for those who were answered before it


class Gathering:
    """Between two batches of one writer, of which none has more than `most` rows. `now` is its clock, in seconds."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self.wanted = 1  # so many are waited for
        self._until = 0.0

    def wrote(self, rows: int, others: int) -> None:
        """A batch of so many rows has been answered, and so many others have come meanwhile."""
        self.wanted = min(rows + others, self._most)
        if self.wanted > 1:
            self._until = self._now() + LONGEST

    def wait(self, waiting: int) -> float:
        """The seconds that so many wait yet, if no others come; 0 if they are written now."""
        return 0.0 if waiting >= self.wanted else max(0.0, self._until - self._now())
