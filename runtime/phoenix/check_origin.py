"""`check_origin`: the origins that may open a socket (`Phoenix.Socket.Transport.check_origin/5`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21}
_ORIGIN: Final = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?//(\[[A-Za-z0-9:.]+\]|[^:/?#@\[\]\\\s]+)(?::([0-9]*))?/?"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """The parts of an origin that are compared; None matches anything."""

    scheme: str | None
    host: str
    port: int | None


OWN: Final = "conn"  # the origin of the request itself
MAX_DIGITS: Final = 9  # of a port that are parsed: Python refuses to convert thousands of them

CheckOrigin = bool | Literal["conn"] | Sequence[str] | Callable[[Origin], bool]


def parse(text: str) -> Origin | None:
    """Parses scheme, host and port (RFC 6454 7); the scheme is optional. None for anything else.

    Stricter than `URI.parse/1`, which finds a host in `http://localhost:80.evil.test`.
    """
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return None
    scheme = found[1].lower() if found[1] else None
    port = int(found[3][:MAX_DIGITS]) if found[3] else _PORTS.get(scheme or "")
    return Origin(scheme, found[2].strip("[]"), port)


class OriginPolicy:
    """A `check_origin` setting, parsed once.

    `True` compares the host with `url_host`, `"conn"` the whole origin with the request, `False` allows all. A list names the
    allowed origins: `"//example.com"` allows any scheme and port, `"https://*.example.org"` the host and its subdomains, and
    `"conn"` (not in Phoenix) the request's own. Raises ValueError for an entry without a host.
    """

    __slots__ = ("_allowed", "_own", "_setting", "_url_host")

    def __init__(self, setting: CheckOrigin, url_host: str = "localhost") -> None:
        self._setting = setting
        self._url_host = url_host
        self._allowed: list[Origin] = []
        self._own = setting == OWN
        if not isinstance(setting, bool | str) and not callable(setting):
            self._own = OWN in setting
            for text in setting:
                if text == OWN:
                    continue
                origin = parse(text)
                if origin is None:
                    raise ValueError(
                        f"check_origin: {text!r} has no host, expected https://example.com or //example.com"
                    )
                self._allowed.append(origin)

    def allows(self, header: str | None, scheme: str, host: str, port: int | None) -> bool:
        """True if a request to `scheme`, `host` and `port` with this Origin header may connect."""
        setting = self._setting
        if header is None or setting is False:
            return True
        origin = parse(header)
        if origin is None:
            return False
        if setting is True:
            return origin.host == self._url_host
        own = Origin(scheme, host.strip("[]"), port if port is not None else _PORTS.get(scheme))
        if self._own and origin == own:
            return True
        if callable(setting):
            return bool(setting(origin))
        return any(_matches(origin, allowed) for allowed in self._allowed)


def _matches(origin: Origin, allowed: Origin) -> bool:
    if allowed.scheme is not None and origin.scheme != allowed.scheme:
        return False
    if allowed.port is not None and origin.port != allowed.port:
        return False
    if allowed.host.startswith("*."):
        return origin.host == allowed.host[2:] or origin.host.endswith(allowed.host[1:])
    return origin.host == allowed.host
