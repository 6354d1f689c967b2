"""Who calls: tokens checked, briefly remembered, and forgotten at sign-out.

A token that was checked is believed for `BELIEVED_SECONDS` without a look at the database, at most until it
expires; then the database says again whether its user is active and its session not revoked. A sign-out or
deactivation on this server holds at once, one on another server after that time. While the database is
down, a token with a good signature counts, so that operators get in; sessions ended on this server stay
ended.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import asyncpg

from actors.storage import repo
from api.security.tokens import InvalidToken, Keyring, Principal
from schema import users

BELIEVED_SECONDS = 10.0
MAX_BELIEVED = 20_000


class Sessions:
    """Checks access tokens and remembers the answer for a moment."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._believed: dict[bytes, tuple[float, Principal]] = {}
        self._ended: dict[UUID, float] = {}
        self._generation = 0

    def known(self, token: bytes) -> Principal | None:
        """The principal of a token that was checked a moment ago, without waiting; None when it wasn't."""
        entry = self._believed.get(token)
        if entry is None:
            return None
        until, principal = entry
        if time.time() >= until:
            del self._believed[token]
            return None
        return principal

    async def authenticate(self, token: str) -> Principal:
        """Who a token speaks for. Raises InvalidToken when it is not ours, expired, revoked or its user
        inactive."""
        claimed = self._keyring.check(token)
        if claimed.user_id is None:
            self._believe(token, claimed)
            return claimed
        generation = self._generation
        try:
            async with repo.pool().acquire(timeout=2.0) as connection:
                state = await connection.fetchrow(users.SESSION_STATE, claimed.user_id, claimed.session_id)
        except (repo.Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            if claimed.session_id in self._ended or claimed.user_id in self._ended:
                raise InvalidToken("The token was revoked") from None
            return claimed
        if state is None:
            raise InvalidToken("The token's user does not exist")
        if not state["active"]:
            raise InvalidToken("The token's user is not active")
        if not state["alive"]:
            raise InvalidToken("The token was revoked")
        principal = Principal(
            claimed.user_id, claimed.subject, state["role"], state["email"], claimed.session_id, claimed.exp
        )
        if generation == self._generation:  # else somebody signed out while the database was asked
            self._believe(token, principal)
        return principal

    def end(self, *, session_id: UUID | None = None, user_id: UUID | None = None) -> None:
        """Forgets every token of a session or a user, so that the database is asked again for each."""
        now = time.time()
        self._generation += 1
        for ended in (session_id, user_id):
            if ended is not None:
                self._ended[ended] = now
        self._believed = {
            token: entry
            for token, entry in self._believed.items()
            if (session_id is None or entry[1].session_id != session_id)
            and (user_id is None or entry[1].user_id != user_id)
        }
        if len(self._ended) > MAX_BELIEVED:
            self._ended = {key: at for key, at in self._ended.items() if now - at < 86400.0}

    def restore(self, user_id: UUID) -> None:
        """The user may sign in again."""
        self._ended.pop(user_id, None)

    def _believe(self, token: str, principal: Principal) -> None:
        if len(self._believed) >= MAX_BELIEVED:
            self._believed.clear()
        until = min(time.time() + BELIEVED_SECONDS, principal.exp)
        self._believed[token.encode("latin-1")] = (until, principal)


async def revoke(connection: Any, statement: str, key: UUID) -> None:
    """Ends sessions by one of the statements `REVOKE_...`. Until none of their tokens is left: a refresh that is under way adds
    one that the statement, once it has waited for it, still does not see."""
    while await connection.execute(statement, key) != "UPDATE 0":
        pass
