"""Streams that readers know, and the parts that others are made of."""

from __future__ import annotations

import zlib
from typing import Final

from tests.phoenix.client import client_frame

_KEY: Final = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
HTTP_PARTS: Final = (
    b"GET / HTTP/1.1\r\n", b"POST /a?b=c HTTP/1.1\r\n", b"host: x\r\n", b"content-length: 3\r\n", b"\r\n",
    b"abc", b"\n", b"\r",
    b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b" ", b"\t", b"0\r\na: b\r\n\r\n",
    b";x=y", b"\0", b":",
    b"connection: upgrade\r\nupgrade: h2c\r\n", b"connection: close\r\n", b"content-length: 4\r\n",
    b"HTTP/1.0", b"\x80",
    b"upgrade: websocket\r\nconnection: upgrade\r\n" + _KEY, b"GET /socket HTTP/1.1\r\n",
    b"expect: 100-continue\r\n", b"+1",
    b"OPTIONS * HTTP/1.1\r\n", b"GET http://h:1/p HTTP/1.1\r\n", b"transfer-encoding: gzip, chunked\r\n",
    b"host: [::1]:1\r\n",
    b"FFFFFFFFFFFFFFFF\r\n", b"content-length: 18446744073709551615\r\n", b"1;a=\"b\\\"c\"\r\nx\r\n",
    b"a: b\r\n c\r\n", b"PRI * HTTP/2.0",
)  # fmt: skip
_NEXT: Final = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"
HTTP_SEEDS: Final = (
    _NEXT * 3,
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc" + _NEXT,
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n"
    + _NEXT,
    b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc"
    + _NEXT,
    b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"3\r\nabc\r\n0\r\n\r\n"
    + _NEXT,
    b"GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    + _KEY
    + b"\r\n\x81\x80abcd",
    b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" + _NEXT,
)
MESSAGES: Final = (
    b'["1","1","room:a","phx_join",{}]', b'["1","2","room:a","echo",{"a":[1,2.5,null,true,"\\u00e9"]}]',
    b'["1","3","room:a","phx_leave",{}]',
    b'[null,"4","phoenix","heartbeat",{}]',
    b'{"topic":"room:a","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}',
    b"\x00\x01\x01\x06\x04" + b"11room:aechobytes",
)  # fmt: skip
JSON_PARTS: Final = (
    b"[", b"]", b"{", b"}", b",", b":",
    b'"', b"null", b"true", b"1", b"-0", b"1e400", b'"room:a"', b'"phx_join"', b'"echo"', b"\\u003a",
    b"\\ud800", b"\xff", b'"1"', b"{}", b'"x":', b"9" * 40, b"0.57", b"NaN", b"[[[[[[[[", b'{"a":', b"\n",
    b"\\", b"\xc3\xa9", b"\xed\xa0\x80",
    *MESSAGES,
)  # fmt: skip
FRAME_PARTS: Final = (
    *(client_frame(opcode, payload, first) for opcode, payload, first in (
        (1, b"abc", 0x80), (1, b"ab", 0), (0, b"c", 0x80), (0, b"", 0), (2, b"\xff\xfe", 0x80), (8,
    b"\x03\xe8bye", 0x80), (9, b"p", 0x80),
        (10, b"", 0x80), (1, b"x" * 300, 0x80), (1, zlib.compress(b"abc" * 50, wbits=-15), 0xC0), (1,
    b"\xff", 0x80), (3, b"", 0x80),
        (1, zlib.compress(bytes(90_000), wbits=-15), 0xC0), (0, b"c", 0xC0), (9, b"x" * 126, 0x80), (8,
    b"\x03", 0x80),
    )),
    b"\x81\xfe\xff\xff", b"\x82\xff\x80\0\0\0\0\0\0\0", b"\x81\x05abcde",
)  # fmt: skip
QUERY_PARTS: Final = (
    b"vsn=2.0.0", b"vsn=1.0.0", b"&", b"=", b"[", b"]", b"[]", b"%", b"%41", b"%ff", b"%00", b"+", b"\n",
    b"token=a", b"a[b][]=1", b"vsn[]=2", b",",
    b"https://a.example.org", b"http://localhost:4000", b"phoenix", b"base64url.bearer.phx.dG9r",
    b"permessage-deflate", b"; ", b"[::1]", b"@", b"#",
    b"client_max_window_bits", b"server_max_window_bits=10", b'"', b"x" * 50, b"\xe9", b"2.0.0-rc.1", b"..",
)  # fmt: skip
API_PARTS: Final = (
    *JSON_PARTS, b"/api/v1/transactions", b"/api/v1/users/", b"0" * 8 + b"-0000-4000-8000-" + b"0" * 12,
    b"/", b"%2f", b"%", b"%e9", b"?", b"limit=5",
    b"cursor=" + b"0" * 48, b"&", b'{"amount":"12.50","currency":"EUR"}', b'"amount":', b'"currency":"JPY"',
    b'"description":"x"', b'"due_at":"2030-01-01T00:00:00Z"',
    b'"email":"a@example.org"', b'"password":', b"a@a@a@", b"a.", b"12.50", b"1e-400", b"-", b"0" * 70,
    b"/admin/processes/", b"/api/v1/services/go/",
)  # fmt: skip

FRAME_SEEDS: Final = (b"".join(FRAME_PARTS[1:5]), *FRAME_PARTS)
HANDSHAKES: Final = (
    b"vsn=2.0.0&token=a\nhttps://a.example.org\nphoenix, base64url.bearer.phx.dG9r\n"
    b"permessage-deflate; client_max_window_bits\nlocalhost:4000\nabc",
    b"vsn=1.0.0\n\n\n\nlocalhost\n",
)
CALLS: Final = (
    b'/api/v1/transactions?limit=5&currency=EUR\n{"amount":"12.50","currency":"EUR","description":"x"}',
    b"/api/v1/users/00000000-0000-4000-8000-000000000000\n"
    b'{"email":"a@example.org","password":"a long password","name":"A"}',
    b"/api/v1/tasks?team_member=a&status=open\n"
    b'{"title":"t","due_at":"2030-01-01T00:00:00Z","team_member":"a"}',
)
