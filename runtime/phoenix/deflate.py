"""The negotiation of permessage-deflate (RFC 7692, section 7.1).

The response always has `server_no_context_takeover`, which a client must accept: so a connection needs no compressor of its own,
and a broadcast is compressed once for all connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")
_BITS: Final = ("server_max_window_bits", "client_max_window_bits")


@dataclass(frozen=True, slots=True)
class Deflate:
    """The agreed parameters: response header, the server's window bits, and `client_no_context_takeover`."""

    header: str
    window_bits: int
    client_no_context: bool


def negotiate(headers: Iterable[str]) -> Deflate | None:
    """Accepts the first acceptable offer of permessage-deflate; None if there is none."""
    for header in headers:
        for offer in header.split(","):
            name, *params = (part.strip() for part in offer.rstrip("; ").split(";"))
            if name == "permessage-deflate":
                agreed = _agree(params)
                if agreed is not None:
                    return agreed
    return None


def _agree(params: list[str]) -> Deflate | None:
    seen: dict[str, str | None] = {}
    for param in params:
        name, separator, value = (part.strip() for part in param.partition("="))
        if name in seen or name not in _FLAGS + _BITS:
            return None
        seen[name] = value.strip('"') if separator else None
    for name in _FLAGS:
        if seen.get(name) is not None:
            return None
    window = 15
    header = "permessage-deflate; server_no_context_takeover"
    client_no_context = "client_no_context_takeover" in seen
    if client_no_context:
        header += "; client_no_context_takeover"
    if "server_max_window_bits" in seen:
        bits = _bits(seen["server_max_window_bits"])
        if bits is None:
            return None
        window = bits
        header += f"; server_max_window_bits={bits}"
    if seen.get("client_max_window_bits") is not None and _bits(seen["client_max_window_bits"]) is None:
        return None
    return Deflate(header, window, client_no_context)


def _bits(value: str | None) -> int | None:
    if value is None or not value.isdecimal() or value.startswith("0") or len(value) > 2:
        return None
    return int(value) if 8 <= int(value) <= 15 else None
