"""Who calls, by the Authorization header (RFC 6750), and what is theirs to see."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from api.http.errors import ApiError, unauthorized
from api.http.principal import Principal
from api.http.request import ApiRequest
from api.security.sessions import Sessions
from api.security.tokens import InvalidToken


def known(sessions: Sessions, request: ApiRequest[Any]) -> Principal | None:
    """Whom the request's bearer token speaks for, if that can be said without waiting. Raises ApiError 401 without a token."""
    return sessions.known(_bearer(request))


async def principal(sessions: Sessions, request: ApiRequest[Any]) -> Principal:
    """Whom the request's bearer token speaks for. Raises ApiError 401 without a token that is good."""
    try:
        return await sessions.authenticate(_bearer(request).decode("latin-1"))
    except InvalidToken as error:
        raise unauthorized(str(error), code="invalid_token") from None


def _bearer(request: ApiRequest[Any]) -> bytes:
    given = request.http.headers.get(b"authorization")
    if given is None:
        raise unauthorized()
    if given.startswith(b"Bearer ") and (token := given[7:].strip()):  # as nearly everybody writes it
        return token
    scheme, _, token = given.partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise unauthorized("Expected Authorization: Bearer and a token")
    return token.strip()


def own(request: ApiRequest[Any]) -> UUID:
    """The caller's user id. Raises ApiError 403 for a token that speaks for no user."""
    user_id = request.principal.user_id
    if user_id is None:
        raise ApiError(403, "The token speaks for no user")
    return user_id


def may_see(request: ApiRequest[Any], owner: UUID) -> bool:
    """True for the owner and for an admin."""
    return request.principal.is_admin or request.principal.user_id == owner


def whose(request: ApiRequest[Any], named: UUID | None) -> UUID:
    """The user that a request is about: the caller, or for an admin the one named. Raises ApiError 403."""
    if named is None or named == request.principal.user_id:
        return own(request)
    if not request.principal.is_admin:
        raise ApiError(403, "Only an admin may name another user")
    return named
