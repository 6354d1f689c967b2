"""Errors of the front: one form for all of them, `{"error": {"code", "message", "fields"?}}`.

A handler raises `ApiError`; everything else that can end a request (a database that is down, a full
mailbox, a crash) is turned into one here, by `from_exception`. An operation whose
errors have another form says so itself (`router.Failures`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from actors.storage import repo
from runtime.core.exits import Exit
from runtime.core.reports import describe

log = logging.getLogger("api.errors")

RETRY_AFTER_SECONDS = 1


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong: `code` for programs, `message` for people, `fields` names each bad field."""

    code: str
    message: str
    fields: dict[str, str] | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The one error form of the API."""

    error: ErrorDetail


CODES: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request can't be read"),
    401: ("unauthorized", "A valid token is needed"),
    403: ("forbidden", "Your role doesn't allow this"),
    404: ("not_found", "There is nothing here"),
    405: ("method_not_allowed", "This path doesn't take this method"),
    408: ("request_timeout", "The request's body did not arrive in time"),
    409: ("conflict", "The request conflicts with what is stored"),
    413: ("payload_too_large", "The request's body is too large"),
    417: ("expectation_failed", "Only 100-continue can be expected"),
    415: ("unsupported_media_type", "The body must be application/json"),
    422: ("validation_failed", "Some fields are wrong"),
    429: ("too_many_requests", "Too many requests; try again later"),
    431: ("request_header_fields_too_large", "The request's head is too large"),
    500: ("internal_server_error", "Something broke on our side"),
    501: ("not_implemented", "The request uses what is not implemented here"),
    502: ("bad_gateway", "The service behind answered nonsense"),
    503: ("service_unavailable", "Not available right now; try again soon"),
    504: ("gateway_timeout", "The service behind did not answer in time"),
    505: ("http_version_not_supported", "Only HTTP/1.1 and HTTP/1.0 are spoken here"),
}


class ApiError(Exception):
    """Ends a request with `status` and the error form. `headers` are (name, value) pairs of bytes."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        code: str | None = None,
        fields: dict[str, str] | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(status, message)
        known_code, known_message = CODES[status]
        self.status = status
        self.detail = ErrorDetail(code or known_code, message or known_message, fields)
        self.headers = list(headers)

    def body(self) -> bytes:
        """The error form as JSON."""
        return msgspec.json.encode(ErrorBody(self.detail))


def unauthorized(message: str | None = None, *, code: str | None = None) -> ApiError:
    """401 with the challenge that RFC 6750 asks for."""
    return ApiError(401, message, code=code, headers=[(b"www-authenticate", b'Bearer realm="bitnexus"')])


def invalid(fields: dict[str, str]) -> ApiError:
    """422 that names every bad field."""
    return ApiError(422, fields=fields)


def unavailable(
    message: str | None = None, *, code: str | None = None, after: int = RETRY_AFTER_SECONDS
) -> ApiError:
    """503 with Retry-After, in seconds."""
    return ApiError(503, message, code=code, headers=[(b"retry-after", str(after).encode())])


def too_many(after: int, message: str | None = None) -> ApiError:
    """429 with Retry-After, in seconds."""
    return ApiError(429, message, headers=[(b"retry-after", str(max(1, after)).encode())])


# What PostgreSQL says when it can't serve at all: connection, authorization, no such database, out of
# resources, stopped by an operator.
_DOWN_CLASSES = frozenset({"08", "28", "3D", "53", "57"})
_NO_CONNECTIONS_ALLOWED = "55000"


def is_database_down(error: BaseException) -> bool:
    """True when the error says that the database can't be reached or can't serve now."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _DOWN_CLASSES or state == _NO_CONNECTIONS_ALLOWED
    if isinstance(error, asyncpg.DataError):
        return False  # a value that the query can't take: our mistake
    return isinstance(
        error, (repo.Unavailable, asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError)
    )


def from_exception(error: BaseException) -> ApiError:
    """The error that a request answers with when its handler raised `error`.

    A database that is down, an actor that is not there, too slow or overloaded is 503 with Retry-After;
    anything unknown is 500, logged with its traceback.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Exit):
        return _from_exit(error.reason)
    if is_database_down(error):
        log.warning("database not available: %s", error)
        if not isinstance(error, repo.Unavailable):
            repo.suspect(error)
        return unavailable("The database is not available", code="database_unavailable")
    if isinstance(error, TimeoutError):
        return unavailable("The request took too long")
    log.error("request failed", exc_info=error)
    return ApiError(500)


def _from_exit(reason: Any) -> ApiError:
    """A call failed: its reason is `(why, call site)`, and why of a crash is `(exception, stack)`."""
    why = reason[0] if isinstance(reason, tuple) and reason else reason
    if why == "overload":
        return unavailable("Too much work is waiting; try again soon", code="overloaded")
    cause = why[0] if isinstance(why, tuple) and why else why
    if isinstance(cause, BaseException) and is_database_down(cause):
        return unavailable("The database is not available", code="database_unavailable")
    log.warning("an actor is not available: %s", describe(why))
    return unavailable()
