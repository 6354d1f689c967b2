"""The HTTP application: finds the operation of a request, enforces its contract, answers.

In this order: path (404), method (405), token (401), role (403), body size (413), content type (415), JSON
(400), fields (422), then the handler. Every failure is answered in the one error form. The application
keeps no state of its own beside caches; what its operations share stands in `Context`, and what it changes goes to an
actor or the database.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import re
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from actors import settings as settings_module
from actors.settings import Settings
from actors.storage.change_events import Change
from api.context import ApiRequest, Context
from api.http import openapi
from api.http.access_log import access_log
from api.http.cors import Cors
from api.http.errors import ApiError, FailureLog, from_exception, overloaded
from api.http.request import JSON_HEADER, Headers, Response, query_pairs, refuse_query
from api.http.router import Operation, Router, Routes
from api.operators import actions as admin_actions
from api.operators import admin, metrics
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
from runtime.core import telemetry
from runtime.http import messages as http
from runtime.http.body import DISCONNECTED, BodyError
from runtime.phoenix.transports import SocketTransports

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
    admin_actions.routes,
    openapi.routes,
    docs.routes,
)

REQUEST = telemetry.Span("http", "request")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:=+/@-]{1,200}")


class App:
    """The handler of all requests."""

    def __init__(self, settings: Settings, routes: tuple[Routes, ...] = ROUTES) -> None:
        self.context = Context(settings)
        self.router = Router(routes)
        openapi.describe(self.router)
        self.cors = Cors(settings)
        self.pages = Pages()
        self._failures = FailureLog(_later)
        self._max_body = settings.max_body_bytes
        self._prefix = os.urandom(5).hex()
        self._count = itertools.count(1)
        self._sockets = SocketTransports(self._http, *user_socket.mounts(self.context))
        self.upgradable = self._sockets.upgradable
        self._handler = access_log(self._sockets, settings.access_log)

    def __call__(self, request: http.Request) -> Awaitable[http.Response | None] | http.Response | None:
        return self._handler(request)

    def refusal(self, status: int, reason: str) -> Response:
        """The answer to what is no request, in the one error form."""
        error = overloaded() if status == 503 else ApiError(status, f"{reason[:1].upper()}{reason[1:]}")
        return Response(status, error.body(), [JSON_HEADER, NOSNIFF, NO_STORE, *error.headers])

    def sheddable(self, request: http.Request) -> bool:
        """Whether a request may be refused for want of time: what has a lane may."""
        if request.upgrade:
            return False
        found = self.router.find(request.path)
        operation = None if found is None else found[0].get(request.method)
        return operation is not None and operation.lane is not None

    def session_changed(self, change: Change) -> None:
        """A session has ended, or a user's rights have changed: here, on another server, or by somebody in the database."""
        sessions, row = self.context.sessions, change.row
        if row.get("session_id") is not None:
            sessions.session_ended(UUID(row["session_id"]))
        elif "active" in row:
            sessions.rights_changed(UUID(row["user_id"]), row["role"], row["active"])
        else:  # written by an older server
            sessions.forget()

    def close(self) -> None:
        """Ends what the application keeps beside the actors."""
        self.context.close()

    async def _http(self, asked: http.Request) -> Response | None:
        given = asked.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request_id = given.decode()
        else:
            request_id = f"{self._prefix}-{next(self._count):x}"
        span = None
        if REQUEST.active:
            span = REQUEST.start({"method": asked.method, "fields": asked.fields, "request_id": request_id})
        request = ApiRequest(self.context, asked, request_id)
        try:
            response = await self._answer(request)
        except BodyError as error:
            if error.status == DISCONNECTED:
                if span is not None:
                    span.exception(error)
                return None
            response = self._failure(ApiError(error.status, error.reason), request.operation)
        except ApiError as error:
            response = self._failure(error, request.operation)
        except Exception as error:
            operation = request.operation
            writes = operation is not None and operation.method not in ("GET", "HEAD")
            response = self._failure(from_exception(error, writes), operation)
        operation = request.operation
        out = response.headers
        _protect(out)
        out.append((b"x-request-id", request_id.encode()))
        origin = asked.headers.get(b"origin")
        if origin is not None:
            self.cors.add(out, origin, operation)
        if span is not None:
            span.stop(route=operation.path if operation else "(none)", status=response.status)
        return response

    def _failure(self, error: ApiError, operation: Operation | None) -> Response:
        if error.status >= 500:
            route = f"{operation.method} {operation.path}" if operation is not None else "(none)"
            self._failures.note(error, route, time.monotonic())
        if operation is not None and operation.error_format is not None:
            return operation.error_format.response(error)
        return Response(error.status, error.body(), [JSON_HEADER, *error.headers])

    async def _answer(self, request: ApiRequest) -> Response:
        method, path, headers = request.method, request.path, request.headers
        if path == "*":
            return Response(204, b"", [(b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")])
        raw = request.http.path
        # A slash that is encoded is part of its segment: it must not lead to another operation, nor past a proxy's rules.
        found = self.router.find(path) if "%" not in raw else self.router.find_raw(raw.encode("latin-1"))
        if found is None:
            page = self.pages.find(method, path, headers)
            if page is not None:
                return page
            raise ApiError(404)
        methods, request.params = found
        operation = methods.get(method)
        if operation is None:
            if method == "HEAD" and "GET" in methods:
                operation = methods["GET"]
            else:
                request.operation = next(iter(methods.values()))  # any of them: they share their CORS
                return self._other_method(method, methods, headers)
        request.operation = operation
        current_request.set(request)
        self.context.lanes.check(operation.lane)
        if operation.roles is not None:
            try:
                await self._authorize(request, operation)
            except ApiError as error:
                if not operation.token_optional or error.status != 401:
                    raise
                request.refused = error
        if operation.query is not None:
            raw = request.http.query
            request.query = operation.query.strings(query_pairs(raw.encode("latin-1")) if raw else {})
        elif request.http.query and operation.takes_no_query:
            refuse_query(request.http.query)
        if operation.body is not None:
            _check_content_type(request, operation)
            try:
                request.body = operation.body.json(await request.http.body.read(self._max_body))
            except (ApiError, BodyError) as error:
                raise request.refused or error from None
        elif operation.raw_body:
            request.content_type = _media_type(headers)
            request.body = await request.http.body.read(self._max_body)
        owner = request.principal.subject if request.has_principal else request.caller
        with self.context.lanes.admitted(operation.lane, owner):
            return await operation.handler(request)

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

    async def _authorize(self, request: ApiRequest, operation: Operation) -> None:
        assert operation.roles is not None
        principal = await access.principal(self.context.sessions, request)
        if principal.role not in operation.roles:
            raise ApiError(403)
        request.principal = principal


def _later(seconds: float, call: Callable[[], None]) -> None:
    # Not in the context of the request at hand: the line is not about that one alone.
    asyncio.get_running_loop().call_later(seconds, call, context=contextvars.Context())


def _protect(out: Headers) -> None:
    """What a browser must not make of an answer: another type than it has, or a copy, unless the answer itself allows one."""
    names = {name for name, _value in out}
    if b"x-content-type-options" not in names:
        out.append(NOSNIFF)
    if b"cache-control" not in names:
        out.append(NO_STORE)


NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")


def _media_type(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower().decode("latin-1")


def _check_content_type(request: ApiRequest, operation: Operation) -> None:
    given = _media_type(request.headers)
    request.content_type = given
    if given and given not in operation.body_types and not given.endswith("+json"):
        raise ApiError(415)
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise ApiError(415, "The body must not be compressed")


def create_app(settings: Settings | None = None) -> App:
    """The application for these settings (default: those in force). Raises ConfigError on an unusable key."""
    return App(settings or settings_module.current())
