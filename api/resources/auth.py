"""Sign-in: login, refresh with rotation, logout, me, and the published keys.

A login starts a session: a family of refresh tokens, of which each works once. A token that comes a second
time was copied by somebody, so the whole family ends. An access token names its session (`sid`) and ends
with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec

from actors.storage import repo
from api.http.errors import ApiError, too_many, unauthorized
from api.http.request import Request, Response, answer
from api.http.router import Answer, Routes
from api.security import disconnect
from api.security.sessions import revoke
from api.security.tokens import refresh_hash, refresh_token
from schema import users

routes = Routes("auth")

Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
LoginName = Annotated[str, msgspec.Meta(min_length=1, max_length=320, pattern="^[^\\u0000]*$")]


class Login(msgspec.Struct, frozen=True):
    """Who signs in."""

    email: LoginName
    password: Secret


class Refresh(msgspec.Struct, frozen=True):
    """The refresh token of the last answer."""

    refresh_token: Secret


class Logout(msgspec.Struct, frozen=True):
    """The session that ends; without it the one of the access token."""

    refresh_token: Secret | None = None


class Me(msgspec.Struct, frozen=True):
    """A user as he sees himself."""

    id: UUID
    email: str
    name: str
    role: str


class SignedIn(msgspec.Struct, frozen=True):
    """Tokens of a session; `expires_in` is the access token's life in seconds."""

    token: str
    refresh_token: str
    expires_in: int
    user: Me


class MeBody(msgspec.Struct, frozen=True):
    """The signed-in user."""

    user: Me


class Success(msgspec.Struct, frozen=True):
    """Done."""

    success: bool = True


class Jwks(msgspec.Struct, frozen=True):
    """JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]]


WRONG = "The e-mail address or the password is wrong"


@routes.post(
    "/api/v1/auth/login",
    summary="Sign in",
    roles=None,
    body=Login,
    answers={200: SignedIn},
    errors=(401, 429),
)
async def login(request: Request) -> Response:
    """Answers alike, and after the same work, whether the account is unknown, inactive or the password
    wrong."""
    body: Login = request.body
    front = request.front
    account = (body.email.lower(), request.address)
    async with front.login_locks.of(
        account
    ):  # one check at a time, so that a burst of guesses is counted guess by guess
        wait = max(front.login_failures.wait(account), front.address_failures.wait(request.address))
        if wait > 0:
            raise too_many(math.ceil(wait), "Too many failed sign-ins; try again later")
        row = await repo.pool().fetchrow(users.BY_EMAIL, body.email)
        usable = row is not None and row["active"]
        fits, better = await front.passwords.check(row["password_hash"] if usable else None, body.password)
        if not fits:
            front.login_failures.failed(account)
            front.address_failures.failed(request.address)
            raise unauthorized(WRONG, code="invalid_credentials")
        front.login_failures.succeeded(account)
    if better is not None:
        await repo.pool().execute(users.SET_HASH, row["id"], better)
    return await _signed_in(request, row, uuid4(), repo.pool())


async def _signed_in(request: Request, row: Mapping[str, Any], session_id: UUID, connection: Any) -> Response:
    settings = request.front.settings
    token, token_hash = refresh_token()
    await connection.execute(
        users.ADD_REFRESH, row["id"], session_id, token_hash, float(settings.refresh_token_seconds)
    )
    access = request.front.keyring.issue(row["id"], row["role"], row["email"], session_id)
    me = Me(row["id"], row["email"], row["name"], row["role"])
    return answer(SignedIn(access, token, settings.access_token_seconds, me), headers=NO_STORE)


NO_STORE = [(b"cache-control", b"no-store")]


@routes.post(
    "/api/v1/auth/refresh",
    summary="Exchange a refresh token",
    roles=None,
    body=Refresh,
    answers={200: SignedIn},
    errors=(401,),
)
async def refresh(request: Request) -> Response:
    """New tokens for a refresh token. Each works once; a second use ends the session, since one of both
    users stole it."""
    refused = unauthorized("The refresh token is not valid", code="invalid_refresh_token")
    async with repo.pool().acquire() as connection, connection.transaction():
        row = await connection.fetchrow(users.USE_REFRESH, refresh_hash(request.body.refresh_token))
        if row is None or row["expired"] or row["revoked"] or not row["active"]:
            reused = False
            response = None
        elif row["fresh"]:
            reused = False
            response = await _signed_in(request, row, row["family_id"], connection)
        else:
            reused = True
            response = None
            await revoke(connection, users.REVOKE_FAMILY, row["family_id"])
    if reused:
        request.front.sessions.end(session_id=row["family_id"])
        disconnect.user(row["id"])
    if response is None:
        raise refused
    return response


@routes.post("/api/v1/auth/logout", summary="End the session", body=Logout, answers={200: Success})
async def logout(request: Request) -> Response:
    """Ends the session of the access token (or the refresh token's, when one is named); its tokens work no
    more."""
    principal = request.principal
    if principal.user_id is not None:
        pool = repo.pool()
        named = request.body.refresh_token
        if named is not None:
            session_id = await pool.fetchval(users.REVOKE_BY_REFRESH, refresh_hash(named), principal.user_id)
            if session_id is not None:
                await revoke(pool, users.REVOKE_FAMILY, session_id)
                request.front.sessions.end(session_id=session_id)
        if principal.session_id is not None:
            await revoke(pool, users.REVOKE_FAMILY, principal.session_id)
            request.front.sessions.end(session_id=principal.session_id)
        disconnect.user(principal.user_id)
    return answer(Success())


@routes.get("/api/v1/auth/me", summary="Who am I", answers={200: MeBody}, errors=(404,))
async def me(request: Request) -> Response:
    """The user that the token speaks for."""
    principal = request.principal
    row = await repo.pool().fetchrow(users.BY_ID, principal.user_id) if principal.user_id else None
    if row is None:
        raise ApiError(404, "The token speaks for no user of ours")
    return answer(MeBody(Me(row["id"], row["email"], row["name"], row["role"])))


@routes.get(
    "/.well-known/jwks.json",
    summary="Public keys that check our tokens",
    roles=None,
    answers={200: Answer(Jwks, description="Empty when tokens are signed with the shared secret")},
)
async def jwks(request: Request) -> Response:
    """What other services need to check our tokens without our secret."""
    return answer(request.front.keyring.jwks(), headers=[(b"cache-control", b"public, max-age=300")])
