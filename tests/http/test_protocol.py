"""HTTP on the wire: an answer is one write; bodies in pieces, pipelined requests and upgrades work all the same."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from urllib.parse import urlsplit

import pytest
import uvloop

from runtime import http
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.http.server import addresses
from tests.support.server import PATIENCE, Server, User


def connection(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


def post(user: User) -> str:
    return f"POST /api/v1/transactions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {user.token}\r\n"


def read_until(sock: socket.socket, enough: bytes) -> bytes:
    data = b""
    while enough not in data:
        part = sock.recv(65536)
        assert part, data
        data += part
    return data


def test_an_answer_comes_in_one_piece(server: Server) -> None:
    with connection(server) as sock:
        for _ in range(20):
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = sock.recv(65536)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert json.loads(body), "the body came with the head"


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    paths = ("/health", "/nowhere", "/api/v1/health", "/health")
    with connection(server) as sock:
        sock.sendall(b"".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for path in paths))
        data = b""
        while data.count(b"HTTP/1.1 ") < len(paths):
            part = sock.recv(65536)
            assert part, data
            data += part
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"404", b"200", b"200"]


def test_a_body_may_come_in_pieces(server: Server, user: User) -> None:
    body = b'{"amount":"1.00","currency":"EUR","description":"in pieces"}'
    head = post(user) + "content-type: application/json\r\n"
    with connection(server) as sock:
        for pieces in ((body,), (b"", body), (body[:10], body[10:]), (body[:1], body[1:30], body[30:])):
            sock.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + pieces[0])
            for piece in pieces[1:]:
                sock.settimeout(0.05)
                try:
                    assert not sock.recv(1), "answered too early"
                except TimeoutError:
                    sock.settimeout(PATIENCE)
                sock.sendall(piece)
            assert read_until(sock, b'"hash"').startswith(b"HTTP/1.1 201")


def test_a_body_that_is_announced_is_asked_for(server: Server, user: User) -> None:
    body = b'{"amount":"1.00","currency":"EUR"}'
    head = post(user) + "expect: 100-continue\r\n"
    with connection(server) as sock:
        sock.sendall(
            head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read_until(sock, b'"hash"').startswith(b"HTTP/1.1 201")


def test_an_upgrade_behind_a_request_on_the_same_connection(server: Server, user: User) -> None:
    with connection(server) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        sock.recv(65536)
        path = f"/socket/websocket?vsn=2.0.0&token={user.token}"
        upgrade = (
            "upgrade: websocket\r\nconnection: Upgrade\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13"
        )
        sock.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n\r\n".encode())
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        sock.sendall(b"\x89\x80\0\0\0\0")
        assert sock.recv(2) == b"\x8a\x00"


def test_a_head_that_does_not_end_ends_the_connection() -> None:
    whole, late = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 408 Request Timeout\r\n"

    async def handler(request: http.Request) -> http.Response:
        return http.Response(204)

    async def talk(port: int, *pieces: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def main() -> None:
        engine = AsyncioEngine().start()
        options = http.HttpOptions(head_timeout=0.3)
        server = await http.Server.start(handler, http.ServerOptions(http=options))
        ((_host, port),) = await addresses(server)
        async with asyncio.timeout(PATIENCE):
            assert await talk(port) == b""
            assert (await talk(port, b"GET / HTTP/1.1\r\n", b"host: x\r\n")).startswith(late)
            first, _, second = (await talk(port, whole, b"GET /")).partition(b"\r\n\r\n")
            assert first.startswith(b"HTTP/1.1 204") and second.startswith(late)
        with pytest.raises(TimeoutError):  # an idle connection has its keep-alive
            async with asyncio.timeout(1):
                await talk(port, whole)
        await engine.stop()

    uvloop.run(main())


def test_head_has_no_body(server: Server) -> None:
    with connection(server) as sock:
        sock.sendall(
            b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        data = b""
        while part := sock.recv(65536):
            data += part
    first, second = data.split(b"HTTP/1.1 200")[1:]
    assert first.endswith(b"\r\n\r\n") and second.endswith(b"}")
