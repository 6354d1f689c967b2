"""Users over real HTTP."""

from __future__ import annotations

import secrets
from uuid import uuid4

from tests.support.server import PASSWORD, Server, User, error_of

PATH = "/api/v1/users"


def new(**changes: object) -> dict[str, object]:
    return {
        "email": f"{secrets.token_hex(5)}@example.com",
        "name": "Grace",
        "password": "long enough",
        **changes,
    }


def test_a_plain_user_sees_himself(user: User, admin: User) -> None:
    answer = user.client.get(PATH)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"users", "next_cursor"} and [one["id"] for one in body["users"]] == [user.id]
    assert set(body["users"][0]) == {"id", "email", "name", "role", "active", "inserted_at", "updated_at"}
    assert user.client.get(f"{PATH}/{user.id}").json()["user"]["email"] == user.email
    error_of(user.client.get(f"{PATH}/{admin.id}"), 404)


def test_an_admin_sees_all_in_pages(server: Server, admin: User, user: User) -> None:
    seen, cursor = [], None
    while True:
        body = admin.client.get(PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["id"] for one in body["users"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == server.fetchval("SELECT count(*) FROM users")
    assert {admin.id, user.id} <= set(seen)
    error_of(admin.client.get(f"{PATH}/{uuid4()}"), 404)
    error_of(admin.client.get(PATH, params={"limit": 0}), 422)


def test_create(server: Server, admin: User, user: User) -> None:
    body = new(email="Grace.Hopper@Example.com")
    made = admin.client.post(PATH, json=body)
    assert made.status_code == 201 and made.json()["user"]["email"] == "grace.hopper@example.com"
    with server.client() as client:
        login = {"email": "grace.hopper@example.com", "password": "long enough"}
        assert client.post("/api/v1/auth/login", json=login).status_code == 200
    error_of(admin.client.post(PATH, json=body), 409, "email_taken")
    bad = {"email": "x", "name": 1, "role": "king", "password": "short"}
    assert set(error_of(admin.client.post(PATH, json=bad), 422)["fields"]) == {
        "email",
        "name",
        "role",
        "password",
    }
    error_of(user.client.post(PATH, json=new()), 403)
    assert server.fetchval("SELECT count(*) FROM audit_log WHERE action = 'user.create'") == 1
    stored = server.fetchval(
        "SELECT password_hash FROM credentials WHERE user_id = $1::text::uuid", made.json()["user"]["id"]
    )
    assert stored.startswith("$argon2id$")


def test_change_oneself(server: Server) -> None:
    owner = server.user()
    path = f"{PATH}/{owner.id}"
    assert owner.client.patch(path, json={"name": "Ada"}).json()["user"]["name"] == "Ada"
    for forbidden in ({"role": "admin"}, {"active": False}, {"email": "a@b.co"}):
        error_of(owner.client.patch(path, json=forbidden), 403)
    error_of(owner.client.patch(path, json={"password": "a new password"}), 403)
    error_of(owner.client.patch(path, json={"password": "a new password", "current_password": "wrong"}), 403)
    changed = owner.client.patch(path, json={"password": "a new password", "current_password": PASSWORD})
    assert changed.status_code == 200
    error_of(owner.client.get(PATH), 401)  # a new password ends all sessions
    with server.client() as client:
        login = {"email": owner.email, "password": "a new password"}
        assert client.post("/api/v1/auth/login", json=login).status_code == 200


def test_change_of_another(server: Server, admin: User, user: User) -> None:
    other = server.user()
    path = f"{PATH}/{other.id}"
    error_of(user.client.patch(path, json={"name": "x"}), 404)
    assert admin.client.patch(path, json={"role": "service"}).json()["user"]["role"] == "service"
    answer = other.client.post("/api/v1/notifications", json={"user_id": user.id, "title": "t"})
    assert answer.status_code == 201  # the new role holds at once
    error_of(admin.client.patch(path, json={"email": user.email}), 409, "email_taken")
    error_of(admin.client.patch(f"{PATH}/{uuid4()}", json={"name": "x"}), 404)
    assert set(error_of(admin.client.patch(path, json={"active": "no"}), 422)["fields"]) == {"active"}
    error_of(admin.client.patch(f"{PATH}/{admin.id}", json={"role": "user"}), 409, "own_rights")


def test_deactivate(server: Server, admin: User, user: User) -> None:
    other = server.user()
    path = f"{PATH}/{other.id}/deactivate"
    assert other.client.get(PATH).status_code == 200
    error_of(user.client.post(path), 403)
    assert admin.client.post(path).json()["user"]["active"] is False
    error_of(other.client.get(PATH), 401)
    with server.client() as client:
        error_of(client.post("/api/v1/auth/login", json={"email": other.email, "password": PASSWORD}), 401)
        error_of(client.post("/api/v1/auth/refresh", json={"refresh_token": other.refresh_token}), 401)
    error_of(admin.client.post(f"{PATH}/{admin.id}/deactivate"), 409)
    error_of(admin.client.post(f"{PATH}/{uuid4()}/deactivate"), 404)
    assert admin.client.patch(f"{PATH}/{other.id}", json={"active": True}).status_code == 200
    with server.client() as client:
        assert (
            client.post("/api/v1/auth/login", json={"email": other.email, "password": PASSWORD}).status_code
            == 200
        )
