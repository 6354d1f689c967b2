"""What the connection refuses and what it lets through: framing, single fields, hosts, upgrades, bounds.

Pure: no socket, no clock.

Each stream goes in at once and byte by byte: where reads end must not matter.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import http
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.http.asgi import asgi
from runtime.http.connection import END, Connection
from runtime.http.options import HttpOptions
from runtime.http.server import addresses
from runtime.http.target import Refusal
from tests.support.server import PATIENCE

NEXT = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"
OPTIONS = HttpOptions(upgradable=lambda request: request.path == "/socket")


def events(data: bytes, size: int | None = None) -> list[Any]:
    """What comes out, pieces of a body joined; `size` bytes go in at a time. All requests count as answered at once."""
    connection = Connection(OPTIONS)
    out: list[Any] = []
    for at in range(0, len(data), size or max(1, len(data))):
        new = connection.receive(data[at : at + (size or len(data))])
        while new:
            for event in new:
                if isinstance(event, bytes) and out and isinstance(out[-1], bytes):
                    out[-1] += event
                else:
                    out.append(event)
                if isinstance(event, http.Request):
                    connection.answered()
            new = connection.receive(b"")
    connection.close()
    return out


def told(data: bytes) -> list[Any]:
    """The events as plain values, the same however the bytes are cut."""

    def status(refusal: Refusal) -> int:
        # An unknown method is told from garbage by what follows it, if that has come.
        return 400 if refusal.reason == "the method is unknown" else refusal.status

    def plain(found: list[Any]) -> list[Any]:
        return [
            f"{event.method} {event.path}" if isinstance(event, http.Request)
            else status(event) if isinstance(event, Refusal) else event
            for event in found
        ]  # fmt: skip

    whole = plain(events(data))
    for size in (1, 7):
        assert plain(events(data, size)) == whole, size
    return whole


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"host: x", *lines, b"", body])


CHUNKED = b"transfer-encoding: chunked"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nhost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x:65536\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x:000080\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x%zz\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: [::::1]\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: [1.2.3.4]\r\n\r\n", 400),
        (b"GET /" + b"%" * 10_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET /?" + b"a" * 9_999 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /  HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"\r\nGET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"POST http://h/   HTTP/1.0\r\nhost: h\r\n\r\n", 400),
        (b"GET http://u@h/ HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        (b"GET ftp://h/ HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        (b"GET /#f HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
        (b"GET / RTSP/1.0\r\nhost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"CONNECT h:80 HTTP/1.1\r\nhost: h\r\n\r\n", 501),
        (b"GET / HTTP/1.1\nhost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: b\0\r\n\r\n", 400),
        (post(b"content-length: 1", b"content-length: 1", body=b"x"), 400),
        (post(b"content-length: 1, 1", body=b"x"), 400),
        (post(b"content-length: +1", body=b"x"), 400),
        (post(b"content-length: -1", body=b"x"), 400),
        (post(b"content-length: 0x1", body=b"x"), 400),
        (post(b"content-length: 1", CHUNKED, body=b"0\r\n\r\n"), 400),
        (post(CHUNKED, b"content-length: 1", body=b"0\r\n\r\n"), 400),
        (post(b"transfer-encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
        (post(b"transfer-encoding: identity", body=b"x"), 501),
        (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (post(b"authorization: a", b"authorization: b"), 400),
        (post(b"content-type: a/b", b"content-type: a/c"), 400),
        (post(b"idempotency-key: a", b"idempotency-key: a"), 400),
        (post(b"origin: http://a", b"origin: http://b"), 400),
        (post(b"content-length: 1", b"expect: 200-ok", body=b"x"), 417),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"b" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
        (
            b"GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n\r\nx",
            400,
        ),
    ],
)
def test_refused(data: bytes, status: int) -> None:
    got = told(data + NEXT)
    assert got[-1] == status and "GET /next" not in got


@pytest.mark.parametrize(
    "tail",
    [
        b"0\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"0\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
        b"0\r\na: " + b"b" * 200_000,
        b"1;" + b"x" * 70_000 + b"\r\nx\r\n0\r\n\r\n",
    ],
)
def test_what_is_beside_the_body_has_a_bound(tail: bytes) -> None:
    got = events(post(CHUNKED, body=tail))
    assert isinstance(got[-1], Refusal) and got[-1].status == 400


@pytest.mark.parametrize("zeros", [1, 10_000])
def test_a_length_with_zeros_before_it(zeros: int) -> None:
    """`int` raises for thousands of digits: without a token, a traceback in the log for each such request."""
    assert told(post(b"content-length: " + b"0" * zeros + b"3", body=b"abc") + NEXT)[:3] == [
        "POST /",
        b"abc",
        END,
    ]


def test_trailers_are_dropped() -> None:
    data = post(
        CHUNKED, body=b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\nx-forwarded-for: y\r\nhost: z\r\n\r\n"
    )
    found = [event for event in events(data + NEXT) if isinstance(event, http.Request)]
    assert told(data + NEXT) == ["POST /", b"abc", END, "GET /next"]
    assert [request.headers.get(b"authorization") for request in found] == [None, None]
    assert [request.headers[b"host"] for request in found] == [b"x", b"x"]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"h2c, websocket", b"foo"])
def test_an_upgrade_elsewhere_is_an_ordinary_request_with_its_body(protocol: bytes) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
    up = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: " + protocol)
    sized = post(*up, b"content-length: %d" % len(hidden), body=hidden)
    assert told(sized)[:3] == ["POST /", hidden, END]
    chunked = post(*up, CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden))
    assert told(chunked)[:3] == ["POST /", hidden, END]


def test_a_websocket_where_sockets_are_takes_what_follows() -> None:
    head = b"GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    connection = Connection(OPTIONS)
    (request,) = connection.receive(head + NEXT)
    assert isinstance(request, http.Request) and request.upgrade and connection.rest == NEXT


def test_few_requests_are_parsed_ahead() -> None:
    connection = Connection(OPTIONS)
    assert len(connection.receive(NEXT * 1000)) == 8 and len(connection.rest) == 992 * len(NEXT)
    connection.answered()
    assert len(connection.receive(b"")) == 1


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"host: x\r\n", b"content-length: 3\r\n", b"\r\n", b"abc",
                b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\n", b"\r", b" ", b"0\r\na: b\r\n\r\n",
                b"connection: upgrade\r\nupgrade: h2c\r\n", b"connection: close\r\n", b";x=y", b"content-length: 4\r\n",
            ]
        ),
        max_size=14,
    )
)  # fmt: skip
def test_h11_reads_no_more_requests_and_no_other_bodies(parts: list[bytes]) -> None:
    data = b"".join(parts)
    told(data)
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data or b"\r\n")  # without bytes it takes it for the end
    theirs: list[tuple[bytes, bytes]] = []
    try:
        while (event := peer.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                theirs.append((event.method, b""))
            elif isinstance(event, h11.Data):
                theirs[-1] = (theirs[-1][0], theirs[-1][1] + bytes(event.data))
    except h11.RemoteProtocolError:
        pass
    ours: list[tuple[bytes, bytes]] = []
    for event in events(data):
        if isinstance(event, http.Request):
            ours.append((event.method.encode(), b""))
        elif isinstance(event, bytes):
            ours[-1] = (ours[-1][0], ours[-1][1] + event)
    if theirs and ours:  # the first one, which both have read in full as far as it came
        assert ours[0] == theirs[0] or len(data) < 4 or not theirs[0][1]


def test_an_asgi_application_shares_the_port() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send(
            {"type": "http.response.start", "status": 201, "headers": [(b"x-path", scope["raw_path"])]}
        )
        for piece in (body, b"!", b"?"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def main() -> None:
        engine = AsyncioEngine().start()
        handler = asgi(app, lambda _request: http.Response(404), "/app")
        ((_host, port),) = await addresses(await http.Server.start(handler))

        async def ask(path: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc" % path
            )
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
            return answer

        answer = await ask(b"/app/a%20b")
        assert answer.startswith(b"HTTP/1.1 201") and b"x-path: /app/a%20b" in answer
        assert answer.endswith(b"3\r\nabc\r\n1\r\n!\r\n1\r\n?\r\n0\r\n\r\n")
        assert (await ask(b"/apple")).startswith(b"HTTP/1.1 404")
        await engine.stop()

    uvloop.run(main())


def test_a_body_of_empty_lines_is_parsed_in_turns() -> None:
    body = b"\r\n" * 16_384
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection = Connection(HttpOptions())
    events = connection.receive(head + b"8000\r\n" + body + b"\r\n0\r\n\r\n" + NEXT)
    turns = 1
    while connection.unfinished:
        assert connection.rest, "what is not parsed is kept, and reading stops meanwhile"
        new = connection.receive(b"")
        assert len(new) <= 260
        events += new
        turns += 1
    assert turns > 20
    assert b"".join(event for event in events if isinstance(event, bytes)) == body
    assert [type(event) for event in events if not isinstance(event, bytes)] == [
        http.Request,
        bool,
        http.Request,
    ]
