"""Throttling of password checks: one at a time for an account and a caller, and after some failures ever longer waits.

Failures are counted by account and caller together, so that a stranger never locks out the owner, and with a wider limit by
caller alone, against guessing at many accounts. Each check is published to the other servers of the cluster, which count it too;
a server that has just started knows nothing of earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

from actors.endpoint import PUBSUB
from actors.guess_events import GUESSES, Guess
from api.http.errors import too_many
from api.http.throttle import CallerLocks, FailedAttempts
from runtime import erlang
from runtime.phoenix import pubsub

TOO_MANY = "Too many failed sign-ins; try again later"


class Guesses:
    """The failed password checks of one server. A `caller` is `ApiRequest.caller`."""

    def __init__(self) -> None:
        self._checks = CallerLocks()
        self._of_account = FailedAttempts(free=5)
        self._of_caller = FailedAttempts(free=50)

    @asynccontextmanager
    async def guarded(self, account: Hashable, caller: str) -> AsyncGenerator[None, None]:
        """Encloses one password check of this account. Raises ApiError 429 while the caller has to wait."""
        key = (str(account), caller)
        async with self._checks.of(key):
            wait = max(self._of_account.wait(key), self._of_caller.wait(caller))
            if wait > 0:
                raise too_many(math.ceil(wait), TOO_MANY)
            yield

    def failed(self, account: Hashable, caller: str) -> None:
        """The password was wrong."""
        self._made(Guess(str(account), caller, right=False))

    def succeeded(self, account: Hashable, caller: str) -> None:
        """The password was right: earlier failures are forgotten."""
        self._made(Guess(str(account), caller, right=True))

    def count(self, guess: Guess) -> None:
        """Counts a password check, made here or on another server."""
        key = (guess.account, guess.caller)
        if guess.right:
            self._of_account.succeeded(key)
        else:
            self._of_account.failed(key)
            self._of_caller.failed(guess.caller)

    def _made(self, guess: Guess) -> None:
        self.count(guess)
        if erlang.whereis(PUBSUB) is not None:
            pubsub.whereis(PUBSUB).broadcast_from(erlang.whereis("endpoint"), GUESSES, guess)
