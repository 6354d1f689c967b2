"""LongPoll on a real server: polls and posts, bounds, the number of sessions."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import Any

import pytest

from runtime.otp import erlang
from runtime.phoenix import (
    LongPollOptions,
    Mount,
    WebSocketOptions,
)
from tests.phoenix.conformance_app import ConformanceServer
from tests.phoenix.transport_server import (
    LATER,
    LaterSocket,
    Wire,
    http,
    later,
    serve,
)
from tests.support.storage import until


def test_longpoll_session_by_hand() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        async def poll(token: str) -> Any:
            return json.loads((await http(port, "GET", f"/later/longpoll?token={token}&"))[2])

        async def post(token: str, data: bytes, **headers: str) -> int:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            return json.loads((await http(port, "POST", f"/later/longpoll?token={token}", fields, data))[2])[
                "status"
            ]

        opened = json.loads((await http(port, "GET", "/later/longpoll?vsn=2.0.0&user=lp"))[2])
        token = opened["token"]
        assert opened == {"status": 410, "token": token, "messages": []}
        assert await post(token, b'["1","1","room:a","phx_join",{}]') == 200
        lines = (
            b'["1","2","room:a","echo",2]\n'
            + base64.b64encode(b"\x00\x01\x01\x06\x0413room:aecho!")
            + b"\r\n"
        )
        assert (
            await post(token, lines + b'["1","4","room:a","many",3]', content_type="application/x-ndjson")
            == 200
        )
        status, _fields, _body = await http(port, "GET", f"/later/longpoll?token={token}")
        assert status == 200
        # All that one event pushes comes in one answer to the poll that waits for it.
        waiting = asyncio.create_task(poll(token))
        await asyncio.sleep(0.05)
        assert await post(token, b'["1","5","room:a","many",3]') == 200
        assert [json.loads(text)[4] for text in (await waiting)["messages"]] == [{"i": 0}, {"i": 1}, {"i": 2}]
        # A poll that was dropped takes nothing along.
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /later/longpoll?token={token} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        assert await post(token, b'["1","6","room:a","echo",6]') == 200
        assert len((await poll(token))["messages"]) == 1
        beat = b'[null,"1","phoenix","heartbeat",{}]'
        # More than the buffer holds, or more messages than allowed, and the session ends.
        for message in (
            b'["1","7","room:a","fill",60000]',
            b"\n".join([beat] * 60),
        ):
            opened = json.loads((await http(port, "GET", "/later/longpoll?vsn=2.0.0&user=lp"))[2])
            assert await post(opened["token"], b'["1","1","room:a","phx_join",{}]') == 200
            await post(opened["token"], message, content_type="application/x-ndjson")

            async def gone(token: str = opened["token"]) -> bool:
                return await post(token, beat) == 410

            await until(gone)
        # The first lives on.
        await until(lambda: len(server.endpoint.sessions) == len(server.sockets.transports) == 1)

    serve(body, LATER)


def test_a_waiting_poll_gets_the_reply_to_a_leave_and_the_close_at_once() -> None:
    """`Phoenix.Channel.Server.handle_in/1` sends both in a row; the poll's request asks for the buffer after that."""

    async def body(server: ConformanceServer, port: int) -> None:
        opened = json.loads((await http(port, "GET", "/later/longpoll?vsn=2.0.0&user=lp"))[2])
        path = f"/later/longpoll?token={opened['token']}"
        await http(port, "POST", path, None, b'["1","1","room:a","phx_join",{}]')
        await http(port, "GET", path)
        polling = asyncio.create_task(http(port, "GET", path))
        session = server.endpoint.sessions[opened["token"]].cell.actor
        await until(lambda: session.waiting is not None)
        await http(port, "POST", path, None, b'["1","2","room:a","phx_leave",{}]')
        messages = json.loads((await polling)[2])["messages"]
        assert [json.loads(text)[3] for text in messages] == ["phx_reply", "phx_close"]

    serve(body, LATER)


def test_a_line_that_is_neither_an_array_nor_base64_fails_its_whole_post() -> None:
    """`Phoenix.Transports.LongPoll.publish/4`: `Base.decode64!/1` of all lines comes first, and its padding has to fit."""

    async def body(_server: ConformanceServer, port: int) -> None:
        opened = json.loads((await http(port, "GET", "/later/longpoll?vsn=2.0.0&user=lp"))[2])
        path, ndjson = f"/later/longpoll?token={opened['token']}", {"content-type": "application/x-ndjson"}
        for line in (b"QUJD=", b"QQ", b"QQ=", b"QQ===", b"=", b"QUJ-", b" QQ==", b"{}"):
            data = b'[null,"1","phoenix","heartbeat",{}]\n' + line
            assert (await http(port, "POST", path, ndjson, data))[0] == 500, line
        await http(port, "POST", path, None, b'[null,"2","phoenix","heartbeat",{}]')
        messages = json.loads((await http(port, "GET", path))[2])["messages"]
        assert [json.loads(text)[1] for text in messages] == ["2"]

    serve(body, LATER)


def test_a_longpoll_session_without_messages_is_polled_in_vain_and_ends_without_polls() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        opened = json.loads((await http(port, "GET", "/later/longpoll?vsn=2.0.0&user=lp"))[2])
        path = f"/later/longpoll?token={opened['token']}"
        assert json.loads((await http(port, "GET", path))[2])["status"] == 204
        await until(lambda: server.endpoint.sessions == {} and server.sockets.transports == {})
        assert json.loads((await http(port, "POST", path, None, b"[]"))[2])["status"] == 410

    serve(body, later(window_ms=2000))


def test_a_poll_while_the_server_goes_sends_the_client_back() -> None:
    # The npm client waits for ever on an answer whose body has no status.
    async def body(server: ConformanceServer, port: int) -> None:
        token = json.loads((await http(port, "GET", "/conformance/longpoll?vsn=2.0.0&auth=ok"))[2])["token"]
        erlang.exit(erlang.whereis(server.endpoint.sockets), "kill")
        for query in (f"auth=ok&token={token}", "auth=ok"):
            got = await http(port, "GET", f"/conformance/longpoll?vsn=2.0.0&{query}")
            assert (got[0], json.loads(got[2])) == (200, {"status": 500})

    serve(body)


class NamedSocket(LaterSocket):
    """All sockets of a user have one id."""

    def id(self) -> str | None:
        return f"user:{self.assigns['user']}"


NAMED = (
    Mount(
        "/named",
        NamedSocket,
        WebSocketOptions(check_origin=False),
        LongPollOptions(check_origin=False, max_sessions=3),
    ),
)


def test_a_user_has_a_bounded_number_of_longpoll_sessions() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        async def open_session(user: str) -> dict[str, Any]:
            return json.loads((await http(port, "GET", f"/named/longpoll?vsn=2.0.0&user={user}&"))[2])

        wire = await Wire.connect(port, "/named/websocket?vsn=2.0.0&user=ann")  # counts as well
        await until(lambda: len(server.sockets.transports) == 1)
        there = [await open_session("ann") for _ in range(5)]
        assert [each["status"] for each in there] == [410, 410, 403, 403, 403]
        assert "token" not in there[2] and len(server.endpoint.sessions) == 2
        assert (await open_session("ben"))["status"] == 410  # another user's
        server.endpoint.disconnect("user:ann")
        await until(lambda: len(server.endpoint.sessions) == 1 and len(server.sockets.transports) == 1)
        assert [(await open_session("ann"))["status"] for _ in range(4)] == [410, 410, 410, 403]
        wire.writer.close()

    serve(body, NAMED)


def test_longpoll_body_bound() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        token = json.loads((await http(port, "GET", "/conformance/longpoll?vsn=2.0.0&auth=ok"))[2])["token"]
        status, fields, text = await http(
            port, "POST", f"/conformance/longpoll?token={token}", None, b"x" * 8_000_001
        )
        assert status == 400 and json.loads(text) == {"errors": {"detail": "Bad Request"}}
        assert "access-control-allow-origin" not in fields
        fits = b"[" + b" " * 7_999_999
        _status, _fields, text = await http(port, "POST", f"/conformance/longpoll?token={token}", None, fits)
        assert json.loads(text) == {"status": 408}

    serve(body)


def test_binary_to_longpoll_is_refused_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        token = json.loads((await http(port, "GET", "/conformance/longpoll?vsn=2.0.0&auth=ok"))[2])["token"]
        path = f"/conformance/longpoll?token={token}"
        await http(port, "POST", path, None, b'["1","1","room:a","phx_join",{}]')
        await http(port, "POST", path, None, b'["1","2","room:a","reply_binary",{}]')
        assert (await http(port, "GET", path))[0] == 500

    with caplog.at_level(logging.WARNING, "runtime.phoenix"):
        serve(body)
    assert "binary message cannot go to a longpoll client" in caplog.text
