"""Authentication of access tokens: by signature, and by a denylist in memory.

Memory holds the sessions that have ended while access tokens of theirs may be alive, the users who are inactive or deleted, and
the roles of admins and services. It is read from the database once and kept current by the change log (`session_ended`,
`rights_changed`), so checking a token costs its signature and three lookups. The database is queried only while the change log is
more than `FRESH_SECONDS` behind, and for tokens that another service has signed for a user not seen before. While the database is
down, a token with a valid signature is accepted unless memory refuses it, so that operators get in.
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
from actors.storage import repo
from actors.storage.failures import is_unreadable
from api.http.principal import Principal
from api.security.tokens import InvalidToken, Keyring
from schema import users

FRESH_SECONDS = 10.0  # the listener polls the change log every five seconds
# After a longer interruption the change log may have been trimmed: everything is read again.
MISSED_SECONDS = 6 * 3600.0
MAX_REMEMBERED = 20_000
ASK_SECONDS = 2.0
REVOKED = "The token was revoked"
INACTIVE = "The token's user is not active"
_AWAY = (
    repo.Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError,
)  # fmt: skip


class Sessions:
    """Authenticates access tokens for one server. `token_seconds`: an access token's lifetime, leeway included."""

    def __init__(self, keyring: Keyring, token_seconds: float) -> None:
        self._keyring = keyring
        self._token_seconds = token_seconds
        self._verified: dict[bytes, Principal] = {}  # by token: its signature is valid
        self._allowed: dict[bytes, Principal] = {}  # by token: authorized in this generation
        # Session (or user, for a token without one) -> its user: what the database has confirmed of other services' tokens.
        self._confirmed: dict[UUID, UUID] = {}
        self._ended: dict[UUID, float] = {}
        self._prune_at = 1024
        self._inactive: set[UUID] = set()
        self._roles: dict[UUID, str] = {}  # of all admins and services, and of some users
        self._generation = 0
        self._state: ServerState | None = None
        self._read_at = 0.0
        self._loaded = False
        self._loading: asyncio.Future[None] | None = None
        self._changes_while_loading: list[Callable[[], None]] = []

    # ---- authentication

    def authenticate_from_memory(self, token: bytes) -> Principal | None:
        """The principal of a token, without waiting; None if the token is refused, or the database must be queried."""
        allowed = self._allowed.get(token)
        # `_is_current`, without the function: nearly every request passes here.
        if allowed is not None and time.time() < allowed.exp and self._feed_is_fresh() and self._loaded:
            return allowed
        principal = self._verified.get(token)
        if principal is None:
            principal = self._keyring.verify_own(token)
            if principal is None:
                return None
            self._remember(token, principal)
        if time.time() >= principal.exp:
            del self._verified[token]
            self._allowed.pop(token, None)
            return None
        if principal.user_id is None:
            return principal
        if not self._is_current():
            return None
        allowed = self._authorized(principal)
        if allowed is not None:
            self._allowed[token] = allowed
        return allowed

    async def authenticate(self, token: str) -> Principal:
        """The principal of a token. Raises InvalidToken if it is malformed, forged, expired or revoked, or its user inactive."""
        claimed = self._keyring.check(token)
        if claimed.user_id is None:
            self._remember(token.encode("latin-1"), claimed)
            return claimed
        self._refuse_ended_or_inactive(claimed)
        await self.load()
        generation = self._generation
        if self._is_current():
            self._refuse_ended_or_inactive(claimed)
            allowed = self._authorized(claimed)
            if allowed is not None:
                self._remember(token.encode("latin-1"), claimed)
                return allowed
        try:
            async with repo.pool().acquire(timeout=ASK_SECONDS) as connection:
                state = await connection.fetchrow(users.SESSION_STATE, claimed.user_id, claimed.session_id)
        except Exception as error:
            if not _is_away(error):
                raise
            self._refuse_ended_or_inactive(claimed)
            return claimed
        if state is None:
            raise InvalidToken("The token's user does not exist")
        if not state["active"]:
            raise InvalidToken(INACTIVE)
        if not state["alive"]:
            raise InvalidToken(REVOKED)
        if generation == self._generation:  # else somebody's rights changed during the query
            self._confirm(claimed)
            if state["role"] != "user" or claimed.role != "user":
                self._roles[claimed.user_id] = state["role"]
                self._allowed.clear()
            self._remember(token.encode("latin-1"), claimed)
        return replace(claimed, role=state["role"], email=state["email"])

    async def load(self) -> None:
        """Reads the denylist and the roles, unless they are loaded already, or nothing would keep them up to date."""
        if self._feed_is_fresh() and not self._loaded:
            await self._load()

    # ---- the change log

    def session_ended(self, session_id: UUID) -> None:
        """Revokes all tokens of this session."""
        self._begin_generation()
        now = time.time()
        self._ended[session_id] = now
        self._confirmed.pop(session_id, None)
        if len(self._ended) >= self._prune_at:
            self._ended = {key: at for key, at in self._ended.items() if now - at < self._token_seconds}
            self._prune_at = max(1024, 2 * len(self._ended))
        if self._loading is not None:
            self._changes_while_loading.append(lambda: self.session_ended(session_id))

    def rights_changed(self, user_id: UUID, role: str | None, active: bool) -> None:
        """Updates a user's role and whether they are active; `role` None for a deleted user."""
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
            self._changes_while_loading.append(lambda: self.rights_changed(user_id, role, active))

    def reload(self) -> None:
        """Reads everything from the database again before the next token is accepted from memory."""
        self._begin_generation()
        self._loaded = False

    def _begin_generation(self) -> None:
        """Somebody's rights have changed: drops earlier authorizations, and invalidates those under way."""
        self._generation += 1
        self._allowed.clear()

    # ---- memory

    def _is_current(self) -> bool:
        """Whether memory is loaded and the change log was followed since. In this order: an old feed ends what was loaded."""
        return self._feed_is_fresh() and self._loaded

    def _feed_is_fresh(self) -> bool:
        state = self._state
        if state is None:
            state = self._state = server_state()
        read_at = state.changes_read_at
        if read_at is None or time.monotonic() - read_at > FRESH_SECONDS:
            return False
        if read_at - self._read_at > MISSED_SECONDS:
            self._loaded = False
        self._read_at = read_at
        return True

    def _authorized(self, principal: Principal) -> Principal | None:
        user_id = principal.user_id
        assert user_id is not None
        if principal.session_id in self._ended or user_id in self._inactive:
            return None
        if not principal.own and self._confirmed.get(principal.session_id or user_id) != user_id:
            return None
        role = self._roles.get(user_id)
        if role is None or role == principal.role:
            # A role other than user that only the token names: the user is new, or lost the role before this server started.
            return principal if role is not None or principal.role == "user" else None
        return replace(principal, role=role)

    def _refuse_ended_or_inactive(self, principal: Principal) -> None:
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
                not_ordinary = await connection.fetch(users.PRIVILEGED_OR_INACTIVE)
        except Exception as error:
            if not _is_away(error):
                raise
            ended = not_ordinary = None
        finally:
            self._loading = None
            loading.set_result(None)
            meanwhile, self._changes_while_loading = self._changes_while_loading, []
        if ended is None or not_ordinary is None:
            return
        now = time.time()
        for row in ended:
            self._ended.setdefault(row["session_id"], now)
        self._inactive = {row["id"] for row in not_ordinary if not row["active"]}
        self._roles = {row["id"]: row["role"] for row in not_ordinary if row["role"] != "user"}
        for change in meanwhile:  # they may be newer than what was read
            change()
        self._loaded = True
        self._allowed.clear()

    def _confirm(self, principal: Principal) -> None:
        if len(self._confirmed) >= MAX_REMEMBERED:
            self._confirmed.clear()
        assert principal.user_id is not None
        self._confirmed[principal.session_id or principal.user_id] = principal.user_id

    def _remember(self, token: bytes, principal: Principal) -> None:
        if len(self._verified) >= MAX_REMEMBERED:
            self._verified.clear()
            self._allowed.clear()
        self._verified[token] = principal


async def revoke(connection: Any, statement: str, key: UUID) -> set[UUID]:
    """Revokes sessions by one of the statements `REVOKE_...`; returns their ids.

    Repeats the statement until it finds no token: a concurrent refresh adds one that the statement, after waiting for the row
    lock, does not see in its snapshot.
    """
    ended: set[UUID] = set()
    while rows := await connection.fetch(statement, key):
        ended.update(row["family_id"] for row in rows)
    return ended


def _is_away(error: Exception) -> bool:
    """Whether the database gave no answer that can be used."""
    return isinstance(error, _AWAY) or is_unreadable(error)
