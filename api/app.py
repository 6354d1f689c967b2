"""The HTTP application: routes a request to its operation, enforces the operation's contract, and answers.

Checks run in this order: path (404), method (405), lane (503), token (401), role (403), query (422), content type (415), body
size (413), JSON (400), fields (422). Then the handler runs. Every failure is answered in one error format. The application keeps
no state except caches: operations share a `Context`, and changes go to an actor or the database.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import re
import time
from collections.abc import Awaitable, Callable
from time import perf_counter
from uuid import UUID

from actors import settings as settings_module
from actors.guess_events import Guess
from actors.settings import Settings
from actors.storage.change_events import Change
from api.context import ApiRequest, Context
from api.http import openapi
from api.http.access_log import access_log
from api.http.cors import Cors
from api.http.errors import ApiError, FailureLog, from_exception, overloaded
from api.http.principal import Principal
from api.http.request import JSON_HEADER, JSON_TYPE, Headers, Response, query_pairs, refuse_query
from api.http.request import ApiRequest as _Request
from api.http.router import JSON, Operation, Router, Routes
from api.operators import actions, admin, metrics, node_actions, nodes, process_state
from api.operators.logs import current_request
from api.pages import docs
from api.pages.routes import Pages
from api.resources import (
    auth,
    emails,
    flags,
    health,
    ledger,
    notifications,
    services,
    tasks,
    transactions,
    users,
)
from api.security import access
from api.sockets import user_socket
from runtime import telemetry, turns
from runtime.http import BodyError, response_encoder
from runtime.http import messages as http
from runtime.http.body import DISCONNECTED
from runtime.phoenix import SocketTransports

ROUTES: tuple[Routes, ...] = (
    health.routes,
    auth.routes,
    users.routes,
    emails.routes,
    tasks.routes,
    transactions.routes,
    ledger.routes,
    metrics.routes,
    notifications.routes,
    flags.routes,
    services.routes,
    admin.routes,
    actions.routes,
    process_state.routes,
    node_actions.routes,
    nodes.routes,
    openapi.routes,
    docs.routes,
)

REQUEST = telemetry.Span("http", "request")

# Bytes of a JSON body: many times what any operation needs, and parsed in 15 ms at worst.
MAX_JSON = 256 * 1024

NOSNIFF = response_encoder.constant(b"x-content-type-options", b"nosniff")
NO_STORE = response_encoder.constant(b"cache-control", b"no-store")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:=+/@-]{1,200}")


class App:
    """The application of one server: `handler` takes every request, those of Phoenix sockets included."""

    def __init__(self, settings: Settings, routes: tuple[Routes, ...] = ROUTES) -> None:
        self.context = Context(settings)
        self.router = Router(routes)
        openapi.describe(self.router)
        self.cors = Cors(settings)
        self.pages = Pages()
        self._failures = FailureLog(_call_later)
        self._max_body = settings.max_body_bytes
        self._max_json = min(settings.max_body_bytes, MAX_JSON)
        self._prefix = os.urandom(5).hex()
        self._count = itertools.count(1)
        self._sockets = SocketTransports(self.handle, *user_socket.mounts(self.context))
        self.upgradable = self._sockets.upgradable
        self.handler = access_log(self._sockets.handle, settings.access_log)

    def refusal(self, status: int, reason: str) -> Response:
        """The answer to bytes that are no valid request, in the API's error format."""
        error = overloaded() if status == 503 else ApiError(status, f"{reason[:1].upper()}{reason[1:]}")
        return Response(status, error.body(), [JSON_HEADER, NOSNIFF, NO_STORE, *error.headers])

    def sheddable(self, request: http.Request) -> bool:
        """Whether the server may refuse this request under overload: only operations that have a lane."""
        if request.upgrade:
            return False
        found = self.router.find(request.path)
        operation = None if found is None else found[0].get(request.method)
        return operation is not None and operation.lane is not None

    def session_changed(self, change: Change) -> None:
        """A session has ended or a user's rights have changed: here, on another server, or directly in the database."""
        sessions, row = self.context.sessions, change.row
        if row.get("session_id") is not None:
            sessions.session_ended(UUID(row["session_id"]))
        elif "active" in row:
            sessions.rights_changed(UUID(row["user_id"]), row["role"], row["active"])
        else:  # a notification from a server of an older version
            sessions.reload()

    async def preload(self) -> None:
        """Reads who may not, so that the first requests need not wait for it."""
        await self.context.sessions.load()

    def guess_made(self, guess: Guess) -> None:
        """Another server of the cluster has checked a password: counts it for the throttle here as well."""
        self.context.guesses.count(guess)

    def close(self) -> None:
        """Releases what the application holds besides actors: the password threads."""
        self.context.close()

    def handle(self, http_request: http.Request) -> Awaitable[Response | None] | Response | None:
        """The answer to a request that is not for a Phoenix socket; None if the client has gone.

        A request that has nothing to wait for is answered at once, without a coroutine, a task or a context of its own.
        """
        given = http_request.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request_id = given.decode()
        else:
            request_id = f"{self._prefix}-{next(self._count):x}"
        request = _Request(self.context, http_request, request_id)
        if REQUEST.start_attached:
            return self._traced(request)
        if REQUEST.active:
            request.began = perf_counter()
        try:
            outcome = self._dispatch(request)
        except Exception as error:
            outcome = self._error_response(request, error)
        if outcome is None or type(outcome) is Response:
            if request.lane_owner is not None:
                self._leave_lane(request)
            return self._finish(request, outcome)
        return self._await_answer(request, outcome)  # type: ignore[arg-type]

    async def _await_answer(self, request: ApiRequest, answering: Awaitable[Response]) -> Response | None:
        current_request.set(request)
        response: Response | None
        try:
            response = await answering
        except Exception as error:
            response = self._error_response(request, error)
        finally:
            self._leave_lane(request)
        return self._finish(request, response)

    async def _traced(self, request: ApiRequest) -> Response | None:
        """Handles a request when somebody listens to its start event: in a context of its own, which can hold a trace."""
        http_request = request.http
        span = REQUEST.start(
            {"method": http_request.method, "fields": http_request.fields, "request_id": request.request_id}
        )
        current_request.set(request)
        response: Response | None
        try:
            outcome = self._dispatch(request)
            response = outcome if isinstance(outcome, Response) else await outcome
        except Exception as error:
            response = self._error_response(request, error)
            if response is None:
                span.exception(error)
        finally:
            self._leave_lane(request)
        response = self._finish(request, response)
        if response is not None:
            span.stop(route=_route(request), status=response.status)
        return response

    def _finish(self, request: ApiRequest, response: Response | None) -> Response | None:
        """Adds the header fields that every answer has, and ends the request's telemetry span."""
        if response is None:
            return None
        http_request, operation, out = request.http, request.operation, response.headers
        typed = cached = False
        for name, _value in out:
            if name == b"x-content-type-options":
                typed = True
            elif name == b"cache-control":
                cached = True
        if not typed:  # no browser may guess another content type,
            out.append(NOSNIFF)
        if not cached:  # or store the answer
            out.append(NO_STORE)
        out.append((b"x-request-id", request.request_id.encode()))
        origin = http_request.headers.get(b"origin")
        if origin is not None:
            self.cors.add(out, origin, operation)
        if request.began:
            metadata = {
                "method": http_request.method, "fields": http_request.fields, "request_id": request.request_id,
                "route": _route(request), "status": response.status,
            }  # fmt: skip
            REQUEST.ended(perf_counter() - request.began, metadata)
        return response

    def _error_response(self, request: ApiRequest, error: Exception) -> Response | None:
        operation = request.operation
        request.token_error = None  # its traceback would hold the request: a reference cycle
        before = current_request.set(request)  # for log lines written here
        try:
            if isinstance(error, BodyError):
                if error.status == DISCONNECTED:
                    if request.began:
                        metadata = {
                            "method": request.method,
                            "fields": request.http.fields,
                            "request_id": request.request_id,
                        }
                        REQUEST.ended(perf_counter() - request.began, metadata, error)
                    return None
                error = ApiError(error.status, error.reason)
            elif not isinstance(error, ApiError):
                writes = operation is not None and operation.method not in ("GET", "HEAD")
                error = from_exception(error, writes)
            if error.status >= 500:
                route = f"{operation.method} {operation.path}" if operation is not None else "(none)"
                self._failures.note(error, route, time.monotonic())
        finally:
            current_request.reset(before)
        if operation is not None and operation.error_format is not None:
            return operation.error_format.response(error)
        return Response(error.status, error.body(), [JSON_HEADER, *error.headers])

    def _dispatch(self, request: ApiRequest) -> Response | Awaitable[Response]:
        """The answer, or an awaitable of it. Raises what `_error_response` handles."""
        http_request = request.http
        found = self.router.find(http_request.path)
        if found is None:
            if http_request.path == "*":
                return Response(204, b"", [(b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")])
            page = self.pages.find(http_request.path, http_request.headers)
            if page is None:
                raise ApiError(404)
            return page if http_request.method in ("GET", "HEAD") else _read_only(http_request.method)
        methods, request.params = found
        operation = methods.get(http_request.method)
        if operation is None:
            if http_request.method == "HEAD" and "GET" in methods:
                operation = methods["GET"]
            else:
                request.operation = next(iter(methods.values()))  # any of them: all have the same CORS rules
                return self._other_method(http_request.method, methods, http_request.headers)
        request.operation = operation
        if operation.lane is not None:
            self.context.lanes.check(operation.lane)
        if operation.roles is not None:
            try:
                principal = self.context.sessions.authenticate_from_memory(access.bearer(request))
            except ApiError as error:
                if not _may_go_without_token(request, operation, error):
                    raise
            else:
                if principal is None:
                    return self._authenticate_then_answer(request, operation)
                _authorize(request, operation, principal)
        return self._read_then_answer(request, operation)

    async def _authenticate_then_answer(self, request: ApiRequest, operation: Operation) -> Response:
        try:
            _authorize(request, operation, await access.principal(self.context.sessions, request))
        except ApiError as error:
            if not _may_go_without_token(request, operation, error):
                raise
        outcome = self._read_then_answer(request, operation)
        return outcome if isinstance(outcome, Response) else await outcome

    def _read_then_answer(self, request: ApiRequest, operation: Operation) -> Response | Awaitable[Response]:
        http_request = request.http
        if operation.query is not None:
            raw = http_request.query
            request.query = operation.query.strings(query_pairs(raw.encode("latin-1")) if raw else {})
        elif http_request.query and operation.takes_no_query:
            refuse_query(http_request.query)
        if operation.body is not None or operation.raw_body:
            headers = http_request.headers
            given = headers.get(b"content-type", b"")
            request.content_type = JSON if given == JSON_TYPE else _media_type(given)
            if operation.body is not None and (given != JSON_TYPE or b"content-encoding" in headers):
                _check_content_type(request, operation)
            try:
                data = http_request.body.whole(self._max_body if operation.passes_body_on else self._max_json)
            except BodyError as error:
                raise request.token_error or error from None
            if data is None or len(data) >= turns.HEAVY:
                return self._read_body_then_answer(request, operation, data)
            _read_body(request, operation, data)
        return self._call_handler(request, operation)

    async def _read_body_then_answer(
        self, request: ApiRequest, operation: Operation, data: bytes | None
    ) -> Response:
        if data is None:
            try:
                limit = self._max_body if operation.passes_body_on else self._max_json
                data = await request.http.body.read(limit)
            except BodyError as error:
                raise request.token_error or error from None
        if len(data) >= turns.HEAVY:
            await turns.take()
        _read_body(request, operation, data)
        outcome = self._call_handler(request, operation)
        return outcome if isinstance(outcome, Response) else await outcome

    def _call_handler(self, request: ApiRequest, operation: Operation) -> Response | Awaitable[Response]:
        if operation.lane is not None:
            principal = getattr(request, "principal", None)
            owner = request.caller if principal is None else principal.subject
            self.context.lanes.enter(operation.lane, owner)
            request.lane_owner = owner
        return operation.handler(request)

    def _leave_lane(self, request: ApiRequest) -> None:
        """Frees the request's place in its lane, however it ended."""
        owner, operation = request.lane_owner, request.operation
        if owner is not None:
            assert operation is not None and operation.lane is not None
            self.context.lanes.leave(operation.lane, owner)

    def _other_method(
        self, method: str, methods: dict[str, Operation], headers: dict[bytes, bytes]
    ) -> Response:
        allowed: list[str] = sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])})
        allow = (b"allow", ", ".join(allowed).encode())
        if method == "OPTIONS":
            out: Headers = [allow]
            self.cors.preflight(out, headers, allowed, next(iter(methods.values())))
            return Response(204, b"", out)
        raise ApiError(405, headers=[allow])


def _authorize(request: ApiRequest, operation: Operation, principal: Principal) -> None:
    assert operation.roles is not None
    if principal.role not in operation.roles:
        raise ApiError(403)
    request.principal = principal


def _may_go_without_token(request: ApiRequest, operation: Operation, error: ApiError) -> bool:
    """Whether the operation runs without a token all the same; the error is then kept for it in `request.token_error`."""
    if not operation.token_optional or error.status != 401:
        return False
    # The frames of a traceback hold the request, and with it the error: a reference cycle.
    request.token_error = error.with_traceback(None)
    error.__context__ = None
    return True


def _read_body(request: ApiRequest, operation: Operation, data: bytes) -> None:
    if operation.body is None:
        request.body = data
        return
    try:
        request.body = operation.body.json(data)
    except ApiError as error:
        raise request.token_error or error from None


def _read_only(method: str) -> Response:
    """The answer of a page to a method other than GET and HEAD. Raises ApiError 405 unless it is OPTIONS."""
    allow = (b"allow", b"GET, HEAD, OPTIONS")
    if method != "OPTIONS":
        raise ApiError(405, headers=[allow])
    return Response(204, b"", [allow])


def _route(request: ApiRequest) -> str:
    return request.operation.path if request.operation is not None else "(none)"


def _call_later(seconds: float, call: Callable[[], None]) -> None:
    # In an empty context: the log line counts many requests and must not name the current one.
    asyncio.get_running_loop().call_later(seconds, call, context=contextvars.Context())


def _media_type(given: bytes) -> str:
    return given.split(b";", 1)[0].strip().lower().decode("latin-1")


def _check_content_type(request: ApiRequest, operation: Operation) -> None:
    given = request.content_type
    if given and given not in operation.body_types and not given.endswith("+json"):
        raise ApiError(415)
    coding = request.http.headers.get(b"content-encoding")
    if coding is not None and coding.lower() != b"identity":
        raise ApiError(415, "The body must not be compressed")


def create_app(settings: Settings | None = None) -> App:
    """The application for these settings, by default those in force. Raises ConfigError for a key that can't be used."""
    return App(settings or settings_module.current())
