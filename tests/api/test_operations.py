"""The routing table, operation by operation.

Nobody's token, every other role, unreadable and empty bodies, unknown things, other methods, and one success each.

Everything but the successes follows from the table itself, so a new route can't be forgotten: it is tested, or its test says
what it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from api.app import ROUTES
from api.http.openapi import errors_of
from api.http.router import ANYONE, Operation, Router
from tests.support.server import PASSWORD, Server, User, error_of
from tests.support.service_behind import service_behind

OPERATIONS = Router(ROUTES).operations
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
UNKNOWN = {"uuid": str(uuid4()), "flag": "no_such_flag", "str": "0.4294967295.0", "path": "path"}
MISSHAPEN = {"uuid": "1", "flag": "NO-FLAG", "int": "x"}  # of these the path itself is none of ours

# Bodies that an operation hands on or doesn't read; there is nothing in them that could be wrong.
UNREAD = {
    *(f"{method} /api/v1/services/{{name:flag}}/{{path:path}}" for method in ("POST", "PUT", "PATCH")),
    *(f"POST /admin/processes/{{pid:str}}/{action}" for action in ("kill", "restart", "suspend", "resume")),
}
# What an unknown name in the path means there, if not 404.
MADE_WHEN_UNKNOWN = {"PUT /api/v1/flags/{name:flag}"}


@pytest.fixture(scope="module")
def server_environment() -> Iterator[Mapping[str, str]]:
    """With a service behind the bridge."""
    with service_behind() as url:
        yield {"GO_API_URL": url}


def name(operation: Operation) -> str:
    """As it stands in the table."""
    return f"{operation.method} {operation.path}"


def path(operation: Operation, values: Mapping[str, str] = UNKNOWN) -> str:
    """Its path with these values for the kinds of parameters."""
    return re.sub(r"\{\w+:(\w+)\}", lambda found: values[found[1]], operation.path)


def each(operations: list[Operation]) -> Any:
    """One test for each of these operations."""
    assert operations
    return pytest.mark.parametrize("operation", operations, ids=name)


def reads_a_body(operation: Operation) -> bool:
    """True when a body can be wrong there."""
    return (operation.body is not None or operation.raw_body) and name(operation) not in UNREAD


def clients(server: Server, user: User, service: User, admin: User) -> dict[str, httpx.Client]:
    """A client of each role."""
    return {"user": user.client, "service": service.client, "admin": admin.client}


def allowed(operation: Operation, admin: User, server: Server) -> httpx.Client:
    """A client that may call it."""
    assert operation.roles is None or "admin" in operation.roles
    return server.client() if operation.roles is None else admin.client


def refused(operation: Operation, answer: httpx.Response, *statuses: int) -> None:
    """The answer has one of the statuses, in the error form of its path."""
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text}"
    if operation.error_format is not None:
        assert set(answer.json()) == {"success", "error"} and answer.json()["success"] is False
    else:
        error_of(answer, answer.status_code)


@each([operation for operation in OPERATIONS if operation.roles is not None])
def test_it_wants_a_token(server: Server, operation: Operation) -> None:
    for token in (None, "nonsense", "a.b.c"):
        with server.client(token) as client:
            answer = client.request(operation.method, path(operation), json={})
        error_of(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_what_wants_no_token_is_written_down() -> None:
    free = {operation.path for operation in OPERATIONS if operation.roles is None}
    assert free == {
        "/health",
        "/api/v1/health",
        "/api/v1/health/ready",
        "/api/v1/auth/login",
        "/api/v1/auth/refresh",
        "/.well-known/jwks.json",
        "/api/v1/emails",
        "/.netlify/functions/submit-email",
        "/.netlify/functions/submit-email-postgresql",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/docs.js",
    }
    assert all(
        operation.roles == {"admin"} for operation in OPERATIONS if operation.path.startswith("/admin")
    )


@each([operation for operation in OPERATIONS if ANYONE - (operation.roles or ANYONE)])
def test_other_roles_are_refused(
    server: Server, user: User, service: User, admin: User, operation: Operation
) -> None:
    assert operation.roles is not None
    by_role = clients(server, user, service, admin)
    for role in ANYONE - operation.roles:
        error_of(by_role[role].request(operation.method, path(operation), json={}), 403)


@each([operation for operation in OPERATIONS if reads_a_body(operation)])
def test_a_body_that_cant_be_read_is_refused(server: Server, admin: User, operation: Operation) -> None:
    client = allowed(operation, admin, server)
    where = path(operation, UNKNOWN | {"str": "db_listener"})
    json = {"content-type": "application/json"}
    for body, statuses in (
        (b"{", (400,)),
        (b"\xff", (400,)),
        (b'"text"', (400,) if operation.error_format else (422,)),
        (b"[1]", (400,) if operation.error_format else (422,)),
    ):
        refused(operation, client.request(operation.method, where, content=body, headers=json), *statuses)


@each([operation for operation in OPERATIONS if operation.body is not None or operation.error_format])
def test_a_body_of_another_type_is_refused(server: Server, admin: User, operation: Operation) -> None:
    client = allowed(operation, admin, server)
    answer = client.request(
        operation.method, path(operation), content=b"x", headers={"content-type": "image/png"}
    )
    refused(operation, answer, 415)
    if operation.body is not None:
        packed = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = client.request(operation.method, path(operation), content=b"{}", headers=packed)
        refused(operation, answer, 415)


def test_who_answers_415_says_so_and_nobody_else() -> None:
    """Operations that take any body (operators' actions, the way to the services) never do."""
    for operation in OPERATIONS:
        assert (415 in errors_of(operation)) is (
            operation.body is not None or operation.error_format is not None
        )


def required(operation: Operation) -> list[str]:
    """The fields that its body must have."""
    kind = operation.body.kind if operation.body else operation.body_schema
    return [] if kind is None else [f.encode_name for f in msgspec.structs.fields(kind) if f.required]


@each([operation for operation in OPERATIONS if required(operation)])
def test_every_missing_field_is_named(server: Server, admin: User, operation: Operation) -> None:
    answer = allowed(operation, admin, server).request(operation.method, path(operation), json={})
    if operation.error_format is not None:
        refused(operation, answer, 400)
        assert all(field in answer.json()["error"] for field in required(operation))
    else:
        fields = error_of(answer, 422, "validation_failed")["fields"]
        assert fields == dict.fromkeys(required(operation), "is missing")


@each([operation for operation in OPERATIONS if operation.query is not None])
def test_a_query_that_cant_be_read_is_refused(server: Server, admin: User, operation: Operation) -> None:
    client = allowed(operation, admin, server)
    where = path(operation)
    error_of(client.request(operation.method, f"{where}?x=%ff"), 400)
    assert operation.query is not None
    for field in msgspec.structs.fields(operation.query.kind):
        answer = client.request(operation.method, where, params={field.encode_name: "\x00"})
        assert field.encode_name in error_of(answer, 422)["fields"]


@each([operation for operation in OPERATIONS if operation.params])
def test_what_is_not_there_is_404(server: Server, admin: User, operation: Operation) -> None:
    client = allowed(operation, admin, server)
    kinds = {param.kind for param in operation.params}
    if kinds & MISSHAPEN.keys():
        status = 422 if name(operation) in MADE_WHEN_UNKNOWN else 404
        error_of(client.request(operation.method, path(operation, UNKNOWN | MISSHAPEN), json={}), status)
    if name(operation) in MADE_WHEN_UNKNOWN:
        return
    body = VALID.get(name(operation), {})
    has_body = operation.body is not None
    arguments: dict[str, Any] = {"json": body} if has_body else {}
    error_of(client.request(operation.method, path(operation), **arguments), 404)


@each(list({operation.path: operation for operation in OPERATIONS}.values()))
def test_other_methods_are_405_with_allow(server: Server, admin: User, operation: Operation) -> None:
    own = {each.method for each in OPERATIONS if each.path == operation.path}
    expected = own | {"OPTIONS"} | ({"HEAD"} if "GET" in own else set())
    client = allowed(operation, admin, server)
    others = [method for method in (*METHODS, "TRACE") if method not in own]
    assert others
    for method in others:
        answer = client.request(method, path(operation))
        refused(operation, answer, 405)
        assert set(answer.headers["allow"].split(", ")) == expected
    answer = client.request("OPTIONS", path(operation))
    assert answer.status_code == 204 and set(answer.headers["allow"].split(", ")) == expected


@pytest.mark.parametrize(
    ("method", "where", "body", "status", "fields"),
    [
        ("POST", "/admin/processes/repo/trace", b'{"messages": 0}', 422, {"messages"}),
        (
            "POST",
            "/admin/processes/repo/trace",
            b'{"messages": "x", "timeout_ms": "x"}',
            422,
            {"messages", "timeout_ms"},
        ),
        ("POST", "/admin/processes/repo/trace", b'{"messages": "\xff', 400, set()),
        ("POST", "/admin/drain", b'{"per_second": 0}', 422, {"per_second"}),
        ("PUT", "/admin/processes/db_listener/state", b'{"set": {"pubsub": "\\ud800"}}', 422, {"set"}),
        ("PUT", "/admin/processes/db_listener/state", b'{"set": {"\\ud800": 1}}', 422, {"set"}),
        ("PUT", "/admin/processes/db_listener/state", b'{"set": {"pubsub": "\\u0000"}}', 422, {"set"}),
        ("PUT", "/admin/log-level", b'{"level": "info", "logger": "x\\n"}', 422, {"logger"}),
    ],
)
def test_operators_bodies_name_each_field_too(
    server: Server, admin: User, method: str, where: str, body: bytes, status: int, fields: set[str]
) -> None:
    headers = {"content-type": "application/json"}
    error = error_of(admin.client.request(method, where, content=body, headers=headers), status)
    assert set(error.get("fields") or {}) == fields


def test_a_services_answer_comes_as_it_is(admin: User) -> None:
    base = str(admin.client.base_url).rstrip("/")
    for where, path in (("/a/b?c=%2F", "/a/b?c=%2F"), ("/%61/", "/%61/")):
        answer = admin.client.get(httpx.URL(f"{base}/api/v1/services/go{where}"))
        assert answer.json() == {"path": path}
        assert dict(answer.headers.raw)[b"x-name"] == "ü€".encode()
    error_of(admin.client.get(httpx.URL(f"{base}//api/v1/services/go/a")), 404)


# ---- success

# Bodies that are right as they stand; what else a success needs is found out on the way.
VALID: dict[str, Any] = {
    "POST /api/v1/users": {"email": "new@example.com", "password": "a long password"},
    "PATCH /api/v1/users/{id:uuid}": {"name": "Ada"},
    "POST /api/v1/emails": {"email": "a@example.com", "name": "Ada"},
    "POST /.netlify/functions/submit-email": {"email": "b@example.com"},
    "POST /.netlify/functions/submit-email-postgresql": {"email": "c@example.com"},
    "POST /api/v1/tasks": {"title": "write"},
    "PATCH /api/v1/tasks/{id:uuid}": {"version": 1, "title": "write more"},
    "POST /api/v1/transactions": {"amount": "1.00", "currency": "EUR"},
    "PUT /api/v1/flags/{name:flag}": {"percent": 50},
    "PUT /admin/processes/{pid:str}/state": {"set": {"published": 0}},
    "PUT /admin/log-level": {"level": "info"},
    "POST /admin/processes/{pid:str}/trace": {"messages": 1, "timeout_ms": 1},
}
QUERIES = {"GET /api/v1/ledger/consistency": {"from": 1, "to": 1}}
LAST = ("DELETE", "drain", "logout")  # what takes away what others need, in this order


def test_every_operation_succeeds(server: Server, admin: User) -> None:
    target = server.user()
    made = {
        "/api/v1/users": target.id,
        "/api/v1/tasks": admin.client.post("/api/v1/tasks", json={"title": "x"}).json()["task"]["id"],
        "/api/v1/transactions": admin.client.post(
            "/api/v1/transactions", json={"amount": 1, "currency": "EUR"}
        ).json()["transaction"]["id"],
        "/api/v1/notifications": admin.client.post(
            "/api/v1/notifications", json={"user_id": admin.id, "title": "x", "body": "y"}
        ).json()["notification"]["id"],
    }
    bodies: dict[str, Callable[[], Any]] = {
        "POST /api/v1/auth/login": lambda: {"email": admin.email, "password": PASSWORD},
        "POST /api/v1/auth/refresh": lambda: {"refresh_token": admin.refresh_token},
        "POST /api/v1/notifications": lambda: {"user_id": admin.id, "title": "x", "body": "y"},
    }
    wrong: dict[str, str] = {}
    for operation in sorted(OPERATIONS, key=lambda each: [part in name(each) for part in reversed(LAST)]):
        values = {"uuid": "", "flag": "new_ui", "str": "db_listener", "path": "orders"}
        for prefix, identity in made.items():
            if operation.path.startswith(prefix):
                values["uuid"] = identity
        if "services" in operation.path:
            values["flag"] = "go"
        own = bodies.get(name(operation), lambda operation=operation: VALID.get(name(operation), {}))
        takes_body = operation.body is not None or operation.raw_body
        answer = allowed(operation, admin, server).request(
            operation.method,
            path(operation, values),
            params=QUERIES.get(name(operation)),
            **({"json": own()} if takes_body else {}),
        )
        if answer.status_code not in operation.responses or answer.status_code >= 300:
            wrong[name(operation)] = f"{answer.status_code} {answer.text[:300]}"
    assert not wrong
