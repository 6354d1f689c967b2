"""Errors of the API: one format for all of them, `{"error": {"code", "message", "fields"?}}`.

A handler raises `ApiError`; `from_exception` turns any other exception (an unavailable database, a full mailbox, a crash) into
one. An operation whose errors have another format declares it (`router.ErrorFormat`).
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
    """What went wrong: `code` for programs, `message` for people, `fields` with the reason for each wrong field."""

    code: str
    message: str
    fields: dict[str, str] | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The error format of the API."""

    error: ErrorDetail


CODES: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request is malformed"),
    401: ("unauthorized", "A valid token is required"),
    403: ("forbidden", "Your role doesn't allow this"),
    404: ("not_found", "There is nothing here"),
    405: ("method_not_allowed", "This path doesn't take this method"),
    408: ("request_timeout", "The request's body did not arrive in time"),
    409: ("conflict", "The request conflicts with what is stored"),
    413: ("payload_too_large", "The request's body is too large"),
    414: ("uri_too_long", "The request's path and query are too long"),
    415: ("unsupported_media_type", "The body must be application/json"),
    417: ("expectation_failed", "Only the expectation 100-continue is supported"),
    422: ("validation_failed", "Some fields are wrong"),
    429: ("too_many_requests", "Too many requests; try again later"),
    431: ("request_header_fields_too_large", "The request's header fields are too large"),
    500: ("internal_server_error", "The server failed to handle the request"),
    501: ("not_implemented", "The request uses something that is not implemented"),
    502: ("bad_gateway", "The upstream service sent an invalid answer"),
    503: ("unavailable", "Not available right now; try again soon"),
    504: ("gateway_timeout", "The upstream service did not answer in time"),
    505: ("http_version_not_supported", "Only HTTP/1.1 and HTTP/1.0 are supported"),
}


class ApiError(Exception):
    """Ends a request with `status` and an error body. `headers` are (name, value) pairs of bytes."""

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
        """The error body as JSON."""
        return msgspec.json.encode(ErrorBody(self.detail))


def unauthorized(message: str | None = None, *, code: str | None = None) -> ApiError:
    """401 with the challenge that RFC 6750 requires."""
    return ApiError(401, message, code=code, headers=[(b"www-authenticate", b'Bearer realm="bitnexus"')])


def invalid(fields: dict[str, str]) -> ApiError:
    """422 with the reason for each wrong field."""
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
    """503 `unavailable`: the database is not available, and nothing was written."""
    return unavailable("The database is not available; nothing was written", code="unavailable")


def outcome_unknown() -> ApiError:
    """503 `outcome_unknown`: the result of a write was lost, so it may be in the database."""
    return unavailable(
        "It is not known whether this was written: repeat it with the same Idempotency-Key, or check before you repeat it",
        code="outcome_unknown",
    )


def overloaded(after: int = RETRY_AFTER_SECONDS) -> ApiError:
    """503 `overloaded`: the request would wait too long; nothing was done."""
    return unavailable("Too many requests are waiting; try again soon", code="overloaded", after=after)


def from_exception(error: BaseException, writes: bool = False) -> ApiError:
    """The answer to a request whose handler raised `error`. `writes`: the request may change something.

    An unavailable database, and an actor that is missing, too slow or overloaded, is a 503 with Retry-After; if a write may have
    happened all the same, its code is `outcome_unknown`. Any other exception is a 500, logged with its traceback.
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
    """Whether the error means that the database can't be reached or can't serve now.

    A bare timeout, an OSError or unreadable bytes do not: they may come from elsewhere.
    """
    elsewhere = (TimeoutError, OSError, *failures.UNREADABLE)
    plain = isinstance(error, elsewhere) and not isinstance(error, ConnectionError)
    return failures.is_of_driver(error) or (not plain and meaning(error) is Meaning.AWAY)


def _from_exit(reason: Any, writes: bool) -> ApiError:
    """The error for a failed call: its exit reason is `(why, call site)`; for a crash `why` is `(exception, stack)`."""
    why = reason[0] if isinstance(reason, tuple) and reason else reason
    if why == "overload":
        return overloaded()
    if writes and why != "noproc":  # the actor may have done the work before it ended or stopped answering
        return outcome_unknown()
    cause = why[0] if isinstance(why, tuple) and why else why
    if isinstance(cause, BaseException) and is_away(cause):
        return database_unavailable()
    log.warning("an actor is not available: %s", describe(why))
    return unavailable()


class FailureLog:
    """Logs each answer of 500 and above: the first of a kind at once, its repeats within EVERY seconds as a count."""

    EVERY = 10.0

    def __init__(self, later: Callable[[float, Callable[[], None]], Any]) -> None:
        """`later(seconds, call)` schedules a call, as an event loop's `call_later` does."""
        self._later = later
        self._seen: dict[tuple[int, str, str], tuple[float, int]] = {}  # when logged, and repeats since

    def note(self, error: ApiError, route: str, now: float) -> None:
        """Notes an answer with `error` to a request of `route` (a template: there are few) at `now`, monotonic seconds."""
        key = (error.status, error.detail.code, route)
        logged_at, repeats = self._seen.get(key, (-self.EVERY, 0))
        if repeats or now - logged_at < self.EVERY:
            if not repeats:  # else the line that counts them is scheduled already
                self._later(self.EVERY - (now - logged_at), lambda: self._count(key))
            self._seen[key] = (logged_at, repeats + 1)
            return
        self._seen[key] = (now, 0)
        log.warning("answered %d %s to %s: %s", *key, error.detail.message)

    def _count(self, key: tuple[int, str, str]) -> None:
        _, repeats = self._seen.pop(key)
        log.warning("answered %d %s to %s %d times more within %d s", *key, repeats, self.EVERY)
