"""What a second node costs: broadcasts, deliveries, sends and calls between two nodes, and what two server processes carry.

The nodes of a commit are two processes of its own bench/node_peers.py on one NATS server. Beside them in turns two nodes of
Erlang (bench/peers/nodes_erlang.erl) and a Ray worker, where they are installed: CPU of both ends. The last rows are a real
`bitnexus serve` with `--nodes 1` and 2 under the same clients, whose own CPU is a row: on few cores it is taken from the servers,
and rates say little. What a node could carry on a core of its own follows from the CPU of the servers.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path

import uvloop

from bench.benchmarks.runtime import ERLANG, printed
from bench.benchmarks.sockets import phoenix
from bench.bitnexus import BitNexus
from bench.figures import Row
from bench.http_load import Connection, connect, request
from bench.process import Clock, tree
from bench.revision import ROOT, Revision
from bench.run import Lacks, Run, Task
from bench.socket_load import Client

PROGRAM = "bench.node_peers"
SUBSCRIBERS = 1000
CLIENTS, POSTS = 32, 4000
PAGE, PAGES = 20, 4000
SOCKETS, WRITERS, EVENTS = 1000, 4, 60
BROADCASTS, DELIVERED = 20_000, 200
TALK = {"send": 20_000, "call": 4_000, "calls": 16_000}  # units of each
CPU = "us CPU"

TALK_ROWS = (
    Row("send to a process of the other node, in bursts: both", CPU),
    Row("call a server of the other node: both", CPU),
    Row("the same, 32 callers at once: both", CPU),
)
NATS = Row("NATS itself, for a send in bursts", CPU)
SILENT = Row("broadcast, on a node without a subscriber", CPU)
SENDING = Row("broadcast, on the node that sends it", CPU)
# Subscribers that wake once for many messages cost less: only deliveries of the same pace can be compared.
DELIVERED_ROWS = (
    Row(f"delivery on another node, {SUBSCRIBERS:,} subscribers, bursts", CPU),
    Row(f"delivery on the same node, {SUBSCRIBERS:,} subscribers, bursts", CPU),
    Row(f"delivery on another node, {SUBSCRIBERS:,} subscribers, one by one", CPU),
    Row(f"delivery on the same node, {SUBSCRIBERS:,} subscribers, one by one", CPU),
)


def carried(nodes: int) -> tuple[Row, ...]:
    """The rows of `bitnexus serve --nodes N`."""
    works = {
        f"POST, {CLIENTS} clients": "requests",
        f"GET, a page of {PAGE}, {CLIENTS} clients": "requests",
        f"events to {SOCKETS:,} sockets": "deliveries",
    }
    return tuple(
        row
        for work, units in works.items()
        for row in (
            Row(f"{work}, --nodes {nodes}: servers and NATS", CPU),
            Row(f"{work}, --nodes {nodes}: the clients themselves", CPU),
            Row(f"{work}, --nodes {nodes}: {units} a second", "/s", wall_clock=True, more_is_better=True),
        )
    )


class Peer:
    """A process that answers lines."""

    def __init__(self, revision: Revision, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [revision.python, "-m", PROGRAM, *arguments],
            cwd=revision.root,
            env=revision.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.answer()

    def answer(self) -> str:
        """The next line it prints. Raises Lacks when it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Lacks(f"{PROGRAM} has ended")
        return line

    def ask(self, line: str) -> float:
        """A line's answer."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return json.loads(self.answer())

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def nats() -> Iterator[tuple[str, int]]:
    """URL and pid of a NATS server while it is entered."""
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    program = str(own) if own.exists() else shutil.which("nats-server")
    if program is None:
        raise Lacks("nats-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"nats://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


class Pair:
    """Two nodes of a commit and their NATS server, and a third that is alone; a context manager."""

    def __init__(self, revision: Revision) -> None:
        self.revision = revision

    def __enter__(self) -> Pair:
        if not self.revision.has(PROGRAM):
            raise Lacks(f"has no {PROGRAM}")
        with ExitStack() as stack:
            url, self.nats = stack.enter_context(nats())
            self.alone, self.b, self.a = (
                self._start(stack, *arguments) for arguments in (("alone", "-"), ("b", url), ("a", url))
            )
            self._clock = Clock()
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack, *arguments: str) -> Peer:
        peer = Peer(self.revision, *arguments)
        stack.callback(peer.close)
        return peer

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def used(self, task: str, count: int) -> tuple[float, float, float]:
        """Microseconds of CPU each: of a, of b, of NATS."""
        self.a.ask(f"{task} {count // 4}")
        before = self._cpu()
        self.a.ask(f"{task} {count}")
        a, b, server = ((end - begin) / count * 1e6 for begin, end in zip(before, self._cpu(), strict=True))
        return a, b, server

    def _cpu(self) -> tuple[float, float, float]:
        return self.a.ask("cpu"), self.b.ask("cpu"), self._clock.read(tree(self.nats))

    async def talk(self) -> list[float]:
        """The values of TALK_ROWS and of NATS."""
        used = [await asyncio.to_thread(self.used, task, count) for task, count in TALK.items()]
        return [*(a + b for a, b, _ in used), used[0][2]]

    async def silent(self) -> list[float]:
        """Microseconds of CPU for a broadcast without a subscriber: on the other node, on this one."""
        a, b, _ = await asyncio.to_thread(self.used, "broadcast", BROADCASTS)
        return [b, a]

    async def delivered(self) -> list[float]:
        """The values of DELIVERED_ROWS."""
        return [
            await asyncio.to_thread(self.reached, *ends, task)
            for task in ("broadcast", "broadcasts")
            for ends in ((self.a, self.b), (self.alone, self.alone))
        ]

    def reached(self, sender: Peer, receiver: Peer, task: str) -> float:
        """Microseconds of the receiver's CPU for each of its subscribers that a broadcast of the sender reaches."""
        if not receiver.ask("received"):
            receiver.ask(f"subscribe {SUBSCRIBERS}")
        expected = receiver.ask("received") + DELIVERED * SUBSCRIBERS
        before = receiver.ask("cpu")
        sender.ask(f"{task} {DELIVERED}")
        while receiver.ask("received") < expected:
            time.sleep(0.01)
        return (receiver.ask("cpu") - before) / (DELIVERED * SUBSCRIBERS) * 1e6


def erlang() -> list[float]:
    """The values of TALK_ROWS for two nodes of Erlang. Raises Lacks."""
    if shutil.which("erlc") is None:
        raise Lacks("not installed")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["erlc", "-o", folder, str(ROOT / "bench/peers/nodes_erlang.erl")], check=True)
        command = ["erl", "-noshell", "-name", "bench_a@127.0.0.1", "-setcookie", "bench"]
        command += ["-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-s", "nodes_erlang", "main"]
        words = [line.split() for line in printed(command, Path(folder), dict(os.environ))]
    found = {word[0]: float(word[1]) for word in words if len(word) == 2}
    return [found[task] for task in TALK]


def ray() -> list[float]:
    """The values of TALK_ROWS for a Ray worker. Raises Lacks."""
    if importlib.util.find_spec("ray") is None:
        raise Lacks("not installed")
    found = json.loads(printed([sys.executable, "-m", "bench.peers.ray_workers"], ROOT, dict(os.environ))[-1])
    return [found[task] for task in TALK]


async def cluster(revision: Revision, nodes: int) -> Sequence[float]:
    """The values of `carried`, from one life of a cluster."""
    if nodes > 1 and not revision.has("actors.cluster"):
        raise Lacks("serves from one process only")
    server = BitNexus(revision, NODES=str(nodes))
    await asyncio.to_thread(server.__enter__)
    try:
        token = await server.sign_in()
        connections = [await connect(server.port) for _ in range(CLIENTS)]
        await posts(connections, token, POSTS // 4)
        values = await costs(server, POSTS, posts(connections, token, POSTS))
        await pages(connections, token, PAGES // 4)
        values += await costs(server, PAGES, pages(connections, token, PAGES))
        clients = await asyncio.gather(*(phoenix(server).enter(server.port) for _ in range(SOCKETS)))
        await events(connections, token, clients, EVENTS // 4)
        return values + await costs(server, EVENTS * SOCKETS, events(connections, token, clients, EVENTS))
    finally:
        await asyncio.to_thread(server.__exit__)


async def costs(server: BitNexus, count: int, work: Awaitable[None]) -> list[float]:
    """Of so many units of work: microseconds of CPU each, of the server and of this process, and units a second."""
    before, own, began = server.cpu(), time.process_time(), time.perf_counter()
    await work
    took, clients = time.perf_counter() - began, time.process_time() - own
    return [(server.cpu() - before) / count * 1e6, clients / count * 1e6, count / took]


async def posts(connections: list[Connection], token: str, count: int) -> None:
    """So many transactions over these connections."""

    def transaction(number: int) -> bytes:
        body = b'{"amount":"12.50","currency":"EUR","description":"no. %d"}' % number
        return request("POST", "/api/v1/transactions", body, token)

    await requested(connections, map(transaction, range(count)), 201)


async def pages(connections: list[Connection], token: str, count: int) -> None:
    """So many pages of transactions over these connections."""
    await requested(
        connections, repeat(request("GET", f"/api/v1/transactions?limit={PAGE}", token=token), count), 200
    )


async def requested(connections: list[Connection], requests: Iterator[bytes], status: int) -> None:
    """Sends these requests, one at a time on each connection."""

    async def client(connection: Connection) -> None:
        for raw in requests:
            await connection.request(raw, status)

    await asyncio.gather(*map(client, connections))


async def events(connections: list[Connection], token: str, clients: list[Client], count: int) -> None:
    """So many transactions, whose events reach all these sockets."""
    expected = [client.frames + count for client in clients]
    await posts(connections[:WRITERS], token, count)
    for client, frames in zip(clients, expected, strict=True):
        await client.expect(frames)


def benchmark(run: Run) -> None:
    """Measures the rows."""
    pairs: dict[str, Pair] = {}
    rows = (*TALK_ROWS, NATS, SILENT, SENDING, *DELIVERED_ROWS)
    with ExitStack() as stack:
        for revision in run.revisions:
            run.enter(stack, revision.name, rows, partial(Pair, revision), pairs)

        async def talk(system: Pair | Callable[[], list[float]]) -> Sequence[float | None]:
            return (
                await system.talk() if isinstance(system, Pair) else [*await asyncio.to_thread(system), None]
            )

        async def rounds() -> None:
            peers = {ERLANG: erlang, "Ray": ray}
            await run.alternate([Task((*TALK_ROWS, NATS), talk)], {**pairs, **peers}, warm_up=False)
            # All rounds of the one, then all of the other: the subscribers stay.
            await run.alternate([Task((SILENT, SENDING), Pair.silent)], pairs)
            await run.alternate([Task(DELIVERED_ROWS, Pair.delivered)], pairs)

        uvloop.run(rounds())
    clusters = [Task(carried(nodes), partial(cluster, nodes=nodes)) for nodes in (1, 2)]
    revisions = {revision.name: revision for revision in run.revisions}
    uvloop.run(run.alternate(clusters, revisions, rounds=min(run.rounds, 3), warm_up=False))
