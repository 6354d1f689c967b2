"""The caller of a request, by its bearer token (RFC 6750), and whose data they may see."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from api.http.errors import ApiError, unauthorized
from api.http.principal import Principal
from api.http.request import ApiRequest
from api.security.sessions import Sessions
from api.security.tokens import InvalidToken


async def principal(sessions: Sessions, request: ApiRequest[Any]) -> Principal:
    """The principal of the request's bearer token. Raises ApiError 401 without a valid token."""
    try:
        return await sessions.authenticate(bearer(request).decode("latin-1"))
    except InvalidToken as error:
        raise unauthorized(str(error), code="invalid_token") from None


def bearer(request: ApiRequest[Any]) -> bytes:
    """The request's bearer token. Raises ApiError 401 without one."""
    given = request.http.headers.get(b"authorization")
    if given is None:
        raise unauthorized()
    if given.startswith(b"Bearer ") and (token := given[7:].strip()):  # as nearly everybody writes it
        return token
    scheme, _, token = given.partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise unauthorized("Expected `Authorization: Bearer` and a token")
    return token.strip()


def own(request: ApiRequest[Any]) -> UUID:
    """The caller's user id. Raises ApiError 403 for a service's token, which belongs to no user."""
    user_id = request.principal.user_id
    if user_id is None:
        raise ApiError(403, "The token belongs to no user")
    return user_id


def may_see(request: ApiRequest[Any], owner: UUID) -> bool:
    """Whether the caller is the owner or an admin."""
    return request.principal.is_admin or request.principal.user_id == owner


def whose(request: ApiRequest[Any], named: UUID | None) -> UUID:
    """The user that a request is about: the caller, or the one that an admin names. Raises ApiError 403."""
    if named is None or named == request.principal.user_id:
        return own(request)
    if not request.principal.is_admin:
        raise ApiError(403, "Only an admin may name another user")
    return named
