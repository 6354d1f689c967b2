"""Sign-in over real HTTP: login, refresh, logout, me, keys, throttle."""

from __future__ import annotations

import base64
import secrets
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from actors.settings import ConfigError, load
from api.security.tokens import InvalidToken, Keyring, refresh_hash
from tests.support.server import PASSWORD, SECRET, Server, User, error_of, start

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


def token(secret: str = SECRET, **changes: object) -> str:
    now = int(time.time())
    claims = {
        "sub": str(uuid4()),
        "role": "service",
        "iss": "bitnexus",
        "aud": "bitnexus",
        "iat": now,
        "exp": now + 60,
    }
    claims |= changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, "HS256")


def status(server: Server, text: str, path: str = "/api/v1/flags") -> int:
    with server.client(text) as client:
        return client.get(path).status_code


def test_tokens_of_other_services_with_the_shared_secret(server: Server, user: User) -> None:
    assert status(server, token(sub="billing")) == 200  # a service that is no user
    assert status(server, token(sub=user.id, role="user")) == 200
    assert status(server, token()) == 401  # no such user
    assert status(server, token(sub="billing", role="admin"), "/admin/tree") == 401
    # The role in the database counts.
    assert status(server, token(sub=user.id, role="admin"), "/admin/tree") == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"exp": timedelta(minutes=-1)},
        {"exp": None},
        {"iss": None},
        {"aud": None},
        {"sub": None},
        {"role": "root"},
        {"iat": timedelta(minutes=10)},
        {"exp": 10**309},
        {"exp": 1e300},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": "1e400"},
        {"exp": 253402300800},
        {"iat": 10**400},
        {"nbf": 10**400},
        {"exp": "9999999999"},
        {"iat": "1"},
        {"iat": True},
        {"nbf": "1"},
        {"nbf": False},
        {"nbf": float("inf")},
        {"sid": "no session"},
        {"sid": 7},
        {"role": {}},
        {"role": ["user"]},
        {"secret": "another secret that is long enough 123"},
    ],
)
def test_tokens_that_are_refused(server: Server, changes: dict[str, object]) -> None:
    secret = str(changes.get("secret", SECRET))
    now = int(time.time())  # and not when the tests were collected, which may be long ago
    changes = {
        name: now + int(value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in changes.items()
        if name != "secret"
    }
    assert status(server, token(secret, **{"sub": "billing", **changes})) == 401


@pytest.mark.parametrize(
    "write",
    [
        str.upper,
        lambda text: f"{{{text}}}",
        lambda text: text.replace("-", ""),
        lambda text: f"urn:uuid:{text}",
    ],
)
def test_one_user_has_one_id_however_it_is_written(
    server: Server, user: User, write: Callable[[str], str]
) -> None:
    written = token(sub=write(user.id), role="user")
    known = status(server, written, ME)
    assert known in (200, 401)
    if known == 200:
        with server.client(written) as client:
            assert client.get(ME).json()["user"]["id"] == user.id


def test_leeway_and_expiry(server: Server) -> None:
    assert status(server, token(sub="billing", exp=int(time.time()) - 5)) == 200
    assert status(server, token(sub="billing", exp=int(time.time()) - 11)) == 401


def test_the_algorithm_is_the_keys_not_the_tokens(server: Server) -> None:
    now = int(time.time())
    claims = {
        "sub": "billing",
        "role": "service",
        "iss": "bitnexus",
        "aud": "bitnexus",
        "iat": now,
        "exp": now + 60,
    }
    assert status(server, jwt.encode(claims, None, "none")) == 401
    assert status(server, jwt.encode(claims, SECRET.ljust(64, "x"), "HS512")) == 401


def test_a_changed_token_is_refused(server: Server, user: User) -> None:
    head, body, signature = user.token.split(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    assert status(server, f"{head}.{body}.{flipped}") == 401
    assert status(server, "x" * 9000) == 401


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_one_signature_is_written_one_way(algorithm: str) -> None:
    """RFC 7515 2: base64url, without padding and without any other character; nor with other spare bits at its end."""
    private_key = pem(Ed25519PrivateKey.generate()).decode() if algorithm == "EdDSA" else ""
    keyring = Keyring(load({"SECRET_KEY_BASE": SECRET, "JWT_PRIVATE_KEY": private_key}))
    good = keyring.issue(uuid4(), "user", "a@b.example", uuid4())
    head, body, signature = good.split(".")
    last = chr(ord(signature[-1]) + 1)
    written = [
        f"{signature}=",
        f"{signature}==",
        f"{signature}!!",
        f"{signature}\u00e9",
        f"{signature[:-1]}{last}",
    ]
    written += [
        f"{signature[:9]}{junk}{signature[9:]}"
        for junk in ("!", "!!!!", " ", "\n", "=", "====", "\u00e9\u00e9")
    ]
    assert keyring.check(good).email == "a@b.example"
    for other in [f"{head}.{body}.{text}" for text in written] + [
        f"{good}.",
        f".{good}",
        f"{good}.x",
        f" {good}",
    ]:
        assert keyring.verify_own(other.encode()) is None, other
        with pytest.raises(InvalidToken, match="malformed"):
            keyring.check(other)


def test_hs256_publishes_no_key(server: Server) -> None:
    with server.client() as client:
        assert client.get("/.well-known/jwks.json").json() == {"keys": []}


def pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_published_keys_and_their_rotation(database: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old.pem", tmp_path / "new.pem"
    old.write_bytes(pem(Ed25519PrivateKey.generate()))
    new.write_bytes(pem(generate_private_key(65537, 2048)))
    first = start(database, DATA_DIR=str(tmp_path), JWT_PRIVATE_KEY=str(old))
    try:
        owner = first.user()
        with first.client() as client:
            published = client.get("/.well-known/jwks.json").json()["keys"]
        assert [(key["kty"], key["alg"], key["use"]) for key in published] == [("OKP", "EdDSA", "sig")]
        assert "d" not in published[0]
        key = jwt.PyJWK(published[0])
        assert jwt.get_unverified_header(owner.token)["kid"] == published[0]["kid"]
        claims = jwt.decode(owner.token, key, algorithms=["EdDSA"], audience="bitnexus")
        assert claims["sub"] == owner.id
        # The published key must not pass as a shared secret.
        forged = jwt.encode(
            {**claims, "role": "admin"},
            published[0]["x"].ljust(32, "x"),
            "HS256",
            headers={"kid": published[0]["kid"]},
        )
        assert status(first, forged) == 401
    finally:
        assert first.stop() == 0
    second = start(database, DATA_DIR=str(tmp_path), JWT_PRIVATE_KEY=str(new), JWT_PREVIOUS_KEYS=str(old))
    try:
        assert status(second, owner.token) == 200  # signed with the key before
        renewed = second.user()
        assert jwt.get_unverified_header(renewed.token)["alg"] == "RS256"
        with second.client() as client:
            assert [key["alg"] for key in client.get("/.well-known/jwks.json").json()["keys"]] == [
                "RS256",
                "EdDSA",
            ]
    finally:
        assert second.stop() == 0


def test_the_shared_secret_signs_nothing_where_a_private_key_does(database: str, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(pem(Ed25519PrivateKey.generate()))
    for previous, answered in (("", 401), (SECRET, 200)):
        server = start(database, DATA_DIR=str(tmp_path), JWT_PRIVATE_KEY=str(key), JWT_PREVIOUS_KEYS=previous)
        try:
            assert status(server, token(sub="billing")) == answered
        finally:
            assert server.stop() == 0


@pytest.mark.parametrize(
    "previous",
    ["/etc/x/old.pem", "old.pem", "~/old", "./old", "keys/old", "/etc/bitnexus/key", "abc", "a" * 64],
)
def test_a_previous_key_that_is_no_file_and_no_good_secret_stops_the_start(previous: str) -> None:
    settings = load({"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": SECRET, "JWT_PREVIOUS_KEYS": previous})
    with pytest.raises(ConfigError, match="JWT_PREVIOUS_KEYS"):
        Keyring(settings)


def test_previous_secrets_of_openssl_are_taken() -> None:
    for _ in range(300):
        secret = base64.b64encode(secrets.token_bytes(48)).decode()
        settings = load({"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": SECRET, "JWT_PREVIOUS_KEYS": secret})
        assert len(Keyring(settings).shared) == 2
