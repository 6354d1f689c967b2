"""What stays of sockets that have ended: `python -m tests.socket_rounds [--sockets 10000] [--rounds 10] [--way NAME]`.

For each way of ending, a server of its own whose garbage collector is off: so many sockets are opened, joined and ended, again
and again. Printed are resident memory while all were open, after each round in MB, and what a collection finds in the end.
Exit code 1 if there is garbage, or if memory grows in the second half of the rounds by more than ALLOWED bytes a socket.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from bench import socket_load
from bench.socket_load import Client
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.http import HttpOptions, Response, Server, ServerOptions
from runtime.http.server import addresses
from runtime.otp import erlang
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.phoenix import (
    Accept,
    Channel,
    Endpoint,
    Mount,
    Mounts,
    Socket,
    Sockets,
    WebSocketOptions,
    drainer,
)
from runtime.phoenix.pubsub import PubSub
from runtime.phoenix.transports import SocketTransports

ALLOWED = 40  # bytes a socket and round: pools and tables that have their final size later than the others
AT_ONCE = 100
# How long a round takes to join, at least; where it takes longer, a socket has a second.
LIFE_MS, EACH_MS = 2_000, 2
TOPIC = "room:all"
JOIN = json.dumps(["1", "1", TOPIC, "phx_join", {}]).encode()
LEAVE = json.dumps(["1", "2", TOPIC, "phx_leave", {}]).encode()


class Room(Channel):
    """Lets everybody in."""

    __slots__ = ()

    def join(self, topic: str, payload: Any, socket: Any) -> Any:
        return Accept()


class RoomSocket(Socket):
    """Lives as long as its client asks for."""

    __slots__ = ()
    channels = {"room:*": Room}

    def connect(self, params: Any, connect_info: Any) -> Any:
        if "life" in params:
            self.lifetime = float(params["life"])
        return Accept()

    def id(self) -> str | None:
        return "everybody"


# ---- the server


def resident() -> int:
    """Bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def garbage() -> dict[str, int]:
    """What only a collector would free, by type; our own alone."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
    gc.garbage.clear()
    return {
        name: count for name, count in found.items() if name.startswith(("runtime.", "__main__", "tests."))
    }


async def serve() -> None:
    """Answers each line of standard input with one."""
    logging.getLogger("runtime").setLevel(logging.CRITICAL)  # a report for each process that is killed
    engine = AsyncioEngine().start()
    endpoint = Endpoint()
    await PubSub.start(name="pubsub")
    await DynamicSupervisor.start(name="channels")
    await Sockets.start(name="sockets")
    mount = Mount("/socket", RoomSocket, WebSocketOptions(check_origin=False, timeout=None))
    transports = SocketTransports(lambda _request: Response(404), endpoint, Mounts([mount]))
    options = ServerOptions(
        http=HttpOptions(upgradable=transports.upgradable, sheddable=lambda _request: False)
    )
    ((_host, port),) = await addresses(await Server.start(transports, options))
    gc.collect()
    gc.disable()
    print(port, flush=True)
    loop = asyncio.get_running_loop()
    keeper = drainer.whereis("sockets")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer: Any = None
        match line.strip():
            case "open":
                answer = len(keeper.transports)
            case "memory":
                answer = resident()
            case "garbage":
                answer = garbage()
            case "disconnect":
                endpoint.disconnect("everybody")
            case "drain":
                await drainer.drain("sockets", 1_000, 100, 60_000)
            case "kill":
                for pid in list(keeper.transports):
                    erlang.exit(pid, "kill")
        print(json.dumps(answer), flush=True)
    await engine.stop()


class ServerProcess:
    """The server in a process of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.socket_rounds", "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    async def ask(self, command: str) -> Any:
        """What it answers; the clients go on meanwhile."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(command + "\n")
        stdin.flush()
        return json.loads(await asyncio.get_running_loop().run_in_executor(None, stdout.readline))

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


# ---- the ways to end


async def fin(server: ServerProcess, clients: list[Client]) -> None:
    for client in clients:
        client.transport.close()  # type: ignore[attr-defined]


async def abort(server: ServerProcess, clients: list[Client]) -> None:
    for client in clients:
        client.transport.abort()  # type: ignore[attr-defined]


async def close_frame(server: ServerProcess, clients: list[Client]) -> None:
    for client in clients:
        client.transport.write(b"\x88\x82\0\0\0\0\x03\xe8")  # type: ignore[attr-defined]


async def leave(server: ServerProcess, clients: list[Client]) -> None:
    for client in clients:
        client.send(LEAVE)
    await asyncio.gather(*(client.expect(2) for client in clients))
    await fin(server, clients)


async def disconnect(server: ServerProcess, clients: list[Client]) -> None:
    await server.ask("disconnect")


async def drain(server: ServerProcess, clients: list[Client]) -> None:
    await server.ask("drain")


async def kill(server: ServerProcess, clients: list[Client]) -> None:
    await server.ask("kill")


async def expiry(server: ServerProcess, clients: list[Client]) -> None:
    """Their time runs out by itself."""


Way = Callable[[ServerProcess, list[Client]], Awaitable[None]]
WAYS: dict[str, Way] = {
    way.__name__: way for way in (fin, abort, close_frame, leave, disconnect, drain, kill, expiry)
}


async def one_round(server: ServerProcess, way: Way, sockets: int) -> int:
    """Bytes resident while all are open."""
    path = "/socket/websocket?vsn=2.0.0"
    clients: list[Client] = []
    numbers = iter(range(sockets))
    end = time.monotonic() + (LIFE_MS + EACH_MS * sockets) / 1000

    async def entering() -> None:
        for _ in numbers:
            life = max(1_000, round((end - time.monotonic()) * 1000))  # all end at about the same time
            client = await socket_load.connect(server.port, f"{path}&life={life}" if way is expiry else path)
            client.send(JOIN)
            await client.expect(1)
            clients.append(client)

    await asyncio.gather(*(entering() for _ in range(AT_ONCE)))
    most = await server.ask("memory")
    await way(server, clients)
    while await server.ask("open"):
        await asyncio.sleep(0.05)
    for client in clients:
        client.transport.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0.5)
    return most


async def measure(name: str, sockets: int, rounds: int) -> bool:
    """Prints one way; True if nothing stays."""
    server = ServerProcess()
    try:
        most, after = 0, list[int]()
        for _ in range(rounds):
            most = max(most, await one_round(server, WAYS[name], sockets))
            after.append(await server.ask("memory"))
        left = await server.ask("garbage")
    finally:
        server.stop()
    half = rounds // 2
    grown = (after[-1] - after[half]) / sockets / max(1, rounds - 1 - half)
    figures = " ".join(f"{each / 1e6:.1f}" for each in after)
    good = not left and grown <= ALLOWED
    print(f"{name:12} open {most / 1e6:.1f}, after each round {figures}", flush=True)
    print(f"{'':12} {grown:+.1f} bytes a socket and round; garbage: {left or 'none'}", flush=True)
    return good


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.socket_rounds", description=__doc__)
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--way", choices=tuple(WAYS), action="append")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    socket_load.raise_file_limit()
    if chosen.serve:
        uvloop.run(serve())
        return 0
    names = chosen.way or list(WAYS)
    good = [uvloop.run(measure(name, chosen.sockets, chosen.rounds)) for name in names]
    return 0 if all(itertools.accumulate(good, min)) else 1


if __name__ == "__main__":
    sys.exit(main())
