"""Sign-in: login, refresh with token rotation, logout, the current user, and the public keys.

A login starts a session: a family of refresh tokens (RFC 9700 4.14), each of which is replaced when it is used. One that is used
again later was stolen, so the whole family is revoked. An access token names its session (`sid`) and ends with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec

from actors.storage import repo
from api.context import ApiRequest
from api.http.errors import ApiError, unauthorized
from api.http.request import Response, json_response
from api.http.router import SIGN_IN, ResponseSpec, Routes
from api.security import disconnect
from api.security.sessions import revoke
from api.security.tokens import refresh_hash, refresh_token
from schema import users

routes = Routes("auth")

WRONG = "The e-mail address or the password is wrong"
NO_STORE = [(b"cache-control", b"no-store")]

Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
LoginName = Annotated[str, msgspec.Meta(min_length=1, max_length=320, pattern="^[^\\u0000]*$")]


class Login(msgspec.Struct, frozen=True):
    """Credentials."""

    email: LoginName
    password: Secret


class Refresh(msgspec.Struct, frozen=True):
    """The refresh token of the last login or refresh."""

    refresh_token: Secret


class Logout(msgspec.Struct, frozen=True):
    """The refresh token of the session to end; without it, the access token's session ends."""

    refresh_token: Secret | None = None


class Me(msgspec.Struct, frozen=True):
    """The signed-in user."""

    id: UUID
    email: str
    name: str
    role: str


class SignedIn(msgspec.Struct, frozen=True):
    """The tokens of a session; `expires_in` is the access token's lifetime in seconds."""

    token: str
    refresh_token: str
    expires_in: int
    user: Me


class MeBody(msgspec.Struct, frozen=True):
    """The user that the token belongs to."""

    user: Me


class Success(msgspec.Struct, frozen=True):
    """Done."""

    success: bool = True


class Jwks(msgspec.Struct, frozen=True):
    """JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]]


@routes.post(
    "/api/v1/auth/login",
    summary="Sign in",
    roles=None,
    body=Login,
    responses={200: SignedIn},
    errors=(401, 429),
    lane=SIGN_IN,
)
async def login(request: ApiRequest) -> Response:
    """Starts a session. The answer and its time are the same for unknown and inactive accounts and for wrong passwords."""
    body: Login = request.body
    passwords = request.context.passwords
    row = await repo.pool().fetchrow(users.BY_EMAIL, body.email)
    # Counted by the account, however its address was written: the database decides which texts are the same address.
    account = body.email.lower() if row is None else row["id"]
    # One check at a time, so that concurrent guesses are counted one by one.
    async with request.context.guesses.guarded(account, request.caller):
        usable = row is not None and row["active"]
        stored = row["password_hash"] if row is not None and usable else None
        fits, better = await passwords.check(stored, body.password, request.caller)
        if not fits:
            request.context.guesses.failed(account, request.caller)
            raise unauthorized(WRONG, code="invalid_credentials")
        request.context.guesses.succeeded(account, request.caller)
    assert row is not None
    if better is not None:
        await repo.pool().execute(users.SET_HASH, row["id"], better)
    return await _signed_in(request, row, uuid4(), repo.pool())


async def _signed_in(
    request: ApiRequest,
    row: Mapping[str, Any],
    session_id: UUID,
    connection: Any,
    replaced: UUID | None = None,
) -> Response:
    settings = request.context.settings
    token, token_hash = refresh_token()
    life = float(settings.refresh_token_seconds)
    if replaced is None:
        await connection.execute(users.ADD_REFRESH, row["id"], session_id, token_hash, life)
    else:
        await connection.execute(users.ADD_SUCCESSOR, row["id"], session_id, token_hash, life, replaced)
    access = request.context.keyring.issue(row["id"], row["role"], row["email"], session_id)
    me = Me(row["id"], row["email"], row["name"], row["role"])
    return json_response(SignedIn(access, token, settings.access_token_seconds, me), headers=NO_STORE)


@routes.post(
    "/api/v1/auth/refresh",
    summary="Exchange a refresh token",
    roles=None,
    body=Refresh,
    responses={200: SignedIn},
    errors=(401,),
)
async def refresh(request: ApiRequest) -> Response:
    """Issues new tokens, and replaces the refresh token.

    A replaced token stays valid for REFRESH_REUSE_SECONDS, for another tab or a lost answer, until its successor is used. A later
    use ends the session, since the token must have been stolen.
    """
    refused = unauthorized("The refresh token is not valid", code="invalid_refresh_token")
    reuse = float(request.context.settings.refresh_reuse_seconds)
    reused = False
    response = None
    async with repo.pool().acquire() as connection, connection.transaction():
        row = await connection.fetchrow(users.USE_REFRESH, refresh_hash(request.body.refresh_token), reuse)
        if row is None or row["expired"] or row["revoked"] or not row["active"]:
            pass
        elif row["fresh"]:
            response = await _signed_in(request, row, row["family_id"], connection, row["token_id"])
        else:
            reused = True
            await revoke(connection, users.REVOKE_FAMILY, row["family_id"])
    if reused:
        assert row is not None
        _session_ended(request, row["id"], row["family_id"])
    if response is None:
        raise refused
    return response


@routes.post(
    "/api/v1/auth/logout",
    summary="End the session",
    body=Logout,
    responses={200: Success},
    token_optional=True,
)
async def logout(request: ApiRequest) -> Response:
    """Ends the session of the access token, and that of the refresh token if one is given; their tokens are revoked.

    With a refresh token no access token is needed. The answer does not tell whether the refresh token was valid (RFC 7009).
    """
    named: str | None = request.body.refresh_token
    principal = request.principal if request.has_principal else None
    if principal is None and named is None:
        raise request.token_error or unauthorized()
    pool = repo.pool()
    ended: set[tuple[UUID, UUID]] = set()
    if named is not None:
        row = await pool.fetchrow(users.SESSION_OF_REFRESH, refresh_hash(named))
        if row is not None:
            ended.add((row["user_id"], row["family_id"]))
    if principal is not None and principal.user_id is not None and principal.session_id is not None:
        ended.add((principal.user_id, principal.session_id))
    for user_id, session_id in ended:
        await revoke(pool, users.REVOKE_FAMILY, session_id)
        _session_ended(request, user_id, session_id)
    return json_response(Success())


def _session_ended(request: ApiRequest, user_id: UUID, session_id: UUID) -> None:
    request.context.sessions.session_ended(session_id)
    disconnect.session(user_id, session_id)


@routes.get("/api/v1/auth/me", summary="The current user", responses={200: MeBody}, errors=(404,))
async def me(request: ApiRequest) -> Response:
    """The user that the token belongs to; 404 for a service's token."""
    principal = request.principal
    row = await repo.pool().fetchrow(users.BY_ID, principal.user_id) if principal.user_id else None
    if row is None:
        raise ApiError(404, "The token belongs to no user")
    return json_response(MeBody(Me(row["id"], row["email"], row["name"], row["role"])))


@routes.get(
    "/.well-known/jwks.json",
    summary="Public keys of access tokens",
    roles=None,
    responses={200: ResponseSpec(Jwks, description="Empty if tokens are signed with the shared secret")},
)
async def jwks(request: ApiRequest) -> Response:
    """The keys that other services verify access tokens with, without the shared secret."""
    return json_response(request.context.keyring.jwks(), headers=[(b"cache-control", b"public, max-age=300")])
