"""What a second node costs: broadcasts, deliveries, sends and calls between two nodes, and what two server processes carry.

The nodes are two processes on one NATS server (bench/node_peers.py). Beside them, in the same run, two nodes of Erlang
(bench/nodes_erlang.erl) and a Ray worker, where they are installed: CPU of both ends, and of NATS for ours. The last rows are a
real `bitnexus serve --nodes 1` and `--nodes 2` under the same clients; the note says what the clients themselves took.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvloop

from bench.http_load import connect, request
from bench.main_job import PASSWORD, WARM_UP, Service
from bench.row import Row
from tests.nodes.nats import Nats, nats

HERE = Path(__file__).parent
AIM = "the aim"
SUBSCRIBERS = 1000
CLIENTS = 32
POSTS = 6000
PATIENCE = 120  # seconds


class Peer:
    """A process that answers lines."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", *arguments]
        self.process = subprocess.Popen(
            command, cwd=HERE.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def answer(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "a peer of the bench has ended"
        return line

    def ask(self, line: str) -> float:
        """A line's answer."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return json.loads(self.answer())


class Pair:
    """Two nodes and their NATS server."""

    def __init__(self, server: Nats) -> None:
        assert server.process is not None
        self.b = Peer("bench.node_peers", "b", server.url)
        self.a = Peer("bench.node_peers", "a", server.url)
        self.nats = psutil.Process(server.process.pid)

    def measure(self, task: str, count: int) -> tuple[float, float, float]:
        """Microseconds of CPU each: of a, of b, of NATS."""
        self.a.ask(f"{task} {count // 4}")
        before = self._cpu()
        self.a.ask(f"{task} {count}")
        after = self._cpu()
        a, b, server = ((end - begin) / count * 1e6 for begin, end in zip(before, after, strict=True))
        return a, b, server

    def delivery(self, count: int) -> float:
        """Microseconds of b's CPU for each of its subscribers that a broadcast of a reaches."""
        self.b.ask(f"subscribe {SUBSCRIBERS}")
        expected = self.b.ask("received") + count * SUBSCRIBERS
        before = self.b.ask("cpu")
        self.a.ask(f"broadcast {count}")
        while self.b.ask("received") < expected:
            time.sleep(0.01)
        return (self.b.ask("cpu") - before) / (count * SUBSCRIBERS) * 1e6

    def _cpu(self) -> tuple[float, float, float]:
        times = self.nats.cpu_times()
        return self.a.ask("cpu"), self.b.ask("cpu"), times.user + times.system

    def close(self) -> None:
        """Ends both."""
        for peer in (self.a, self.b):
            peer.process.kill()
            peer.process.wait()


def alone(count: int) -> float:
    """Microseconds of CPU for each subscriber that a broadcast of its own node reaches."""
    peer = Peer("bench.node_peers", "alone", "-")
    try:
        peer.ask(f"subscribe {SUBSCRIBERS}")
        before = peer.ask("cpu")
        peer.ask(f"broadcast {count}")
        while peer.ask("received") < count * SUBSCRIBERS:
            time.sleep(0.01)
        return (peer.ask("cpu") - before) / (count * SUBSCRIBERS) * 1e6
    finally:
        peer.process.kill()
        peer.process.wait()


def erlang() -> dict[str, float]:
    """Erlang's figures, {} where it or its compiler is not installed."""
    if shutil.which("erlc") is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["erlc", "-o", folder, str(HERE / "nodes_erlang.erl")], check=True)
        command = ["erl", "-noshell", "-name", "bench_a@127.0.0.1", "-setcookie", "bench"]
        command += ["-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-s", "nodes_erlang", "main"]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 2}


def ray() -> dict[str, float]:
    """Ray's figures, {} where it is not installed."""
    if importlib.util.find_spec("ray") is None:
        return {}
    command = [sys.executable, "-m", "bench.nodes_ray"]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def between_two() -> list[Row]:
    """Two nodes, beside Erlang's and Ray's."""
    beam, workers, unit = erlang(), ray(), "us of CPU"
    with nats() as server:
        pair = Pair(server)
        try:
            figures = {
                task: pair.measure(task, count)
                for task, count in (
                    ("broadcast", 20_000),
                    ("send", 20_000),
                    ("call", 4_000),
                    ("calls", 16_000),
                )
            }
            delivery = pair.delivery(200)
        finally:
            pair.close()
    texts = {
        "send": "send to a process of the other node, in bursts",
        "call": "call a server of the other node",
        "calls": f"the same, {CLIENTS} callers at once",
    }
    rows = [
        Row("broadcast, on a node without a subscriber", figures["broadcast"][1], unit, {}, 10.0, AIM),
        Row("broadcast, on the node that sends it", figures["broadcast"][0], unit),
        Row(
            f"delivery on another node, {SUBSCRIBERS:,} subscribers",
            delivery,
            unit,
            {"on one node": alone(200)},
        ),
    ]
    for task, text in texts.items():
        a, b, server_us = figures[task]
        peers = {name: each[task] for name, each in (("Erlang", beam), ("Ray", workers)) if task in each}
        rows.append(Row(f"{text}: both nodes", a + b, unit, peers, note=f"NATS {server_us:.1f} more"))
    return rows


class Cluster(Service):
    """`bitnexus serve --nodes N`; CPU is that of the server processes, without PostgreSQL and NATS."""

    def __init__(self, folder: str, nodes: int) -> None:
        os.environ["NODES"] = str(nodes)
        try:
            super().__init__(folder)
        finally:
            del os.environ["NODES"]

    def servers(self) -> float:
        """CPU seconds of the server processes so far."""
        parent = psutil.Process(self.process.pid)
        children = [child for child in parent.children() if "python" in child.name()]
        return sum(sum(child.cpu_times()[:2]) for child in children or [parent])


async def load(service: Cluster) -> tuple[float, float, float]:
    """Requests a second, microseconds of CPU a request of the servers, and of these clients."""
    port = int(service.url.rpartition(":")[2])
    connections = [await connect(port) for _ in range(CLIENTS)]
    body = json.dumps({"email": "bench@example.com", "password": PASSWORD}).encode()
    answer = await connections[0].request(request("POST", "/api/v1/auth/login", body), 200)
    token = json.loads(answer.partition(b"\r\n\r\n")[2])["token"]

    async def posts(count: int) -> None:
        numbers = iter(range(count))

        async def client(connection: object) -> None:
            for number in numbers:
                text = b'{"amount":"12.50","currency":"EUR","description":"no. %d"}' % number
                await connection.request(request("POST", "/api/v1/transactions", text, token), 201)  # type: ignore[attr-defined]

        await asyncio.gather(*map(client, connections))

    await posts(WARM_UP)
    servers, own, started = service.servers(), time.process_time(), time.perf_counter()
    await posts(POSTS)
    took = time.perf_counter() - started
    return (
        POSTS / took,
        (service.servers() - servers) / POSTS * 1e6,
        (time.process_time() - own) / POSTS * 1e6,
    )


@contextmanager
def serving(nodes: int) -> Iterator[Cluster]:
    """A running cluster of one machine, with a user."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        service = Cluster(folder, nodes)
        try:
            service.create_user()
            yield service
        finally:
            service.stop()


def run() -> list[Row]:
    """The answer."""
    rows = between_two()
    for nodes in (1, 2):
        with serving(nodes) as service:
            rate, servers, clients = uvloop.run(load(service))
        note = f"servers {servers:.0f} us of CPU a request, the clients {clients:.0f}, {os.cpu_count()} cores"
        rows.append(
            Row(f"POST transaction, --nodes {nodes}", rate, "requests/s", more_is_better=True, note=note)
        )
    return rows
