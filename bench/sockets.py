"""CPU per broadcast delivery, per push with its reply, per connect and join, and memory per idle joined socket.

Each server is a process that tells its own CPU; the clients are this one. Beside ours, in the same run: the kernel's send of the
same bytes to the same sockets, a plain `websockets` server that knows no protocol above it, and python-socketio.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from bench.row import Row
from bench.socket_load import Client, connect, raise_file_limit, unbuffered
from bench.socket_servers import PAYLOAD, TOPIC

SOCKETS = 1000
BROADCASTS = 40
ROUNDS = 4  # of broadcasts and bare sends in turn
TALKERS = 50
PUSHES = 200
AT_ONCE = 50


class Server:
    """A server in a process of its own, and the commands it takes."""

    def __init__(self, kind: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.socket_servers", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=unbuffered(),
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    async def ask(self, command: str) -> float:
        """What the server answers; the clients go on meanwhile."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return float(await asyncio.get_running_loop().run_in_executor(None, self.process.stdout.readline))

    def stop(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


async def phoenix(port: int) -> Client:
    """Connected and joined."""
    client = await connect(port, "/socket/websocket?vsn=2.0.0")
    client.send(json.dumps(["1", "1", TOPIC, "phx_join", {}]).encode())
    await client.expect(1)
    return client


async def plain(port: int) -> Client:
    """Connected: there is nothing to join."""
    return await connect(port, "/")


async def socketio(port: int) -> Client:
    """Connected to the default namespace; the server puts it into the room."""
    client = await connect(port, "/socket.io/?EIO=4&transport=websocket")
    await client.expect(1)
    client.send(b"40")
    await client.expect(2)
    return client


Peer = tuple[Callable[[int], Awaitable[Client]], bytes]
PEERS: dict[str, Peer] = {
    "ours": (phoenix, json.dumps(["1", "2", TOPIC, "ping", PAYLOAD]).encode()),
    "websockets": (plain, json.dumps(["1", "2", TOPIC, "ping", PAYLOAD]).encode()),
    "socketio": (socketio, b"421" + json.dumps(["ping", PAYLOAD]).encode()),
}


async def measure(kind: str) -> dict[str, float]:
    """The figures of one server, by name: seconds and bytes."""
    enter, message = PEERS[kind]
    server = Server(kind)
    try:
        for client in [await enter(server.port) for _ in range(50)]:  # what is loaded at first use
            client.transport.close()  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)
        memory, cpu = await server.ask("memory"), await server.ask("cpu")
        clients: list[Client] = []
        numbers = iter(range(SOCKETS))

        async def entering() -> None:
            for _ in numbers:
                clients.append(await enter(server.port))

        await asyncio.gather(*(entering() for _ in range(AT_ONCE)))
        figures = {"join": (await server.ask("cpu") - cpu) / SOCKETS}
        await asyncio.sleep(0.3)
        figures["memory"] = (await server.ask("memory") - memory) / SOCKETS

        expected = [client.frames for client in clients]
        spent = {"broadcast": 0.0, "bare": 0.0}
        await server.ask("broadcast 5")
        sent = 5
        for command in itertools.chain.from_iterable(itertools.repeat(("broadcast", "bare"), ROUNDS)):
            if command == "broadcast" or kind == "ours":
                spent[command] += await server.ask(f"{command} {BROADCASTS // ROUNDS}")
                sent += BROADCASTS // ROUNDS
        for client, before in zip(clients, expected, strict=True):
            await client.expect(before + sent, 10)
        figures |= {name: seconds / BROADCASTS / SOCKETS for name, seconds in spent.items()}

        async def talk(client: Client) -> None:
            for count in range(client.frames + 1, client.frames + 1 + PUSHES):
                client.send(message)
                await client.expect(count)

        cpu = await server.ask("cpu")
        await asyncio.gather(*(talk(client) for client in clients[:TALKERS]))
        figures["push"] = (await server.ask("cpu") - cpu) / TALKERS / PUSHES
        return figures
    finally:
        server.stop()


async def measure_all() -> dict[str, dict[str, float]]:
    """The figures of all servers."""
    return {kind: await measure(kind) for kind in PEERS}


def run() -> list[Row]:
    """The answer."""
    raise_file_limit()
    found: dict[str, Any] = uvloop.run(measure_all())

    def peers(figure: str, scale: float) -> dict[str, float]:
        return {kind: found[kind][figure] * scale for kind in PEERS if kind != "ours"}

    ours = found["ours"]
    bare = ours["bare"] * 1e6
    note = f"{ours['broadcast'] / ours['bare']:.2f} times the bare send"
    unit = "us of CPU"
    return [
        Row(
            f"broadcast: a delivery, {SOCKETS:,} sockets",
            ours["broadcast"] * 1e6,
            unit,
            {"bare send": bare, **peers("broadcast", 1e6)},
            15.4,
            note=note,
        ),
        Row("push and its reply", ours["push"] * 1e6, unit, peers("push", 1e6), 69),
        Row("connect and join", ours["join"] * 1e6, unit, peers("join", 1e6), 360),
        Row(
            "memory of an idle joined socket",
            ours["memory"] / 1024,
            "KiB",
            peers("memory", 1 / 1024),
            31_000 / 1024,
        ),
    ]
