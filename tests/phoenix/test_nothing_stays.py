"""Nothing of a connection survives it, without the garbage collector: however it ends, HTTP, WebSocket and LongPoll."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.otp import erlang
from runtime.phoenix import drain
from runtime.phoenix.websocket import WebSocketConnection
from tests.phoenix.client import client_frame
from tests.phoenix.conformance_app import ConformanceServer
from tests.phoenix.transport_server import Wire, http
from tests.support.storage import until

SOCKETS = 20
Way = Callable[[ConformanceServer, int], Awaitable[None]]


async def joined(port: int) -> list[Wire]:
    wires = [await Wire.connect(port, "/conformance/websocket?vsn=2.0.0&token=ok") for _ in range(SOCKETS)]
    for wire in wires:
        wire.send(["1", "1", "room:a", "phx_join", {}])
        await wire.receive()
    return wires


async def fin(server: ConformanceServer, port: int) -> None:
    for wire in await joined(port):
        wire.writer.close()


async def abort(server: ConformanceServer, port: int) -> None:
    for wire in await joined(port):
        wire.writer.transport.abort()


async def close_frame(server: ConformanceServer, port: int) -> None:
    for wire in await joined(port):
        wire.writer.write(client_frame(8, b"\x03\xe8"))
        await wire.receive()
        wire.writer.close()


async def leave(server: ConformanceServer, port: int) -> None:
    for wire in await joined(port):
        wire.send(["1", "2", "room:a", "phx_leave", {}])
        await wire.receive()
        wire.writer.close()


async def crash(server: ConformanceServer, port: int) -> None:
    wires = await joined(port)
    for pid in list(server.sockets.transports):
        erlang.exit(pid, "kill")
    for wire in wires:
        await wire.ended()
        wire.writer.close()


async def protocol_error(server: ConformanceServer, port: int) -> None:
    for wire in await joined(port):
        wire.writer.write(b"\x89\x00")
        await wire.receive()
        wire.writer.close()


async def drained(server: ConformanceServer, port: int) -> None:
    wires = await joined(port)
    await drain(server.endpoint.sockets, batch_interval=10)
    for wire in wires:
        await wire.reader.read()
        wire.writer.close()


async def longpoll(server: ConformanceServer, port: int) -> None:
    for _ in range(SOCKETS):
        opened = json.loads((await http(port, "GET", "/conformance/longpoll?vsn=2.0.0&auth=ok"))[2])
        path = f"/conformance/longpoll?token={opened['token']}"
        await http(port, "POST", path, None, b'["1","1","room:a","phx_join",{}]')
        server.endpoint.broadcast("room:a", "unread", {"x": "y" * 1000})
    for pid in list(server.sockets.transports):
        erlang.exit(pid, "shutdown")


async def plain(server: ConformanceServer, port: int) -> None:
    for _ in range(SOCKETS):
        await http(port, "GET", "/nowhere")


async def refused(server: ConformanceServer, port: int) -> None:
    for _ in range(SOCKETS):
        await http(port, "GET", "/", {"host": "a/b"})
        await http(port, "POST", "/control/broadcast", {"content-length": "9" * 9}, b"x")


async def gone_in_the_midst(server: ConformanceServer, port: int) -> None:
    for _ in range(SOCKETS):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /control/broadcast HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx")
        await asyncio.sleep(0.005)
        writer.transport.abort()


WAYS: tuple[Way, ...] = (
    fin, abort, close_frame, leave, crash, protocol_error, drained, longpoll, plain, refused, gone_in_the_midst,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_waits_for_the_collector(way: Way) -> None:
    async def main() -> Counter[str]:
        engine = AsyncioEngine().start()
        server = ConformanceServer()
        port = await server.start()
        await way(server, port)  # what is made once and kept is made now
        await until(lambda: not server.connections and not server.sockets.transports)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await way(server, port)
            await until(lambda: not server.connections and not server.sockets.transports)
            await asyncio.sleep(0.05)
            gc.collect()
            found = Counter(
                f"{type(each).__module__}.{type(each).__qualname__}"
                for each in gc.garbage
                if type(each).__module__.startswith(("runtime.", "tests.phoenix.conformance"))
            )
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        await server.stop()
        await engine.stop()
        return found

    assert uvloop.run(main()) == {}


def test_a_socket_that_its_peer_has_yet_to_close_is_no_more_than_a_transport() -> None:
    async def main() -> None:
        engine = AsyncioEngine().start()
        server = ConformanceServer()
        wires = await joined(await server.start())
        for wire in wires:
            wire.writer.write(b"\x89\x00" + b"x" * 50_000)
            await wire.receive()
        assert len(server.connections) == SOCKETS
        assert not [each for each in gc.get_objects() if isinstance(each, WebSocketConnection)]
        for wire in wires:
            wire.writer.close()
        await server.stop()
        await engine.stop()

    uvloop.run(main())
