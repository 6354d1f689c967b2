"""Clients' addresses: their canonical text, and what counts as one caller."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

IPV6_SITE = 64  # bits: a provider assigns each site at least a /64, so all its addresses are one caller


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The address without port, brackets, zone and IPv4-mapped prefix; text that is no address is returned unchanged."""
    found = _parsed(text)
    return text if found is None else str(found)


@lru_cache(maxsize=4096)
def caller(text: str) -> str:
    """The key that throttles count by: an IPv4 address, the /64 of an IPv6 address, or text that is no address."""
    found = _parsed(text)
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), IPV6_SITE), strict=False))
    return text if found is None else str(found)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
