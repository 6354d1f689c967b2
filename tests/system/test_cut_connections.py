"""A peer may go away, or send no more, behind any byte of any request: that is nobody's fault, and never a 500."""

from __future__ import annotations

import json
import re
import secrets
import socket
import struct
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.support.server import Server, User, wait_until

RESET = struct.pack("ii", 1, 0)
BODY = json.dumps({"amount": "1.00", "currency": "EUR", "description": "é"}).encode()
AT_ONCE = 40


def _post(path: str, body: bytes, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *fields]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def _chunked(path: str, body: bytes, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", *fields, "transfer-encoding: chunked", "", ""]
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 9]), body[at : at + 9]) for at in range(0, len(body), 9)
    )
    return "\r\n".join(lines).encode() + pieces + b"0\r\na: b\r\n\r\n"


def _get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *fields, "", ""]).encode()


def _requests(user: User) -> dict[str, bytes]:
    signed = f"authorization: Bearer {user.token}"
    start = {"vsn": "2.0.0", "token": user.token}
    # While many sockets of the user are open, no session is started: those that were cut just now may still be.
    session = wait_until(lambda: user.client.get("/socket/longpoll", params=start).json().get("token"))
    poll = f"/socket/longpoll?vsn=2.0.0&token={session}"
    upgrade = (
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: " + "A" * 22 + "==",
    )
    return {
        "a POST": _post("/api/v1/transactions", BODY, signed, "idempotency-key: " + secrets.token_hex(4)),
        "a chunked POST": _chunked("/api/v1/transactions", BODY, signed),
        "a POST that expects": _post("/api/v1/transactions", BODY, signed, "expect: 100-continue"),
        "a sign-in": _post("/api/v1/auth/refresh", b'{"refresh_token": "%b"}' % (b"x" * 40)),
        "a list": _get("/api/v1/transactions?limit=5", signed),
        "a page": _get("/openapi.json", "accept-encoding: gzip"),
        "two at once": _get("/api/v1/health/ready") + _post("/api/v1/transactions", BODY, signed),
        "a poll": _get(poll),
        "a message": _post(poll, b'[null,"1","phoenix","heartbeat",{}]'),
        "a handshake and a frame": _get(f"/socket/websocket?vsn=2.0.0&token={user.token}", *upgrade)
        + b"\x81\xa3\0\0\0\0"
        + b'[null,"1","phoenix","heartbeat",{}]',
    }  # fmt: skip


def _closes(peer: socket.socket) -> bytes:
    return b""


def _resets(peer: socket.socket) -> bytes:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return b""


def _sends_no_more(peer: socket.socket) -> bytes:
    peer.shutdown(socket.SHUT_WR)
    answer = b""
    while piece := peer.recv(1 << 16):
        answer += piece
    return answer


@pytest.mark.parametrize("ending", [_closes, _resets, _sends_no_more])
def test_a_request_that_is_cut_at_any_byte_is_never_a_fault_of_ours(
    server: Server, user: User, ending: Callable[[socket.socket], bytes]
) -> None:
    address = urlsplit(server.url)
    before = len(server.lines)
    for name, request in _requests(user).items():
        step = 1 if ending is not _sends_no_more else 3
        for start in range(1, len(request) + 1, step * AT_ONCE):
            peers: list[socket.socket] = []
            for end in range(start, min(start + step * AT_ONCE, len(request) + 1), step):
                peer = socket.create_connection((address.hostname, address.port), timeout=60)
                peer.sendall(request[:end])
                peers.append(peer)
            for peer in peers:
                with peer:
                    answer = ending(peer)
                assert re.findall(rb"HTTP/1.1 5\d\d", answer) == [], (name, answer[:600])
    with server.client() as client:
        wait_until(lambda: client.get("/health").status_code == 200)
        figures = client.get("/metrics").text
    assert not re.search(r'status="5\d\d"[^\n]*} [1-9]', figures)
    wrong = [
        line
        for line in server.lines[before:]
        if "Traceback" in line or '"level":"error"' in line or "ERROR" in line
    ]
    assert wrong == []
