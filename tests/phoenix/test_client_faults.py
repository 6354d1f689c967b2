"""What a client does wrong is one line at INFO; crash reports are for our faults. A frame that has begun has to end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from runtime.otp import erlang
from runtime.phoenix import Reply, WebSocketOptions
from runtime.phoenix.mount import Mount
from tests.phoenix.client import Client, client_frame, start_endpoint
from tests.phoenix.conformance_app import ConformanceServer, ConformanceSocket
from tests.phoenix.room import Room, UserSocket, join
from tests.phoenix.transport_server import UPGRADE, Wire, http, serve


def binary(join_ref: bytes, ref: bytes, topic: bytes, event: bytes) -> bytes:
    """A binary push, as a frame."""
    fields = (join_ref, ref, topic, event)
    return client_frame(2, bytes((0, *map(len, fields))) + b"".join(fields) + b"payload")


NO_TEXT = b"\xff"  # which no JSON can hold, and every reply names


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (binary(b"1", b"2", NO_TEXT, b"count"), 1011),
        (binary(b"1", NO_TEXT, b"phoenix", b"heartbeat"), 1011),
        (binary(b"1", NO_TEXT, b"room:none", b"phx_leave"), 1011),
        (binary(b"1", NO_TEXT, b"room:c", b"phx_join"), 1011),
        (binary(NO_TEXT, b"2", b"room:c", b"phx_join"), 1011),
        (client_frame(1, b"x"), 1011),
        (client_frame(1, b'["1"]'), 1011),
        (client_frame(2, b"\x00"), 1011),
        # A topic that Elixir can't interpolate into Phoenix's warning of an unmatched topic.
        *(
            (client_frame(1, b'["1","2",%b,"phx_join",{}]' % topic), 1011)
            for topic in (
                b"{}",
                b'{"a":1}',
                b"[{}]",
                b"[1.5]",
                b"[null]",
                b'["a",[-1]]',
                b"[55296]",
                b"[[[[true]]]]",
            )
        ),
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


@pytest.mark.parametrize(
    "data",
    [
        binary(b"1", NO_TEXT, b"room:a", b"count"),
        client_frame(1, b'["1",{"a":1},"room:binary","echo",{}]'),
        client_frame(1, b'["1","%b","room:binary","echo",{}]' % (b"x" * 256)),
        client_frame(1, b'["1",%b,"room:binary","echo",{}]' % (b"[" * 3000 + b"true" + b"]" * 3000)),
    ],
)
def test_a_ref_that_no_reply_can_hold_is_no_crash_of_the_channel(
    play: Any, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    class Answers(Room):
        def handle_in(self, event: Any, payload: Any) -> Any:
            return Reply(("ok", {} if event == "count" else b"binary"))

    class AnswersSocket(UserSocket):
        channels = {"room:*": Answers}

    async def body() -> None:
        client = Client(await start_endpoint(), AnswersSocket, user="ann")
        await client.ask(join("room:a", "1"), ["1", "1", "room:binary", "phx_join", {}])
        caplog.clear()
        client.send_bytes(data)
        [told] = await client.settle()
        assert told[3] == "phx_error"
        lines = [line for line in caplog.records if line.levelno != logging.WARNING]  # long schedules
        assert [(line.levelno, line.name) for line in lines] == [(logging.INFO, "runtime.phoenix")]

    with caplog.at_level(logging.INFO):
        play(body)


@pytest.mark.parametrize(
    "ref",
    [b"[" * 3000 + b"]" * 3000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b'[{"a":' * 600 + b"1" + b"}]" * 600],
)
def test_a_ref_may_be_as_deep_as_a_message(play: Any, caplog: pytest.LogCaptureFixture, ref: bytes) -> None:
    async def body() -> None:
        client = Client(await start_endpoint(), UserSocket, user="ann")
        client.send_bytes(client_frame(1, b'[%b,"1","room:a","phx_join",{}]' % ref))
        client.send_bytes(client_frame(1, b'[%b,"2","room:a","count",{}]' % ref))
        await erlang.sleep(5)
        assert bytes(client.io.out).count(b'"phx_reply",{"status":"ok"') == 2
        assert not client.io.closed
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

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


def test_a_message_in_fragments_that_does_not_end_ends_the_socket(play: Any) -> None:
    async def body() -> None:
        endpoint = await start_endpoint()
        slow, quick = (
            Client(endpoint, UserSocket, options=WebSocketOptions(frame_timeout=1000), user="u")
            for _ in range(2)
        )
        slow.send_bytes(client_frame(1, b"[", 0))
        message = client_frame(1, b"[", 0) + client_frame(0, b'null,"1","phoenix","heartbeat",{}]')
        for _ in range(30):
            # Whole frames, all in time.
            slow.send_bytes(client_frame(0, b" " * 2000, 0) + client_frame(9, b""))
            quick.send_bytes(message)
            await erlang.sleep(50)
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
