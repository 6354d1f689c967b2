"""Guesses at passwords, wherever one is asked for: one check at a time for an account and a caller, and ever longer waits."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

from api.http.errors import too_many
from api.http.throttle import CallerLocks, FailedAttempts

TOO_MANY = "Too many failed sign-ins; try again later"


class Guesses:
    """Who has guessed wrong of late. A `caller` is `ApiRequest.caller`."""

    def __init__(self) -> None:
        self._checks = CallerLocks()
        self._of_account = FailedAttempts(free=5)
        self._of_caller = FailedAttempts(free=50)

    @asynccontextmanager
    async def guarded(self, account: Hashable, caller: str) -> AsyncGenerator[None, None]:
        """Around one check of a password of this account. Raises ApiError 429 while the caller has to wait."""
        key = (account, caller)
        async with self._checks.of(key):
            wait = max(self._of_account.wait(key), self._of_caller.wait(caller))
            if wait > 0:
                raise too_many(math.ceil(wait), TOO_MANY)
            yield

    def failed(self, account: Hashable, caller: str) -> None:
        """The guess was wrong."""
        self._of_account.failed((account, caller))
        self._of_caller.failed(caller)

    def succeeded(self, account: Hashable, caller: str) -> None:
        """The password was right: earlier mistakes are forgiven."""
        self._of_account.succeeded((account, caller))
