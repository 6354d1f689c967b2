"""Who calls: a token's signature, and what this server remembers of who may *not*.

Kept in memory: the sessions that have ended while access tokens of theirs may be alive, the users who may not (deactivated,
removed), and the roles of those who are more than users. It is read from the database once and fed by the change log after
that (`session_ended`, `rights_changed`), so a token costs its signature and three look-ups. Only while that feed is more than
`FRESH_SECONDS` behind, and for tokens that another service has signed for a user not seen before, the database is asked. While
it is down, a token with a good signature counts, so that operators get in, unless memory knows better.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from actors.server_state import ServerState, server_state
from actors.storage import failures, repo
from api.http.principal import Principal
from api.security.tokens import InvalidToken, Keyring
from schema import users

FRESH_SECONDS = 10.0  # the listener reads the change log every five, without a hint
# After a longer interruption the change log may have been trimmed: everything is read again.
MISSED_SECONDS = 6 * 3600.0
MAX_BELIEVED = 20_000
ASK_SECONDS = 2.0
REVOKED = "The token was revoked"
INACTIVE = "The token's user is not active"
_AWAY = (
    repo.Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError,
    *failures.UNREADABLE,
)  # fmt: skip


class Sessions:
    """Who may, for one server. `token_seconds`: how long an access token can be alive."""

    def __init__(self, keyring: Keyring, token_seconds: float) -> None:
        self._keyring = keyring
        self._token_seconds = token_seconds
        self._believed: dict[bytes, Principal] = {}
        self._allowed: dict[bytes, Principal] = {}  # tokens, and whom each speaks for in this generation
        self._vouched: dict[UUID, UUID] = {}  # session, or user of a token without one -> its user
        self._ended: dict[UUID, float] = {}
        self._prune_at = 1024
        self._inactive: set[UUID] = set()
        self._roles: dict[UUID, str] = {}  # of all who are more than users, and of some who are not
        self._generation = 0
        self._node: ServerState | None = None
        self._read_at = 0.0
        self._loaded = False
        self._loading: asyncio.Future[None] | None = None
        self._meanwhile: list[Callable[[], None]] = []

    # ---- the question

    def known(self, token: bytes) -> Principal | None:
        """The principal of a token, without waiting; None when the database has to be asked, or the token may not."""
        allowed = self._allowed.get(token)
        if allowed is not None and time.time() < allowed.exp and self._is_current():
            return allowed
        principal = self._believed.get(token)
        if principal is None:
            principal = self._keyring.recognise(token)
            if principal is None:
                return None
            self._believe(token, principal)
        if time.time() >= principal.exp:
            del self._believed[token]
            self._allowed.pop(token, None)
            return None
        if principal.user_id is None:
            return principal
        if not self._is_current():
            return None
        allowed = self._from_memory(principal)
        if allowed is not None:
            self._allowed[token] = allowed
        return allowed

    async def authenticate(self, token: str) -> Principal:
        """Who a token speaks for. Raises InvalidToken when it is not ours, expired, revoked or its user inactive."""
        claimed = self._keyring.check(token)
        if claimed.user_id is None:
            self._believe(token.encode("latin-1"), claimed)
            return claimed
        self._refuse_who_may_not(claimed)
        await self.load()
        generation = self._generation
        if self._is_current():
            self._refuse_who_may_not(claimed)
            allowed = self._from_memory(claimed)
            if allowed is not None:
                self._believe(token.encode("latin-1"), claimed)
                return allowed
        try:
            async with repo.pool().acquire(timeout=ASK_SECONDS) as connection:
                state = await connection.fetchrow(users.SESSION_STATE, claimed.user_id, claimed.session_id)
        except _AWAY:
            self._refuse_who_may_not(claimed)
            return claimed
        if state is None:
            raise InvalidToken("The token's user does not exist")
        if not state["active"]:
            raise InvalidToken(INACTIVE)
        if not state["alive"]:
            raise InvalidToken(REVOKED)
        if generation == self._generation:  # else somebody's rights changed while the database was asked
            self._vouch(claimed)
            if state["role"] != "user" or claimed.role != "user":
                self._roles[claimed.user_id] = state["role"]
                self._allowed.clear()
            self._believe(token.encode("latin-1"), claimed)
        return replace(claimed, role=state["role"], email=state["email"])

    async def load(self) -> None:
        """Reads who may not, unless that is known already, or nothing would keep it up to date."""
        if self._feed_is_fresh() and not self._loaded:
            await self._load()

    # ---- the feed

    def session_ended(self, session_id: UUID) -> None:
        """No token of this session counts any more."""
        self._begin_generation()
        now = time.time()
        self._ended[session_id] = now
        self._vouched.pop(session_id, None)
        if len(self._ended) >= self._prune_at:
            self._ended = {key: at for key, at in self._ended.items() if now - at < self._token_seconds}
            self._prune_at = max(1024, 2 * len(self._ended))
        if self._loading is not None:
            self._meanwhile.append(lambda: self.session_ended(session_id))

    def rights_changed(self, user_id: UUID, role: str | None, active: bool) -> None:
        """What this user may from now on; `role` None for one who is no more."""
        self._begin_generation()
        if active and role is not None:
            self._inactive.discard(user_id)
        else:
            self._inactive.add(user_id)
        if role is None:
            self._roles.pop(user_id, None)
        else:
            self._roles[user_id] = role
        if self._loading is not None:
            self._meanwhile.append(lambda: self.rights_changed(user_id, role, active))

    def forget(self) -> None:
        """Reads everything anew before it believes again."""
        self._begin_generation()
        self._loaded = False

    def _begin_generation(self) -> None:
        """What anybody may has changed: what was found before counts no more."""
        self._generation += 1
        self._allowed.clear()

    # ---- memory

    def _feed_is_fresh(self) -> bool:
        memory = self._node
        if memory is None:
            memory = self._node = server_state()
        read_at = memory.changes_read_at
        if read_at is None or time.monotonic() - read_at > FRESH_SECONDS:
            return False
        if read_at - self._read_at > MISSED_SECONDS:
            self._loaded = False
        self._read_at = read_at
        return True

    def _is_current(self) -> bool:
        return self._feed_is_fresh() and self._loaded

    def _from_memory(self, principal: Principal) -> Principal | None:
        user_id = principal.user_id
        assert user_id is not None
        if principal.session_id in self._ended or user_id in self._inactive:
            return None
        if not principal.own and self._vouched.get(principal.session_id or user_id) != user_id:
            return None
        role = self._roles.get(user_id)
        if role is None or role == principal.role:
            # A role that only the token knows of: its user was made a moment ago, or lost it before we were started.
            return principal if role is not None or principal.role == "user" else None
        return replace(principal, role=role)

    def _refuse_who_may_not(self, principal: Principal) -> None:
        if principal.session_id in self._ended:
            raise InvalidToken(REVOKED)
        if self._loaded and principal.user_id in self._inactive:
            raise InvalidToken(INACTIVE)

    async def _load(self) -> None:
        if self._loading is not None:
            await asyncio.wait([self._loading])
            return
        self._loading = loading = asyncio.get_running_loop().create_future()
        try:
            async with repo.pool().acquire(timeout=ASK_SECONDS) as connection:
                ended = await connection.fetch(users.ENDED_SESSIONS, self._token_seconds)
                not_plain = await connection.fetch(users.NOT_PLAIN)
        except _AWAY:
            ended = not_plain = None
        finally:
            self._loading = None
            loading.set_result(None)
            meanwhile, self._meanwhile = self._meanwhile, []
        if ended is None or not_plain is None:
            return
        now = time.time()
        for row in ended:
            self._ended.setdefault(row["session_id"], now)
        self._inactive = {row["id"] for row in not_plain if not row["active"]}
        self._roles = {row["id"]: row["role"] for row in not_plain if row["role"] != "user"}
        for change in meanwhile:  # they may be newer than what was read
            change()
        self._loaded = True
        self._allowed.clear()

    def _vouch(self, principal: Principal) -> None:
        if len(self._vouched) >= MAX_BELIEVED:
            self._vouched.clear()
        assert principal.user_id is not None
        self._vouched[principal.session_id or principal.user_id] = principal.user_id

    def _believe(self, token: bytes, principal: Principal) -> None:
        if len(self._believed) >= MAX_BELIEVED:
            self._believed.clear()
            self._allowed.clear()
        self._believed[token] = principal


async def revoke(connection: Any, statement: str, key: UUID) -> set[UUID]:
    """Ends sessions by one of the statements `REVOKE_...`, and says which.

    Until none of their tokens is left: a refresh that is under way adds one that the statement, once it has waited for it, still
    does not see.
    """
    ended: set[UUID] = set()
    while rows := await connection.fetch(statement, key):
        ended.update(row["family_id"] for row in rows)
    return ended
