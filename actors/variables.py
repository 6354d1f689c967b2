"""Environment variables: how each is declared, and how the text of one becomes a value.

A reader raises ValueError with what was expected; `actors.settings` says of which variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


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
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return number

    return read


def comma_separated(value: str) -> tuple[str, ...]:
    """Texts; empty ones do not count."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def origins(value: str) -> tuple[str, ...]:
    """Origins of browsers (RFC 6454), or `*`."""
    given = comma_separated(value)
    for origin in given:
        if origin == "*":
            continue
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
            raise ValueError(f"expected origins like https://app.example.com or *, not {origin!r}")
    return tuple(origin.rstrip("/") for origin in given)


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
        if parts.scheme not in schemes or not (parts.netloc or parts.query):
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
        name, sign, address = part.partition("=")
        if not sign or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(
                "expected name=url pairs, as in billing=http://billing:8080,stock=http://stock:8080"
            )
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
    if value and not os.access(Path(value).expanduser(), os.R_OK):
        raise ValueError("no file that can be read")
    return str(Path(value).expanduser()) if value else ""


def descriptors(value: str) -> tuple[int, ...]:
    """Numbers of file descriptors."""
    if not all(part.isdecimal() for part in comma_separated(value)):
        raise ValueError("expected numbers of open sockets, comma separated")
    return tuple(int(part) for part in comma_separated(value))


def path(value: str) -> Path:
    """A path; `~` is the home folder."""
    return Path(value).expanduser()


def log_level(value: str) -> str:
    """The name of a level of `logging`, in any case."""
    return one_of("debug", "info", "warning", "error", "critical")(value.lower())
