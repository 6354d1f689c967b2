"""A head that comes again and again is not parsed again, and says the same all the same (runtime/http/connection.py)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runtime.http.connection import END, Connection
from runtime.http.messages import Request
from runtime.http.options import HttpOptions

HEADS = (
    (b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n", 0),
    (b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n", 0),
    (b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n", 3),
    (b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n", 11),
    (b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n", 3),
    (b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n", 3),
    (b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n", 0),
    (b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n", None),
    (b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n", 0),
)
BODIES = (b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost: evil\r\n\r\n", b"0\r\n\r\n", b"{}", b"")


def message(rng: random.Random) -> bytes:
    head, length = HEADS[rng.randrange(len(HEADS))]
    if length is None:
        return (
            head
            + b"\r\n"
            + rng.choice((b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"1;x=y\r\n\n\r\n0\r\nt: u\r\n\r\n"))
        )
    return head + b"\r\n" + (rng.choice(BODIES) * 11)[:length].ljust(length, b"x")


def told(connection: Connection, pieces: list[bytes]) -> list[Any]:
    """What the pieces say, bodies joined. Every request is answered as soon as it is whole."""
    said: list[Any] = []
    for piece in pieces:
        events = connection.receive(piece)
        while events:
            for event in events:
                if isinstance(event, Request):
                    said.append(
                        (
                            event.method, event.path, event.query, tuple(event.fields), event.headers, event.version,
                            event.keep_alive, event.content_length, event.expects_continue, event.upgrade,
                        )
                    )  # fmt: skip
                    if event.content_length == 0:
                        connection.answered()
                elif event is END:
                    said.append(END)
                    connection.answered()
                elif isinstance(event, bytes) and said and isinstance(said[-1], bytes):
                    said[-1] += event
                else:
                    said.append(event)
            events = connection.receive(b"")
    assert connection.pending == 0 and connection.rest == b""
    return said


@pytest.mark.parametrize("seed", range(400))
def test_repeated_heads_say_what_parsed_ones_say(seed: int) -> None:
    rng = random.Random(seed)
    messages = [each for _ in range(8) for each in [message(rng)] * rng.randrange(1, 6)]
    stream = b"".join(messages)
    cuts = sorted(rng.sample(range(1, len(stream)), min(len(stream) - 1, rng.randrange(1, 40))))
    at_random = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    byte_by_byte = [bytes([byte]) for byte in stream]  # no head is in one piece: each is parsed
    parsed = told(Connection(HttpOptions()), byte_by_byte)
    assert told(Connection(HttpOptions()), messages) == parsed
    assert told(Connection(HttpOptions()), at_random) == parsed
    assert told(Connection(HttpOptions()), [stream]) == parsed


def test_the_third_time_a_head_is_not_parsed() -> None:
    class Parsed(Connection):
        __slots__ = ("heads",)

        def on_headers_complete(self) -> None:
            self.heads += 1
            super().on_headers_complete()

    connection = Parsed(HttpOptions())
    connection.heads = 0
    for number in range(100):
        told(connection, [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n%02d" % number])
    assert connection.heads == 2 and connection.count == 100


def test_the_limit_of_requests_ahead_holds_for_repeated_heads() -> None:
    connection = Connection(HttpOptions(max_ahead=2))
    request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok"
    told(connection, [request] * 3)
    for _ in range(5):
        connection.receive(request)
    assert connection.pending == 2 and len(connection.rest) == 3 * len(request)
