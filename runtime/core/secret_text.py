"""Masking of secrets: values with a telling name, and texts of a known form such as tokens and private keys.

Applied to reports when they are shown and to everything that observers show. Every pattern takes linear time.
"""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "********"

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|api_?key|private_?key|credential|authori[sz]ation|cookie|signing_?key"
    r"|previous_?keys|\bdsn\b|database_?url|redis_?url|_hash_?key|session_?key",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\$argon2\w+\$\S+"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user:password of a URL
    r"|(?i:(?<=bearer )[\w.~+/=-]{8,})"
)
_DOTTED = re.compile(r"(?<![\w-])[\w-]++(?:\.[\w-]*+)++")  # possessive: linear time
_TOKEN_PART = 6  # the fewest characters of a part of a JSON Web Token
_SECRET_ARGUMENT = re.compile(
    r"(?i)(?<![\w-])(['\"]?[\w-]{0,40}?(?:password|passwd|secret|token|api_?key|private_?key|authorization)['\"]?\s*[=:]\s*)"
    r"('[^']*'|\"[^\"]*\"|[^\s,)\]}]+)"
)


def is_secret(name: object) -> bool:
    """True if a key or attribute of this name is likely to hold a secret."""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def mask(text: str) -> str:
    """Masks tokens, private keys, password hashes, passwords in URLs and `password=...`. Takes linear time."""
    if "eyJ" in text:
        text = _DOTTED.sub(_without_tokens, text)
    return _SECRET_ARGUMENT.sub(rf"\1{MASK}", _SECRET_TEXT.sub(MASK, text))


def _without_tokens(found: re.Match[str]) -> str:
    """Masks JSON Web Tokens: three parts of a dotted text, of which the first begins with `{"` in base64."""
    parts = found[0].split(".")
    shown: list[str] = []
    at = 0
    while at < len(parts):
        start = parts[at].find("eyJ")
        if (
            0 <= start <= len(parts[at]) - 3 - _TOKEN_PART
            and at + 2 < len(parts)
            and len(parts[at + 1]) >= _TOKEN_PART
        ):
            shown.append(parts[at][:start] + MASK)
            at += 3
        else:
            shown.append(parts[at])
            at += 1
    return ".".join(shown)
