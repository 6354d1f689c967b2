"""Guesses at passwords, wherever one is asked for: one check at a time for an account and a caller, and ever longer waits."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from api.http.errors import too_many
from api.http.request import Request

TOO_MANY = "Too many failed sign-ins; try again later"


@asynccontextmanager
async def guarded(request: Request, account: Hashable) -> AsyncIterator[None]:
    """Around one check of a password of this account. Raises ApiError 429 while the caller has to wait."""
    front = request.front
    key = (account, request.caller)
    async with front.login_locks.of(key):
        wait = max(front.login_failures.wait(key), front.address_failures.wait(request.caller))
        if wait > 0:
            raise too_many(math.ceil(wait), TOO_MANY)
        yield


def failed(request: Request, account: Hashable) -> None:
    """The guess was wrong."""
    request.front.login_failures.failed((account, request.caller))
    request.front.address_failures.failed(request.caller)


def succeeded(request: Request, account: Hashable) -> None:
    """The password was right: earlier mistakes are forgiven."""
    request.front.login_failures.succeeded((account, request.caller))
