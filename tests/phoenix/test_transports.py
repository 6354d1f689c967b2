"""The transports on a real server: what needs TCP and HTTP to be seen."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.http.transport import HttpProtocol
from runtime.otp import erlang
from runtime.phoenix import (
    Accept,
    Channel,
    LongPollOptions,
    Mount,
    NoReply,
    Refuse,
    Reply,
    Socket,
    WebSocketOptions,
)
from tests.phoenix.client import client_frame
from tests.phoenix.conformance_app import MOUNTS, ConformanceServer
from tests.support.server import PATIENCE
from tests.support.storage import until

UPGRADE = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}
CLOSING_UPGRADE = {**UPGRADE, "connection": "Upgrade, close"}


class Room(Channel):
    def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        return Accept({"user": self.assigns["user"]})

    async def handle_in(self, event: Any, payload: Any) -> Any:
        match event:
            case "many":
                for index in range(payload):
                    self.push("tick", {"i": index})
                return NoReply()
            case "fill":
                self.push("filled", {"x": "y" * payload})
                return NoReply()
        return Reply(("ok", payload))


class LaterSocket(Socket):
    """Its connect callback takes its time."""

    channels = {"room:*": Room}

    async def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        await asyncio.sleep(float(params.get("delay", "0.01")))
        if params.get("user") == "nobody":
            return Refuse("nobody")
        if params.get("user") == "crash":
            raise RuntimeError("crash")
        if params.get("user") == "none":
            return None
        self.assigns["user"] = params.get("user")
        return Accept()


def later(window_ms: int = 60_000) -> tuple[Mount, ...]:
    """Its mount. A LongPoll session ends if it is not polled for `window_ms`, also when this process stands still for so long."""
    longpoll = LongPollOptions(
        check_origin=False,
        window_ms=window_ms,
        connect_timeout=2000,
        max_buffer=50_000,
        max_messages_per_second=40,
    )
    websocket = WebSocketOptions(check_origin=False, connect_timeout=2000, max_buffer=100_000)
    return (Mount("/later", LaterSocket, websocket, longpoll),)


LATER = later()


def serve(
    body: Callable[[ConformanceServer, int], Awaitable[Any]], mounts: Any = MOUNTS, behind_proxy: bool = False
) -> Any:
    async def main() -> Any:
        engine = AsyncioEngine().start()
        server = ConformanceServer(mounts, behind_proxy)
        try:
            return await body(server, await server.start())
        finally:
            await server.stop()
            await engine.stop()

    return uvloop.run(main())


async def http(
    port: int, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Any:
    """(status, headers, body) of one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = {"host": "localhost", "connection": "close", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), rest


class Wire:
    """A WebSocket client of a few lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, path: str, **more: str) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        fields = {"host": "localhost", **UPGRADE, **more}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        status = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert status.startswith(b"HTTP/1.1 101"), status
        return cls(reader, writer)

    def send(self, message: Any) -> None:
        self.writer.write(client_frame(1, json.dumps(message).encode()))

    async def receive(self) -> Any:
        first, size = await asyncio.wait_for(self.reader.readexactly(2), PATIENCE)
        if size in (126, 127):
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        payload = await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)
        return ("close", int.from_bytes(payload[:2], "big")) if first & 15 == 8 else json.loads(payload)

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), PATIENCE) == b""


def test_connect_may_take_its_time() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        wire = await Wire.connect(port, "/later/websocket?vsn=2.0.0&user=ann")
        wire.send(["1", "1", "room:a", "phx_join", {}])
        assert (await wire.receive())[4]["response"] == {"user": "ann"}
        for query, status in (
            ("user=nobody", 403),
            ("user=crash", 500),
            ("user=none", 403),
            ("delay=5", 403),
        ):
            path = f"/later/websocket?vsn=2.0.0&{query}"
            assert (await http(port, "GET", path, UPGRADE))[0] == status
            assert (await http(port, "GET", path))[0] == status
            got = await http(port, "GET", f"/later/longpoll?vsn=2.0.0&{query}")
            assert got[0] == (500 if status == 500 else 200)
            assert status == 500 or json.loads(got[2]) == {"status": status}
        assert (await http(port, "GET", "/later/websocket?vsn=2.0.0&user=ann"))[0] == 400

    serve(body, LATER)


def test_a_client_that_leaves_while_connect_runs() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = "".join(f"{name}: {value}\r\n" for name, value in {"host": "localhost", **UPGRADE}.items())
        writer.write(f"GET /later/websocket?vsn=2.0.0&delay=0.1 HTTP/1.1\r\n{head}\r\n".encode())
        await asyncio.sleep(0.03)
        writer.transport.abort()
        await asyncio.sleep(0.15)
        await until(lambda: server.sockets.transports == {} and not server.connections)

    serve(body, LATER)


def test_paths() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        for headers in (None, CLOSING_UPGRADE):
            status, fields, text = await http(port, "GET", "/conformance_idle/longpoll?vsn=2.0.0", headers)
            assert status == 404 and json.loads(text) == {"errors": {"detail": "Not Found"}}
            assert fields["content-type"] == "application/json; charset=utf-8"
        # An Upgrade header means nothing to longpoll.
        status, _fields, text = await http(
            port, "GET", "/conformance/longpoll?vsn=2.0.0&auth=ok&", CLOSING_UPGRADE
        )
        assert status == 200 and json.loads(text)["status"] == 410
        for method in ("HEAD", "PUT"):
            assert (await http(port, method, "/conformance/websocket?vsn=2.0.0&token=ok"))[0] == 400

    serve(body)


def test_fields_of_an_upgrade_may_be_lists() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        path = "/conformance/websocket?vsn=2.0.0&token=ok"
        await Wire.connect(port, path, upgrade="h2c, WebSocket")
        await Wire.connect(port, path, connection="upgrade\r\nconnection: keep-alive")
        assert (await http(port, "GET", path, {**UPGRADE, "upgrade": "h2c"}))[0] == 400

    serve(body)


def test_a_proxy_may_end_tls() -> None:
    secure = {"origin": "https://localhost", "x-forwarded-proto": "https"}
    mounts = (Mount("/own", LaterSocket, WebSocketOptions(check_origin="conn")),)

    async def body(server: ConformanceServer, port: int) -> None:
        path = "/own/websocket?vsn=2.0.0"
        assert (await http(port, "GET", path, {**UPGRADE, "origin": "https://localhost"}))[0] == 403
        if server.behind_proxy:
            await Wire.connect(port, path, **secure)
        else:
            assert (await http(port, "GET", path, {**UPGRADE, **secure}))[0] == 403

    serve(body, mounts)
    serve(body, mounts, behind_proxy=True)


def test_kills_reach_the_client() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        wire = await Wire.connect(port, "/conformance/websocket?vsn=2.0.0&token=ok")
        wire.send([None, "1", "phoenix", "heartbeat", {}])
        await wire.receive()
        (pid,) = server.sockets.transports
        erlang.exit(pid, "kill")
        assert await wire.ended()

    serve(body)


def test_a_peer_that_never_closes_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        wire = await Wire.connect(port, "/conformance/websocket?vsn=2.0.0&token=ok")
        wire.writer.write(client_frame(8, b"\x03\xe8"))
        assert await wire.receive() == ("close", 1000)
        assert await wire.ended()  # the server's half; ours stays open
        assert server.connections
        await until(lambda: not server.connections)

    monkeypatch.setattr("runtime.phoenix.drainer.CLOSE_TIMEOUT", 1.0)
    serve(body)


def test_a_slow_reader_is_cut_off_and_others_are_not() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        slow = await Wire.connect(port, "/later/websocket?vsn=2.0.0&user=slow")
        quick = await Wire.connect(port, "/later/websocket?vsn=2.0.0&user=quick")
        for wire in (slow, quick):
            wire.send(["1", "1", "room:a", "phx_join", {}])
            await wire.receive()
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        got = 0
        for _ in range(400):
            server.endpoint.broadcast("room:a", "news", {"x": "y" * 40_000})
            assert (await quick.receive())[3] == "news"
            got += 1
            if len(server.sockets.transports) == 1:
                break
        assert len(server.sockets.transports) == 1 and got > 2
        server.endpoint.broadcast("room:a", "last", {})
        assert (await quick.receive())[3] == "last"

    serve(body, LATER)


def test_the_http_side_goes_once_the_socket_is_open() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        wires = [await Wire.connect(port, "/conformance/websocket?vsn=2.0.0&token=ok") for _ in range(20)]
        gc.collect()
        gc.disable()
        try:
            before = sum(isinstance(thing, HttpProtocol) for thing in gc.get_objects())
            wires += [
                await Wire.connect(port, "/conformance/websocket?vsn=2.0.0&token=ok") for _ in range(20)
            ]
            after = sum(isinstance(thing, HttpProtocol) for thing in gc.get_objects())
        finally:
            gc.enable()
        assert after - before <= 1

    serve(body)


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


def test_a_connect_that_raises_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        for _ in range(20):
            assert (await http(port, "GET", "/conformance/websocket?token=raise", UPGRADE))[0] == 500

    monkeypatch.setattr("runtime.phoenix.handshake._silent_until", 0.0)
    with caplog.at_level(logging.ERROR, "runtime.phoenix"):
        serve(body)
    assert 1 <= caplog.text.count("ConformanceSocket.connect failed") <= 3
    assert caplog.text.count("HttpParserUpgrade") == 0


def test_connections_leave_no_objects() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        seen: list[weakref.ref[Any]] = []
        for _ in range(5):
            wire = await Wire.connect(port, "/conformance/websocket?vsn=2.0.0&token=ok")
            wire.send(["1", "1", "room:a", "phx_join", {}])
            await wire.receive()
            seen += [weakref.ref(transport.socket) for transport in server.sockets.transports.values()]
            wire.writer.transport.abort()
            await asyncio.sleep(0.02)

        def gone() -> bool:
            gc.collect()
            return [ref() for ref in seen] == [None] * 5

        await until(gone)

    serve(body)
