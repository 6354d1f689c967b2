"""Guesses at passwords, wherever one is asked for: one check at a time for an account and a caller, and ever longer waits.

What one server of a cluster has counted the others count as well, a moment later; a server that has just started knows nothing of
what was guessed before.
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
    """Who has guessed wrong of late. A `caller` is `ApiRequest.caller`."""

    def __init__(self) -> None:
        self._checks = CallerLocks()
        self._of_account = FailedAttempts(free=5)
        self._of_caller = FailedAttempts(free=50)

    @asynccontextmanager
    async def guarded(self, account: Hashable, caller: str) -> AsyncGenerator[None, None]:
        """Around one check of a password of this account. Raises ApiError 429 while the caller has to wait."""
        key = (str(account), caller)
        async with self._checks.of(key):
            wait = max(self._of_account.wait(key), self._of_caller.wait(caller))
            if wait > 0:
                raise too_many(math.ceil(wait), TOO_MANY)
            yield

    def failed(self, account: Hashable, caller: str) -> None:
        """The guess was wrong."""
        self._made(Guess(str(account), caller, right=False))

    def succeeded(self, account: Hashable, caller: str) -> None:
        """The password was right: earlier mistakes are forgiven."""
        self._made(Guess(str(account), caller, right=True))

    def count(self, guess: Guess) -> None:
        """A password was checked, here or on another server."""
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
