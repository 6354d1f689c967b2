"""Errors of the API: one form for all of them, `{"error": {"code", "message", "fields"?}}`.

A handler raises `ApiError`; everything else that can end a request (a database that is down, a full
mailbox, a crash) is turned into one here, by `from_exception`. An operation whose
errors have another form says so itself (`router.ErrorFormat`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from actors.storage import failures, repo
from actors.storage.failures import Meaning, meaning, rolled_back
from runtime import Exit, describe

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
    414: ("uri_too_long", "The request's path and query are too long"),
    417: ("expectation_failed", "Only 100-continue can be expected"),
    415: ("unsupported_media_type", "The body must be application/json"),
    422: ("validation_failed", "Some fields are wrong"),
    429: ("too_many_requests", "Too many requests; try again later"),
    431: ("request_header_fields_too_large", "The request's head is too large"),
    500: ("internal_server_error", "Something broke on our side"),
    501: ("not_implemented", "The request uses what is not implemented here"),
    502: ("bad_gateway", "The service behind answered nonsense"),
    503: ("unavailable", "Not available right now; try again soon"),
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


def database_unavailable() -> ApiError:
    """503 `unavailable`: the database is away, and nothing was written."""
    return unavailable("The database is not available; nothing was written", code="unavailable")


def outcome_unknown() -> ApiError:
    """503 `outcome_unknown`: the answer to a write was lost, so it may have been done."""
    return unavailable(
        "It is not known whether this was written: ask again with the same Idempotency-Key, or look before you repeat it",
        code="outcome_unknown",
    )


def overloaded(after: int = RETRY_AFTER_SECONDS) -> ApiError:
    """503 `overloaded`: what waits already would take too long; nothing was done."""
    return unavailable("Too much work is waiting; try again soon", code="overloaded", after=after)


def from_exception(error: BaseException, writes: bool = False) -> ApiError:
    """The error that a request answers with when its handler raised `error`; `writes`: the request may change something.

    A database that is away, an actor that is not there, too slow or overloaded is 503 with Retry-After; if the request may have
    been done all the same, the code says so. Anything unknown is 500, logged with its traceback.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Exit):
        return _from_exit(error.reason, writes)
    if is_away(error):
        if not isinstance(error, (repo.Unavailable, repo.OutcomeUnknown)):
            repo.suspect(error)
        return database_unavailable() if rolled_back(error) or not writes else outcome_unknown()
    if isinstance(error, TimeoutError):
        return outcome_unknown() if writes else unavailable("The request took too long")
    log.error("request failed", exc_info=error)
    return ApiError(500)


def is_away(error: BaseException) -> bool:
    """True when the error says that the database can't be reached or can't serve now.

    Not so of a bare timeout, an error of the operating system or bytes that can't be read: that may come from elsewhere.
    """
    elsewhere = (TimeoutError, OSError, *failures.UNREADABLE)
    plain = isinstance(error, elsewhere) and not isinstance(error, ConnectionError)
    return not plain and meaning(error) is Meaning.AWAY


def _from_exit(reason: Any, writes: bool) -> ApiError:
    """A call failed: its reason is `(why, call site)`, and why of a crash is `(exception, stack)`."""
    why = reason[0] if isinstance(reason, tuple) and reason else reason
    if why == "overload":
        return overloaded()
    if writes and why != "noproc":  # it had the request, and may have done it before it ended or fell silent
        return outcome_unknown()
    cause = why[0] if isinstance(why, tuple) and why else why
    if isinstance(cause, BaseException) and is_away(cause):
        return database_unavailable()
    log.warning("an actor is not available: %s", describe(why))
    return unavailable()


class FailureLog:
    """Each answer of 500 and more as a log line: the first of a kind at once, its repeats within EVERY seconds as a count."""

    EVERY = 10.0

    def __init__(self, later: Callable[[float, Callable[[], None]], Any]) -> None:
        """`later(seconds, call)` calls after so long (an event loop's `call_later`)."""
        self._later = later
        self._seen: dict[tuple[int, str, str], tuple[float, int]] = {}  # when told, and how many since

    def note(self, error: ApiError, route: str, now: float) -> None:
        """An answer with `error` to a request of `route` (a pattern: there are few) at `now`, monotonic seconds."""
        key = (error.status, error.detail.code, route)
        told, repeats = self._seen.get(key, (-self.EVERY, 0))
        if repeats or now - told < self.EVERY:  # with repeats, their line is still to come
            if not repeats:
                self._later(self.EVERY - (now - told), lambda: self._count(key))
            self._seen[key] = (told, repeats + 1)
            return
        self._seen[key] = (now, 0)
        log.warning("answered %d %s to %s: %s", *key, error.detail.message)

    def _count(self, key: tuple[int, str, str]) -> None:
        _, repeats = self._seen.pop(key)
        log.warning("answered %d %s to %s %d times more within %d s", *key, repeats, self.EVERY)
