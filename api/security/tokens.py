"""Tokens: JWT access tokens (RFC 7519) that every service can verify, and opaque refresh tokens.

One `Keyring` holds the signing key and all keys that are still accepted. Without JWT_PRIVATE_KEY tokens are signed HS256 with
SECRET_KEY_BASE; with it they are signed EdDSA or RS256, `jwks` publishes the public keys, and tokens signed with the secret are
refused. A key is chosen by the token's `kid` and bound to one algorithm, so a token can't choose how it is verified.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import re
import secrets
import time
import warnings
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import msgspec
from asyncpg.pgproto.pgproto import UUID as PgUUID  # one that is cheap to make and to hash
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from actors.secret_keys import MIN_SECRET_BYTES, weakness
from actors.settings import ConfigError, Settings, signing_secret
from api.http.principal import Principal

MAX_TOKEN_BYTES = 8192
# The last second of the year 9999: a datetime can't hold more, nor a timer wait longer.
MAX_EXP = 253_402_300_799
ROLES = frozenset({"user", "admin", "service"})

_CANONICAL = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_COMPACT = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}")  # RFC 7515 7.1: base64url, no padding
_KEY_FILE = re.compile(r"(?i)\.(pem|key|pub|crt|cer|der|p8|jwk|json|txt)$")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class InvalidToken(Exception):
    """The token is refused; the text says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its id, its only algorithm, the key that verifies and (for the active one) the key that signs."""

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
    """The Ed25519 or RSA key in PEM text or in a file of that name. Raises ConfigError, one line."""
    if "-----BEGIN" in text:
        pem = text.replace("\\n", "\n").encode()
    else:
        try:
            pem = Path(text).expanduser().read_bytes()
        except (OSError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else "the user of ~ is unknown"
            # Text that is no path may be a key without its PEM lines, which no message may show.
            named = text if _looks_like_a_path(text) else "the file that it names"
            raise ConfigError(f"{variable}: can't read {named} ({why})") from None
    private: Any = None
    try:
        if b"PRIVATE KEY" in pem:
            private = serialization.load_pem_private_key(pem, None)
            public = private.public_key()
        else:
            public = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
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


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The claims of tokens that BitNexus issues."""

    sub: str
    role: str
    email: str
    iss: str
    aud: str
    iat: int
    exp: int
    jti: str
    sid: str


_decode_claims = msgspec.json.Decoder(_Claims).decode


class Keyring:
    """The keys in force. Raises ConfigError, one line, if one can't be used.

    If JWT_PRIVATE_KEY is set, the shared secret is no key any more: HS256 tokens are accepted only if their secret is in
    JWT_PREVIOUS_KEYS.
    """

    def __init__(self, settings: Settings) -> None:
        secret, _source = signing_secret(settings)
        if settings.jwt_private_key:
            self.active = asymmetric_key(settings.jwt_private_key, "JWT_PRIVATE_KEY")
            if self.active.sign is None:
                raise ConfigError("JWT_PRIVATE_KEY: this is a public key; a private key is needed to sign")
        else:
            self.active = shared_key(secret)
        keys = [self.active, *(_previous_key(text, settings) for text in settings.jwt_previous_keys)]
        self.by_kid: dict[str, Key] = {}
        for key in keys:
            self.by_kid.setdefault(key.kid, key)
        self.shared = [key for key in keys if key.algorithm == "HS256"]
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._leeway = settings.jwt_leeway
        self._life = settings.access_token_seconds
        mark_key = hashlib.blake2b(secret.encode(), person=b"bitnexus jti", digest_size=32).digest()
        # Keyed hash states are made once and copied: keying takes as long as hashing a whole token.
        self._marking = hashlib.blake2b(key=mark_key, digest_size=8)
        self._signing = (
            hmac.new(self.active.check, digestmod="sha256") if self.active.algorithm == "HS256" else None
        )
        self._own_head = self._sign({}).partition(".")[0].encode() + b"."

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517); empty if only shared secrets are in use."""
        return {"keys": [key.jwk for key in self.by_kid.values() if key.jwk is not None]}

    def issue(self, user_id: UUID, role: str, email: str, session_id: UUID | None) -> str:
        """A signed access token for a user."""
        now = int(time.time())
        subject, session = str(user_id), "" if session_id is None else str(session_id)
        claims = {
            "sub": subject,
            "role": role,
            "email": email,
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "exp": now + self._life,
            "jti": secrets.token_hex(8) + self._mark(subject, session),
        }
        if session_id is not None:
            claims["sid"] = session
        return self._sign(claims)

    def _sign(self, claims: dict[str, Any]) -> str:
        with warnings.catch_warnings():
            # PyJWT warns of short keys; they are the operator's choice in dev, and prod refuses them at start.
            warnings.simplefilter("ignore")
            return jwt.encode(
                claims, self.active.sign, self.active.algorithm, headers={"kid": self.active.kid}
            )

    def _mark(self, subject: str, session: str) -> str:
        """Marks tokens that BitNexus issued for an existing session: others who know the secret can sign, but not mark."""
        mark = self._marking.copy()
        mark.update((subject + session).encode())
        return mark.hexdigest()

    def verify_own(self, token: bytes) -> Principal | None:
        """The principal of a valid token that BitNexus issued with the active key; None for any other, which `check` decides."""
        if not token.startswith(self._own_head) or len(token) > MAX_TOKEN_BYTES:
            return None
        signed, _, signature = token.rpartition(b".")
        if not self._is_signed(signed, signature):
            return None
        try:
            claims = _decode_claims(binascii.a2b_base64(_padded(signed[len(self._own_head) :])))
        except (msgspec.MsgspecError, ValueError):
            return None
        now = time.time()
        if (
            claims.iss != self._issuer
            or claims.aud != self._audience
            or claims.role not in ROLES
            or claims.iat > now + self._leeway
            or not 0 < claims.exp - claims.iat <= self._life
            or claims.exp + self._leeway <= now
            or not claims.jti.isascii()  # of which compare_digest raises
            or not hmac.compare_digest(claims.jti[16:], self._mark(claims.sub, claims.sid))
        ):
            return None
        return Principal(
            PgUUID(claims.sub), claims.sub, claims.role, claims.email, PgUUID(claims.sid),
            float(claims.exp + self._leeway), True,
        )  # fmt: skip

    def _is_signed(self, signed: bytes, signature: bytes) -> bool:
        if self._signing is not None:
            right = self._signing.copy()
            right.update(signed)
            return hmac.compare_digest(signature, _base64url(right.digest()))
        key = self.active
        try:
            if key.algorithm == "EdDSA" and _is_canonical(signature):
                key.check.verify(binascii.a2b_base64(_padded(signature)), signed)
                return True
        except (InvalidSignature, ValueError):
            return False
        return False  # RS256 is left to `check`: PyJWT implements its padding

    def check(self, token: str) -> Principal:
        """The principal of a token. Raises InvalidToken: forged, expired, for another audience, ..."""
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("The token is too long")
        encoded = token.encode("utf-8", "surrogatepass")
        own = self.verify_own(encoded)
        if own is not None:
            return own
        if _COMPACT.fullmatch(encoded) is None or not _is_canonical(encoded.rpartition(b".")[2]):
            raise InvalidToken("The token is malformed")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise InvalidToken("The token is malformed") from None
        failure = "The token is signed with an unknown key"
        for key in self._candidates(header):
            try:
                return self._principal(self._decode(token, key))
            except jwt.ExpiredSignatureError:
                raise InvalidToken("The token has expired") from None
            except jwt.InvalidSignatureError:
                failure = "The token's signature is wrong"
            except jwt.InvalidTokenError as error:
                raise InvalidToken(f"The token is not valid: {error}") from None
            except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
                raise InvalidToken("The token's claims can't be read") from None
        raise InvalidToken(failure)

    def _candidates(self, header: dict[str, Any]) -> list[Key]:
        kid = header.get("kid")
        key = self.by_kid.get(kid) if isinstance(kid, str) else None
        if key is not None:
            return [key]
        # Other services that share the secret choose their own kid, or none.
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
        # RFC 7519 2: a NumericDate is a number; PyJWT accepts text and true.
        for name in ("exp", "iat", "nbf"):
            if type(claims.get(name, 0)) not in (int, float):
                raise InvalidToken(f"The token's {name} is no number")
        subject, role, sid = claims["sub"], claims.get("role", "user"), claims.get("sid")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidToken("The token's role is unknown")
        expires = float(claims["exp"]) + self._leeway
        if not expires <= MAX_EXP:
            raise InvalidToken("The token's exp is out of range")
        user_id = canonical_id(subject)
        if user_id is None and (role != "service" or not _is_unicode(subject)):
            raise InvalidToken("The token's subject is no user")
        session_id = None
        if sid is not None and (session_id := canonical_id(sid)) is None:
            raise InvalidToken("The token's sid is no session")
        email = claims.get("email", "")
        return Principal(
            user_id,
            subject if user_id is None else str(user_id),
            role,
            email if isinstance(email, str) and _is_unicode(email) else "",
            session_id,
            expires,
        )


def canonical_id(text: Any) -> UUID | None:
    """The UUID in the canonical textual form (RFC 9562 4), in either case; None for any other text."""
    return UUID(text) if isinstance(text, str) and _CANONICAL.fullmatch(text) else None


def _is_unicode(text: str) -> bool:
    """False for text with half of a UTF-16 pair, which JSON can hold and UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _padded(base64url: bytes) -> bytes:
    return base64url.translate(_TO_BASE64) + b"=="  # excess padding is ignored


def _base64url(octets: bytes) -> bytes:
    return binascii.b2a_base64(octets, newline=False).translate(_FROM_BASE64, b"=")


def _is_canonical(base64url: bytes) -> bool:
    """Whether this is the canonical encoding of its octets: decoders ignore foreign characters and trailing bits."""
    try:
        return _base64url(binascii.a2b_base64(_padded(base64url))) == base64url
    except binascii.Error:
        return False


_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_FROM_BASE64 = bytes.maketrans(b"+/", b"-_")


def _previous_key(text: str, settings: Settings) -> Key:
    """A key of JWT_PREVIOUS_KEYS: PEM text, a PEM file, or a shared secret. Raises ConfigError for anything else."""
    if "-----BEGIN" in text or os.path.isfile(os.path.expanduser(text)):
        return asymmetric_key(text, "JWT_PREVIOUS_KEYS")
    if _looks_like_a_path(text):
        raise ConfigError(f"JWT_PREVIOUS_KEYS: there is no file {text}; expected PEM files or HS256 secrets")
    why = weakness(text)
    if why and settings.production:
        raise ConfigError(
            f"JWT_PREVIOUS_KEYS: a secret is too weak for BITNEXUS_ENV=prod ({why}); name a PEM file, or leave it out"
        )
    return shared_key(text)


def _looks_like_a_path(text: str) -> bool:
    if _KEY_FILE.search(text) or text.startswith(("~", "./", "../", ".\\")) or os.path.isdir(text):
        return True
    strong = len(text) >= MIN_SECRET_BYTES and _BASE64.fullmatch(text) and not weakness(text)
    has_all = any(map(str.isupper, text)) and any(map(str.isdigit, text))
    return ("/" in text or "\\" in text) and not (strong and has_all)


def refresh_token() -> tuple[str, bytes]:
    """A new opaque refresh token, and its hash, which the database stores."""
    token = secrets.token_urlsafe(32)
    return token, refresh_hash(token)


def refresh_hash(token: str) -> bytes:
    """The hash of a refresh token that the database stores."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
