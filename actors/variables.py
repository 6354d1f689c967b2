"""Environment variables: how each is declared, and how the text of one becomes a value.

A reader raises ValueError with what was expected; `actors.settings` says of which variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

LAST_PORT: Final = 65535
BROADCAST: Final = "255.255.255.255"
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_ORIGIN: Final = re.compile(r"(https?)://((?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?")
_SERVICE: Final = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SPACE: Final = re.compile(r"[\s\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: how it is read and what it means."""

    name: str
    default: str
    read: Callable[[str], Any]
    meaning: str
    secret: bool = False

    @property
    def attribute(self) -> str:
        """The field of `Settings` that holds the value."""
        return self.name.lower()


def variable(default: str, read: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    """A field of `Settings`: `read` makes its value of the variable's text, or raises ValueError with what was expected."""
    return field(metadata={"default": default, "read": read, "meaning": meaning, "secret": secret})


def text(value: str) -> str:
    """Any text."""
    return value


def utf8(value: str) -> str:
    """The text of any variable: bytes that are not UTF-8, which Python reads as lone surrogates, are an error."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("expected UTF-8") from None
    return value


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"expected {', '.join(choices[:-1])} or {choices[-1]}")
        return value

    return read


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number, bounds included."""

    def read(value: str) -> int:
        found = _WHOLE.fullmatch(value.strip())
        if found is None or not low <= int(value) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(value)

    return read


def comma_separated(value: str) -> tuple[str, ...]:
    """Texts; empty ones do not count."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def origins(value: str) -> tuple[str, ...]:
    """Origins as browsers send them (RFC 6454): in lower case, without their scheme's own port; `*.` is for all names below."""
    return tuple("*" if origin == "*" else _origin(origin) for origin in comma_separated(value))


def _origin(given: str) -> str:
    found = _ORIGIN.fullmatch(given.lower())
    if found is None or int(found[3] or 0) > LAST_PORT:
        raise ValueError("expected origins like https://app.example.com, comma separated, or *")
    own = {"http": 80, "https": 443}[found[1]]
    port = int(found[3] or own)
    return f"{found[1]}://{found[2]}" if port == own else f"{found[1]}://{found[2]}:{port}"


def networks(value: str) -> tuple[str, ...]:
    """Addresses and networks of addresses, or `*` for all."""
    given = comma_separated(value)
    for each in given:
        try:
            if each != "*":
                ip_network(each, strict=False)
        except ValueError:
            raise ValueError(f"expected addresses or networks like 10.0.0.0/8, or *, not {each!r}") from None
    return given


def host(value: str) -> str:
    """A name or an address to listen on."""
    try:
        address = ip_address(value)
    except ValueError:
        if _NAME.fullmatch(value) is None or value.replace(".", "").isdecimal():
            raise ValueError("expected an address or a name, without brackets and port") from None
        return value
    if address.is_multicast or value == BROADCAST:
        raise ValueError("expected an address of this machine; nobody can connect to one of a group")
    return str(address)


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of these schemes, or nothing."""

    def read(value: str) -> str:
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  (raises on a port that is no number)
        except ValueError as error:
            raise ValueError(f"not a URL ({error})") from None
        if parts.scheme not in schemes or not (parts.hostname or parts.query) or _SPACE.search(value):
            raise ValueError(f"expected a URL that starts with {' or '.join(s + '://' for s in schemes)}")
        return value

    return read


def service(value: str) -> str:
    """The base URL of an HTTP service, or nothing."""
    checked = url("http", "https")(value)
    parts = urlsplit(checked)
    if "@" in parts.netloc:
        raise ValueError("a service's URL can't hold user and password: callers' own tokens go to it")
    if parts.query or parts.fragment:
        raise ValueError("expected a URL without query and fragment")
    return checked


def services(value: str) -> tuple[tuple[str, str], ...]:
    """`name=url` pairs of services."""
    pairs: list[tuple[str, str]] = []
    for part in comma_separated(value):
        name, _, address = part.partition("=")
        if not address or _SERVICE.fullmatch(name) is None:
            raise ValueError(
                "expected name=url pairs, as in billing=http://billing:8080,stock=http://stock:8080"
            )
        if name in dict(pairs):
            raise ValueError(f"{name} is there twice")
        pairs.append((name, service(address)))
    return tuple(pairs)


def nats_urls(value: str) -> tuple[str, ...]:
    """URLs of NATS servers."""
    return tuple(url("nats", "tls")(part) for part in comma_separated(value))


def matching(pattern: str, expected: str) -> Callable[[str], str]:
    """Text that a pattern matches as a whole, or nothing; `expected` says what that is."""

    def read(value: str) -> str:
        if value and re.fullmatch(pattern, value, re.ASCII) is None:
            raise ValueError(f"expected {expected}")
        return value

    return read


def readable_file(value: str) -> str:
    """The path of a file that can be read, or nothing."""
    place = path(value)
    if value and not (os.path.isfile(place) and os.access(place, os.R_OK)):
        raise ValueError("no file that can be read")
    return str(place) if value else ""


def descriptors(value: str) -> tuple[int, ...]:
    """Numbers of file descriptors."""
    if not all(part.isascii() and part.isdecimal() for part in comma_separated(value)):
        raise ValueError("expected numbers of open sockets, comma separated")
    return tuple(int(part) for part in comma_separated(value))


def path(value: str) -> Path:
    """A path; `~` is the home folder."""
    if _CONTROL.search(value):
        raise ValueError("expected a path without control characters")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("the user whose home folder ~ stands for is unknown") from None


def log_level(value: str) -> str:
    """The name of a level of `logging`, in any case."""
    return one_of("debug", "info", "warning", "error", "critical")(value.lower())
