"""Go services check our tokens by themselves: with the shared secret, and with the published keys."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.go import GoService
from tests.support import server as servers
from tests.support.server import SECRET, Server, User


def echo(service: GoService, token: str) -> httpx.Response:
    """What the service makes of a token."""
    return httpx.get(f"{service.url}/echo", headers={"authorization": f"Bearer {token}"}, trust_env=False)


def test_a_go_service_accepts_our_token_by_the_shared_secret(user: User) -> None:
    with GoService(secret=SECRET) as service:
        answer = echo(service, user.token)
        assert answer.status_code == 200, answer.text
        claims = answer.json()["claims"]
    assert claims["sub"] == user.id and claims["role"] == "user" and claims["email"] == user.email


def test_a_go_service_refuses_a_token_of_another_secret_issuer_or_time(user: User) -> None:
    claims = jwt.decode(user.token, options={"verify_signature": False})
    with GoService(secret=SECRET) as service:
        for changes, secret, why in (
            ({}, "x" * 40, "signature"),
            ({"iss": "mallory"}, SECRET, "issuer"),
            ({"aud": "mallory"}, SECRET, "audience"),
            ({"exp": int(time.time()) - 1}, SECRET, "expired"),
        ):
            answer = echo(service, jwt.encode({**claims, **changes}, secret, "HS256"))
            assert answer.status_code == 401 and why in answer.json()["error"]


@pytest.fixture(params=["EdDSA", "RS256"])
def signing(
    request: pytest.FixtureRequest, module_database: str, tmp_path: Path
) -> Iterator[tuple[str, Server]]:
    """A server that signs with a private key."""
    key = Ed25519PrivateKey.generate() if request.param == "EdDSA" else generate_private_key(65537, 2048)
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    changes: Mapping[str, str] = {"DATA_DIR": str(tmp_path), "JWT_PRIVATE_KEY": str(file)}
    running = servers.start(module_database, **changes)
    yield request.param, running
    assert running.stop() == 0


def test_a_go_service_accepts_our_token_by_the_published_keys(signing: tuple[str, Server]) -> None:
    algorithm, running = signing
    user = running.user()
    assert jwt.get_unverified_header(user.token)["alg"] == algorithm
    with GoService(jwks_url=f"{running.url}/.well-known/jwks.json") as service:
        answer = echo(service, user.token)
        assert answer.status_code == 200, answer.text
        assert answer.json()["claims"]["sub"] == user.id
        head, body, signature = user.token.split(".")
        tampered = f"{head}.{body}.{signature[:-6]}AAAAAA"
        assert echo(service, tampered).status_code == 401
