"""Access tokens over real HTTP: whose are accepted, which are refused, signing keys and their rotation."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from actors.settings import ConfigError, load
from api.security.tokens import InvalidToken, Keyring
from tests.support.server import SECRET, Server, User, start

ME = "/api/v1/auth/me"


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


def test_a_jti_of_any_characters_is_that_of_another_service() -> None:
    ring = Keyring(load({"SECRET_KEY_BASE": SECRET}))
    own = ring.issue(uuid4(), "user", "ada@example.com", uuid4())
    claims = jwt.decode(own, options={"verify_signature": False}) | {"jti": "0123456789abcdef\u00e9"}
    signed = jwt.encode(claims, SECRET, headers={"kid": ring.active.kid})
    assert signed.partition(".")[0] == own.partition(".")[0]
    assert str(ring.check(signed).user_id) == claims["sub"] and not ring.check(signed).own


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
