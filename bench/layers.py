"""The CPU of a transaction or a delivery by layer: `python -m bench.layers post|lone|delivery|health`.

A real server under the load of bench/benchmarks is measured first, then sampled by py-spy. A sample counts for the layer of its
innermost frame that belongs to one; the shares are of the server's CPU without py-spy. The floor is shown for comparison.
"""

from __future__ import annotations

import asyncio
import linecache
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import uvloop

from bench.benchmarks import requests, sockets
from bench.bitnexus import BitNexus, serving
from bench.figures import FLOOR
from bench.peer import HTTP_PEERS, Database, Peer
from bench.revision import ROOT, present
from bench.socket_load import raise_file_limit

SECONDS: Final = 12
RATE: Final = 500  # samples a second
ROUNDS: Final = 5
LAYERS: Final = (  # part of a file's path -> layer; the first that fits
    ("/asyncpg/", "asyncpg: statements to PostgreSQL and rows from it"),
    ("/actors/storage/", "pool and transactions"),
    ("/actors/ledger/", "ledger: entries, hashes, the writer's batch"),
    ("/actors/", "other processes of BitNexus"),
    ("/api/security/", "authentication: token and session"),
    ("/api/http/", "router, body and fields, answer"),
    ("/api/", "the endpoint itself, admission"),
    ("/runtime/http/", "HTTP: connection, parse, answer"),
    ("/runtime/phoenix/", "PubSub, channels, sockets, frames"),
    ("/runtime/nodes/", "nodes"),
    ("/runtime/observe/", "observability"),
    ("/runtime/", "processes: mailboxes, calls, scheduling"),
    ("uvloop", "the loop: epoll, reads, callbacks (uvloop, kernel)"),
    ("asyncio", "the loop: epoll, reads, callbacks (uvloop, kernel)"),
)
# Threads that wait, which py-spy takes for busy.
WAITS: Final = ("/concurrent/futures/thread.py", "_try_wait (")
SENDS: Final = "sends: uvloop's write and the kernel's send"
OTHER: Final = "everything else"


def layer(stack: str, root: Path = ROOT) -> str:
    """The layer of one sampled stack: frames from the outermost to the innermost, separated by `;`.

    A transport's write has no frame of its own: it is recognized by the line that calls it.
    """
    frames = stack.split(";")
    file, _, line = frames[-1].rpartition("(")[2].rstrip(")").rpartition(":")
    if ".write(" in linecache.getline(file, int(line)):
        return SENDS
    for frame in reversed(frames):
        place = frame.rpartition("(")[2].rpartition("/site-packages")[2].removeprefix(str(root))
        for part, name in LAYERS:
            if part in place:
                return name
    return OTHER


def shares(raw: Iterable[str], root: Path = ROOT) -> dict[str, float]:
    """Each layer's share of all samples, the largest first. `raw` is py-spy's raw format: a stack and a count on each line."""
    counts: Counter[str] = Counter()
    for line in raw:
        stack, _, count = line.rstrip().rpartition(" ")
        if any(waiting in stack.rpartition(";")[2] for waiting in WAITS):
            continue
        counts[layer(stack, root)] += int(count)
    return {name: count / counts.total() for name, count in counts.most_common()}


Load = Callable[[], Awaitable[tuple[float, float]]]  # us of CPU a unit: of the server, of PostgreSQL


async def sampled(server: BitNexus, load: Load) -> tuple[float, float, dict[str, float]]:
    """Medians of the server and of PostgreSQL without py-spy; then the shares of layers with it."""
    await load()
    found = [await load() for _ in range(ROUNDS)]
    with tempfile.NamedTemporaryFile("r") as raw:
        command = [
            sys.executable.replace("python", "py-spy"),
            "record",
            "-f",
            "raw",
            "--full-filenames",
            "-r",
            str(RATE),
        ]
        command += ["-d", str(SECONDS), "-o", raw.name, "-p", str(server.running.process.pid)]
        sampling = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while sampling.returncode is None:
            await load()
        parts = shares(raw)
    server_us, database_us = (statistics.median(values) for values in zip(*found, strict=True))
    return server_us, database_us, parts


def loads(what: str, server: BitNexus | Peer) -> tuple[Callable[[], Awaitable[None]], Load]:
    """The preparation, and the load: one round of the benchmark's row."""
    if what == "delivery":
        protocol = sockets.PLAIN if isinstance(server, Peer) else sockets.phoenix(server)
        crowd = sockets.Contestant(server, protocol)

        async def deliver() -> tuple[float, float]:
            await crowd.beat()
            return (await crowd.deliver())[0], 0.0

        async def settle() -> None:
            await crowd.settle()

        return settle, deliver
    contestant = requests.Contestant(server)

    async def send() -> tuple[float, float]:
        return await contestant.measure_one(what)

    return contestant.open, send


async def print_layers(what: str, ours: BitNexus, floor: Peer) -> None:
    """Measures, and prints the table."""
    first, load = loads(what, ours)
    await first()
    server, database, parts = await sampled(ours, load)
    first, load = loads(what, floor)
    await first()
    await load()
    below = [statistics.median(values) for values in zip(*[await load() for _ in range(ROUNDS)], strict=True)]
    print(f"{'us CPU':>8}  {'share':>5}  {what}: the server's {server:.1f}, PostgreSQL's {database:.1f}")
    for name, part in parts.items():
        print(f"{server * part:8.1f}  {part:5.0%}  {name}")
    print(f"{below[0]:8.1f}         the floor: a bare program doing the same; its PostgreSQL {below[1]:.1f}")


def main(what: str) -> None:
    """The command."""
    raise_file_limit()
    with ExitStack() as stack:
        ours = stack.enter_context(serving(present()))
        floor = stack.enter_context(Peer(HTTP_PEERS[FLOOR], stack.enter_context(Database())))
        uvloop.run(print_layers(what, ours, floor))


if __name__ == "__main__":
    main(sys.argv[1])
