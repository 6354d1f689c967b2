"""X-Forwarded-For and X-Forwarded-Proto, with lists: whom chained proxies speak for, and by which scheme that one came."""

from __future__ import annotations

import pytest

from runtime.http.forwarded import Forwarded
from runtime.http.messages import Request

PROXY, INNER, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.9"


def seen(hops: str | None, schemes: str | None, peer: str = PROXY) -> tuple[str, str]:
    """Client and scheme as a server behind proxies in 10.0.0.0/8 sees them."""
    fields = [
        (name, value.encode())
        for name, value in ((b"x-forwarded-for", hops), (b"x-forwarded-proto", schemes))
        if value is not None
    ]
    request = Request("GET", "/", "", fields, dict(fields))
    request.client = (peer, 1234)
    Forwarded(("10.0.0.0/8",)).apply(request)
    assert request.client is not None
    return request.client[0], request.scheme


@pytest.mark.parametrize(
    ("hops", "schemes", "expected"),
    [
        # Each proxy adds its line: the client spoke TLS to the outer one, that one plain HTTP to the inner one.
        (f"{CLIENT}, {INNER}", "https,http", (CLIENT, "https")),
        (f"{CLIENT}, {INNER}", "https, http", (CLIENT, "https")),
        (f"{CLIENT},{INNER}", " HTTPS , http", (CLIENT, "https")),
        (f"{CLIENT}, {INNER}, {INNER}", "https,http,http", (CLIENT, "https")),
        (f"{CLIENT}, {INNER}", "http,https", (CLIENT, "http")),
        # What the client itself had written stands before what the outermost proxy saw.
        (f"6.6.6.6, {CLIENT}, {INNER}", "https,http,http", (CLIENT, "http")),
        (f"6.6.6.6, {CLIENT}", "http,https", (CLIENT, "https")),
        # Only one of them tells addresses, or schemes.
        (None, "https,http", (PROXY, "https")),
        (CLIENT, "https,http", (CLIENT, "https")),
        (f"{CLIENT}, {INNER}", "https", (CLIENT, "https")),
        (f"{CLIENT}, {INNER}", None, (CLIENT, "http")),
        # A hop that is no address says nothing of the client: it counts as the proxy that has written it.
        ("unknown", "https", (PROXY, "https")),
        ("_hidden, unknown", "https,http", (PROXY, "http")),
        (f"{CLIENT}, unknown", "https,http", (PROXY, "http")),
        (f"unknown, {INNER}", "https,http", (INNER, "http")),
        ("9" * 60_000, "https", (PROXY, "https")),
        ("", "https", (PROXY, "https")),
        # As sockets name it, and what is no scheme.
        (CLIENT, "wss", (CLIENT, "https")),
        (CLIENT, "ws", (CLIENT, "http")),
        (CLIENT, "gopher", (CLIENT, "http")),
        (CLIENT, "", (CLIENT, "http")),
        (CLIENT, ",", (CLIENT, "http")),
    ],
)
def test_the_scheme_is_the_one_beside_the_client(
    hops: str | None, schemes: str | None, expected: tuple[str, str]
) -> None:
    assert seen(hops, schemes) == expected


@pytest.mark.parametrize(
    ("hops", "client"),
    [(f"{CLIENT}, {INNER}", CLIENT), ("x" * 60_000, PROXY), (f"x, {INNER}", INNER), ("", PROXY)],
)
def test_where_all_are_believed_the_client_is_the_first_address(hops: str, client: str) -> None:
    fields = [(b"x-forwarded-for", hops.encode())]
    request = Request("GET", "/", "", fields, dict(fields))
    request.client = (PROXY, 1234)
    Forwarded(("*",)).apply(request)
    assert request.client is not None
    assert request.client[0] == client


def test_nobody_else_is_believed() -> None:
    assert seen(CLIENT, "https", peer="192.0.2.1") == ("192.0.2.1", "http")


@pytest.mark.parametrize(
    "hop", [f"{CLIENT}:9999", f" {CLIENT} ", "[2001:db8::1]:80", "[2001:db8::1]", "2001:db8::1"]
)
def test_a_hop_may_have_a_port(hop: str) -> None:
    assert seen(hop, None)[0] in (CLIENT, "2001:db8::1")
