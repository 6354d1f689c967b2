"""Heads of requests and answers on the wire: how long they may be, and what they say of the body."""

from __future__ import annotations

import re

import pytest

from tests.http.test_protocol import connection, read_until
from tests.support.server import Server


def test_an_answer_without_a_body_has_no_length(server: Server) -> None:
    with connection(server) as sock:
        sock.sendall(b"OPTIONS /health HTTP/1.1\r\nhost: x\r\n\r\n")
        head = read_until(sock, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204") and b"content-length" not in head
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        page = read_until(sock, b"</html>")
        etag = re.search(rb"etag: (\S+)", page)
        assert etag is not None
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nif-none-match: %b\r\n\r\n" % etag[1])
        head = read_until(sock, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 304") and b"content-length" not in head
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read_until(sock, b"}").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_refused(server: Server, head: bytes) -> None:
    piece = b"x: y\r\n" * 10_000 if head.endswith(b"\n") else b"x" * 60_000
    with connection(server) as sock:
        sock.sendall(head)
        with pytest.raises(ConnectionError):
            for _ in range(1_000):
                sock.sendall(piece)


def test_long_heads_are_taken_again_and_again(server: Server) -> None:
    request = b"GET /health HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (b"x" * 60_000)
    with connection(server) as sock:
        for _ in range(4):
            for start in range(0, len(request), 9_000):
                sock.sendall(request[start : start + 9_000])
            assert read_until(sock, b"}").startswith(b"HTTP/1.1 200")
