"""An operator of NATS with one account, in memory: a server's configuration that knows it, and .creds files of users.

What `nsc` does: JWTs signed by ed25519 keys, the account's by the operator's, a user's by the account's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nkeys


@dataclass(frozen=True, slots=True)
class Key:
    """A key pair of one of NATS's roles."""

    seed: bytes
    public: str

    @classmethod
    def new(cls, role: int) -> Key:
        """Of `nkeys.PREFIX_BYTE_OPERATOR`, `_ACCOUNT` or `_USER`."""
        seed = nkeys.encode_seed(os.urandom(32), role)
        return cls(bytes(seed), nkeys.from_seed(bytearray(seed)).public_key.decode())

    def signed(self, subject: Key, name: str, **claims: Any) -> str:
        """A JWT about another key, or the same."""
        body = {
            "iss": self.public,
            "sub": subject.public,
            "name": name,
            "iat": 1,
            "nats": {"version": 2, **claims},
        }
        body["jti"] = (
            base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        )
        text = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(body)}"
        return f"{text}.{_base64(nkeys.from_seed(bytearray(self.seed)).sign(text.encode()))}"


def _part(value: Any) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator and its account."""

    key: Key = field(default_factory=lambda: Key.new(nkeys.PREFIX_BYTE_OPERATOR))
    account: Key = field(default_factory=lambda: Key.new(nkeys.PREFIX_BYTE_ACCOUNT))

    def configuration(self) -> str:
        """Of a server that lets in this account's users."""
        unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        account = self.key.signed(
            self.account, "tests", type="account", limits={**unlimited, "wildcards": True}
        )
        operator = self.key.signed(self.key, "tests", type="operator")
        return f"operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {self.account.public}: {account} }}\n"

    def write_credentials(self, path: Path) -> str:
        """The .creds file of a new user; its path."""
        user = Key.new(nkeys.PREFIX_BYTE_USER)
        unlimited = dict.fromkeys(("subs", "data", "payload"), -1)
        token = self.account.signed(user, "node", type="user", pub={}, sub={}, **unlimited)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return str(path)
