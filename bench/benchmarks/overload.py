"""Ten times the server's capacity: admitted requests are answered soon, the rest is refused at once.

First the capacity is measured, by clients that wait for each answer, with a connection for each request and with kept ones. Then
the server gets ten times as much, by a connection for each request, by 1,000 kept connections, and by one greedy user while
another sends little; meanwhile a thread requests /health. "Offered" is what the clients could send of it. Those that open a
connection each have half of the CPUs for themselves, and server and database the other half: on machines of their own they would
not take any from the server. The others need more to offer as much, and share all CPUs with it.

Clients on the same machine can't offer ten times what it bears, so the same is repeated with a slow database.

Recovery is the time from the last request until ten in a row are recorded within 100 ms each.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.bitnexus import BitNexus, serving, signed
from bench.figures import Row
from bench.http_load import request
from bench.overload_load import SENT, Load, Seen
from bench.revision import Revision
from bench.run import Run, Task

TIMES: Final = 10
SECONDS: Final = 8.0
CLIENTS: Final = 64  # of the measuring of capacity
KEPT: Final = 1000
SENDERS: Final = 2
USERS: Final = 4
HEALTH_PAUSE: Final = 0.02
SMALL_RATE: Final = 20.0  # requests a second of the user who asks for little
GOOD_SECONDS: Final = 0.1
ALL_CPUS: Final = os.sched_getaffinity(0)
SLOW_DATABASE: Final = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON transactions FOR EACH ROW EXECUTE FUNCTION slow();
"""


def halves() -> tuple[list[int], list[int]]:
    """The CPUs of the server, and those of the clients."""
    cpus = sorted(ALL_CPUS)
    middle = max(1, len(cpus) // 2)
    return cpus[:middle], cpus[middle:] or cpus


def pin(server: BitNexus, cpus: list[int]) -> None:
    """Lets server and database run on these CPUs only."""
    for pid in server.running.pids():
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)


def begin(load: Load) -> subprocess.Popen[str]:
    """Starts a process that sends the load."""
    command = [sys.executable, "-m", "bench.overload_load"]
    sending = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert sending.stdin is not None
    json.dump(dataclasses.asdict(load), sending.stdin)
    sending.stdin.close()
    return sending


def begin_all(load: Load) -> list[subprocess.Popen[str]]:
    """The same, from as many processes as it takes: one alone can't offer ten times what a server bears."""
    kept = load.kept // SENDERS
    part = dataclasses.replace(load, rate=load.rate / SENDERS, kept=kept)
    return [begin(part) for _ in range(SENDERS)]


def await_sent(sending: list[subprocess.Popen[str]]) -> None:
    """Returns when all has been sent."""
    for each in sending:
        assert each.stdout is not None
        assert each.stdout.readline().strip() == SENT


def end_all(sending: list[subprocess.Popen[str]]) -> Seen:
    """What they have seen, together."""
    whole = Seen()
    for seen in map(end, sending):
        whole.offered += seen.offered
        whole.seconds = max(whole.seconds, seen.seconds)
        whole.cpu += seen.cpu
        for status, took in seen.answers.items():
            whole.answers.setdefault(status, []).extend(took)
    return whole


def end(sending: subprocess.Popen[str]) -> Seen:
    """What it has seen."""
    assert sending.stdout is not None
    seen = Seen(**json.loads(sending.stdout.read().removeprefix(SENT)))
    assert sending.wait() == 0
    return seen


class Health(threading.Thread):
    """Requests /health repeatedly, on a kept connection and on a new one by turns; a context manager."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.over = port, threading.Event()
        self.took: list[float] = []
        self.failed = 0

    def run(self) -> None:
        """Until `over` is set."""
        kept = HTTPConnection("127.0.0.1", self.port, timeout=10)
        for number in itertools.count():
            if self.over.wait(HEALTH_PAUSE):
                return
            asking = kept if number % 2 else HTTPConnection("127.0.0.1", self.port, timeout=10)
            began = time.monotonic()
            try:
                asking.request("GET", "/health")
                answer = asking.getresponse()
                self.failed += answer.status != 200
                answer.read()
            except OSError:
                self.failed += 1
            self.took.append(time.monotonic() - began)
            if asking is not kept:
                asking.close()

    def __enter__(self) -> Health:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def share(took: list[float], part: float) -> float:
    """The value below which this part of them lies, in ms; infinite without any."""
    return sorted(took)[min(len(took) - 1, int(len(took) * part))] * 1000 if took else float("inf")


def weather(what: str, unit: str, more_is_better: bool = False) -> Row:
    """A row: nothing here is CPU."""
    return Row(what, unit, wall_clock=True, more_is_better=more_is_better)


def flooded(what: str) -> list[Row]:
    """The rows of a flood."""
    return [
        weather(f"{what}: offered", "/s", more_is_better=True),
        weather(f"{what}: recorded", "/s", more_is_better=True),
        weather(f"{what}: shed with 503", "/s"),
        weather(f"{what}: answered otherwise, or not", "/s"),
        weather(f"{what}: recorded, p50", "ms"),
        weather(f"{what}: recorded, p99", "ms"),
        weather(f"{what}: shed, p99", "ms"),
        weather(f"{what}: /health, p50", "ms"),
        weather(f"{what}: /health, p99", "ms"),
        weather(f"{what}: /health that failed", "answers"),
        weather(f"{what}: recovery", "s"),
        weather(f"{what}: CPU of the server", "cores"),
        weather(f"{what}: CPU of PostgreSQL", "cores"),
        weather(f"{what}: CPU of the clients", "cores"),
        Row(f"{what}: memory grown", "MiB"),
    ]


CAPACITY: Final = [
    weather(f"capacity: {CLIENTS} clients, {how}", "/s", more_is_better=True)
    for how in ("a connection each", "connections kept")
]
EACH: Final = flooded("a connection each")
MANY: Final = flooded(f"{KEPT:,} connections kept")
SLOW: Final = [weather("a slow database: capacity", "/s", more_is_better=True)]
SLOW_EACH: Final = flooded("a slow database, a connection each")
SLOW_MANY: Final = flooded(f"a slow database, {KEPT:,} connections kept")
GREEDY: Final = [
    weather("beside a greedy user: recorded", "%", more_is_better=True),
    weather("beside a greedy user: recorded, p99", "ms"),
]


class Flood:
    """The loads against one server."""

    def __init__(self, server: BitNexus) -> None:
        self.server = server
        self.tokens = [signed(user) for user in server.create_users(USERS)]

    def posts(self, tokens: list[str], close: bool = False) -> list[str]:
        """A POST for each of these users."""
        body = b'{"amount":"12.50","currency":"EUR","description":"one of many"}'
        field = "connection: close" if close else ""
        return [request("POST", "/api/v1/transactions", body, token, field).decode() for token in tokens]

    def capacity(self, kept: bool) -> float:
        """Requests a second that are recorded when no more than CLIENTS are under way."""
        load = Load(self.server.port, self.posts(self.tokens, close=not kept), 1e9, SECONDS / 2)
        load = dataclasses.replace(load, **{"kept" if kept else "under_way": CLIENTS})
        if not kept:
            load = dataclasses.replace(load, cpus=halves()[1])
        end(begin(load))  # warm
        seen = end(begin(load))
        return len(seen.answers["201"]) / seen.seconds

    def flood(self, load: Load) -> list[float]:
        """The values of `flooded`."""
        server = self.server
        memory, cpu, database = server.memory(), server.cpu(), server.database_cpu()
        with Health(server.port) as health:
            sending = begin_all(load)
            await_sent(sending)
        cpu, database = server.cpu() - cpu, server.database_cpu() - database
        recovered = self.recovery()
        seen, memory = end_all(sending), server.memory() - memory
        recorded, refused = seen.answers.get("201", []), seen.answers.get("503", [])
        others = sum(map(len, seen.answers.values())) - len(recorded) - len(refused)
        rates = [count / seen.seconds for count in (seen.offered, len(recorded), len(refused), others)]
        times = [share(recorded, 0.5), share(recorded, 0.99), share(refused, 0.99)]
        probes = [share(health.took, 0.5), share(health.took, 0.99), health.failed]
        cores = [used / seen.seconds for used in (cpu, database, seen.cpu)]
        return [*rates, *times, *probes, recovered, *cores, memory / 2**20]

    def greedy(self, rate: float) -> list[float]:
        """One user sends ten times the capacity, another SMALL_RATE: what the other gets, in percent and ms."""
        port = self.server.port
        small = begin(Load(port, self.posts(self.tokens[1:2]), SMALL_RATE, SECONDS, CLIENTS))
        end_all(begin_all(Load(port, self.posts(self.tokens[:1]), rate, SECONDS - 1, KEPT)))
        seen = end(small)
        recorded = seen.answers.get("201", [])
        return [100 * len(recorded) / seen.offered, share(recorded, 0.99)]

    def recovery(self) -> float:
        """Seconds until ten in a row are recorded within GOOD_SECONDS each; a minute if they never are."""
        began = first = time.monotonic()
        good = 0
        http = HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        headers = {"authorization": f"Bearer {self.tokens[-1]}", "content-type": "application/json"}
        while good < 10 and time.monotonic() - began < 60:
            sent = time.monotonic()
            http.request("POST", "/api/v1/transactions", b'{"amount":"1.00","currency":"EUR"}', headers)
            answer = http.getresponse()
            answer.read()
            good = good + 1 if answer.status == 201 and time.monotonic() - sent < GOOD_SECONDS else 0
            if not good:
                time.sleep(0.02)
            elif good == 1:
                first = sent
        return first - began if good == 10 else 60.0


async def measure(server: BitNexus) -> list[float]:
    """The values of all rows."""
    return await asyncio.to_thread(loads, server)


def loads(server: BitNexus) -> list[float]:
    """The loads, one after the other."""
    flood = Flood(server)
    load: dict[str, Any] = {"port": server.port, "seconds": SECONDS}
    ours, theirs = halves()
    pin(server, ours)
    each = flood.capacity(kept=False)
    apart = Load(requests=flood.posts(flood.tokens, close=True), rate=TIMES * each, cpus=theirs, **load)
    flooded_each = flood.flood(apart)
    pin(server, sorted(ALL_CPUS))
    kept = flood.capacity(kept=True)
    return [
        each,
        kept,
        *flooded_each,
        *flood.flood(Load(requests=flood.posts(flood.tokens), rate=TIMES * kept, kept=KEPT, **load)),
        *flood.greedy(TIMES * kept),
        *slow(server.revision),
    ]


def slow(revision: Revision) -> list[float]:
    """The values of SLOW, SLOW_EACH and SLOW_MANY, of a server of its own."""
    with serving(revision) as server:
        flood = Flood(server)
        server.command("psql", text=SLOW_DATABASE)
        rate = flood.capacity(kept=True)
        load: dict[str, Any] = {"port": server.port, "seconds": SECONDS, "rate": TIMES * rate}
        each = flood.flood(Load(requests=flood.posts(flood.tokens, close=True), **load))
        return [rate, *each, *flood.flood(Load(requests=flood.posts(flood.tokens), kept=KEPT, **load))]


def benchmark(run: Run) -> None:
    """Measures the rows: each server once."""
    rows = (*CAPACITY, *EACH, *MANY, *GREEDY, *SLOW, *SLOW_EACH, *SLOW_MANY)
    servers: dict[str, BitNexus] = {}
    with ExitStack() as stack:
        for revision in run.revisions:
            run.enter(stack, revision.name, rows, partial(BitNexus, revision), servers)
        uvloop.run(run.alternate([Task(rows, measure)], servers, rounds=1, warm_up=False))
