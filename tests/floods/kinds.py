"""The floods, by name: each member of the kinds of finding A, and what else is like them."""

from __future__ import annotations

import zlib
from typing import Final

from tests.floods import clients
from tests.floods.clients import (
    HANDSHAKE,
    SIGNED,
    Flood,
    frame,
    frames,
    once_each,
    request_of,
    sending,
    socket,
)

HEAD = b"POST /health HTTP/1.1\r\nhost: x\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
MEGABYTE = 1_000_000
READ = 250_000  # bytes: the most of a body, or of a message, that is read and not refused
LOGIN = "/api/v1/auth/login"
SOCKET = "/socket/websocket?vsn=2.0.0"
LIKE_TOKENS = "eyJ" * 16_000
BEAT = b'[null,"1","phoenix","heartbeat",%b]'


ODD_QUERIES = (
    "a" + "[b]" * 2_900,
    "&".join(f"a[{number}]=" for number in range(900)),
    "vsn[]=1",
    "token[a]=" + "%41" * 2_000,
    "a[]&" * 2_000,
)


def _login(email: bytes) -> bytes:
    return request_of("POST", LOGIN, b'{"password":"x","email":' + email + b"}")


def _large(part: bytes) -> bytes:
    """A JSON array as large as BitNexus reads it."""
    return b"[" + b",".join([part] * (READ // (len(part) + 1))) + b"]"


def _message(part: bytes) -> bytes:
    """A heartbeat as large as BitNexus takes it."""
    return BEAT % _large(part)


def _deflated(text: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


HEADS: Final[dict[str, Flood]] = {
    "A1 trailer fields without end": sending(b"x-a: b\r\n", CHUNKED + b"0\r\n", reads=False),
    "A1 one trailer field without end": sending(b"y", CHUNKED + b"0\r\nx: ", reads=False),
    "A1 one chunk extension without end": sending(b"y", CHUNKED + b"1;", reads=False),
    "A1 chunk extensions": sending(b"1;" + b"a=b;" * 100 + b"\r\nx\r\n", CHUNKED, reads=False),
    "A1 a chunk size of zeros without end": sending(b"0", CHUNKED, reads=False),
    "A1 one field without end": sending(b"y", HEAD + b"x: ", reads=False),
    "A1 one field name without end": sending(b"y", HEAD, reads=False),
    "A1 fields without end": sending(b"a: b\r\n", HEAD, reads=False),
    "A1 a target without end": sending(b"y", b"GET /", reads=False),
    "A1 a method without end": sending(b"Y", b"", reads=False),
    "A1 chunks of one byte": sending(b"1\r\nx\r\n", CHUNKED, reads=False),
    "A1 empty lines in a chunked body": sending(b"8000\r\n" + b"\r\n" * 16_384 + b"\r\n", CHUNKED, reads=False),
    "A1 empty lines before a request": sending(b"\r\n", reads=False),
    "A1 heads of many fields": once_each(
        request_of("GET", "/health", fields=tuple(f"x-{n}: {'y' * 500}" for n in range(99)))
    ),
    "A2 requests, answers unread": sending(request_of("GET", "/x"), reads=False),
    "A2 HEAD requests, answers unread": sending(request_of("HEAD", "/openapi.json"), reads=False),
    "A2 large answers unread": sending(request_of("GET", "/openapi.json"), reads=False),
    "A2 large answers read": sending(request_of("GET", "/openapi.json", fields=("accept-encoding: gzip",))),
    "A2 posts, answers unread": sending(_login(b'"a"'), reads=False),
    "A2 OPTIONS, answers unread": sending(request_of("OPTIONS", LOGIN, fields=("origin: http://x",)), reads=False),
    "A3 bodies behind an Upgrade to h2c": sending(
        HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 9\r\n\r\nGET / HTT", reads=False
    ),
    "A3 chunks behind an Upgrade": sending(
        HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ),
}  # fmt: skip

FIELDS: Final[dict[str, Flood]] = {
    **{
        f"A4 {name} that looks like tokens": once_each(request_of("GET", path, fields=(f"{name}: {value}",)))
        for name, value, path in (
            ("origin", "http://" + LIKE_TOKENS, SOCKET),
            ("origin", "http://" + LIKE_TOKENS, "/socket/longpoll?vsn=2.0.0"),
            ("authorization", "Bearer " + LIKE_TOKENS, "/api/v1/auth/me"),
            ("x-request-id", LIKE_TOKENS, "/x"),
            ("user-agent", LIKE_TOKENS, SOCKET),
            ("cookie", LIKE_TOKENS, SOCKET),
            ("x-forwarded-for", "1.2.3.4, " * 6_000, "/health"),
            ("if-none-match", '"x", ' * 10_000, "/openapi.json"),
            ("accept-encoding", "a;q=0.1," * 8_000, "/openapi.json"),
            ("content-type", "a/b;" * 14_000, LOGIN),
            ("sec-websocket-protocol", "a, " * 20_000, SOCKET),
            ("sec-websocket-extensions", "permessage-deflate;a, " * 2_500, SOCKET),
            ("access-control-request-headers", "a, " * 20_000, "/socket/longpoll?vsn=2.0.0"),
            ("range", "bytes=" + "0-0," * 14_000, "/openapi.json"),
        )
    },
    "A4 a host that looks like tokens": once_each(request_of("GET", "/x", host="eyJ" * 20_000)),
    "A4 another long host each time": once_each(
        *(request_of("GET", "/x", host=f"{number:05}" + "y" * 30_000) for number in range(300))
    ),
    "A4 folders in a path": sending(request_of("GET", "/a" * 4_500)),
    "A4 encoded folders in a path": sending(request_of("GET", "/%41" * 2_200)),
    "A4 encoded slashes in a path": sending(request_of("GET", "/api/v1/services/go/" + "%2F" * 2_900)),
    "A4 a path that looks like tokens": once_each(request_of("GET", "/" + "eyJ" * 3_000)),
    "A4 escapes in a path": sending(request_of("GET", "/" + "%" * 9_000)),
    "A4 slashes in a path": sending(request_of("GET", "/socket" + "/" * 9_000)),
    "A5 refused heads": once_each(b"GET / HTTP/1.1\r\n\r\n", request_of("GET", "/", host="a/b"), b"\x16\x03\x01\r\n\r\n"),
    "A6 codings and versions": once_each(
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/2.0\r\nhost: x\r\n\r\n"
    ),
    "A7 single fields twice": once_each(request_of("GET", "/x", fields=("authorization: a", "authorization: b"))),
    "A8 bodies over the limit": once_each(request_of("POST", LOGIN, b"x" * 3 * MEGABYTE)),
    "A14 handshakes with a wrong key": once_each(HANDSHAKE.replace(b"dGhl", b"dGh")),
    "A16 foreign origins": once_each(HANDSHAKE.replace(b"host", b"origin: http://[::1].evil.com\r\nhost")),
    "A18 tokens never seen": once_each(
        *(request_of("GET", "/api/v1/auth/me", fields=(f"authorization: Bearer a{n}.b.c",)) for n in range(5_000))
    ),
    "A18 tokens that nobody signed": once_each(
        *(
            HANDSHAKE.replace(b"TOKEN", b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx%04d.YQ" % n)
            for n in range(5_000)
        )
    ),
    "A20 maps in a query": once_each(
        *(request_of("GET", f"/socket/websocket?vsn=2.0.0&{query}") for query in ODD_QUERIES)
    ),
    "A20 pairs in a query": sending(request_of("GET", "/api/v1/transactions?" + "a=b&" * 2_000, fields=SIGNED)),
    "A20 a cursor": sending(request_of("GET", "/api/v1/transactions?cursor=" + "A" * 9_000, fields=SIGNED)),
}  # fmt: skip

BODIES: Final[dict[str, Flood]] = {
    f"A9 a body of {name}": sending(_login(text))
    for name, text in (
        ("open brackets", b"[" * READ),
        ("open brackets, too many bytes", b"[" * MEGABYTE),
        ("open brackets, short", b"[" * 60_000),
        ("open objects", b'{"a":' * (READ // 5)),
        ("arrays", _large(b"[]")),
        ("objects", _large(b'{"a":0}')),
        ("a key twice", _large(b'{"a":0,"a":1}')),
        ("fractions", _large(b"1e1")),
        ("large integers", _large(b"9" * 4_000)),
        ("digits", b"9" * READ),
        ("exponents", b"1e" + b"9" * READ),
        ("NULs", b'"' + b"\\u0000" * (READ // 6) + b'"'),
        ("halves of pairs", b'"' + b"\\ud800" * (READ // 6) + b'"'),
        ("colons", b'"' + b"\\u003a" * (READ // 6) + b'"'),
        ("unknown names", b'"a",' + b",".join(b'"emai%d":1' % n for n in range(READ // 16))),
        ("a long address", b'"' + b"a." * (READ // 2) + b'@x"'),
    )
}  # fmt: skip

SOCKETS: Final[dict[str, Flood]] = {
    **{
        f"A9 messages of {name}": socket(text)
        for name, text in (
            ("open brackets", BEAT % (b"[" * 120_000)),
            ("brackets 1,000 deep", BEAT % (b"[" * 990 + b"]" * 990)),
            ("brackets 3,000 deep", BEAT % (b"[" * 3_000 + b"]" * 3_000)),
            ("arrays", _message(b"[]")),
            ("objects", _message(b'{"a":0}')),
            ("a key twice", _message(b'{"a":0,"a":1}')),
            ("large integers", _message(b"9" * 4_000)),
            ("a ref of 250 KB", b'[null,"' + b"x" * 250_000 + b'","phoenix","heartbeat",{}]'),
            ("a ref of arrays", b"[null,%b," % (b"[" * 200 + b"]" * 200) + b'"phoenix","heartbeat",{}]'),
            ("a topic of 250 KB", b'[null,"1","' + b"x" * 250_000 + b'","phx_join",{}]'),
            ("nothing to read", b"x"),
        )
    },
    "A9 one heartbeat": socket(BEAT % b"{}"),
    "A9 many topics": socket(*(b'["1","1","room:%d","phx_join",{}]' % n for n in range(90))),
    "A9 one topic joined again and again": socket(b'["1","1","transaction:USER","phx_join",{}]'),
    "A9 joined and left": socket(
        b'["1","1","transaction:USER","phx_join",{}]', b'["1","2","transaction:USER","phx_leave",{}]'
    ),
    "A9 joined with everything missed": socket(
        b'["1","1","transaction:USER","phx_join",{"last_seq":0}]', b'["1","2","transaction:USER","phx_leave",{}]'
    ),
    "A9 pushes to a channel": socket(b'["1","2","transaction:USER","ping",{"a":1}]', joined=True),
    "A9 pings": frames(frame(b"x" * 125, 0x89)),
    "A9 pings, pongs unread": sending(frame(b"x" * 125, 0x89), HANDSHAKE, reads=False),
    "A9 pongs": frames(frame(b"", 0x8A)),
    "A9 small fragments": sending(frame(b"x", 0x00), HANDSHAKE + frame(b"", 0x01)),
    "A9 fragments without end": sending(frame(b"x" * 1_000, 0x00), HANDSHAKE + frame(b"", 0x01)),
    "A9 binary pushes": frames(frame(b"\x00\x01\x01\x07\x09" + b"11phoenixheartbeat", 0x82)),
    "A9 binary messages that are cut": frames(frame(b"\x00\xff\xff\xff\xff", 0x82)),
    "A10 longpoll sessions never polled": clients.longpoll_sessions,
    "A11 frames at one byte a moment": clients.one_byte_a_moment,
    "A12 a control frame in fragments": frames(frame(b"", 0x49)),
    "A12 frames that are not masked": frames(b"\x81\x01x"),
    "A12 unknown opcodes": frames(frame(b"", 0x83)),
    "A12 text that is not UTF-8": frames(frame(b"\xff")),
    "A13 compressed, though nobody agreed": frames(frame(_deflated(b" " * 8_000_000), 0xC1)),
    "A17 sockets that join and end": clients.joined_sockets,
    "A19 broadcasts to many sockets": clients.broadcasts,
}  # fmt: skip

WORK: Final[dict[str, Flood]] = {
    "sign-ins with wrong passwords": once_each(*(_login(b'"a%d@example.com"' % n) for n in range(500))),
    "other paths each time": sending(b"".join(request_of("GET", f"/api/v1/{n:x}") for n in range(4_000))),
    "other methods": sending(b"".join(request_of(m, "/health") for m in ("PROPFIND", "LINK", "PURGE", "MKCOL"))),
    "lists": sending(request_of("GET", "/api/v1/transactions?limit=200", fields=SIGNED)),
    "lists, answers unread": sending(request_of("GET", "/api/v1/transactions", fields=SIGNED), reads=False),
    "writes": sending(request_of("POST", "/api/v1/transactions", b'{"amount":"1.00","currency":"EUR"}', SIGNED)),
    "proofs": sending(request_of("GET", "/api/v1/ledger/head", fields=SIGNED)),
    "readiness": sending(request_of("GET", "/api/v1/health/ready")),
}  # fmt: skip

FLOODS: Final[dict[str, Flood]] = {**HEADS, **FIELDS, **BODIES, **SOCKETS, **WORK}

GROWS: Final = 20.0  # MB that a flood may cost while it lasts
