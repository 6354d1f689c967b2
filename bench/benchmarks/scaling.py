"""What each further node of one machine costs: CPU a transaction and at rest, memory, connections; and how the database grows.

A `bitnexus serve --nodes N` with its embedded PostgreSQL and NATS. The nodes share this machine's cores with the clients, so
their rate says nothing of machines of their own; CPU a request does. docs/scaling.md computes with these figures.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial

import psutil
import uvloop

from bench.benchmarks.nodes import CLIENTS, CPU, POSTS, posts
from bench.bitnexus import BitNexus
from bench.figures import Row
from bench.http_load import connect
from bench.process import Clock
from bench.revision import Revision
from bench.run import Lacks, Run, Task

COUNTS = (1, 2, 4)
REST_SECONDS = 10.0
SHARE = "% core"
SIZES = """SELECT sum(pg_total_relation_size(oid)), (SELECT count(*) FROM transactions),
(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""


def costs(nodes: int) -> tuple[Row, ...]:
    """The rows of so many nodes."""
    at = f"--nodes {nodes}"
    return (
        Row(f"POST, {CLIENTS} clients, {at}: servers", CPU),
        Row(f"POST, {CLIENTS} clients, {at}: PostgreSQL", CPU),
        Row(f"POST, {CLIENTS} clients, {at}: NATS", CPU),
        Row(
            f"POST, {CLIENTS} clients, {at}: rate on these cores", "/s", wall_clock=True, more_is_better=True
        ),
        Row(f"at rest, {at}: servers", SHARE),
        Row(f"at rest, {at}: NATS", SHARE),
        Row(f"at rest, {at}: frames on a link, both ways", "/s"),
        Row(f"memory of a server that no other shares, {at}", "MiB"),
        Row(f"database connections, {at}", "open"),
        Row(f"growth of the database a transaction, {at}", "bytes"),
    )


class Parts:
    """CPU seconds of the servers, PostgreSQL and NATS of a running cluster."""

    def __init__(self, server: BitNexus) -> None:
        self._server = server
        parent = psutil.Process(server.running.process.pid)
        children = parent.children()
        self.servers = [child for child in children if "python" in child.name()] or [parent]
        self._nats = [child.pid for child in children if "nats" in child.name()]
        self._clocks = Clock(), Clock()

    def read(self) -> tuple[float, float, float]:
        """So far."""
        own, nats = self._clocks
        used = own.read(one.pid for one in self.servers)
        return used, self._server.database_cpu(), nats.read(self._nats)

    def memory(self) -> float:
        """MiB that one server process holds alone."""
        return sum(one.memory_full_info().uss for one in self.servers) / len(self.servers) / 2**20


def sizes(server: BitNexus) -> tuple[int, int, int]:
    """Bytes of the tables with their indexes, transactions, connections beside the one that asks."""
    size, rows, connections = map(int, server.command("psql", "-c", SIZES).splitlines()[2].split("|"))
    return size, rows, connections - 1


def frames(server: BitNexus) -> tuple[int, int]:
    """How many were sent on all links, and how many links there are."""
    nodes = json.loads(server.command("nodes", "--json"))["nodes"]
    links = [link for node in nodes for link in node["description"]["links"]]
    return sum(link["frames_out"] for link in links), len(links) // 2


async def measure(revision: Revision, nodes: int) -> Sequence[float | None]:
    """The values of `costs`, from one life of a cluster."""
    if not revision.has("api.operators.nodes"):
        raise Lacks("does not tell of its nodes")
    server = BitNexus(revision, NODES=str(nodes))
    await asyncio.to_thread(server.__enter__)
    try:
        server.variables["PORT"] = str(server.port)  # for the commands
        token = await server.sign_in()
        connections = [await connect(server.port) for _ in range(CLIENTS)]
        await posts(connections, token, POSTS // 4)
        parts, (size, rows, _) = Parts(server), await asyncio.to_thread(sizes, server)
        before, began = parts.read(), time.perf_counter()
        await posts(connections, token, POSTS)
        took, after = time.perf_counter() - began, parts.read()
        grown, more, open_ones = await asyncio.to_thread(sizes, server)
        (sent, links), calm = await asyncio.to_thread(frames, server), parts.read()
        await asyncio.sleep(REST_SECONDS)
        rested, (later, _) = parts.read(), await asyncio.to_thread(frames, server)
        each = [(now - then) / POSTS * 1e6 for now, then in zip(after, before, strict=True)]
        rest = [(now - then) / REST_SECONDS * 100 for now, then in zip(rested, calm, strict=True)]
        told = (later - sent) / REST_SECONDS / links if links else None
        growth = (grown - size) / (more - rows)
        return [*each, POSTS / took, rest[0], rest[2], told, parts.memory(), open_ones, growth]
    finally:
        await asyncio.to_thread(server.__exit__)


def benchmark(run: Run) -> None:
    """Measures the rows."""
    tasks = [Task(costs(nodes), partial(measure, nodes=nodes)) for nodes in COUNTS]
    revisions = {revision.name: revision for revision in run.revisions}
    uvloop.run(run.alternate(tasks, revisions, rounds=min(run.rounds, 3), warm_up=False))
