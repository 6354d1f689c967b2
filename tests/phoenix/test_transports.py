"""The transports on a real server: what needs TCP and HTTP to be seen."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import weakref
from typing import Any

import pytest

from runtime.http.transport import HttpProtocol
from runtime.otp import erlang
from runtime.phoenix import (
    Mount,
    WebSocketOptions,
)
from tests.phoenix.client import client_frame
from tests.phoenix.conformance_app import ConformanceServer
from tests.phoenix.transport_server import (
    CLOSING_UPGRADE,
    LATER,
    UPGRADE,
    LaterSocket,
    Wire,
    http,
    serve,
)
from tests.support.storage import until


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
