"""Tokens: JWT access tokens that every service can check, and opaque refresh tokens.

One `Keyring` holds the key that signs and every key still accepted. Without JWT_PRIVATE_KEY tokens are
HS256 with SECRET_KEY_BASE; with one they are EdDSA or RS256, and `jwks` publishes what other services need.
A key is found by the token's `kid`, and each key is bound to one algorithm, so a token can't choose how it
is checked.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import warnings
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from actors.settings import ConfigError, Settings, signing_secret

MAX_TOKEN_BYTES = 8192


class InvalidToken(Exception):
    """The token is not one of ours, or not any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for. `user_id` is None for a service that is no user; `exp` is in seconds since
    1970."""

    user_id: UUID | None
    subject: str
    role: str
    email: str
    session_id: UUID | None
    exp: float

    @property
    def is_admin(self) -> bool:
        """True for role admin."""
        return self.role == "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `kid`, its only algorithm, what checks and (for the active one) what signs."""

    kid: str
    algorithm: str
    check: Any
    sign: Any = None
    jwk: dict[str, Any] | None = None


def _thumbprint(members: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()[:22]


def shared_key(secret: str) -> Key:
    """The HS256 key of a shared secret."""
    kid = "hs-" + hashlib.sha256(b"bitnexus kid\x00" + secret.encode()).hexdigest()[:12]
    return Key(kid, "HS256", secret.encode(), secret.encode())


def asymmetric_key(text: str, variable: str) -> Key:
    """The key in PEM text or in the file named; Ed25519 or RSA. Raises ConfigError, one line."""
    if "-----BEGIN" in text:
        pem = text.replace("\\n", "\n").encode()
    else:
        try:
            pem = Path(text).expanduser().read_bytes()
        except OSError as error:
            raise ConfigError(f"{variable}: can't read {text} ({error.strerror})") from None
    private: Any = None
    try:
        if b"PRIVATE KEY" in pem:
            private = serialization.load_pem_private_key(pem, None)
            public = private.public_key()
        else:
            public = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{variable}: no usable PEM key ({error})") from None
    if isinstance(public, Ed25519PublicKey) and isinstance(private, (Ed25519PrivateKey, type(None))):
        jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
        kid = _thumbprint(f'{{"crv":"Ed25519","kty":"OKP","x":"{jwk["x"]}"}}')
        algorithm = "EdDSA"
    elif isinstance(public, RSAPublicKey) and isinstance(private, (RSAPrivateKey, type(None))):
        if public.key_size < 2048:
            raise ConfigError(f"{variable}: RSA key of {public.key_size} bits, 2048 needed")
        jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
        kid = _thumbprint(f'{{"e":"{jwk["e"]}","kty":"RSA","n":"{jwk["n"]}"}}')
        algorithm = "RS256"
    else:
        raise ConfigError(f"{variable}: expected an Ed25519 or RSA key")
    published = {k: v for k, v in jwk.items() if k != "key_ops"} | {
        "kid": kid,
        "use": "sig",
        "alg": algorithm,
    }
    return Key(kid, algorithm, public, private, published)


class Keyring:
    """The keys in force. Raises ConfigError, one line, when one can't be used."""

    def __init__(self, settings: Settings) -> None:
        secret, _source = signing_secret(settings)
        shared = shared_key(secret)
        keys = [shared]
        self.active = shared
        if settings.jwt_private_key:
            self.active = asymmetric_key(settings.jwt_private_key, "JWT_PRIVATE_KEY")
            if self.active.sign is None:
                raise ConfigError("JWT_PRIVATE_KEY: that is a public key, a private one is needed to sign")
            keys.insert(0, self.active)
        for text in settings.jwt_previous_keys:
            is_pem = "-----BEGIN" in text or os.path.isfile(os.path.expanduser(text))
            keys.append(asymmetric_key(text, "JWT_PREVIOUS_KEYS") if is_pem else shared_key(text))
        self.by_kid: dict[str, Key] = {}
        for key in keys:
            self.by_kid.setdefault(key.kid, key)
        self.shared = [key for key in keys if key.algorithm == "HS256"]
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._leeway = settings.jwt_leeway
        self._life = settings.access_token_seconds

    def jwks(self) -> dict[str, Any]:
        """The public keys, as RFC 7517 has them; empty when only shared secrets are in use."""
        return {"keys": [key.jwk for key in self.by_kid.values() if key.jwk is not None]}

    def issue(self, user_id: UUID, role: str, email: str, session_id: UUID | None) -> str:
        """A signed access token for a user."""
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "role": role,
            "email": email,
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "exp": now + self._life,
            "jti": secrets.token_hex(8),
        }
        if session_id is not None:
            claims["sid"] = str(session_id)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a short key is the operator's choice in dev; prod refuses it at start
            return jwt.encode(
                claims, self.active.sign, self.active.algorithm, headers={"kid": self.active.kid}
            )

    def check(self, token: str) -> Principal:
        """Who the token speaks for. Raises InvalidToken: not ours, expired, another audience, ..."""
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("The token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken("The token is malformed") from None
        failure: Exception = InvalidToken("The token is signed with an unknown key")
        for key in self._candidates(header):
            try:
                return self._principal(self._decode(token, key))
            except jwt.ExpiredSignatureError:
                raise InvalidToken("The token has expired") from None
            except jwt.InvalidSignatureError:
                failure = InvalidToken("The token's signature is wrong")
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                raise InvalidToken(f"The token is not valid: {error}") from None
        raise failure

    def _candidates(self, header: dict[str, Any]) -> list[Key]:
        kid = header.get("kid")
        if kid is None:
            return self.shared if header.get("alg") == "HS256" else []
        key = self.by_kid.get(kid) if isinstance(kid, str) else None
        if key is not None:
            return [key]
        # Other services that share the secret name it as they like.
        return self.shared if header.get("alg") == "HS256" else []

    def _decode(self, token: str, key: Key) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return jwt.decode(
                token,
                key.check,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp", "sub", "iat"]},
            )

    def _principal(self, claims: dict[str, Any]) -> Principal:
        subject = claims["sub"]
        role = claims.get("role", "user")
        if role not in ("user", "admin", "service"):
            raise InvalidToken("The token's role is unknown")
        try:
            user_id = UUID(subject)
        except ValueError:
            if role != "service":
                raise InvalidToken("The token's subject is no user") from None
            user_id = None
        sid = claims.get("sid")
        email = claims.get("email", "")
        return Principal(
            user_id,
            subject,
            role,
            email if isinstance(email, str) else "",
            UUID(sid) if isinstance(sid, str) else None,
            float(claims["exp"]) + self._leeway,
        )


def refresh_token() -> tuple[str, bytes]:
    """A new opaque refresh token, and the hash that the database keeps of it."""
    token = secrets.token_urlsafe(32)
    return token, refresh_hash(token)


def refresh_hash(token: str) -> bytes:
    """What the database keeps of a refresh token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
