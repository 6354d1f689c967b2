"""E-mails, tasks, notifications, flags, health and the tree over real HTTP."""

from __future__ import annotations

import time
from uuid import uuid4

import httpx
import pytest

from api.app import MAX_JSON
from api.resources.flags import bucket
from tests.support.server import Server, User, error_of

EMAIL_PATHS = [
    "/api/v1/emails",
    "/.netlify/functions/submit-email",
    "/.netlify/functions/submit-email-postgresql",
]


# ---- e-mails


def from_address(server: Server, number: int) -> httpx.Client:
    """A client with an address of its own: sign-ups are throttled by address, and other tests sign up as well."""
    transport = httpx.HTTPTransport(local_address=f"127.0.0.{number}")
    return httpx.Client(base_url=server.url, transport=transport, timeout=60, trust_env=False)


@pytest.mark.parametrize("path", EMAIL_PATHS)
def test_an_address_is_kept_once(server: Server, path: str) -> None:
    address = f"{uuid4().hex}@example.com"
    with from_address(server, 10 + EMAIL_PATHS.index(path)) as client:
        first = client.post(path, json={"email": address.upper(), "name": "Ada"})
        again = client.post(path, data={"email": address, "name": "Ada", "unknown": ["1", "2"]})
    assert first.status_code == again.status_code == 200
    assert first.json() == {"success": True, "message": first.json()["message"]}
    assert again.json() == {"success": True, "message": again.json()["message"], "duplicate": True}
    assert server.fetchval("SELECT count(*) FROM emails WHERE email = $1", address) == 1


@pytest.mark.parametrize("path", EMAIL_PATHS)
def test_errors_have_the_old_form(server: Server, path: str) -> None:
    with from_address(server, 10 + EMAIL_PATHS.index(path)) as client:
        for answer, status in (
            (client.post(path, json={"email": "nonsense"}), 400),
            (client.post(path, json={"name": "x"}), 400),
            (client.post(path, content=b"{"), 400),
            (client.post(path, json=["x"]), 400),
            (client.post(path, data={"name": "x"}), 400),
            (client.post(path, data={"email": ["a@example.com", "b@example.com"]}), 400),
            (client.post(path, content=b"x", headers={"content-type": "image/png"}), 415),
            (client.post(path, json={"email": "a@example.com", "name": "x" * MAX_JSON}), 413),
            (client.post(path, data={"email": "a@example.com", "name": "x" * MAX_JSON}), 413),
            (client.get(path), 405),
        ):
            assert answer.status_code == status, answer.text
            assert set(answer.json()) == {"success", "error"} and answer.json()["success"] is False


@pytest.mark.parametrize("path", EMAIL_PATHS)
def test_any_origin_may_sign_up(server: Server, path: str) -> None:
    origin = {"origin": "https://anywhere.example"}
    with from_address(server, 10 + EMAIL_PATHS.index(path)) as client:
        asked = client.options(
            path,
            headers={
                **origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type",
            },
        )
        assert asked.status_code == 204 and asked.headers["access-control-allow-origin"] == "*"
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert "content-type" in asked.headers["access-control-allow-headers"]
        answer = client.post(path, json={"email": "nonsense"}, headers=origin)
        assert answer.headers["access-control-allow-origin"] == "*"


def test_a_flood_from_one_address_is_slowed(server: Server) -> None:
    with from_address(server, 3) as client:
        answers = [client.post(EMAIL_PATHS[0], json={"email": "flood@example.com"}) for _ in range(40)]
    slowed = [answer for answer in answers if answer.status_code == 429]
    assert slowed and answers[0].status_code == 200
    assert slowed[0].json()["success"] is False and int(slowed[0].headers["retry-after"]) >= 1


# ---- tasks


def test_a_tasks_life(user: User, other: User) -> None:
    made = user.client.post(
        "/api/v1/tasks", json={"title": "write", "team_member": "ada", "due_at": "2030-01-01T00:00:00+02:00"}
    )
    assert made.status_code == 201
    task = made.json()["task"]
    fields = {
        "id",
        "title",
        "description",
        "team_member",
        "status",
        "priority",
        "due_at",
        "version",
        "inserted_at",
        "updated_at",
    }
    assert set(task) == fields and task["due_at"] == "2029-12-31T22:00:00Z" and task["version"] == 1
    path = f"/api/v1/tasks/{task['id']}"
    changed = other.client.patch(path, json={"version": 1, "status": "in_progress", "due_at": None})
    assert changed.status_code == 200
    assert (changed.json()["task"]["version"], changed.json()["task"]["due_at"]) == (2, None)
    assert changed.json()["task"]["title"] == "write"
    error_of(user.client.patch(path, json={"version": 1, "title": "late"}), 409, "stale_version")
    error_of(user.client.post(f"{path}/complete", json={"version": 1}), 409)
    done = user.client.post(f"{path}/complete", json={})
    assert done.json()["task"]["status"] == "done"
    assert user.client.post(f"{path}/complete", json={}).json() == done.json()
    error_of(user.client.delete(path, params={"version": 1}), 409)
    assert user.client.delete(path).status_code == 204
    for gone in (
        user.client.get(path),
        user.client.delete(path),
        user.client.patch(path, json={"version": 1}),
        user.client.post(f"{path}/complete", json={}),
    ):
        error_of(gone, 404)


def test_tasks_are_filtered_and_paged(user: User) -> None:
    member = uuid4().hex
    for priority in ("low", "high", "low"):
        user.client.post("/api/v1/tasks", json={"title": "t", "team_member": member, "priority": priority})
    assert len(user.client.get("/api/v1/tasks", params={"team_member": member}).json()["tasks"]) == 3
    low = user.client.get(
        "/api/v1/tasks", params={"team_member": member, "priority": "low", "limit": 1}
    ).json()
    assert len(low["tasks"]) == 1 and low["next_cursor"]
    rest = user.client.get(
        "/api/v1/tasks", params={"team_member": member, "priority": "low", "cursor": low["next_cursor"]}
    ).json()
    assert len(rest["tasks"]) == 1 and rest["next_cursor"] is None
    assert user.client.get("/api/v1/tasks", params={"team_member": "nobody"}).json() == {
        "tasks": [],
        "next_cursor": None,
    }


def test_bad_tasks(server: Server, user: User) -> None:
    bad = {"title": "", "status": "x", "priority": 1, "due_at": "2030-01-01T00:00:00", "team_member": None}
    error = error_of(user.client.post("/api/v1/tasks", json=bad), 422)
    assert set(error["fields"]) == set(bad)
    assert set(error_of(user.client.patch(f"/api/v1/tasks/{uuid4()}", json={}), 422)["fields"]) == {"version"}
    assert set(error_of(user.client.get("/api/v1/tasks", params={"status": "x"}), 422)["fields"]) == {
        "status"
    }
    with server.client() as client:
        error_of(client.get("/api/v1/tasks"), 401)
        error_of(client.post("/api/v1/tasks", json={"title": "t"}), 401)


# ---- notifications


def test_a_notifications_life(server: Server, user: User, other: User, admin: User, service: User) -> None:
    path = "/api/v1/notifications"
    body = {"user_id": user.id, "title": "Hello", "body": "there"}
    made = admin.client.post(path, json=body)
    assert made.status_code == 201 and set(made.json()["notification"]) == {
        "id",
        "user_id",
        "title",
        "body",
        "read_at",
        "inserted_at",
    }
    assert service.client.post(path, json=body).status_code == 201
    error_of(user.client.post(path, json=body), 403)
    error_of(admin.client.post(path, json={**body, "user_id": str(uuid4())}), 404)
    assert set(error_of(admin.client.post(path, json={"user_id": "x"}), 422)["fields"]) == {
        "user_id",
        "title",
    }

    shown = user.client.get(path).json()
    assert set(shown) == {"notifications", "next_cursor", "unread"} and shown["unread"] == 2
    assert user.client.get(f"{path}/unread_count").json() == {"unread": 2}
    one = made.json()["notification"]["id"]
    error_of(other.client.post(f"{path}/{one}/read"), 404)
    read = user.client.post(f"{path}/{one}/read").json()["notification"]
    assert read["read_at"] and user.client.post(f"{path}/{one}/read").json()["notification"] == read
    assert [n["id"] for n in user.client.get(path, params={"unread": "false"}).json()["notifications"]] == [
        one
    ]
    assert len(user.client.get(path, params={"unread": "true"}).json()["notifications"]) == 1
    assert user.client.post(f"{path}/read_all").json() == {"read": 1}
    assert user.client.get(f"{path}/unread_count").json() == {"unread": 0}
    assert other.client.get(path).json()["notifications"] == []
    assert set(error_of(user.client.get(path, params={"unread": "maybe"}), 422)["fields"]) == {"unread"}
    with server.client() as client:
        error_of(client.get(path), 401)


# ---- flags


def test_flags(server: Server, user: User, admin: User) -> None:
    answer = admin.client.put("/api/v1/flags/new_ledger", json={"percent": 100, "description": "d"})
    assert answer.status_code == 200 and answer.json()["flag"]["percent"] == 100
    admin.client.put("/api/v1/flags/off", json={"percent": 0})
    assert user.client.get("/api/v1/flags").json() == {"flags": {"new_ledger": True, "off": False}}
    half = admin.client.put("/api/v1/flags/new_ledger", json={"percent": 50}).json()["flag"]
    assert half["description"] == "d"
    assert user.client.get("/api/v1/flags").json()["flags"]["new_ledger"] is (
        bucket("new_ledger", user.id) < 50
    )
    assert [flag["name"] for flag in admin.client.get("/api/v1/flags/all").json()["flags"]] == [
        "new_ledger",
        "off",
    ]
    error_of(user.client.put("/api/v1/flags/off", json={"percent": 1}), 403)
    error_of(user.client.get("/api/v1/flags/all"), 403)
    for bad in ({"percent": 101}, {"percent": -1}, {"percent": "50"}, {}):
        assert set(error_of(admin.client.put("/api/v1/flags/off", json=bad), 422)["fields"]) == {"percent"}
    error_of(admin.client.put("/api/v1/flags/Not%20A%20Name", json={"percent": 1}), 422)
    error_of(user.client.delete("/api/v1/flags/off"), 403)
    assert admin.client.delete("/api/v1/flags/off").status_code == 204
    error_of(admin.client.delete("/api/v1/flags/off"), 404)
    assert server.fetchval("SELECT count(*) FROM audit_log WHERE action LIKE 'flag.%'") == 4
    server.execute("ALTER TABLE audit_log RENAME TO audit_log_is_away")
    try:
        assert admin.client.put("/api/v1/flags/unaudited", json={"percent": 1}).status_code == 500
        assert admin.client.delete("/api/v1/flags/new_ledger").status_code == 500
        assert (
            admin.client.post(
                "/api/v1/users", json={"email": "un@audited.example", "name": "Unaudited"}
            ).status_code
            == 500
        )
        assert admin.client.patch(f"/api/v1/users/{user.id}", json={"name": "Unaudited"}).status_code == 500
        assert admin.client.post(f"/api/v1/users/{user.id}/deactivate").status_code == 500
    finally:
        server.execute("ALTER TABLE audit_log_is_away RENAME TO audit_log")
    assert server.fetchval("SELECT array_agg(name) FROM flags") == ["new_ledger"], "nothing without its line"
    assert server.fetchval("SELECT count(*) FROM users WHERE name = 'Unaudited' OR NOT active") == 0
    assert user.client.get("/api/v1/auth/me").status_code == 200
    with server.client() as client:
        error_of(client.get("/api/v1/flags"), 401)


def test_a_rollout_is_stable_even_and_only_grows() -> None:
    users = [str(uuid4()) for _ in range(4000)]
    places = {one: bucket("new_ui", one) for one in users}
    assert all(bucket("new_ui", one) == place and 0 <= place < 100 for one, place in places.items())
    for percent in (10, 50):
        share = sum(place < percent for place in places.values()) / len(users)
        assert abs(share - percent / 100) < 0.03
    assert sum(bucket("other", one) == place for one, place in places.items()) < len(users) * 0.05


# ---- health, tree, the rest of the front


def test_health(server: Server) -> None:
    with server.client() as client:
        for path in ("/health", "/api/v1/health"):
            body = client.get(path).json()
            assert body["status"] == "ok" and set(body) == {"status", "version", "uptime"}
        ready = client.get("/api/v1/health/ready").json()
        assert ready["status"] == "ready"
        assert {"database", "ledger", "bridge"} <= set(ready["checks"])
        head = client.head("/health")
        assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) > 0


def test_the_tree_is_for_admins(server: Server, user: User, admin: User) -> None:
    tree = admin.client.get("/admin/tree").json()
    assert tree["name"] == "root" and tree["strategy"] == "rest_for_one" and tree["type"] == "supervisor"
    names = {child["name"]: child for child in tree["children"]}
    assert {"storage", "channels", "endpoint"} <= set(names)
    worker = names["endpoint"]
    assert {"name", "pid", "type", "module", "status", "restart", "restarts", "children"} <= set(worker)
    assert worker["module"] == "actors.endpoint:Endpoint" and worker["restarts"] == 0
    error_of(user.client.get("/admin/tree"), 403)
    error_of(admin.client.get("/admin/tree", params={"root": "nobody"}), 404)
    error_of(admin.client.get("/admin/tree", params={"limit": -1}), 422)
    with server.client() as client:
        error_of(client.get("/admin/tree"), 401)


def test_unknown_paths_methods_and_options(server: Server) -> None:
    with server.client() as client:
        error_of(client.get("/nowhere"), 404)
        error_of(client.get("/api/v1/tasks/../../etc/passwd"), 404)
        wrong = client.request("PUT", "/api/v1/transactions")
        error_of(wrong, 405)
        assert wrong.headers["allow"] == "GET, HEAD, OPTIONS, POST"
        plain = client.options("/api/v1/transactions")
        assert plain.status_code == 204 and plain.headers["allow"] == wrong.headers["allow"]
        error_of(
            client.get("/api/v1/users", params={"x": "\x00"}, headers={"authorization": "Bearer x"}), 401
        )


def test_request_ids(server: Server) -> None:
    with server.client() as client:
        assert client.get("/health", headers={"x-request-id": "abc-123"}).headers["x-request-id"] == "abc-123"
        made = {client.get("/health").headers["x-request-id"] for _ in range(3)}
        assert len(made) == 3
        assert client.get("/health", headers={"x-request-id": "a b<>"}).headers["x-request-id"] != "a b<>"


def test_cors_outside_prod_is_for_pages_of_this_machine(server: Server) -> None:
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with server.client() as client:
        good = client.options("/api/v1/transactions", headers={"origin": "http://localhost:3000", **asking})
        assert good.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "authorization" in good.headers["access-control-allow-headers"]
        foreign = client.options("/api/v1/transactions", headers={"origin": "https://evil.example", **asking})
        assert "access-control-allow-origin" not in foreign.headers
        failed = client.get("/api/v1/transactions", headers={"origin": "http://localhost:3000"})
        assert (
            failed.status_code == 401
            and failed.headers["access-control-allow-origin"] == "http://localhost:3000"
        )


def test_docs_load_nothing_from_elsewhere(server: Server) -> None:
    with server.client() as client:
        page = client.get("/docs")
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
        script = client.get("/docs/docs.js")
        assert script.status_code == 200 and "javascript" in script.headers["content-type"]
        for text in (page.text, script.text):
            assert "https://" not in text and "http://" not in text


def test_a_slow_client_does_not_hold_others(server: Server) -> None:
    def slow():
        yield b'{"email":'
        time.sleep(0.5)
        yield b'"slow@example.com"}'

    with from_address(server, 4) as client:
        began = time.perf_counter()
        assert (
            client.post(
                EMAIL_PATHS[0], content=slow(), headers={"content-type": "application/json"}
            ).status_code
            == 200
        )
        assert 0.5 <= time.perf_counter() - began < 15
