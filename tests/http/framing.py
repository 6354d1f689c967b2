"""Streams that readers of HTTP have read differently, and what our connection makes of one.

Request smuggling by lengths, codings, line ends, upgrades, targets; and ordinary ones, so that agreeing is no accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.http.connection import CLOSED, END, UPGRADED, Connection
from runtime.http.messages import Request
from runtime.http.options import HttpOptions
from runtime.http.target import Refusal

Whole = tuple[str, bytes]  # method and body of a request that has come in whole


@dataclass(slots=True)
class Reading:
    """What somebody read of a stream. `ended`: it refused the rest, or closed."""

    requests: list[Whole] = field(default_factory=list[Whole])
    ended: bool = False


def ours(data: bytes) -> Reading:
    """What our connection reads, every request answered at once."""
    connection = Connection(HttpOptions())
    reading = Reading()
    method, body = "", b""
    events = connection.receive(data)
    while events or connection.unfinished:
        for event in events:
            if isinstance(event, Request):
                method, body = event.method, b""
                if event.content_length == 0:
                    reading.requests.append((method, b""))
                connection.answered()
            elif event is END:
                reading.requests.append((method, body))
            elif isinstance(event, Refusal):
                reading.ended = True
            elif isinstance(event, bytes):
                body += event
        events = connection.receive(b"")
    reading.ended = reading.ended or connection.phase in (CLOSED, UPGRADED)
    connection.close()
    return reading


def disagreement(us: Reading, them: Reading) -> str | None:
    """Why these two must not stand one behind the other; None if they may."""
    for number, (mine, their) in enumerate(zip(us.requests, them.requests, strict=False)):
        if mine != their:
            return f"request {number} is {mine} here and {their} there"
    mine, their = len(us.requests), len(them.requests)
    if their > mine and not us.ended:
        return f"they read {their} requests, we {mine} and wait for more"
    if mine > their and not them.ended:
        return f"we read {mine} requests, they {their} and wait for more"
    return None


def post(*lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST with these field lines."""
    return b"\r\n".join([b"POST / HTTP/" + version, b"Host: x", *lines, b"", body])


INNER: Final = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT: Final = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked"
ZERO: Final = b"0\r\n\r\n"


def length(size: int | bytes) -> bytes:
    """A Content-Length line."""
    return b"Content-Length: " + (size if isinstance(size, bytes) else b"%d" % size)


_N: Final = len(INNER)
LENGTHS: Final = (
    post(length(3), body=b"abc"),
    post(length(0)),
    post(length(b"3, 3"), body=b"abc"),
    post(length(3), length(3), body=b"abc"),
    post(length(3), length(0), body=b"abc"),
    post(length(0), length(_N), body=INNER),
    post(length(b"+3"), body=b"abc"),
    post(length(b"-1"), body=b"abc"),
    post(length(b"0x3"), body=b"abc"),
    post(length(b"03"), body=b"abc"),
    post(length(b"3.0"), body=b"abc"),
    post(length(b"3;"), body=b"abc"),
    post(length(b"3 "), body=b"abc"),
    post(length(b"3 4"), body=b"abc"),
    post(length(b"\x0b3"), body=b"abc"),
    post(length(b"\xb23"), body=b"abc"),
    post(length(b""), body=INNER),
    post(length(b"18446744073709551619"), body=b"abc"),
    post(b"Content-Length : 3", body=b"abc"),
    post(b" Content-Length: 3", body=b"abc"),
    post(b"Content-Length\t: 3", body=b"abc"),
    post(b"X: y\r\n Content-Length: %d" % _N, body=INNER),
    post(b"Content_Length: %d" % _N, body=INNER),
    post(b"Content-Length\0: 3", body=b"abc"),
    post(b"X: \0y", length(_N), body=INNER),
    post(b"X: y\n" + length(_N), body=INNER),
    post(b"X: y\r" + length(_N), body=INNER),
    post(b"X\r\n" + length(_N), body=INNER),
    post(b": y", length(_N), body=INNER),
    b"GET / HTTP/1.1\r\nHost: x\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    b"DELETE / HTTP/1.1\r\nHost: x\r\n" + length(_N) + b"\r\n\r\n" + INNER,
)
CODINGS: Final = (
    post(CHUNKED, body=b"3\r\nabc\r\n" + ZERO),
    post(CHUNKED, body=ZERO),
    post(CHUNKED, length(_N), body=ZERO + INNER),
    post(length(_N), CHUNKED, body=ZERO + INNER),
    post(length(len(ZERO)), CHUNKED, body=ZERO),
    *(
        post(b"Transfer-Encoding: " + coding, length(4), body=b"24\r\n" + INNER + b"\r\n" + ZERO)
        for coding in (
            b"chunked", b"Chunked", b"xchunked", b"chunked, identity", b"identity", b"gzip, chunked",
            b"chunked, gzip", b"chunked;q=1",
            b'"chunked"', b"\tchunked", b"\x0bchunked", b"chunked\x0b", b"chunked\x00", b"chunked,",
            b",chunked", b"", b"chun ked",
        )
    ),
    *(
        post(b"Transfer-Encoding: " + coding, body=ZERO)
        for coding in (b"xchunked", b"identity", b"chunked, chunked", b"gzip", b"chunked, identity", b"")
    ),
    post(b"Transfer-Encoding : chunked", length(_N), body=ZERO + INNER),
    post(b"Transfer_Encoding: chunked", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding\t: chunked", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding\0: chunked", length(_N), body=ZERO + INNER),
    post(b"X: y\nTransfer-Encoding: chunked", length(_N), body=ZERO + INNER),
    post(b"X: y\rTransfer-Encoding: chunked", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding:\r\n chunked", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding: x", CHUNKED, body=ZERO + INNER),
    post(CHUNKED, b"Transfer-Encoding: x", body=ZERO + INNER),
    post(CHUNKED, CHUNKED, body=ZERO),
    post(CHUNKED, body=ZERO, version=b"1.0"),
    post(CHUNKED, length(_N), body=ZERO + INNER, version=b"1.0"),
    b"GET / HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n" + ZERO,
)  # fmt: skip
CHUNKS: Final = tuple(
    post(CHUNKED, body=body)
    for body in (
        b"3;a=b\r\nabc\r\n" + ZERO, b'3;a="b"\r\nabc\r\n' + ZERO, b'3;a="\r\n"\r\nabc\r\n' + ZERO,
        b"3 \r\nabc\r\n" + ZERO, b"3;\r\nabc\r\n" + ZERO,
        b"3 ;a\r\nabc\r\n" + ZERO, b" 3\r\nabc\r\n" + ZERO, b"+3\r\nabc\r\n" + ZERO, b"-3\r\nabc\r\n" + ZERO,
        b"0x3\r\nabc\r\n" + ZERO,
        b"3_0\r\nabc\r\n" + ZERO, b"03\r\nabc\r\n" + ZERO, b"g\r\nabc\r\n" + ZERO, b"3\nabc\r\n" + ZERO,
        b"3\r\nabc\n" + ZERO,
        b"3\rabc\r\n" + ZERO, b"3\r\nabc" + ZERO, b"3\r\nabcd\r\n" + ZERO, b"2\r\nabc\r\n" + ZERO,
        b"100000003\r\nabc\r\n" + ZERO,
        b"10000000000000003\r\nabc\r\n" + ZERO, b"3;\nabc\r\n" + ZERO, b"3;a\nb\r\nabc\r\n" + ZERO,
        b"3;a\rb\r\nabc\r\n" + ZERO, b"\r\nabc\r\n" + ZERO,
        b"0\r\nx: y\r\n\r\n", b"0\r\nContent-Length: 36\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nHost: y\r\n\r\n", b"0\r\nx : y\r\n\r\n",
        b"0\r\nx: y\n\r\n", b"0\r\nx\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"0;x\r\n\r\n", b"00\r\n\r\n",
        b"0\r\n\rX\n\r\n", b"0\r\n" + INNER,
    )
)  # fmt: skip
UPGRADES: Final = tuple(
    data
    for protocol in (b"h2c", b"websocket", b"TLS/1.0", b"h2c, websocket", b"WebSocket", b"x")
    for data in (
        post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol,
        b"HTTP2-Settings: AAMAAABkAAQAAP__", length(_N), body=INNER),
        post(b"Connection: upgrade", b"Upgrade: " + protocol, CHUNKED, body=b"%x\r\n%b\r\n" % (_N, INNER) + ZERO),
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    )
)  # fmt: skip
LINES: Final = (
    NEXT,
    NEXT * 3,
    b"\r\n" + NEXT,
    b"\n" + NEXT,
    NEXT.replace(b"\r\n", b"\n"),
    NEXT.replace(b"\r\n", b"\r"),
    b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET / HTTP/11\r\nHost: x\r\n\r\n",
    b"GET / HTTP/01.1\r\nHost: x\r\n\r\n",
    b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    post(b"Connection: close", length(3), body=b"abc"),
    post(b"Connection: Content-Length", length(_N), body=INNER),
    post(b"Connection: Transfer-Encoding", CHUNKED, body=ZERO),
    post(b"Connection: keep-alive", length(3), body=b"abc", version=b"1.0"),
    post(b"Expect: 100-continue", length(3), body=b"abc"),
    post(b"Expect: x", length(_N), body=INNER),
    post(b"X" * 60 + b": y", length(3), body=b"abc"),
)
_HEAD: Final = b"POST / HTTP/1.1\r\nHost: x\r\n"
FOLDED: Final = (
    post(b"Transfer-Encoding: chunked\r\n ", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding: \r\n\tchunked", body=ZERO),
    post(b"Content-Length: 3\r\n 6", body=b"abc" + INNER),
    post(b"Content-Length:\r\n %d" % _N, body=INNER),
    post(b"X: y\r\n\tTransfer-Encoding: chunked", length(_N), body=INNER),
    b"POST / HTTP/1.1\r\n\tHost: x\r\n" + length(3) + b"\r\n\r\nabc",
)
ENDS: Final = (
    b"POST / HTTP/1.1\nHost: x\n" + length(_N) + b"\n\n" + INNER,
    b"POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n" + ZERO,
    _HEAD + length(_N) + b"\r\n\n" + INNER,
    _HEAD + length(_N) + b"\n\r\n" + INNER,
    _HEAD + length(_N) + b"\r\r\n\r\n" + INNER,
    _HEAD + b"X: y\r\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    _HEAD + b"\rX: y\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    _HEAD + b"X: y\0\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    _HEAD + b"X\xff: y\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    _HEAD + b"X y: z\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    _HEAD + b"Content-Length\r\n: 3\r\n\r\nabc",
    _HEAD + b"Content-Length: 3\x85\r\n\r\nabc",
    _HEAD + b"Content-Length: 3\xa0\r\n\r\nabc",
    b"\r\n\r\n\r\n" + NEXT,
    b" " + NEXT,
    b"\0" + NEXT,
    b"\xef\xbb\xbf" + NEXT,
)
LISTS: Final = (
    post(length(b"3,3"), body=b"abc"),
    post(length(b"3 , 3"), body=b"abc"),
    post(length(b"3, 4"), body=b"abc"),
    post(length(b",3"), body=b"abc"),
    post(length(b"3,"), body=b"abc"),
    post(length(b"0003"), body=b"abc"),
    post(length(b"3e0"), body=b"abc"),
    post(length(b"0b11"), body=b"abc"),
    post(length(b"1_0"), body=b"0123456789"),
    post(length(b"9" * 40), body=b"abc"),
    post(length(b"4294967299"), body=b"abc"),
    post(length(3), b"CONTENT-LENGTH: 3", body=b"abc"),
    post(b"Transfer-Encoding: chunked, chunked", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=ZERO + INNER),
    post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=ZERO + INNER),
    post(b"Transfer-Encoding: identity", length(3), body=b"abc"),
    post(b"Transfer-Encoding: \xe2\x84\xaahunked", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding: 'chunked'", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding: chunked\r", length(_N), body=ZERO + INNER),
    post(b"Transfer-Encoding:chunked", body=ZERO),
    post(b"TRANSFER-ENCODING: CHUNKED", body=ZERO),
    post(b"TE: trailers, chunked", b"Connection: TE", length(3), body=b"abc"),
    post(b"Trailer: Content-Length", CHUNKED, body=b"0\r\nContent-Length: 5\r\n\r\n"),
)
SIZES: Final = tuple(
    post(CHUNKED, body=body)
    for body in (
        b"0" * 20 + b"3\r\nabc\r\n" + ZERO, b"f" * 16 + b"\r\nabc\r\n" + ZERO, b"1" + b"0" * 16 + b"\r\n\r\n" + ZERO,
        b"\t3\r\nabc\r\n" + ZERO, b"3\t\r\nabc\r\n" + ZERO, b"3\0\r\nabc\r\n" + ZERO, b"0x0\r\n\r\n", b"-0\r\n\r\n",
        b"3;\0\r\nabc\r\n" + ZERO, b"3;a=\"\n\"\r\nabc\r\n" + ZERO, b"3 \n\r\nabc\r\n" + ZERO, b"3\r\r\nabc\r\n" + ZERO,
        b"3\r\nabc\r\r\n" + ZERO, b"3\r\nabc\r0\r\n\r\n", b"3\r\nabc\r\n\r\n" + ZERO, b"3\r\nabc  " + ZERO,
        b"5\r\n0\r\n\r\n\r\n" + ZERO, b"3,3\r\nabc\r\n" + ZERO, b"3\r\nabc\r\n0\r\n\r\n0\r\n\r\n", b"0\r\n x: y\r\n\r\n",
        b"0\r\nx: y\r\n z\r\n\r\n", b"0\r\n: y\r\n\r\n", b"0\r\nx: \0\r\n\r\n", b"0\r\nx\0: y\r\n\r\n", b"0;a\n\r\n",
    )
)  # fmt: skip
TARGETS: Final = (
    b"GET http://y:80/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x@y/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //y/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET HTTP://X/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET ftp://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET y:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n" + INNER,
    b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    b"POST /a HTTP/1.1\r\nHost: x, y\r\n" + length(3) + b"\r\n\r\nabc",
    b"POST /a HTTP/1.1\r\nHost:\r\n" + length(3) + b"\r\n\r\nabc",
    b"POST /a#b HTTP/1.1\r\nHost: x\r\n" + length(3) + b"\r\n\r\nabc",
    b"POST /a HTTP/1.1 HTTP/1.1\r\nHost: x\r\n" + length(3) + b"\r\n\r\nabc",
    b"POST /a HTTP/1.0 HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n" + ZERO,
    b"POST /\t HTTP/1.1\r\nHost: x\r\n" + length(3) + b"\r\n\r\nabc",
    b"M" * 100 + b" / HTTP/1.1\r\nHost: x\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    b"post / HTTP/1.1\r\nHost: x\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    b"GET / http/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1.\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1,1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
OLDER: Final = (
    post(b"Connection: keep-alive", CHUNKED, body=ZERO, version=b"1.0"),
    post(b"Connection: keep-alive", CHUNKED, length(_N), body=ZERO + INNER, version=b"1.0"),
    post(b"Connection: keep-alive, close", length(3), body=b"abc", version=b"1.0"),
    post(b"Connection: close, keep-alive", length(3), body=b"abc"),
    post(b"Connection: close", b"Connection: keep-alive", length(3), body=b"abc"),
    post(b"Proxy-Connection: keep-alive", length(3), body=b"abc", version=b"1.0"),
    post(b"Connection: keep-alive", body=INNER, version=b"1.0"),
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    post(b"Expect: 100-continue", length(0)),
    post(b"Expect: 100-Continue", CHUNKED, body=ZERO),
    post(b"Expect: 100-continue, x", length(_N), body=INNER),
    post(b"Expect: 100-continue", length(3), body=b"abc", version=b"1.0"),
    b"HEAD / HTTP/1.1\r\nHost: x\r\n" + length(_N) + b"\r\n\r\n" + INNER,
    b"HEAD / HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n" + ZERO,
    b"TRACE / HTTP/1.1\r\nHost: x\r\n" + length(3) + b"\r\n\r\nabc",
    b"OPTIONS / HTTP/1.1\r\nHost: x\r\n" + length(_N) + b"\r\n\r\n" + INNER,
)
STREAMS: Final[Sequence[bytes]] = tuple(
    data + NEXT
    for data in (
        *LENGTHS,
        *CODINGS,
        *CHUNKS,
        *UPGRADES,
        *LINES,
        *FOLDED,
        *ENDS,
        *LISTS,
        *SIZES,
        *TARGETS,
        *OLDER,
    )
)
PARTS: Final = (
    b"POST / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t",
    b"\0", b":", b",", b";", b"abc", ZERO, NEXT, INNER,
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n",
    b"3;a=b\r\nabc\r\n", b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"0\r\nx: y\r\n\r\n", b"HTTP/1.0", b"0x", b"+", b"\x0b",
    b"identity", b"1", b"0",
)  # fmt: skip
