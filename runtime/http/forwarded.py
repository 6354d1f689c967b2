"""Client address and scheme as reported by trusted proxies (X-Forwarded-For, X-Forwarded-Proto)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from runtime.http.messages import Request

_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
ANY: Final = "*"
MAX_ADDRESS: Final = 64  # characters: an IPv6 address and its zone


class Forwarded:
    """The trusted proxies: addresses, networks, or `*`. Raises ValueError for anything else."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._any = ANY in trusted
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(each, strict=False) for each in trusted if each != ANY
        ]
        self._known: dict[str, bool] = {}  # keys are valid addresses, so their length is bounded

    def trusts(self, address: str) -> bool:
        """True if a proxy of this address is trusted."""
        known = self._known.get(address)
        if known is None:
            ip = _parsed(address)
            if ip is None:
                return False
            if len(self._known) > 4096:
                self._known.clear()
            known = self._known[address] = self._any or any(ip in network for network in self._networks)
        return known

    def apply(self, request: Request) -> None:
        """Sets `forwarded` of a request that came through a trusted proxy.

        The client is the last hop that is not trusted; if that is not an address, the proxy that wrote it. The scheme is the
        one at the client's position if both lists have the same length, otherwise the first, written by the outermost proxy.
        """
        peer = request.client
        if peer is None or not self.trusts(peer[0]):
            return
        hops = [
            hop.strip() for hop in request.headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
        ]
        index = len(hops)
        client = peer
        while index > 0 and self.trusts(client[0]) and _parsed(hop := _address(hops[index - 1])) is not None:
            index -= 1
            client = hop, 0
        schemes = [
            each.strip().lower() for each in request.headers.get(b"x-forwarded-proto", b"").split(b",")
        ]
        wanted = schemes[min(index, len(hops) - 1)] if len(schemes) == len(hops) else schemes[0]
        request.forwarded = client, _SCHEMES.get(wanted, request.scheme)


def _address(hop: str) -> str:
    """The address of a hop, without its port."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    return _ip(text) if len(text) <= MAX_ADDRESS else None  # bounds the keys of `_ip`'s cache


@lru_cache(4096)
def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip  # as an IPv6 socket reports IPv4 peers
