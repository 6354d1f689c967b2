"""Sign-in over real HTTP: login, refresh, logout, me, throttle."""

from __future__ import annotations

import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

from api.security.tokens import refresh_hash
from tests.support.server import PASSWORD, SECRET, Server, User, error_of

LOGIN, REFRESH, LOGOUT, ME = (f"/api/v1/auth/{name}" for name in ("login", "refresh", "logout", "me"))


def test_login_answers_the_exact_shape(server: Server, user: User) -> None:
    with server.client() as client:
        answer = client.post(LOGIN, json={"email": user.email.upper(), "password": PASSWORD})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"token", "refresh_token", "expires_in", "user"}
    assert body["user"] == {"id": user.id, "email": user.email, "name": "User", "role": "user"}
    claims = jwt.decode(body["token"], SECRET, algorithms=["HS256"], audience="bitnexus", issuer="bitnexus")
    assert (claims["sub"], claims["role"], claims["email"]) == (user.id, "user", user.email)
    assert claims["exp"] - claims["iat"] == body["expires_in"]
    assert answer.headers["cache-control"] == "no-store"


def test_unknown_wrong_and_inactive_are_answered_alike(server: Server) -> None:
    gone = server.user()
    server.execute("UPDATE users SET active = false WHERE id = $1::text::uuid", gone.id)
    known = server.user()
    with server.client() as client:
        answers = [
            client.post(LOGIN, json={"email": email, "password": password})
            for email, password in (
                (f"nobody-{secrets.token_hex(4)}@example.com", PASSWORD),
                (known.email, "wrong"),
                (gone.email, PASSWORD),
            )
        ]
    for answer in answers:
        error_of(answer, 401, "invalid_credentials")
    assert len({answer.text for answer in answers}) == 1


def test_unknown_and_wrong_take_the_same_time(server: Server) -> None:
    known = [server.user() for _ in range(4)]

    def seconds(email: str) -> float:
        with server.client() as client:
            began = time.perf_counter()
            client.post(LOGIN, json={"email": email, "password": "wrong"})
            return time.perf_counter() - began

    # In turns: what keeps the machine busy for a while slows both.
    pairs = [
        (seconds(known[n % 4].email), seconds(f"{n}-{secrets.token_hex(4)}@example.com")) for n in range(12)
    ]
    wrong, unknown = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert unknown > wrong / 2, (unknown, wrong)  # without the work for nobody it is a tenth


def test_bad_login_names_the_fields(server: Server) -> None:
    with server.client() as client:
        assert set(error_of(client.post(LOGIN, json={}), 422)["fields"]) == {"email", "password"}
        bad = {"email": "a\x00b", "password": 7}
        assert set(error_of(client.post(LOGIN, json=bad), 422)["fields"]) == {"email", "password"}
        error_of(client.get(LOGIN), 405)


def test_guessing_is_slowed_for_the_guesser_and_not_for_the_owner(server: Server) -> None:
    owner = server.user()
    with server.client() as client:
        codes = [
            client.post(LOGIN, json={"email": owner.email, "password": "guess"}).status_code for _ in range(7)
        ]
        assert codes[:5] == [401] * 5 and 429 in codes
        answer = client.post(LOGIN, json={"email": owner.email, "password": "guess"})
        if answer.status_code == 429:
            assert int(error_of(answer, 429) and answer.headers["retry-after"]) >= 1
    # From another address the owner gets in at once: the server listens on all of 127.0.0.0/8 as its own
    # addresses.
    import httpx

    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=server.url, transport=transport, trust_env=False) as elsewhere:
        assert elsewhere.post(LOGIN, json={"email": owner.email, "password": PASSWORD}).status_code == 200


def refreshed(server: Server, refresh_token: str) -> dict[str, Any]:
    with server.client() as client:
        answer = client.post(REFRESH, json={"refresh_token": refresh_token})
    assert answer.status_code == 200, answer.text
    return answer.json()


def session_of(access_token: str) -> str:
    return jwt.decode(access_token, options={"verify_signature": False})["sid"]


def test_refresh_rotates_and_a_second_use_of_an_older_token_ends_the_session(server: Server) -> None:
    owner = server.user()
    first = refreshed(server, owner.refresh_token)
    assert set(first) == {"token", "refresh_token", "expires_in", "user"}
    assert first["refresh_token"] != owner.refresh_token
    second = refreshed(server, first["refresh_token"])
    with server.client() as client, server.client(second["token"]) as renewed:
        assert renewed.get(ME).status_code == 200
        stolen = client.post(REFRESH, json={"refresh_token": owner.refresh_token})
        error_of(stolen, 401, "invalid_refresh_token")
        for ended in (first, second):
            error_of(client.post(REFRESH, json={"refresh_token": ended["refresh_token"]}), 401)
        error_of(renewed.get(ME), 401, "invalid_token")
        error_of(owner.client.get(ME), 401)
        error_of(client.post(REFRESH, json={"refresh_token": "made up"}), 401)
        assert set(error_of(client.post(REFRESH, json={}), 422)["fields"]) == {"refresh_token"}


def test_two_tabs_and_a_lost_answer_refresh_with_one_token(server: Server) -> None:
    owner = server.user()
    with ThreadPoolExecutor(4) as threads:
        tabs = list(threads.map(lambda _n: refreshed(server, owner.refresh_token), range(4)))
    assert {session_of(tab["token"]) for tab in tabs} == {session_of(owner.token)}
    for tab in tabs:
        assert refreshed(server, tab["refresh_token"])["user"]["id"] == owner.id
        with server.client(tab["token"]) as client:
            assert client.get(ME).status_code == 200


def test_a_token_replaced_a_while_ago_was_stolen(server: Server) -> None:
    owner = server.user()
    first = refreshed(server, owner.refresh_token)
    server.execute(
        "UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds' WHERE token_hash = $1",
        refresh_hash(owner.refresh_token),
    )
    with server.client() as client, server.client(first["token"]) as renewed:
        error_of(client.post(REFRESH, json={"refresh_token": owner.refresh_token}), 401)
        error_of(renewed.get(ME), 401, "invalid_token")
        error_of(client.post(REFRESH, json={"refresh_token": first["refresh_token"]}), 401)


@pytest.mark.parametrize("access_token", [None, "ended", "nonsense"])
def test_who_has_the_refresh_token_may_end_its_session(server: Server, access_token: str | None) -> None:
    owner = server.user()
    with server.client() as client:
        other = client.post(LOGIN, json={"email": owner.email, "password": PASSWORD}).json()
    if access_token == "ended":
        with server.client(other["token"]) as client:
            assert client.post(LOGOUT, json={}).status_code == 200
        access_token = other["token"]
    with server.client(access_token) as client:
        assert client.post(LOGOUT, json={"refresh_token": owner.refresh_token}).json() == {"success": True}
        assert client.post(LOGOUT, json={"refresh_token": owner.refresh_token}).json() == {"success": True}
        assert client.post(LOGOUT, json={"refresh_token": "made up"}).json() == {"success": True}
        error_of(client.post(REFRESH, json={"refresh_token": owner.refresh_token}), 401)
        error_of(client.post(LOGOUT, json={}), 401)
    error_of(owner.client.get(ME), 401, "invalid_token")


def test_an_expired_refresh_token_is_refused(server: Server) -> None:
    owner = server.user()
    server.execute("UPDATE refresh_tokens SET expires_at = now() WHERE user_id = $1::text::uuid", owner.id)
    with server.client() as client:
        error_of(client.post(REFRESH, json={"refresh_token": owner.refresh_token}), 401)


def test_logout_needs_no_body(server: Server) -> None:
    signed_in = server.user()
    assert signed_in.client.post("/api/v1/auth/logout").status_code == 200
    assert signed_in.client.get("/api/v1/auth/me").status_code == 401
    with server.client() as client:
        assert client.post("/api/v1/auth/logout").status_code == 401


def test_logout_ends_this_session_at_once_and_no_other(server: Server) -> None:
    owner = server.user()
    with server.client() as client:
        second = client.post(LOGIN, json={"email": owner.email, "password": PASSWORD}).json()
    assert owner.client.get(ME).status_code == 200
    assert owner.client.post(LOGOUT, json={}).json() == {"success": True}
    error_of(owner.client.get(ME), 401, "invalid_token")
    with server.client(second["token"]) as other_session:
        assert other_session.get(ME).status_code == 200
    with server.client() as client:
        error_of(client.post(REFRESH, json={"refresh_token": owner.refresh_token}), 401)
        error_of(client.post(LOGOUT, json={}), 401)


def test_me(user: User, server: Server) -> None:
    assert user.client.get(ME).json() == {
        "user": {"id": user.id, "email": user.email, "name": "User", "role": "user"}
    }
    with server.client() as client:
        error_of(client.get(ME), 401)
