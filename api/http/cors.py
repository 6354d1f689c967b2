"""CORS by the setting CORS_ORIGINS. While it is unset, pages of this machine may call, except in prod."""

from __future__ import annotations

import re

from actors.settings import Settings
from api.http.request import Headers
from api.http.router import Operation
from runtime.phoenix.check_origin import OriginPolicy

_LOOPBACK = re.compile(rb"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")

ALLOW_HEADERS = b"authorization, content-type, idempotency-key, x-request-id"
EXPOSE_HEADERS = b"x-request-id, retry-after, allow, idempotency-replayed, www-authenticate"
MAX_AGE = b"600"


class Cors:
    """Decides which origins may call and writes the headers that say so."""

    def __init__(self, settings: Settings) -> None:
        self._any = "*" in settings.cors_origins
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._below = OriginPolicy([origin for origin in settings.cors_origins if "//*." in origin])
        self._loopback = not settings.cors_origins and not settings.production

    def allows(self, origin: bytes) -> bool:
        """Whether pages of this origin may call."""
        if self._any or origin in self._origins:
            return True
        if self._loopback:
            return _LOOPBACK.fullmatch(origin) is not None
        return self._below.allows(origin.decode("latin-1"), "", "", None)

    def add(self, out: Headers, origin: bytes, operation: Operation | None) -> None:
        """Adds the CORS headers of an answer to a request with an Origin."""
        if (operation is not None and operation.cors_any) or self._any:
            out.append((b"access-control-allow-origin", b"*"))
        else:
            out.append((b"vary", b"origin"))
            if not self.allows(origin):
                return
            out.append((b"access-control-allow-origin", origin))
        out.append((b"access-control-expose-headers", EXPOSE_HEADERS))

    def preflight(
        self, out: Headers, headers: dict[bytes, bytes], allowed: list[str], operation: Operation
    ) -> None:
        """Adds the headers that answer a preflight request; `add` adds those about the origin."""
        origin = headers.get(b"origin")
        if origin is None or b"access-control-request-method" not in headers:
            return
        if operation.cors_any or self.allows(origin):
            out.append((b"access-control-allow-methods", ", ".join(allowed).encode()))
            out.append((b"access-control-allow-headers", ALLOW_HEADERS))
            out.append((b"access-control-max-age", MAX_AGE))
