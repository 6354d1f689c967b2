"""Token expiry: deletes refresh tokens that can do nothing any more, so that their table doesn't grow for ever.

A session's tokens are kept until a day after the last of them has expired: until then one that comes a second time must be
recognized. Owns nothing. Every server does this; what one has deleted the others don't find.

Messages: `Forget`, its own timer. While the database is away it tries again after RETRY_MS; nothing waits for it. A crash costs
a pass: its successor begins with one.
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
FIRST_MS: Final = 60_000  # a start has better things to do
MORE_MS: Final = 1_000  # between the parts of a pass: each statement stays short
RETRY_MS: Final = 60_000
SQL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Forget:
    """Time for a pass."""


class TokenExpiry(GenServer):
    """Forgets expired sessions every `period` milliseconds, the first time after `first`; `retry` after a failure."""

    def init(self, first: int = FIRST_MS, period: int = PERIOD_MS, retry: int = RETRY_MS) -> None:
        self.period, self.retry = period, retry
        self.forgotten = 0
        erlang.send_after(first, erlang.self_(), Forget())

    async def handle_info(self, message: Any) -> None:
        """`Forget`; everything else is nobody's."""
        match message:
            case Forget():
                erlang.send_after(await self._forget(), erlang.self_(), Forget())

    async def _forget(self) -> int:
        """Deletes a part; milliseconds until the next."""
        try:
            done = await repo.pool().execute(users.FORGET_EXPIRED, timeout=SQL_SECONDS)
            await repo.pool().execute(users.FORGET_ENDED, timeout=SQL_SECONDS)
        except Exception as error:
            if meaning(error) is Meaning.OURS:
                raise
            log.warning("expired refresh tokens stay for now: %s", error)
            return self.retry
        deleted = int(done.rpartition(" ")[2])
        if not deleted:
            return self.period
        self.forgotten += deleted
        log.info("forgot %d expired refresh tokens", deleted)
        return min(MORE_MS, self.period)
