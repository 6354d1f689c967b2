"""What a request must be to become a socket: query, origin, mount, route, connect_info, token, key."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.phoenix import query
from runtime.phoenix.check_origin import OriginPolicy
from runtime.phoenix.handshake import Candidate, WebSocketUpgrade, check_websocket, upgrade
from runtime.phoenix.mount import LongPollOptions, Mount, Mounts, WebSocketOptions
from runtime.phoenix.request import TransportResponse, connect_info
from runtime.phoenix.socket import Socket
from tests.support.transport_request import transport_request

# ---- requests


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("vsn=2.0.0&a=1&a=2", {"vsn": "2.0.0", "a": "2"}),
        ("a[b]=1&a[c][d]=2", {"a": {"b": "1", "c": {"d": "2"}}}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a=%C3%A9+x&&b&=&x=%zz&", {"a": "é x", "b": "", "": "", "x": "%zz"}),
        ("a]=1", {"a]": "1"}),
        ("[a]=1&b[=2", {"[a]": "1", "b[": "2"}),
        ("a[][b]=1&a[][c]=2", {"a": [{"b": "1", "c": "2"}]}),
        (
            "a[b][c]=1&a[b][d]=2&e=1&e[f]=2&g[h]=1&g=2",
            {"a": {"b": {"c": "1", "d": "2"}}, "e": {"f": "2"}, "g": "2"},
        ),
        ("a[]=1&a[b]=2&c[d]=1&c[]=2", {"a": {"b": "2"}, "c": ["2"]}),
        ("a[b][][c]=1", {"a": {"b": [{"c": "1"}]}}),
        ("a[b][c][d]=1&a[b][e]=2&a[b][c][f]=3", {"a": {"b": {"c": {"d": "1", "f": "3"}, "e": "2"}}}),
        ("a[b][c][d]=1&a[b]=2&a[b][c][e]=3", {"a": {"b": "2"}}),
        ("a[b][c]=1&a[b][c]=2&a[b][]=3", {"a": {"b": ["3"]}}),
    ],
)
def test_query(text: str, params: dict[str, Any]) -> None:
    assert query.decode(text) == params


def test_query_must_be_utf8() -> None:
    with pytest.raises(query.InvalidQuery):
        query.decode("a=%ff")


def test_a_query_may_be_deep() -> None:
    value = query.decode("a" + "[b]" * 20_000 + "=1")["a"]
    for _ in range(20_000):
        value = value["b"]
    assert value == "1"


ORIGINS = ("//example.com", "https://*.example.org", "http://other.test:8080")
LOOPBACK = ("//localhost", "//127.0.0.1", "//[::1]")
# Each begins like an origin that is allowed, or ends like one.
NO_ORIGINS = [
    "http://127.0.0.1:80.evil.test", "http://localhost:8a", "http://localhost:80@evil.test", "http://evil.test@localhost",
    "http://localhost#.evil.test", "http://localhost?.evil.test", "http://localhost/.evil.test", "http://localhost\\.evil.test",
    "http://localhost .evil.test", "http://[::1].evil.test", "http://[::1]evil.test", "http://localhost, http://evil.test",
    "http:///localhost", "http:localhost", "http://localhost:\u0668", "http://localhost\n",
]  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "origin", "allowed"),
    [
        (ORIGINS, None, True),
        (ORIGINS, "https://example.com:8443", True),
        (ORIGINS, "http://a.example.com", False),
        (ORIGINS, "https://a.b.example.org", True),
        (ORIGINS, "https://example.org", True),
        (ORIGINS, "http://example.org", False),
        (ORIGINS, "https://example.org:444", False),
        (ORIGINS, "https://badexample.org", False),
        (ORIGINS, "http://other.test:8080", True),
        (ORIGINS, "http://other.test", False),
        (ORIGINS, "http://other.test:" + "8" * 5000, False),
        (ORIGINS, "null", False),
        (ORIGINS, "", False),
        (ORIGINS, "http://example.com/", True),
        (ORIGINS, "//example.com", True),
        (ORIGINS, "http://x@example.com:80@evil.test", False),
        (ORIGINS, "http://evil.test/@example.com", False),
        (False, "http://evil.test", True),
        (True, "https://bitnexus.test", True),
        (True, "https://evil.test", False),
        *((LOOPBACK, text, False) for text in NO_ORIGINS),
        *((LOOPBACK, text, True) for text in ("http://127.0.0.1:8", "https://[::1]:8", "HTTP://localhost")),
        ((*ORIGINS, "conn"), "http://localhost:4000", True),
        ((*ORIGINS, "conn"), "http://localhost:4001", False),
        ((*ORIGINS, "conn"), "http://other.test:8080", True),
        ("conn", "http://localhost:4000", True),
        ("conn", "http://localhost", False),
        ("conn", "https://localhost:4000", False),
        (lambda origin: origin.host == "fn.test", "http://fn.test", True),
        (lambda origin: origin.host == "fn.test", "http://other.test", False),
    ],
)
def test_check_origin(setting: Any, origin: str | None, allowed: bool) -> None:
    policy = OriginPolicy(setting, "bitnexus.test")
    assert policy.allows(origin, "http", "localhost", 4000) is allowed


def test_an_own_origin_may_be_an_ipv6_address() -> None:
    assert OriginPolicy("conn").allows("http://[::1]:4000", "http", "[::1]", 4000)


def test_check_origin_entries_need_a_host() -> None:
    with pytest.raises(ValueError, match=r"example\.com"):
        OriginPolicy(["example.com"])


def test_mounts_match_by_segments() -> None:
    class UserSocket(Socket):
        pass

    mounts = Mounts(
        [
            Mount("/socket", UserSocket, WebSocketOptions(), LongPollOptions()),
            Mount("/rooms/:tenant", UserSocket, WebSocketOptions(path="/ws/:lang")),
        ]
    )

    def matched(path: str) -> Any:
        found = mounts.match(path)
        return found and (found[0].transport, found[1])

    assert matched("/socket/websocket") == ("websocket", {})
    assert matched("//socket//longpoll/") == ("longpoll", {})
    assert matched("/rooms/a%20b/ws/en") == ("websocket", {"tenant": "a%20b", "lang": "en"})
    assert (
        matched("/socket") is None
        and matched("/rooms/x/ws") is None
        and matched("/socket/websocket/x") is None
    )


def test_connect_info_holds_what_the_mount_names() -> None:
    headers = (
        ("host", "h.test:8"),
        ("x-one", "1"),
        ("x-name", "Jörg".encode().decode("latin-1")),
        ("x-bytes", "\xff"),
        ("user-agent", "ua"),
        ("traceparent", "t"),
        ("cookie", "c"),
    )
    request = transport_request("GET", "/p", "q=1", headers, "https", ("10.0.0.1", 99))
    info = connect_info(
        request, ("peer_data", "x_headers", "uri", "user_agent", "trace_context_headers", "session")
    )
    assert info["peer_data"] == {"address": "10.0.0.1", "port": 99}
    assert info["x_headers"] == [("x-one", "1"), ("x-name", "Jörg"), ("x-bytes", "\udcff")]
    assert info["trace_context_headers"] == [("traceparent", "t")]
    assert (info["uri"].host, info["uri"].port, info["uri"].scheme) == ("h.test", 8, "https")
    assert info["user_agent"] == "ua" and info["session"] is None and len(info) == 6
    with pytest.raises(ValueError, match="cookies"):
        WebSocketOptions(connect_info=("cookies",))


def test_a_port_of_thousands_of_digits_is_no_error() -> None:
    request = transport_request("GET", "/", "", (("host", "h.test:" + "9" * 5000),))
    assert request.host == "h.test" and request.port == 999_999_999


def test_routes_end_with_a_star_or_have_none() -> None:
    with pytest.raises(ValueError, match="splat"):

        class Bad(Socket):
            channels = {"a:*:b": object}  # type: ignore[dict-item]


# ---- handshake


@pytest.mark.parametrize(
    ("encoded", "token"),
    [
        ("Z29vZC10b2tlbg", "good-token"),
        ("Z29vZC10b2tlbg==", "good-token"),
        ("Z29vZC10b2tlbg=", 500),  # padded in part
        ("Z29vZ", 500),
        ("****", 500),
        ("abc-_w==", 500),  # the alphabet is not that of the prefix's name
        ("abcd====", 500),
        ("", ""),
    ],
)
def test_auth_tokens_in_the_subprotocol(encoded: str, token: Any) -> None:
    class UserSocket(Socket):
        pass

    mounts = Mounts([Mount("/socket", UserSocket, auth_token=True)])
    headers = (("sec-websocket-protocol", f"phoenix, base64url.bearer.phx.{encoded}"),)
    request = transport_request("GET", "/socket/websocket", "", headers)
    found = mounts.match(request.path)
    assert found is not None
    result = check_websocket(*found, request)
    assert (result.status if isinstance(result, TransportResponse) else result.info["auth_token"]) == token


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("dGhlIHNhbXBsZSBub25jZQ==", True),
        ("", False),
        ("dGhlIHNhbXBsZSBub25jZQ", False),
        ("c2hvcnQ=", False),
        ("dGhlIHNhbXBsZSBub25jZSB0aGF0IGlzIGxvbmc=", False),
        ("dGhlIHNhbXBsZSBub25j!Q==", False),
        (None, False),
    ],
)
def test_a_key_has_sixteen_bytes(key: str | None, accepted: bool) -> None:
    class UserSocket(Socket):
        pass

    headers = (
        ("host", "h"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        *((("sec-websocket-key", key),) if key is not None else ()),
    )
    request = transport_request("GET", "/socket/websocket", "", headers)
    found = Mounts([Mount("/socket", UserSocket)]).match(request.path)
    assert found is not None
    candidate = check_websocket(*found, request)
    assert isinstance(candidate, Candidate)
    assert isinstance(upgrade(candidate), WebSocketUpgrade) is accepted
    any_key = Mounts([Mount("/socket", UserSocket, WebSocketOptions(validate_key=False))]).match(request.path)
    assert any_key is not None
    candidate = check_websocket(*any_key, request)
    assert isinstance(candidate, Candidate)
    assert isinstance(upgrade(candidate), WebSocketUpgrade) is (key is not None)


@pytest.mark.parametrize(
    "origin",
    [
        "http://[::1].evil.com",
        "http://[::1]evil.com",
        "http://[::1]x:80",
        "http://localhost.evil.com",
        "http://[::1",
    ],
)
def test_a_host_is_compared_to_its_end(origin: str) -> None:
    policy = OriginPolicy(("//localhost", "//127.0.0.1", "//[::1]"))
    assert not policy.allows(origin, "http", "localhost", None)
    assert policy.allows("http://[::1]:5173", "http", "localhost", None)


@pytest.mark.parametrize(
    "pairs", ["a=1&b=2", "a=1&a=2", "&&a&b=&=x&=", "a==1&b=c=d", "", "token=x.y.z&vsn=2.0.0"]
)
def test_a_plain_query_is_read_as_one_with_brackets(pairs: str) -> None:
    nested = query.decode(f"z[]=1&{pairs}")
    assert nested.pop("z") == ["1"]
    assert query.decode(pairs) == nested
