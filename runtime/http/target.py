"""Checks of a request's head that llhttp does not make: target, Host, single fields (RFC 9110, RFC 9112)."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

_HOST: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]*))?"
)
_LAST_PORT: Final = 65535
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#@]+)(/[^?#]*)?(?:\?([^#]*))?")
MAX_HOST: Final = 1024
MAX_PORT_DIGITS: Final = 5
_ENCODED: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
_DIGITS: Final = "0123456789abcdefABCDEF"
_OCTETS: Final = {(high + low).encode(): bytes.fromhex(high + low) for high in _DIGITS for low in _DIGITS}
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} [/*hH]")


class Refusal(Exception):
    """The request cannot be served: the response has `status`, and the connection is closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


def is_host(value: bytes) -> bool:
    """True for `uri-host [":" port]` with a valid IPv6 literal and a valid port."""
    return len(value) <= MAX_HOST and _is_host(value)


@lru_cache(1024)
def _is_host(value: bytes) -> bool:
    found = _HOST.fullmatch(value)
    if found is None:
        return False
    literal, port = found.groups()
    if port and (len(port) > MAX_PORT_DIGITS or int(port) > _LAST_PORT):
        return False
    try:
        return literal is None or bool(IPv6Address(literal.decode()))
    except ValueError:
        return False


def is_method(line: bytes) -> bool:
    """True if a request line begins with a method, known or not, and a target."""
    return _METHOD.match(line) is not None


def split(method: str, target: bytes) -> tuple[str, str, bytes | None]:
    """Path, query and authority (None if absent) of a request target. Raises Refusal."""
    text = target.decode("latin-1")
    if "#" in text:
        raise Refusal(400, "a target has no fragment")
    if text[:1] == "/":
        path, _, query = text.partition("?")
        return path, query, None
    if target == b"*":
        if method != "OPTIONS":
            raise Refusal(400, "only OPTIONS may have the target *")
        return "*", "", None
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not is_host(found[1]):
        raise Refusal(400, "the target is malformed")
    return (found[2] or b"/").decode("latin-1"), (found[3] or b"").decode("latin-1"), found[1]


def joined(fields: list[tuple[bytes, bytes]], single: frozenset[bytes]) -> dict[bytes, bytes]:
    """The fields by name; those of one name are joined by commas (RFC 9110 5.3). Raises Refusal if one of `single` repeats."""
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        before = headers.get(name)
        if before is None:
            headers[name] = value
        elif name in single:
            raise Refusal(400, f"{name.decode('latin-1')} must be given only once")
        else:
            headers[name] = before + (b"; " if name == b"cookie" else b", ") + value
    return headers


def decoded(text: str) -> bytes:
    """Percent-decodes `text` (RFC 3986 2.1); a `%` without two hex digits stays. Takes at most a millisecond for 10 KB."""
    raw = text.encode("latin-1", "replace")
    if _ENCODED.search(raw) is None:
        return raw
    first, *rest = raw.split(b"%")
    parts = [first]
    for part in rest:
        octet = _OCTETS.get(part[:2])
        parts.append(b"%" + part if octet is None else octet + part[2:])
    return b"".join(parts)


def has_token(value: bytes, token: bytes) -> bool:
    """True if `token`, in lower case, is a member of a list field, in any case."""
    value = value.lower()
    return value == token or token in [member.strip() for member in value.split(b",")]
