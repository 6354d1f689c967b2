"""What a client does wrong is one line at INFO; crash reports are for our faults. A frame that has begun has to end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from runtime.otp import erlang
from runtime.phoenix import WebSocketOptions
from runtime.phoenix.mount import Mount
from tests.phoenix.client import Client, client_frame, start_endpoint
from tests.phoenix.conformance_app import ConformanceServer, ConformanceSocket
from tests.phoenix.room import UserSocket, join
from tests.phoenix.test_transports import UPGRADE, Wire, http, serve


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(1, b"x"), 1011),
        (client_frame(1, b'["1"]'), 1011),
        (client_frame(2, b"\x00"), 1011),
        (client_frame(1, b"\xff"), 1007),
        (client_frame(9, b"x", first=0x40), 1002),  # RSV1 ping without FIN
        (b"\x81\x00", 1002),
        (client_frame(3, b""), 1002),
    ],
)
def test_one_line_a_fault(play: Any, caplog: pytest.LogCaptureFixture, data: bytes, code: int) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), UserSocket, user="ann")
        await client.ask(join("room:a", "1"), join("room:b", "2"))
        caplog.clear()
        client.send_bytes(data)
        assert (await client.settle())[-1] == ("close", code)
        lines = [record for record in caplog.records if record.levelno >= logging.INFO]
        assert [(line.levelno, line.name) for line in lines] == [(logging.INFO, "runtime.phoenix")]
        assert str(code) in lines[0].getMessage() and lines[0].exc_info is None

    with caplog.at_level(logging.INFO):
        play(body)


def test_a_frame_that_does_not_end_ends_the_socket(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        slow, quick = (
            Client(endpoint, UserSocket, options=WebSocketOptions(frame_timeout=1000), user="u")
            for _ in range(2)
        )
        frame = client_frame(1, b'[null,"1","phoenix","heartbeat",{}]')
        for byte in frame[:-1]:
            slow.send_bytes(bytes((byte,)))
            quick.send_bytes(frame)
            await erlang.sleep(60)
        assert slow.take()[-1] == ("close", 1002)
        assert not quick.io.closed

    play(body)


@pytest.mark.parametrize("query", ["vsn[]=2.0.0&token=ok", "vsn[a]=2.0.0&token=ok", "vsn=x&token=ok"])
def test_parameters_of_another_shape(query: str) -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        path = f"/conformance_idle/websocket?{query}"
        assert (await http(port, "GET", path, UPGRADE))[0] == 403

    serve(body)


def test_a_broadcast_to_many_goes_in_slices_and_keeps_the_order() -> None:
    async def body(server: ConformanceServer, port: int) -> None:
        wires = [await Wire.connect(port, "/many/websocket?vsn=2.0.0&token=ok") for _ in range(600)]
        for wire in wires:
            wire.send(["1", "1", "room:a", "phx_join", {}])
            await wire.receive()
        for number in range(3):
            server.endpoint.broadcast("room:a", "news", {"n": number})
        last = next(reversed(server.sockets.transports.values()))
        last.stop(1000, ("shutdown", "test"))  # behind what was broadcast before
        for wire in wires:
            assert [(await wire.receive())[4]["n"] for _ in range(3)] == [0, 1, 2]
        assert await wires[-1].receive() == ("close", 1000)
        await asyncio.sleep(0)
        for wire in wires:
            wire.writer.close()

    serve(body, (Mount("/many", ConformanceSocket, WebSocketOptions(check_origin=False)),))
