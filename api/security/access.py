"""Who calls, by the Authorization header (RFC 6750)."""

from __future__ import annotations

from api.http.errors import unauthorized
from api.http.request import Request
from api.security.sessions import Sessions
from api.security.tokens import InvalidToken, Principal


async def principal(sessions: Sessions, request: Request) -> Principal:
    """Whom the request's bearer token speaks for. Raises ApiError 401 without a token that is good."""
    given = request.headers.get(b"authorization")
    if given is None:
        raise unauthorized()
    scheme, _, token = given.partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise unauthorized("Expected Authorization: Bearer and a token")
    token = token.strip()
    found = sessions.known(token)
    if found is not None:
        return found
    try:
        return await sessions.authenticate(token.decode("latin-1"))
    except InvalidToken as error:
        raise unauthorized(str(error), code="invalid_token") from None
