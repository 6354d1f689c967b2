"""Token expiry: deletes expired refresh tokens and ended sessions, so that their tables don't grow for ever.

A session's tokens are kept until a day after the last of them has expired: until then a reused token must be recognized. Owns
nothing. Every server does this, without coordination.

Messages: `Forget`, its own timer. If the database is unavailable it tries again after RETRY_MS; nothing waits for it. A crash
costs nothing but time: its successor starts over.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from actors.storage import repo
from actors.storage.failures import Meaning, meaning
from runtime import GenServer, erlang
from schema import users

log = logging.getLogger("bitnexus.token_expiry")

PERIOD_MS: Final = 3_600_000
FIRST_MS: Final = 60_000  # after the start, which has more urgent work
MORE_MS: Final = 1_000  # between the batches of a pass, which keep each statement short
RETRY_MS: Final = 60_000
SQL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Forget:
    """Time for the next batch."""


class TokenExpiry(GenServer):
    """Deletes expired tokens every `period` ms, the first time after `first`, and `retry` ms after a failure."""

    def init(self, first: int = FIRST_MS, period: int = PERIOD_MS, retry: int = RETRY_MS) -> None:
        self.period, self.retry = period, retry
        self.forgotten = 0
        erlang.send_after(first, erlang.self_(), Forget())

    async def handle_info(self, message: Any) -> None:
        """`Forget`; other messages are ignored."""
        match message:
            case Forget():
                erlang.send_after(await self._forget(), erlang.self_(), Forget())

    async def _forget(self) -> int:
        """Deletes a batch; returns the milliseconds until the next."""
        try:
            done = await repo.pool().execute(users.FORGET_EXPIRED, timeout=SQL_SECONDS)
            await repo.pool().execute(users.FORGET_ENDED, timeout=SQL_SECONDS)
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            log.warning("can't delete expired refresh tokens now: %s", error)
            return self.retry
        deleted = int(done.rpartition(" ")[2])
        if not deleted:
            return self.period
        self.forgotten += deleted
        log.info("deleted %d expired refresh tokens", deleted)
        return min(MORE_MS, self.period)
