"""The servers that `bench/sockets.py` measures: `python -m bench.socket_servers ours|websockets|socketio`.

Each prints its port, then answers lines on standard input with one line each: `cpu` (seconds of CPU so far), `memory` (bytes
resident), `broadcast N` (sends one event to all, N times), `bare N` (ours only: the same bytes to the same sockets by the
kernel's send, and nothing else). A figure of `broadcast` and `bare` is the CPU seconds it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
import uvloop

TOPIC = "transaction:0b5b1a52-6c2e-4d8e-9f0e-7d5c1f6a3b20"
EVENT = "new_transaction"
PAYLOAD = {
    "id": "5f1c8c0e-3a53-4a6e-8d3f-1de4c47b8a11",
    "user_id": "0b5b1a52-6c2e-4d8e-9f0e-7d5c1f6a3b20",
    "amount": "12.50",
    "currency": "EUR",
    "description": "no. 4711",
    "inserted_at": "2026-01-01T12:00:00.000000Z",
    "ledger_seq": 4711,
}
DRAIN = 0.01  # seconds between broadcasts: what a full kernel buffer kept back goes out

Broadcast = Callable[[], Awaitable[None] | None]


class Quiet(uvicorn.Server):
    """uvicorn that leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_asgi(app: Any, **options: Any) -> int:
    """Starts uvicorn on any port; returns it."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        **options,
    )
    server = Quiet(config)
    serving = asyncio.create_task(server.serve())
    _kept.append(serving)
    while not server.started:
        await asyncio.sleep(0.01)
    return server.servers[0].sockets[0].getsockname()[1]


_kept: list[Any] = []


async def ours() -> tuple[int, Broadcast, Broadcast]:
    """BitNexus's socket: the real transport, PubSub, channels."""
    import socket as sockets_module

    from runtime.core.asyncio_engine import AsyncioEngine
    from runtime.http import HttpOptions, Response, Server, ServerOptions
    from runtime.http.server import addresses
    from runtime.otp.dynamic_supervisor import DynamicSupervisor
    from runtime.phoenix import (
        Accept,
        Channel,
        Endpoint,
        Mount,
        Mounts,
        Reply,
        Socket,
        Sockets,
        WebSocketOptions,
        drainer,
    )
    from runtime.phoenix.messages import Broadcast as Message
    from runtime.phoenix.pubsub import PubSub
    from runtime.phoenix.transports import SocketTransports

    class TransactionChannel(Channel):
        __slots__ = ()

        def join(self, topic: str, payload: Any, socket: Any) -> Any:
            return Accept()

        def handle_in(self, event: Any, payload: Any) -> Any:
            return Reply(("ok", payload))

    class UserSocket(Socket):
        __slots__ = ()
        channels = {"transaction:*": TransactionChannel}

        def connect(self, params: Any, connect_info: Any) -> Any:
            self.assigns["user_id"] = TOPIC.partition(":")[2]
            return Accept()

    _kept.append(AsyncioEngine().start())
    endpoint = Endpoint()
    await PubSub.start(name="pubsub")
    await DynamicSupervisor.start(name="channels")
    await Sockets.start(name="sockets")
    mount = Mount("/socket", UserSocket, WebSocketOptions(check_origin=False, timeout=None))
    transports = SocketTransports(lambda _request: Response(404), endpoint, Mounts([mount]))
    options = ServerOptions(http=HttpOptions(upgradable=transports.upgradable))
    ((_host, port),) = await addresses(await Server.start(transports, options))
    bare: list[sockets_module.socket] = []

    def send_bare() -> None:
        open_now = drainer.whereis("sockets").transports.values()
        if not bare:
            for each in open_now:
                bare.append(sockets_module.fromfd(each.io._transport.get_extra_info("socket").fileno(), 2, 1))  # type: ignore[attr-defined]
        serializer = next(iter(open_now)).socket.serializer
        frame = serializer.fastlane(Message(TOPIC, EVENT, PAYLOAD)).wire()
        for each in bare:
            each.send(frame)

    return port, lambda: endpoint.broadcast(TOPIC, EVENT, PAYLOAD), send_bare


async def websockets_server() -> tuple[int, Broadcast, None]:
    """The `websockets` package as its documentation uses it."""
    import orjson
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # it tells of every client that just goes
    open_now: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        open_now.add(connection)
        try:
            async for message in connection:
                await connection.send(message)
        finally:
            open_now.discard(connection)

    server = await serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None)
    _kept.append(server)

    def send() -> None:
        broadcast(open_now, orjson.dumps([None, None, TOPIC, EVENT, PAYLOAD]).decode())

    return server.sockets[0].getsockname()[1], send, None


async def socketio() -> tuple[int, Broadcast, None]:
    """python-socketio on uvicorn, a room for the topic."""
    import socketio as package

    server = package.AsyncServer(async_mode="asgi", transports=["websocket"])

    async def connect(sid: str, environ: Any) -> None:
        await server.enter_room(sid, TOPIC)

    async def ping(sid: str, payload: Any) -> Any:
        return payload

    server.on("connect", connect)
    server.on("ping", ping)
    port = await serve_asgi(package.ASGIApp(server), ws="websockets", ws_ping_interval=None)
    return port, lambda: server.emit(EVENT, PAYLOAD, room=TOPIC), None


def memory() -> int:
    """Resident bytes, after what is garbage has gone."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def repeat(send: Broadcast, times: int) -> float:
    """CPU seconds of `times` sends, with what they leave to do."""
    spent = 0.0
    for _ in range(times):
        started = time.process_time()
        going = send()
        if going is not None:
            await going
        await asyncio.sleep(DRAIN)
        spent += time.process_time() - started
    return spent


async def main(kind: str) -> None:
    """Serves until standard input ends."""
    starts = {"ours": ours, "websockets": websockets_server, "socketio": socketio}
    port, send, bare = await starts[kind]()
    print(port, flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match line.split():
            case ["cpu"]:
                answer: float = time.process_time()
            case ["memory"]:
                answer = memory()
            case ["broadcast", times]:
                answer = await repeat(send, int(times))
            case ["bare", times]:
                assert bare is not None
                answer = await repeat(bare, int(times))
            case _:
                raise ValueError(line)
        print(answer, flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
